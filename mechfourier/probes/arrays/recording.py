"""Rows in the order in which they were recorded: where labels follow each other in time and noise lasts, noise is smooth over the
labels, and only stretches of time that are longer than it are independent of each other."""

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray

FOLLOWING = 0.2
"""Mean cosine between neighbouring labels, beyond that of labels in random order, from which on they follow each other."""
STRETCHES = (12, 8, 6)
"""Stretches that stand for templates: sign flips need six."""
APART = 10.0
"""Length of a stretch in times that noise lasts: the means of neighbouring ones then correlate by 1/20."""
SAMPLE = (65536, 64)
"""Rows and dimensions that the noise is looked at in."""
LASTS = 1.5
"""Rows that noise lasts for, from which on rows are not independent."""
MOST_BINS = 36


def follow(turns: Float[ndarray, " row"]) -> bool:
    """Whether neighbouring rows have neighbouring labels (in turns), more than once round."""
    z = np.exp(2j * np.pi * turns)
    together = float(np.real(z[1:] * np.conj(z[:-1])).mean() - abs(z.mean()) ** 2)
    steps = (np.diff(np.floor(turns * 12)) != 0).sum()
    return bool(len(turns) > 24 and together > FOLLOWING and steps >= 18)


def lasting(sample: Float[ndarray, "row d"], turns: Float[ndarray, " row"]) -> float:
    """For how many rows noise lasts: the variance of means over stretches of what the labels leave, beside that of as many
    independent rows, at the length where it is largest. 1 for independent rows; a small drift counts, as it is what means keep."""
    rows = len(sample)
    bins = int(np.clip(rows // 20, 1, MOST_BINS))
    at = np.minimum((turns * bins).astype(np.int64), bins - 1)
    sums = np.zeros((bins, sample.shape[1]))
    np.add.at(sums, at, sample)
    left = sample - (sums / np.maximum(np.bincount(at, minlength=bins), 1)[:, None])[at]
    power = float((left**2).mean())
    if power <= 0:
        return 1.0
    ratios, length = [1.0], 2
    while rows // length >= STRETCHES[0]:
        means = left[: rows // length * length].reshape(-1, length, left.shape[1]).mean(1)
        ratios.append(float((means**2).mean()) * length / power)
        length *= 2
    return max(ratios)


def stretches(rows: int, count: int) -> Int[ndarray, " row"]:
    """The stretch of every row, ``count`` of equal length."""
    return np.arange(rows) * count // rows


def possible(rows: int, lasts: float) -> tuple[int, ...]:
    """How many stretches the rows can be cut into, most first."""
    return tuple(count for count in STRETCHES if rows >= count * APART * lasts)


def too_short(rows: int, lasts: float) -> str:
    """Why they cannot be told from noise."""
    return (
        f"neighbouring rows have neighbouring labels, and what the labels leave lasts for about {lasts:.0f} rows: {rows} rows hold fewer "
        f"than {STRETCHES[-1]} stretches that are independent of each other and go through all labels, so a shape cannot be told from noise "
        f"that is smooth in time (record longer, or name sessions as templates)"
    )


def told(count: int, lasts: float) -> str:
    """What was done."""
    return (
        f"neighbouring rows have neighbouring labels, so the recording was cut into {count} stretches of time, which stand for templates "
        f"(what the labels leave lasts for about {lasts:.1f} rows)"
    )
