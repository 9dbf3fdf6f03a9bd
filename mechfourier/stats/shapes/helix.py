"""When a curve beside a line is a helix, and when the line only bends a curve of the plane.

A circle and a line beside it span three dimensions: whoever looks along the line sees the circle. In a curve
that lies in a plane, or that bends one wave by a line, nothing is left of the circle from there, although a
constant, a line, cos and sin predict its values well: two spokes, spirals, arcs that nearly close.
"""

from functools import lru_cache

import numpy as np
from jaxtyping import Bool, Float
from numpy import ndarray

from mechfourier.stats.shapes.designs import Design, Places, waves
from mechfourier.stats.shapes.families import Family

CIRCLE_BESIDE_LINE = "circle beside a line"
ROUND_FROM = 0.5
"""Smallest ratio of axes, seen along the line, of a curve beside a line; ellipses are circles from there on."""


def solver(cut: int, turns: float, places: Places) -> Float[ndarray, "3 m"]:
    """Coefficients of (line, cos, sin) from a table of values."""
    x = np.column_stack([places.along(cut), *waves(turns, places.along(cut), places.n)])
    return np.linalg.pinv(x - x.mean(0))


@lru_cache(maxsize=64)
def _solvers(n: int, without: int | None) -> Float[ndarray, "cut 3 m"]:
    """The same of one turn, the line begun at every value."""
    places = Places(n, np.array([v for v in range(n) if v != without]))
    return np.stack([solver(cut, 1, places) for cut in range(n)])


def aspect_along_line(
    gram: Float[ndarray, "*b m m"], solve: Float[ndarray, "*b 3 m"]
) -> Float[ndarray, "*b"]:
    """Ratio of the axes of the curve (0 to 1), seen along the line beside it."""
    power = solve @ gram @ np.swapaxes(solve, -1, -2)
    shared = power[..., 1:, :1] * power[..., :1, 1:] / np.maximum(power[..., :1, :1], 1e-300)
    seen = np.linalg.eigvalsh(power[..., 1:, 1:] - shared)
    return np.asarray(np.sqrt(np.maximum(seen[..., 0], 0.0) / np.maximum(seen[..., 1], 1e-300)))


def bends_a_plane(design: Design, gram: Float[ndarray, "m m"], places: Places) -> bool:
    """Whether a curve beside a line, fitted to a table, is flat seen along its line."""
    solve = solver(int(design.params["cut"]), design.params["turns"], places)
    return bool(aspect_along_line(gram, solve) < ROUND_FROM)


def is_helix(gram: Float[ndarray, "*b m m"], designs: Family) -> Bool[ndarray, "*b"]:
    """Whether the best circle beside a line of every Gram matrix is round, seen along its line."""
    members = designs.members(CIRCLE_BESIDE_LINE)
    flat = gram.reshape(-1, gram.shape[-1] ** 2)
    best = (flat @ designs.forms(members).astype(flat.dtype).T).argmin(1)
    cuts = np.array([int(designs.designs[i].params["cut"]) for i in members])[best]
    solve = _solvers(designs.places.n, designs.places.without)[cuts].astype(flat.dtype)
    aspects = aspect_along_line(gram.reshape(-1, *gram.shape[-2:]), solve)
    return (aspects >= ROUND_FROM).reshape(gram.shape[:-2])


def without_flat_helices(
    scores: Float[ndarray, "*b rank shape"], grams: Float[ndarray, "*b rank m m"], designs: Family
) -> Float[ndarray, "*b rank shape"]:
    """Scores in which a circle beside a line that is none is worth no more than the plain circle. The last number
    of directions decides: two hold no helix."""
    if CIRCLE_BESIDE_LINE not in designs.names:
        return scores
    beside, plain = designs.names.index(CIRCLE_BESIDE_LINE), designs.names.index("circle")
    worse = np.maximum(scores[..., beside], scores[..., plain])
    out = scores.copy()
    round_ = is_helix(grams[..., -1, :, :], designs)[..., None]
    out[..., beside] = np.where(round_, scores[..., beside], worse)
    return out
