"""One hook point on its way through the operation statistics: standardised cells, its profile over the sum, its null."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from mechfourier.stats.confounds import Grid
from mechfourier.stats.residue import class_effects
from mechfourier.stats.rotation_null import RotationNull, family_wise_p
from mechfourier.stats.shares import moment_p
from mechfourier.stats.specificity import Background, Floor, Periods, off_sum_floor, plane_spectrum
from mechfourier.stats.surrogates import SurrogateBasis, off_rows, surrogate_ratios

ALPHA = 0.05
OUTLYING = 5.0
"""Of 600 Gaussian cells times 1,000 dimensions fewer than one lies beyond so many standard deviations."""
ROUNDS = 6


def spread_of(cells: Float[Tensor, "site cell d"]) -> Float[Tensor, "site d"]:
    """Standard deviation per dimension, 0 where it is no more than float rounding."""
    spread = cells.std(1)
    rounding = 1e-5 * cells.abs().amax(1)
    return torch.where(spread > rounding, spread, torch.zeros_like(spread))


def standardised(
    grid: Grid, acts: Tensor
) -> tuple[Float[Tensor, "site cell d"], Float[Tensor, "site cell d"]]:
    """(z-scored activations, their residuals at unit norm per dimension); dead dimensions are zero.

    Unit residual norm makes squared scores partial R², keeps dimensions of huge variance from drowning the rest, and
    is the same for every rotation of the residual space, so that the null stays exact.
    """
    cells = acts.flatten(1, 2).double()
    alive = spread_of(cells) > 0
    cells = torch.stack([tamed(grid, site) for site in cells])
    spread = cells.std(1)
    scored = (cells - cells.mean(1, keepdim=True)) / torch.where(alive & (spread > 0), spread, 1.0)[:, None]
    scored = scored * alive[:, None]
    residual = torch.stack([grid.residual(site) for site in scored])
    norm = residual.norm(dim=1)
    alive = norm > 1e-5 * grid.cells**0.5
    return scored, residual * (alive / torch.where(alive, norm, 1.0))[:, None]


def tamed(grid: Grid, cells: Float[Tensor, "cell d"]) -> Float[Tensor, "cell d"]:
    """Huber's pseudo-values: what the confounds leave of a cell is cut off at ``OUTLYING`` robust standard deviations.

    Rotations are the null of light tails. A single cell of Cauchy noise holds a dimension's whole variance, and p-values then
    tell where on the grid it lies. Without such cells nothing is changed.
    """
    middle = cells.median(0).values
    kept = middle + _cut(cells - middle)
    for _ in range(ROUNDS):
        fit = kept - grid.residual(kept)
        before, kept = kept, fit + _cut(cells - fit)
        if torch.equal(before, kept):
            break
    return kept


def _cut(left: Float[Tensor, "cell d"]) -> Float[Tensor, "cell d"]:
    scale = 1.4826 * left.abs().median(0).values
    bound = torch.where(scale > 0, OUTLYING * scale, torch.inf)
    return torch.where(left.abs() > bound, bound * left.sign(), left)


@dataclass(frozen=True, eq=False)
class View:
    """One hook point on its way through the statistics. ``plane``: T per testable harmonic; ``z``: in spreads of its null."""

    index: int
    scored: Float[Tensor, "cell d"]
    residual: Float[Tensor, "cell d"]
    profile: Float[Tensor, "profile d"]
    floor: Floor
    plane: Float[Tensor, " k"]
    z: Float[Tensor, " k"]
    keys: tuple[int, ...]
    background: Background
    p: float
    profile_p: float
    effects: Float[Tensor, "n d"]

    @property
    def worth_it(self) -> bool:
        """Nothing of the sum is significant: no need for surrogates to say that n is not special."""
        return self.p < ALPHA or self.profile_p < ALPHA


def view_of(
    grid: Grid,
    periods: Periods,
    index: int,
    scored: Tensor,
    residual: Tensor,
    null: RotationNull,
) -> View:
    profile = grid.sum_basis.T @ residual
    off = residual - grid.sum_basis @ profile
    off_dof = grid.residual_dof - grid.sum_basis.shape[1]
    floor = off_sum_floor(off, off_dof)
    plane = plane_spectrum(periods.harmonic_planes, profile)
    z = (plane - null.mean[index]) / null.spread[index]
    keys = _key_harmonics(periods, z, null)
    background = Background(periods, keys or (periods.harmonics[int(z.argmax())],))
    p = family_wise_p(float(z.max()), null.plane)
    profile_p = energy_p(grid, residual, grid.sum_basis)
    return View(
        index, scored, residual, profile, floor, plane, z, keys, background, p, profile_p,
        class_effects(grid.class_columns, residual),
    )  # fmt: skip


def worst_surrogates(grid: Grid, views: list[View], draws: int, seed: int) -> Float[Tensor, "draw two"]:
    """Largest ratios over hook points of every surrogate; without any hook point worth it, none can be reached."""
    worst = torch.full((draws, 2), -math.inf, dtype=torch.float64)
    bases: dict[tuple[int, ...], SurrogateBasis] = {}
    for view in views:
        basis = bases.setdefault(view.background.notched, SurrogateBasis(view.background))
        off = view.residual - grid.sum_basis @ view.profile
        rows = off_rows(off, 2 * basis.bins, view.floor, torch.Generator().manual_seed(seed + 1))
        ratios = surrogate_ratios(basis, view.profile, rows, view.floor, draws=draws, seed=seed)
        worst = torch.maximum(worst, ratios)
    return worst if views else torch.full_like(worst, math.nan)


def _key_harmonics(periods: Periods, z: Tensor, null: RotationNull) -> tuple[int, ...]:
    bar = float(null.plane.amax(1).quantile(1 - ALPHA))
    return tuple(k for k, value in zip(periods.harmonics, z.tolist(), strict=True) if value > bar)


def energy_p(grid: Grid, residual: Tensor, basis: Float[Tensor, "cell profile"]) -> float:
    """Do the functions in ``basis`` explain more than their share of the residual space? Beta approximation of a rotation test."""
    gram = residual.T @ residual if residual.shape[1] < residual.shape[0] else residual @ residual.T
    total, square = float(gram.diagonal().sum()), float((gram * gram).sum())
    energy = float((basis.T @ residual).pow(2).sum())
    return moment_p(energy, total, square, basis.shape[1], grid.residual_dof)
