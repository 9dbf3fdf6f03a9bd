"""Tables drawn from a fitted design: the same templates, noise and token identity as the data, another draw.

Activations of thousands of dimensions are never drawn. Along the few directions of the fitted shape there are coordinates; what
is left, white in its effective number of dimensions, is drawn by its inner products (Bartlett's decomposition of a Wishart matrix).
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray

from mechfourier.stats.shapes.designs import Design
from mechfourier.stats.shapes.tables import Table

OPEN_STEPS = 2.5
SPARE = 4


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
    """One design fitted to a table. ``coordinates``: the fitted curve along its own directions, without noise in expectation.
    ``identity``: variance of what the design leaves, over ``identity_dims`` dimensions; ``along``: noise of templates in every direction."""

    design: Design
    coordinates: Float[ndarray, "m q"]
    dims: float
    along: Float[ndarray, " q"]
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
    dims = float(q) if design.kernel is None else max(clear, _path_dims(table, rest / design.nugget))
    identity = max(0.0, float(np.trace(rest @ table.mean @ rest.T) / np.trace(rest)))
    return Fit(
        design,
        vectors * np.sqrt(values),
        dims,
        _noise_along(table, s.T @ vectors),
        identity,
        _identity_dims(table, rest, identity),
        np.argsort((table.kept - int(design.params.get("cut", 0))) % len(table.frame.order)),
    )


def _path_dims(table: Table, precision: Float[ndarray, "m m"]) -> float:
    """Effective dimensions of a process: those of its values once the kernel is divided out, which are then independent rows."""
    values, vectors = np.linalg.eigh(precision)
    root = (vectors * np.sqrt(np.maximum(values, 0.0))) @ vectors.T
    return effective_dims(root @ table.mean @ root, len(root) - 1.0, 1.0)


def effective_dims(gram: Float[ndarray, "m m"], freedom: float, fewest: float) -> float:
    """(tr Σ)² / tr Σ² of the covariance of ``freedom`` independent rows with that Gram matrix, without bias."""
    trace = float(np.trace(gram))
    squared = (np.sum(gram**2) - trace**2 / freedom) / (freedom * (freedom + 1) - 2)
    return float(np.clip((trace / freedom) ** 2 / max(squared, 1e-300), fewest, 1e6))


def _noise_along(table: Table, weights: Float[ndarray, "m q"]) -> Float[ndarray, " q"]:
    """Variance of single templates along the directions that ``weights`` of the value means point in."""
    t, m = table.templates, len(weights)
    mean = table.gram.mean((0, 1))
    length = np.sqrt(np.maximum(np.einsum("vq,vw,wq->q", weights, mean, weights), 1e-300))
    rest = table.gram.mean(1) - mean
    return np.sum((rest @ weights / length) ** 2, (0, 1)) / ((t - 1) * (m - 1))


def _identity_dims(table: Table, rest: Float[ndarray, "m m"], identity: float) -> float:
    """Effective dimensions of token identity, from how far the residuals of different values are from orthogonal."""
    residual = rest @ table.gram.mean((0, 1)) @ rest.T
    freedom = max(np.trace(rest), 2.0)
    trace = np.trace(residual)
    squared = (np.sum(residual**2) - trace**2 / freedom) / (freedom * (freedom + 1) - 2)
    noise = (table.noise.total / table.templates) ** 2 / table.noise.dims
    return float(np.clip(identity**2 / max(squared - noise, 1e-300), 3.0, max(table.noise.dims, 3.0)))


def simulate(table: Table, fitted: Fit, numbers: Draws) -> Float[ndarray, "b g g m m"]:
    """Gram matrices of group means, drawn from the fit."""
    m, groups = len(fitted.coordinates), len(table.sizes)
    curve = _curve(fitted, numbers)
    q = curve.shape[-1]
    spare = np.full(max(q - len(fitted.along), 0), fitted.along.mean())
    along = np.concatenate([fitted.along, spare])[:q]
    scale = np.repeat(1 / np.sqrt(table.sizes), m) * np.tile(table.noise.spread, groups)
    per_dim = fitted.identity / fitted.identity_dims
    curve = curve + np.sqrt(per_dim) * numbers.identity[..., :q]
    rest = max(table.noise.total - float(along.sum()), 0.0)
    along = np.sqrt(along) * scale[:, None] * numbers.noise[..., :q]
    dims = max(table.noise.dims - q, 1.0)
    left = max(fitted.identity - q * per_dim, 0.3 * fitted.identity)
    own = np.sqrt(left / fitted.identity_dims) * _bartlett(numbers.identity_rest, fitted.identity_dims)
    noise = np.sqrt(rest / dims) * scale[:, None]
    rows = np.concatenate(
        [
            np.tile(curve, (1, groups, 1)) + along,
            np.tile(own, (1, groups, 1)) + noise * numbers.noise_cross * _inside(dims, m),
            noise * _bartlett(numbers.noise_rest, max(dims - m, 0.0)),
        ],
        -1,
    ).astype(np.float32)
    rows = rows.reshape(len(rows), groups, m, -1)
    rows = (rows - rows.mean(2, keepdims=True)).reshape(len(rows), groups * m, -1)
    gram = rows @ np.swapaxes(rows, 1, 2)
    return gram.reshape(-1, groups, m, groups, m).transpose(0, 1, 3, 2, 4)


def _inside(dims: float, columns: int) -> Float[ndarray, " c"]:
    """1 for the first ``dims`` of the columns, 0 for those that the space does not have."""
    return np.clip(dims - np.arange(columns), 0.0, 1.0).astype(np.float32)


def _bartlett(numbers: Float[ndarray, "b r r"], dims: float) -> Float[ndarray, "b r r"]:
    """A factor of the Gram matrix of r standard normal rows in ``dims`` dimensions. The χ² of the diagonal is drawn by the
    transformation of Wilson & Hilferty (1931), which depends smoothly on ``dims``."""
    size = numbers.shape[-1]
    freedom = np.maximum(dims - np.arange(size), 0.0)
    safe = np.maximum(freedom, 0.5)
    normal = np.einsum("bii->bi", numbers)
    chi2 = freedom * np.maximum(1 - 2 / (9 * safe) + normal * np.sqrt(2 / (9 * safe)), 0.0) ** 3
    factor = np.tril(numbers, -1) * _inside(dims, size)
    index = np.arange(size)
    factor[:, index, index] = np.sqrt(chi2)
    return factor


def _curve(fitted: Fit, numbers: Draws) -> Float[ndarray, "b m q"]:
    """The fitted curve itself, or, for a Gaussian process, another path of the same covariance, extent and spectrum."""
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


def openness(curves: Float[ndarray, "*b m q"], order: Int[ndarray, " m"]) -> Float[ndarray, "*b"]:
    """Distance between the ends of a curve that is passed in ``order``, in units of the distance from which on it is open:
    2.5 mean steps, or .8 of the root mean square distance of any two values where that is less (paths that fade)."""
    c = curves[..., order, :]
    gap = np.linalg.norm(c[..., -1, :] - c[..., 0, :], axis=-1)
    step = np.linalg.norm(np.diff(c, axis=-2), axis=-1).mean(-1)
    m = c.shape[-2]
    centred = c - c.mean(-2, keepdims=True)
    apart = np.sqrt(2 * np.sum(centred**2, (-1, -2)) / (m - 1))
    return gap / np.maximum(np.minimum(OPEN_STEPS * step, 0.8 * apart), 1e-300)
