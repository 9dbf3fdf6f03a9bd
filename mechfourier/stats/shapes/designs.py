"""The shapes that n values of a cycle can lie in, as linear predictors of the table of value means.

A *design* is one member of a shape: an open curve with its cut and its number of turns, a wave with its
phase. It predicts the table ``m [value d]`` as ``S m``, where S is the projection on a few columns or the
smoother of a Gaussian process. How well it predicts is then linear in the Gram matrix of the values, so that
thousands of designs cost one matrix product (:mod:`mechfourier.stats.shapes.scores`).

The shapes are in :mod:`mechfourier.stats.shapes.catalogue`.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float, Int, Num
from numpy import ndarray
from scipy import optimize

COARSE = 0.95
"""A design between grid points counts where its error is below this times that of the grid: else the difference is noise."""


NUGGET_BOUNDS, STEPS = (1e-3, 1.0), 60
"""Of the search for the likeliest process."""


@dataclass(frozen=True)
class Places:
    """The values that take part (``kept``), out of ``n`` on the cycle."""

    n: int
    kept: Int[ndarray, " m"]

    @property
    def without(self) -> int | None:
        """The value that is set aside."""
        return next((v for v in range(self.n) if v not in self.kept), None)

    @property
    def harmonics(self) -> range:
        return range(1, (self.n - 1) // 2 + 1)

    def along(self, cut: int) -> Int[ndarray, " m"]:
        """The position of every value on a list that begins at ``cut``."""
        return (self.kept - cut) % self.n


Columns = list[Num[ndarray, " m"]]


@dataclass(frozen=True)
class Sweep:
    """A parameter on a grid, free between the grid points beside it."""

    name: str
    low: float
    high: float
    columns: Callable[[float], Columns]


@dataclass(frozen=True)
class Design:
    """One predictor. ``kernel`` (with ``nugget``) is the prior covariance over values, for Gaussian
    processes."""

    params: dict[str, float]
    smoother: Float[ndarray, "m m"]
    kernel: Float[ndarray, "m m"] | None = None
    nugget: float = 0.0
    sweep: Sweep | None = None


def waves(turns: float, at: Int[ndarray, " m"], n: int) -> list[Float[ndarray, " m"]]:
    """cos and sin of ``turns`` turns per n values."""
    angle = 2 * np.pi * turns * at / n
    return [np.cos(angle), np.sin(angle)]


def turns_of_gap(gap: float, n: int) -> float:
    """Turns per n values of a curve whose ends are ``gap`` steps apart: n/f = n − 1 + gap."""
    return n / (n - 1 + gap)


def regression(columns: list[Num[ndarray, " m"]], **params: float) -> Iterator[Design]:
    """The least-squares fit on a constant and ``columns``; nothing where fewer than two values are left to
    test it on."""
    x = np.column_stack([np.ones(len(columns[0])), *columns])
    if x.shape[1] >= len(x) - 1:
        return
    u, s, _ = np.linalg.svd(x, full_matrices=False)
    if s[-1] > 1e-8 * s[0]:
        yield Design(params, u @ u.T)


def swept(
    name: str, grid: Float[ndarray, " g"], columns: Callable[[float], Columns], **params: float
) -> Iterator[Design]:
    """A regression for every value of one parameter, which is fitted between grid points later
    (:func:`refined`)."""
    for i, x in enumerate(grid):
        sweep = Sweep(name, float(grid[max(i - 1, 0)]), float(grid[min(i + 1, len(grid) - 1)]), columns)
        for design in regression(columns(float(x)), **params, **{name: float(x)}):
            yield replace(design, sweep=sweep)


def refined(design: Design, gram: Float[ndarray, "m m"]) -> Design:
    """The design with its free parameter where it predicts best. Noise can be far smaller than the steps of a
    grid."""
    sweep = design.sweep
    if "free" in design.params:
        return next(regression([np.linalg.eigh(gram)[1][:, -1]], **design.params), design)
    if sweep is None or sweep.high <= sweep.low:
        return design

    def error(x: float) -> float:
        found = next(regression(sweep.columns(x)), None)
        return float(weight(found.smoother) @ gram.ravel()) if found is not None else np.inf

    bounds = (sweep.low, sweep.high)
    best = float(optimize.fminbound(error, *bounds, xtol=1e-6))  # pyright: ignore[reportArgumentType]
    if error(best) >= COARSE * error(design.params[sweep.name]):
        return design
    (found,) = regression(sweep.columns(best), **design.params | {sweep.name: best})
    return replace(found, sweep=sweep)


def process(kernel: Float[ndarray, "m m"], nugget: float, **params: float) -> Design:
    """Kriging with an unknown mean: the posterior mean of a Gaussian process of that covariance."""
    inverse = np.linalg.inv(kernel + nugget * np.eye(len(kernel)))
    row = inverse.sum(0)
    projector = inverse - np.outer(row, row) / row.sum()
    return Design(params | {"nugget": nugget}, np.eye(len(kernel)) - nugget * projector, kernel, nugget)


def likeliest(design: Design, gram: Float[ndarray, "m m"]) -> Design:
    """The process with the length of similarity, up to twice or half its own, and the nugget of greatest restricted
    likelihood: one and a half times too short a length draws paths that hardly ever look closed. Another length is
    another power of the kernel."""
    assert design.kernel is not None
    kernel, steep = design.kernel, 1.0 if "rough" in design.params else 2.0

    def parts(x: Float[ndarray, " 2"]) -> tuple[Float[ndarray, "m m"], float]:
        return kernel ** float(np.exp(-steep * x[0])), float(np.exp(x[1]))

    def misfit(x: Float[ndarray, " 2"]) -> float:
        shaped, nugget = parts(x)
        inverse = np.linalg.inv(shaped + nugget * np.eye(len(gram)))
        row = inverse.sum(0)
        left = np.sum(inverse * gram) - row @ gram @ row / row.sum()
        return (len(gram) - 1) * np.log(max(left, 1e-300)) - np.linalg.slogdet(inverse)[1] + np.log(row.sum())

    start, bounds = np.array([0.0, np.log(design.nugget)]), ((-np.log(2), np.log(2)), np.log(NUGGET_BOUNDS))
    simplex = start + np.array([[0.0, 0.0], [0.3, 0.0], [0.0, -0.7]])
    options = {"maxfev": STEPS, "initial_simplex": np.clip(simplex, *np.transpose(bounds))}
    found = optimize.minimize(misfit, start, method="Nelder-Mead", bounds=bounds, options=options)
    shaped, nugget = parts(found.x)
    params = {**design.params, "length": design.params["length"] * float(np.exp(found.x[0]))}
    return process(shaped, **params | {"nugget": nugget})


def weight(smoother: Float[ndarray, "m m"]) -> Float[ndarray, " m2"]:
    rest = np.eye(len(smoother)) - smoother
    return (rest.T @ rest * len(rest) / np.trace(rest) ** 2).ravel()
