"""One hook point on its way through the operation statistics: standardised cells, its profile over the sum,
its null.
"""

import math
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from mechfourier.stats.confounds import Grid
from mechfourier.stats.permutation import permutation_p
from mechfourier.stats.residue import class_effects
from mechfourier.stats.rotation_null import RotationNull
from mechfourier.stats.shares import moment_p
from mechfourier.stats.specificity import Background, Floor, Periods, off_sum_floor, plane_spectrum
from mechfourier.stats.surrogates import SurrogateBasis, off_rows, surrogate_ratios
from mechfourier.stats.token_exchange import ORDERED, exchanged_tokens

ALPHA = 0.05
OUTLYING = 5.0
"""Of 600 Gaussian cells times 1,000 dimensions fewer than one lies beyond so many standard deviations."""
OUTLYING_ROWS = 3.0
ROUNDS = 6
SOME_CELLS = 128
"""Cells from which the effective dimensions are taken."""


def spread_of(cells: Float[Tensor, "site cell d"]) -> Float[Tensor, "site d"]:
    """Standard deviation per dimension, 0 where it is no more than float rounding."""
    spread = cells.std(1)
    rounding = 1e-5 * cells.abs().amax(1)
    return torch.where(spread > rounding, spread, torch.zeros_like(spread))


def standardised(
    grid: Grid, acts: Tensor
) -> tuple[Float[Tensor, "site cell d"], Float[Tensor, "site cell d"]]:
    """(z-scored activations, their residuals at unit norm per dimension); dead dimensions are zero.

    Unit residual norm makes squared scores partial R², keeps dimensions of huge variance from drowning the
    rest, and is the same for every rotation of the residual space, so that the null stays exact.
    """
    cells = acts.flatten(1, 2).double()
    spread = spread_of(cells)
    unit = (spread > 0) / torch.where(spread > 0, spread, 1.0)
    cells = (cells - cells.mean(1, keepdim=True)) * unit[:, None]
    scored = torch.stack([_cut(site) for site in cells])
    residual = torch.stack([_robust_residual(grid, *pair) for pair in zip(cells, scored, strict=True)])
    norm = residual.norm(dim=1)
    alive = norm > 1e-5 * grid.cells**0.5
    return scored, residual * (alive / torch.where(alive, norm, 1.0))[:, None]


def _robust_residual(
    grid: Grid, cells: Float[Tensor, "cell d"], start: Float[Tensor, "cell d"]
) -> Float[Tensor, "cell d"]:
    """The residual of Huber's pseudo-values: what the confounds leave of a cell is cut off at ``OUTLYING``
    robust standard deviations.

    Rotations are the null of light tails: a single cell of Cauchy noise holds a dimension's whole variance,
    and p-values then tell where on the grid it lies. Where no cell is that far out this is the least-squares
    residual.
    """
    fit = start - grid.residual(start)
    kept = _cut_rows(_cut(cells - fit))
    for _ in range(ROUNDS):
        last, fit = fit, fit + kept - grid.residual(fit + kept)
        if torch.allclose(last, fit, atol=1e-3):
            break
        kept = _cut_rows(_cut(cells - fit))
    return grid.residual(fit + kept)


def _cut(cells: Float[Tensor, "cell d"]) -> Float[Tensor, "cell d"]:
    """Every dimension cut off at ``OUTLYING`` robust standard deviations from its median (one that hardly
    ever moves is left alone).
    """
    middle = cells.median(0).values
    scale = 1.4826 * (cells - middle).abs().median(0).values
    bound = torch.where(scale > 0, OUTLYING * scale, torch.inf)
    return torch.minimum(torch.maximum(cells, middle - bound), middle + bound)


def _cut_rows(left: Float[Tensor, "cell d"]) -> Float[Tensor, "cell d"]:
    """Cells cut off at the norm that Gaussian cells of as many effective dimensions reach at
    ``OUTLYING_ROWS`` standard deviations (of few dimensions, whose norms have a long tail, at five).
    """
    norm = left.norm(dim=1)
    some = left[:: -(-len(left) // SOME_CELLS)]
    some = some / some.norm(dim=1, keepdim=True).clamp_min(1e-300)
    cosines = (some @ some.T).square()
    alike = (cosines.sum() - cosines.diagonal().sum()) / (len(some) * (len(some) - 1))
    dimensions = 1 / alike.clamp_min(1e-9)
    bound = norm.median() * (1 + OUTLYING_ROWS / (2 * dimensions).sqrt() + 4 / dimensions)
    return left * (bound / norm.clamp_min(1e-300)).clamp_max(1.0)[:, None]


LEADING = 3
"""Directions that count as few."""


@dataclass(frozen=True, eq=False)
class View:
    """One hook point on its way through the statistics. ``plane``: T per testable harmonic; ``z``: in spreads
    of its null.
    """

    index: int
    scored: Float[Tensor, "cell d"]
    residual: Float[Tensor, "cell d"]
    profile: Float[Tensor, "profile d"]
    difference: Float[Tensor, "other_profile d"]
    floor: Floor
    plane: Float[Tensor, " k"]
    z: Float[Tensor, " k"]
    keys: tuple[int, ...]
    background: Background
    p: float
    profile_p: float
    difference_p: float
    effects: Float[Tensor, "n d"]
    p_tokens: float = math.nan

    @property
    def worth_it(self) -> bool:
        """Nothing of the sum is significant: no need for surrogates to say that n is not special."""
        return self.p < ALPHA or self.profile_p < ALPHA


def leading_share(residual: Float[Tensor, "cell d"], count: int = LEADING) -> float:
    """Of what the confounds leave, the share along its ``count`` strongest directions; NaN where there are few in all."""
    cells, width = residual.shape
    if min(cells, width) < 4 * count:
        return math.nan
    gram = residual @ residual.T if cells < width else residual.T @ residual
    strength = torch.linalg.eigvalsh(gram).clamp_min(0)
    return float(strength[-count:].sum() / strength.sum().clamp_min(1e-300))


def view_of(
    grid: Grid,
    periods: Periods,
    index: int,
    scored: Tensor,
    residual: Tensor,
    null: RotationNull,
) -> View:
    profile, difference = grid.sum_basis.T @ residual, grid.difference_basis.T @ residual
    off = residual - grid.sum_basis @ profile
    off_dof = grid.residual_dof - grid.sum_basis.shape[1]
    floor = off_sum_floor(off, off_dof)
    plane = plane_spectrum(periods.harmonic_planes, profile)
    z = (plane - null.mean[index]) / null.spread[index]
    keys = _key_harmonics(periods, z, null)
    background = Background(periods, keys or (periods.harmonics[int(z.argmax())],))
    p = permutation_p(float(z.max()), null.plane.amax(1))
    known = moments(residual)
    return View(
        index,
        scored,
        residual,
        profile,
        difference,
        floor,
        plane,
        z,
        keys,
        background,
        p,
        energy_p(grid, profile, known),
        energy_p(grid, difference, known),
        class_effects(grid.class_columns, residual),
    )


def worst_surrogates(grid: Grid, views: list[View], draws: int, seed: int) -> Float[Tensor, "draw two"]:
    """Largest ratios over hook points of every surrogate; without any hook point worth it, none can be
    reached.
    """
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


def moments(residual: Float[Tensor, "cell d"]) -> tuple[float, float]:
    """Trace and squared Frobenius norm of the Gram matrix of the residuals."""
    gram = residual.T @ residual if residual.shape[1] < residual.shape[0] else residual @ residual.T
    return float(gram.diagonal().sum()), float((gram * gram).sum())


def energy_p(grid: Grid, profile: Float[Tensor, "profile d"], residual_moments: tuple[float, float]) -> float:
    """Do functions with these coordinates explain more than their share of the residual space?

    A rotation test by its first two moments.
    """
    return moment_p(float(profile.pow(2).sum()), *residual_moments, profile.shape[0], grid.residual_dof)


def with_tokens_exchanged(periods: Periods, views: list[View], seed: int) -> list[View]:
    """Where a plane or a function of the sum is significant against noise and tokens in any order have as much, the
    larger p."""
    asked = [view for view in views if view.worth_it]
    if not asked:
        return views
    found = exchanged_tokens(periods, [view.scored for view in asked], seed=seed)

    def larger(p: float, exchanged: float) -> float:
        return p if exchanged <= ORDERED else max(p, exchanged)

    told = {
        view.index: replace(
            view, p=larger(view.p, plane), profile_p=larger(view.profile_p, profile), p_tokens=plane
        )
        for view, plane, profile in zip(asked, found.plane, found.profile, strict=True)
    }
    return [told.get(view.index, view) for view in views]
