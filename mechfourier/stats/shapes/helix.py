"""When a circle beside a line is a helix, and when it only bends a flat curve.

A circle and a line beside it span three dimensions: whoever looks along the line sees the circle. In a curve
that lies in a plane, or that bends one wave by a line, nothing is left of the circle from there, although a
constant, a line, cos and sin predict its values well: two spokes, spirals, arcs that nearly close.
"""

from functools import lru_cache

import numpy as np
from jaxtyping import Bool, Float
from numpy import ndarray

from mechfourier.stats.shapes.designs import waves
from mechfourier.stats.shapes.families import Family

HELIX = "circle beside a line"
ROUND_FROM = 0.5
"""Smallest ratio of axes, seen along the line, of a circle beside a line; ellipses are circles from there on."""


@lru_cache(maxsize=64)
def _solvers(n: int, without: int | None) -> Float[ndarray, "cut 3 m"]:
    """Coefficients of (line, cos, sin), the line begun at every value, from a table of values."""
    kept = np.array([v for v in range(n) if v != without])
    columns = [np.column_stack([(kept - cut) % n, *waves(1, kept, n)]) for cut in range(n)]
    return np.stack([np.linalg.pinv(x - x.mean(0)) for x in columns])


def aspect_along_line(
    gram: Float[ndarray, "*b m m"], solve: Float[ndarray, "*b 3 m"]
) -> Float[ndarray, "*b"]:
    """Ratio of the axes of the circle (0 to 1), seen along the line beside it."""
    power = solve @ gram @ np.swapaxes(solve, -1, -2)
    shared = power[..., 1:, :1] * power[..., :1, 1:] / np.maximum(power[..., :1, :1], 1e-300)
    seen = np.linalg.eigvalsh(power[..., 1:, 1:] - shared)
    return np.sqrt(np.maximum(seen[..., 0], 0.0) / np.maximum(seen[..., 1], 1e-300))


def is_helix(gram: Float[ndarray, "*b m m"], designs: Family) -> Bool[ndarray, "*b"]:
    """Whether the best circle beside a line of every Gram matrix is round, seen along its line."""
    members = designs.members(HELIX)
    flat = gram.reshape(-1, gram.shape[-1] ** 2)
    best = (flat @ designs.weights[members].astype(flat.dtype).T).argmin(1)
    cuts = np.array([int(designs.designs[i].params["cut"]) for i in members])[best]
    solve = _solvers(designs.places.n, designs.places.without)[cuts].astype(flat.dtype)
    aspects = aspect_along_line(gram.reshape(-1, *gram.shape[-2:]), solve)
    return (aspects >= ROUND_FROM).reshape(gram.shape[:-2])


def without_flat_helices(
    scores: Float[ndarray, "*b rank shape"], grams: Float[ndarray, "*b rank m m"], designs: Family
) -> Float[ndarray, "*b rank shape"]:
    """Scores in which a circle beside a line that is none is worth no more than the plain circle. The last number
    of directions decides: two hold no helix."""
    if HELIX not in designs.names:
        return scores
    beside, plain = designs.names.index(HELIX), designs.names.index("circle")
    worse = np.maximum(scores[..., beside], scores[..., plain])
    out = scores.copy()
    round_ = is_helix(grams[..., -1, :, :], designs)[..., None]
    out[..., beside] = np.where(round_, scores[..., beside], worse)
    return out
