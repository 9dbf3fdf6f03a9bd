"""How well every design predicts values that were left out, seen in directions that other templates chose.

Token identity and noise fill all dimensions, a curve only a few. So directions are fitted on half of the
templates (the strongest ones of the low harmonics), the other half is read along them, and the other way
round. The Gram matrix of what is read is scored by generalised cross-validation, which is linear in it.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from mechfourier.stats.shapes.designs import Places, waves
from mechfourier.stats.shapes.families import Family

LOW = 3
"""Directions come from harmonics 1 to 3: curves are there, and little of token identity."""
RANKS = (2, 4)
"""Numbers of directions read: a circle alone is seen best in 2, one beside other shapes in 4."""


@dataclass(frozen=True)
class Split:
    """Two halves of the groups of templates, as weights over groups."""

    first: Float[ndarray, " g"]
    second: Float[ndarray, " g"]


@lru_cache(maxsize=64)
def splits(sizes: tuple[int, ...]) -> tuple[Split, ...]:
    """Every way to part four groups two and two, or three groups one and two."""
    count = len(sizes)
    halves = [(0, i) for i in range(1, count)] if count == 4 else [(i,) for i in range(count)]
    weights = np.array(sizes, float)
    out = []
    for half in halves:
        inside = np.isin(np.arange(count), half)
        parts = [np.where(mask, weights, 0) for mask in (inside, ~inside)]
        out.append(Split(*(part / part.sum() for part in parts)))
    return tuple(out)


def low_harmonics(places: Places) -> Float[ndarray, "m q"]:
    """An orthonormal basis of the harmonics that directions come from."""
    top = max(1, min(len(places.harmonics), LOW))
    columns = np.column_stack([c for k in range(1, top + 1) for c in waves(k, places.kept, places.n)])
    return np.linalg.qr(columns - columns.mean(0))[0]


def read_gram(
    groups: Float[ndarray, "*batch g g m m"], sizes: tuple[int, ...], places: Places
) -> Float[ndarray, "*batch rank m m"]:
    """Gram matrices along the strongest directions of the other half, the mean over splits, for every number
    of directions."""
    low = low_harmonics(places)
    ways = splits(sizes)
    halves = [pair for s in ways for pair in ((s.first, s.second), (s.second, s.first))]
    blocks = np.stack([np.outer(x, a).ravel() for a, b in halves for x in (a, b)]).astype(groups.dtype)
    g, m = groups.shape[-4], groups.shape[-1]
    combined = (blocks @ groups.reshape(*groups.shape[:-4], g * g, m * m)).reshape(
        *groups.shape[:-4], -1, 2, m, m
    )
    read = _read(combined[..., 0, :, :], combined[..., 1, :, :], low.astype(groups.dtype))
    return read.sum(-4) / len(ways)


def _read(own: ndarray, other: ndarray, low: Float[ndarray, "m q"]) -> ndarray:
    values, vectors = np.linalg.eigh(low.T @ own @ low)
    scale = 1 / np.sqrt(np.maximum(values, 1e-12 * np.maximum(values[..., -1:], 1e-300)))
    read = other @ (low @ (vectors * scale[..., None, :]))
    grams = []
    for rank in RANKS:
        z = read[..., -min(rank, read.shape[-1]) :]
        grams.append(z @ np.swapaxes(z, -1, -2))
    return np.stack(grams, -3)


def design_scores(grams: Float[ndarray, "*batch m m"], designs: Family) -> Float[ndarray, "*batch design"]:
    """Logarithm of the left-out error of every design."""
    flat = grams.reshape(-1, grams.shape[-1] ** 2)
    scores = np.log(np.maximum(flat @ designs.weights.T, 1e-300))
    return scores.reshape(*grams.shape[:-2], -1)


def shape_scores(grams: Float[ndarray, "*batch m m"], designs: Family) -> Float[ndarray, "*batch shape"]:
    """Logarithm of the left-out error of the best design of every shape."""
    rows, columns = designs.upper
    flat = grams[..., rows, columns].astype(np.float32).reshape(-1, len(rows))
    best = np.minimum.reduceat(flat @ designs.packed.T, designs.starts, axis=1)
    return np.log(np.maximum(best, 1e-30)).astype(np.float64).reshape(*grams.shape[:-2], -1)
