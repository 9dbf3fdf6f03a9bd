"""Who writes a period: the part of the answers' logits that is a circle of one period in the answer's number.

``Z[answer, choice]`` are the logits of the choices, averaged over the prompts of each answer, both in the order of
their numbers. The right answer leads the mean of all choices by tr(HZ)/n nats, with H = I − 11ᵀ/n. With Q an
orthonormal basis of cos and sin of 2πs/T at the numbers s, tr(QᵀZQ)/n is the period's part of that lead: the part in
which answers gain from each other as cos(2π(s − c)/T). On a whole cycle of n numbers the parts of the periods n/k add
up to the lead. It is linear in Z, so it is a sum over whatever adds up to the logits, down to single neurons: one that
has the activation A[answer] and writes R[choice] adds (QᵀA)·(QᵀR)/n.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy import ndarray
from scipy.stats import hypergeom, spearmanr

from mechfourier.errors import OutOfRange
from mechfourier.fourier.waves import waves
from mechfourier.stats.permutation import permutation_p
from mechfourier.stats.rivals import orthonormal, residual_of

BLOCK = 2**23  # numbers of one product
ABSENT = 1e-6  # a wave of which the line leaves less than this share of its length is none


def period_waves(numbers: Float[ndarray, " n"], period: float) -> Float[ndarray, "n wave"]:
    """cos and sin of 2πs/T at the numbers s; what vanishes on them (the sine of T = 2) is left out."""
    both = waves(torch.from_numpy(np.asarray(numbers, np.float64) / period)).numpy()
    spread = both.std(0)
    return both[:, spread > ABSENT]


def period_plane(numbers: Float[ndarray, " n"], period: float, *, line: bool) -> Float[ndarray, "n r"]:
    """An orthonormal basis of what a circle of this period is beside a constant and, with ``line``, beside a line
    through the numbers. Raises ``OutOfRange`` where the numbers have no such circle."""
    found = period_waves(numbers, period)
    flat = [np.ones(len(numbers)), numbers - np.mean(numbers)][: 2 if line else 1]
    left = residual_of(orthonormal(np.stack(flat, 1)), found) if found.shape[1] else found
    left = left[:, np.linalg.norm(left, axis=0) > ABSENT * np.sqrt(len(numbers))]
    half = np.ptp(numbers) + 1 < period / 2
    if not left.shape[1] or half or left.shape[1] + len(flat) >= len(numbers):
        raise OutOfRange(
            f"{len(numbers)} answers ({numbers.min():g} to {numbers.max():g}) hold no circle of period {period:g}"
        )
    return orthonormal(left)


def unit_leads(
    means: Float[ndarray, "n unit"], written: Float[ndarray, "unit r"], plane: Float[ndarray, "n r"]
) -> Float[ndarray, " unit"]:
    """What every unit adds to the period's part of the lead (nats): ``means``, its activation by answer; ``written``,
    its row of the logits in the plane."""
    return ((plane.T.astype(means.dtype) @ means) * written.T).sum(0) / len(plane)


def exchanged_p(
    means: Float[ndarray, "n unit"],
    written: Float[ndarray, "unit r"],
    plane: Float[ndarray, "n r"],
    *,
    counts: Int[ndarray, " n"] | None = None,
    n_permutations: int,
    seed: int,
) -> Float[ndarray, " unit"]:
    """Family-wise p of every unit's part: the answers change places among the class means, the same for all units, and
    the largest part of any unit is what chance gives (Westfall & Young 1993).

    ``counts``: prompts behind each mean. Where they differ, the means differ by as much whatever their answer if the
    unit follows its answer, and by 1/√count if it is noise: the means are exchanged as they are, and times √count, and
    the larger p counts. It is at most the level in either case, and below it between them.
    """
    alike = np.ones(len(means))
    scales = [alike] if counts is None or np.ptp(counts) == 0 else [alike, np.sqrt(counts / np.mean(counts))]
    drawn = [_largest(means, written, plane, scale, n_permutations, seed) for scale in scales]
    own = unit_leads(means, written, plane)
    return np.max([permutation_p(own, largest) for largest in drawn], axis=0)


def _largest(
    means: Float[ndarray, "n unit"],
    written: Float[ndarray, "unit r"],
    plane: Float[ndarray, "n r"],
    scale: Float[ndarray, " n"],
    n_permutations: int,
    seed: int,
) -> Float[ndarray, " draw"]:
    """The largest part of any unit in every draw, what is exchanged being the means times ``scale``."""
    n, r = plane.shape
    rng = np.random.default_rng(seed)
    orders = np.stack([rng.permutation(n) for _ in range(n_permutations)])
    weight = (scale**2 / (scale**2).sum()).astype(means.dtype)
    scaled = (means - weight @ means) * scale[:, None].astype(means.dtype)
    read = (plane / scale[:, None]).astype(means.dtype)
    size, largest = max(1, BLOCK // (means.shape[1] * r)), []
    for start in range(0, n_permutations, size):
        drawn = read[orders[start : start + size]]  # draw answer r
        parts = drawn.transpose(0, 2, 1).reshape(-1, n) @ scaled
        largest.append(((parts.reshape(len(drawn), r, -1) * written.T).sum(1) / n).max(1))
    return np.concatenate(largest)


def peaks(
    means: Float[ndarray, "n unit"], numbers: Float[ndarray, " n"], period: float, *, line: bool
) -> Float[ndarray, " unit"]:
    """The number, 0 to the period, at which the circle fitted to each unit's activation is highest."""
    found = period_waves(numbers, period)
    flat = np.stack([np.ones(len(numbers)), numbers - np.mean(numbers)][: 2 if line else 1], 1)
    fit = np.linalg.pinv(np.hstack([flat, found]))[flat.shape[1] :] @ means
    sine = fit[1] if len(fit) > 1 else np.zeros_like(fit[0])
    return np.arctan2(sine, fit[0]) / (2 * np.pi) * period % period


def fewest(parts: Float[ndarray, " unit"], share: float = 0.5) -> int | None:
    """How many units, the largest first, have this share of what all units with a part above 0 add; None where there
    is none."""
    adding = np.sort(parts[parts > 0])[::-1]
    return int((np.cumsum(adding) < share * adding.sum()).sum()) + 1 if len(adding) else None


@dataclass(frozen=True)
class Overlap:
    """Two sets of ``units``: how many are ``shared``, ``expected`` where sets of these sizes are drawn at random, and
    the hypergeometric p of as many or more."""

    units: int
    first: int
    second: int
    shared: int
    expected: float
    p_value: float


def overlap(first: set[int], second: set[int], units: int) -> Overlap:
    """How many units two sets share; p is 1 where one of them is empty."""
    shared = len(first & second)
    expected = len(first) * len(second) / units
    p = float(hypergeom.sf(shared - 1, units, len(first), len(second)))
    return Overlap(units, len(first), len(second), shared, expected, min(1.0, p))


def rank_correlation(a: Float[ndarray, " unit"], b: Float[ndarray, " unit"]) -> tuple[float, float, float]:
    """Spearman's correlation with its 95 % interval (Bonett & Wright 2000), units taken as independent."""
    if len(a) < 5 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return 0.0, -1.0, 1.0
    r = float(spearmanr(a, b).statistic)  # type: ignore[attr-defined]
    half = 1.959964 * np.sqrt((1 + r**2 / 2) / (len(a) - 3))
    z = np.arctanh(np.clip(r, -1 + 1e-12, 1 - 1e-12))
    return r, float(np.tanh(z - half)), float(np.tanh(z + half))
