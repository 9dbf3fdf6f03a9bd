"""Tables drawn from a fitted design: the same templates, noise and token identity as the data, another draw.

Activations of thousands of dimensions are never drawn. Along the few directions of the fitted shape there are
coordinates; what is left, white in its effective number of dimensions, is drawn by its inner products
(Bartlett's decomposition of a Wishart matrix).
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray

from mechfourier.stats.shapes.designs import Design
from mechfourier.stats.shapes.tables import GROUPS, Table, effective_dims

OPEN_STEPS = 3.0
SPARE = 4
FEWEST_FOLLOWED = 3
"""Directions of the values, from which the dimensions of a path are told."""
DISJOINT = np.array([((0, 1), (2, 3)), ((0, 2), (1, 3)), ((0, 3), (1, 2))])
"""Every way to part four groups of templates into two pairs."""
SHARING = np.array([((0, 1), (0, 2)), ((0, 1), (1, 2)), ((0, 2), (1, 2))])
"""The pairs of three groups."""


@dataclass(frozen=True)
class Draws:
    """Standard normal numbers, the same for every site and every design."""

    path: Float[ndarray, "c m m"]
    identity: Float[ndarray, "b m q"]
    noise: Float[ndarray, "b gm q"]
    identity_rest: Float[ndarray, "b m m"]
    noise_cross: Float[ndarray, "b gm m"]
    noise_rest: Float[ndarray, "b gm gm"]


@lru_cache(maxsize=8)
def draws(count: int, m: int, groups: int, seed: int) -> Draws:
    rng = np.random.default_rng(seed)
    q, rows = m - 1, groups * m
    shapes = ((m, q), (rows, q), (m, m), (rows, m), (rows, rows))
    path = rng.standard_normal((SPARE * count, m, m), np.float32)
    return Draws(path, *(rng.standard_normal((count, *shape), np.float32) for shape in shapes))


@dataclass(frozen=True)
class Fit:
    """One design fitted to a table. ``coordinates``: the fitted curve along its own directions, without noise
    in expectation. ``identity``: variance of what the design leaves, over ``identity_dims`` dimensions;
    ``along``: noise of templates in every direction of the curve; ``identity_along``: what the design leaves
    in each of them."""

    design: Design
    coordinates: Float[ndarray, "m q"]
    dims: float
    along: Float[ndarray, " q"]
    identity_along: float
    identity: float
    identity_dims: float
    order: Int[ndarray, " m"]


def fit(table: Table, design: Design) -> Fit:
    """The fitted curve and what it leaves, from products of different templates."""
    s, rest = design.smoother, np.eye(len(design.smoother)) - design.smoother
    values, vectors = np.linalg.eigh(s @ table.mean @ s.T)
    floor = 0.5 * table.noise.total / table.templates * np.sqrt(len(s) / max(table.noise.dims, 1.0))
    q = max(1, min(int(np.sum(values > floor)), len(s) - 1))
    clear = float(max(1, np.sum(values > 4 * floor)))
    values, vectors = np.maximum(values[::-1][:q], 0.0), vectors[:, ::-1][:, :q]
    dims = float(q) if design.kernel is None else max(clear, _path_dims(table, design))
    identity = max(0.0, float(np.trace(rest @ table.mean @ rest.T) / np.trace(rest)))
    along = _noise_along(table, s.T @ vectors)
    identity_dims = _identity_dims(table, rest, identity)
    inside = float(np.mean(_identity_along(table, rest, s.T @ vectors) - along / table.templates))
    values = np.maximum(values - identity * np.sum((s.T @ vectors) ** 2, 0), values / 4)  # drawn again
    return Fit(
        design,
        vectors * np.sqrt(values),
        dims,
        along,
        float(np.clip(inside, 0.0, identity / 2)),
        identity,
        identity_dims,
        np.argsort((table.kept - int(design.params.get("cut", 0))) % len(table.frame.order)),
    )


def _path_dims(table: Table, design: Design) -> float:
    """Effective dimensions of a process: those of its values once the kernel is divided out, which are then
    independent rows. Only where the kernel has more variance than the nugget: elsewhere a smooth path has none, and
    would seem to have few dimensions. The squares are products of groups without a template in common, free of noise."""
    assert design.kernel is not None
    centring = np.eye(len(design.kernel)) - 1 / len(design.kernel)
    values, vectors = np.linalg.eigh(centring @ design.kernel @ centring)
    first = min(int(np.sum(values <= design.nugget)), len(values) - FEWEST_FOLLOWED)
    root = (vectors[:, first:] / np.sqrt(np.maximum(values[first:], 0.0) + design.nugget)).T
    grams = root @ table.groups @ root.T
    grams = (grams + np.swapaxes(grams, -1, -2)) / 2
    pairs = DISJOINT if len(grams) == GROUPS else SHARING
    first, second = (grams[pairs[:, side, 0], pairs[:, side, 1]] for side in (0, 1))
    squares = np.einsum("pvw,pvw->p", first, second).mean()
    trace = np.sqrt(max(0.0, (np.einsum("pvv->p", first) * np.einsum("pvv->p", second)).mean()))
    return effective_dims(float(trace), float(squares), len(root))


def _noise_along(table: Table, weights: Float[ndarray, "m q"]) -> Float[ndarray, " q"]:
    """Variance of single templates along the directions that ``weights`` of the value means point in."""
    t, m = table.templates, len(weights)
    mean = table.gram.mean((0, 1))
    length = np.sqrt(np.maximum(np.einsum("vq,vw,wq->q", weights, mean, weights), 1e-300))
    rest = table.gram.mean(1) - mean
    along = np.sum((rest @ weights / length) ** 2, (0, 1)) / ((t - 1) * (m - 1))
    return np.minimum(along, table.noise.total)  # a direction without any length has no noise either


def _identity_along(
    table: Table, rest: Float[ndarray, "m m"], weights: Float[ndarray, "m q"]
) -> Float[ndarray, " q"]:
    """What the design leaves in its own directions, template noise included: values that lie unevenly on
    their own curve."""
    power = np.einsum("vq,vw,wq->q", weights, table.mean, weights)
    left = np.sum((rest @ table.mean @ weights) ** 2, 0) / np.maximum(power, 1e-300)
    return left / np.trace(rest)


def _identity_dims(table: Table, rest: Float[ndarray, "m m"], identity: float) -> float:
    """Effective dimensions of token identity, from how far the residuals of different values are from
    orthogonal."""
    residual = rest @ table.gram.mean((0, 1)) @ rest.T
    freedom = max(np.trace(rest), 2.0)
    trace = np.trace(residual)
    squared = (np.sum(residual**2) - trace**2 / freedom) / (freedom * (freedom + 1) - 2)
    noise = (table.noise.total / table.templates) ** 2 / table.noise.dims
    return float(np.clip(identity**2 / max(squared - noise, 1e-300), 3.0, max(table.noise.dims, 3.0)))


@dataclass(frozen=True)
class Ground:
    """The noise of one table outside the directions of a shape, of variance 1 per dimension: the same draws
    for every shape. ``own``: along the m dimensions of token identity; ``gram``: inner products of the rest.
    """

    table: Table
    numbers: Draws
    own: Float[ndarray, "b gm m"]
    gram: Float[ndarray, "b gm gm"]

    @classmethod
    def of(cls, table: Table, numbers: Draws) -> "Ground":
        m = len(table.kept)
        rest = _noise_rows(table, _bartlett(numbers.noise_rest, max(table.noise.dims - m, 0.0)))
        own = _noise_rows(table, numbers.noise_cross) * _inside(table.noise.dims, m)
        return cls(table, numbers, own, rest @ np.swapaxes(rest, 1, 2))


def _noise_rows(table: Table, numbers: Float[ndarray, "b gm c"]) -> Float[ndarray, "b gm c"]:
    """Rows (group, value) with the covariance over values of the noise, less for groups of more templates."""
    root = table.noise.root.astype(np.float32) / np.sqrt(table.sizes, dtype=np.float32)[:, None, None]
    by_group = numbers.reshape(len(numbers), len(table.sizes), len(table.kept), -1)
    return (root @ by_group).reshape(numbers.shape)


def simulate(ground: Ground, fitted: Fit) -> Float[ndarray, "b g g m m"]:
    """Gram matrices of group means, drawn from the fit."""
    table, numbers = ground.table, ground.numbers
    m, groups = len(table.kept), len(table.sizes)
    curve = _curve(fitted, numbers)
    q = curve.shape[-1]
    along = np.concatenate([fitted.along, np.full(max(q - len(fitted.along), 0), fitted.along.mean())])[:q]
    curve = curve + np.sqrt(fitted.identity_along) * numbers.identity[..., :q]
    left = max(fitted.identity - q * fitted.identity_along, 0.0)
    own = np.sqrt(left / fitted.identity_dims) * _bartlett(numbers.identity_rest, fitted.identity_dims)
    # of as many dimensions as are drawn
    rest = max(table.noise.total - float(along.sum()), 0.0) / max(table.noise.dims, 1.0)
    signal = np.concatenate([curve, own], -1).astype(np.float32)
    signal = np.tile(signal - signal.mean(1, keepdims=True), (1, groups, 1))
    noise = _noise_rows(table, numbers.noise[..., :q]) * np.sqrt(along, dtype=np.float32)
    rows = signal + np.concatenate([noise, ground.own * np.float32(np.sqrt(rest))], -1)
    gram = rows @ np.swapaxes(rows, 1, 2) + np.float32(rest) * ground.gram
    return gram.reshape(-1, groups, m, groups, m).transpose(0, 1, 3, 2, 4)


def _inside(dims: float, columns: int) -> Float[ndarray, " c"]:
    """1 for the first ``dims`` of the columns, 0 for those that the space does not have."""
    return np.clip(dims - np.arange(columns), 0.0, 1.0).astype(np.float32)


def _bartlett(numbers: Float[ndarray, "b r r"], dims: float) -> Float[ndarray, "b r r"]:
    """A factor of the Gram matrix of r standard normal rows in ``dims`` dimensions. The χ² of the diagonal is
    drawn by the transformation of Wilson & Hilferty (1931), which depends smoothly on ``dims``."""
    size = numbers.shape[-1]
    freedom = np.maximum(dims - np.arange(size), 0.0)
    safe = np.maximum(freedom, 0.5)
    normal = np.einsum("bii->bi", numbers)
    chi2 = freedom * np.maximum(1 - 2 / (9 * safe) + normal * np.sqrt(2 / (9 * safe)), 0.0) ** 3
    factor = np.tril(numbers, -1) * _inside(dims, size)
    index = np.arange(size)
    factor[:, index, index] = np.sqrt(chi2)
    return factor.astype(np.float32)


def _curve(fitted: Fit, numbers: Draws) -> Float[ndarray, "b m q"]:
    """The fitted curve itself, or, for a Gaussian process, another path of the same covariance, extent and
    spectrum."""
    own, kernel = fitted.coordinates, fitted.design.kernel
    count = len(numbers.identity)
    if kernel is None:
        return own[None].astype(np.float32)
    m = len(own)
    columns = min(int(np.ceil(fitted.dims)), m - 1)
    root = np.linalg.cholesky(kernel + 1e-6 * np.eye(m))
    path = root.astype(np.float32) @ _bartlett(numbers.path, fitted.dims)[..., :columns]
    path = path - path.mean(1, keepdims=True)
    path = path * np.sqrt(np.sum(own**2) / np.sum(path**2, (1, 2)))[:, None, None]
    if "cut" in fitted.design.params:
        is_open = openness(path, fitted.order) >= 1
        path = path[np.argsort(~is_open, kind="stable")]
    return path[:count]


def openness(curves: Float[ndarray, "*b m q"], order: Int[ndarray, " m"]) -> Float[ndarray, "*b"] | float:
    """Distance between the ends of a curve that is passed in ``order``, in units of the distance from which
    on it is open: three mean steps, or .8 of the root mean square distance of any two values where that is
    less (paths that fade)."""
    c = curves[..., order, :]
    gap = np.linalg.norm(c[..., -1, :] - c[..., 0, :], axis=-1)
    step = np.linalg.norm(np.diff(c, axis=-2), axis=-1).mean(-1)
    m = c.shape[-2]
    centred = c - c.mean(-2, keepdims=True)
    apart = np.sqrt(2 * np.sum(centred**2, (-1, -2)) / (m - 1))
    return gap / np.maximum(np.minimum(OPEN_STEPS * step, 0.8 * apart), 1e-300)
