"""Operation domains: is (a + o) mod n represented on a circle? Arrays in, a frozen evidence out.

Every statistic is defined in docs/statistics.md. ``analyse_operation`` measures; ``verdict_operation``
decides.
"""

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from mechfourier.results.base import Result
from mechfourier.stats.class_shapes import ShapeContest
from mechfourier.stats.confounds import Grid
from mechfourier.stats.field import field_contest
from mechfourier.stats.operation_input import (
    check,
    confounded,
    flat,
    holes_in,
    no_harmonic,
    repeats,
    untestable,
)
from mechfourier.stats.operation_view import (
    ALPHA,
    View,
    leading_share,
    standardised,
    view_of,
    with_tokens_exchanged,
    worst_surrogates,
)
from mechfourier.stats.permutation import permutation_p
from mechfourier.stats.residue import class_contest, common_divisor, harmonic_power, wrap_transfer
from mechfourier.stats.rotation_null import RotationNull, rotation_null
from mechfourier.stats.shapes.contest import ShapeEvidence
from mechfourier.stats.shares import Shares, variance_shares
from mechfourier.stats.specificity import (
    Periods,
    class_ratio,
    found_modulus,
    found_period,
    localisation,
    specificity_ratio,
)

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class OperationSite:
    """What one hook point shows. Shares are of the variance over the grid, dimensions standardised.

    ``sum_line``, ``a_only``, ``offset_only``, ``rest``: 2-D DFT shares (over whole cycles of the offsets).
    ``magnitude``: of the a-only and offset-only variance, the part that is a straight line in the integers.
    ``profile_p``: p of *any* function of the raw sum beyond the confounds; ``main_p``: of token identity.
    ``k``: best testable harmonic; ``plane_share``: T above the noise as a share of the residual energy (1 =
    only a circle); ``p``: its family-wise p over hook points and k, against noise; where tokens in any order do as
    much (``p_tokens`` above .02; NaN where noise does), that; ``profile_p`` likewise. ``key_harmonics``: all k whose plane is
    significant by itself. ``ratio``: period specificity; ``p_specific``: against the surrogates' maxima over
    hook points. ``class_ratio``, ``p_class``: energy per dimension of functions of the residue class over
    other functions of the sum. ``field_ratio``: T at (k/n, k/n) over the best at the same frequency along one
    operand and another along the other, ``field_rival``; ``difference``: over a − o (T or energy, whichever
    is less); ``other_p``: of any combination that is no sum, ``strongest``; ``difference_p``: p of any
    function of a − o, ``sum_over_difference``: energy above the noise. ``exactness``: T at n/k over the best
    T within 0.75 resolutions; ``peak_shift``: where that best is. ``period``: the period of the raw sum, of
    all, whose plane holds most, with its 95 % interval; ``modulus``: the m near n whose residue classes hold
    most. ``dim``, ``dim_k``, ``partial_r2``, ``p_dim``: best single dimension, family-wise over hook points,
    dimensions, k. ``concentration``: power share of the strongest harmonic between the ``classes`` that the
    found harmonics tell apart. ``closed``, ``open``: R² of a closed curve and of the best other shape
    (``rival``) on the likeness of different classes; ``p_concentration``: of the closed curve against every
    other shape (``hardest``: the one that is hardest to reject); ``leading_share``: of what the
    confounds leave, the share along its three strongest directions; ``shapes``: all of them, best first
    (``evidence``: R² on the likeness of different classes; ``p``: of the closed curve against it). ``wrap_transfer``: R² past the wrap of the
    best dimension's cosine fitted before it.
    """

    site: int
    sum_line: float
    a_only: float
    offset_only: float
    rest: float
    magnitude: float
    profile_p: float
    main_p: float
    k: int
    key_harmonics: tuple[int, ...]
    plane_share: float
    plane_z: float
    p: float
    ratio: float
    p_specific: float
    class_ratio: float
    p_class: float
    field_ratio: float
    exactness: float
    peak_shift: float
    dim: int
    dim_k: int
    partial_r2: float
    p_dim: float
    concentration: float
    p_concentration: float
    classes: int
    closed: float
    open: float
    wrap_transfer: float
    harmonic_shares: tuple[float, ...]
    field_rival: str = ""
    difference: float = math.nan
    difference_p: float = math.nan
    sum_over_difference: float = math.nan
    other_p: float = math.nan
    strongest: str = ""
    period: float = math.nan
    period_low: float = math.nan
    period_high: float = math.nan
    modulus: int = 0
    rival: str = ""
    hardest: str = ""
    p_tokens: float = math.nan
    leading_share: float = math.nan
    shapes: tuple[ShapeEvidence, ...] = ()


@dataclass(frozen=True)
class OperationEvidence(Result, kind="operation-evidence"):
    """All that was measured on an operation grid. ``reason`` says why nothing could be tested, else it is
    empty.

    ``threshold``: the specificity ratio that 1 in 100 surrogates reach somewhere; ``untestable``: harmonics
    this grid cannot tell from a smooth function of the sum (or from base 10). ``control``: the same hook
    points of the control. ``p_concentration``: of the closed curve through the classes over all hook points
    where n is special, taken together. ``repeated``: how many offsets were given, where those of the
    later cycles have the activations of the first (which alone is measured); else 0.
    """

    n: int
    n_offsets: int
    cycles: float
    d_model: int
    permutations: int
    seed: int
    testable: tuple[int, ...]
    untestable: tuple[int, ...]
    threshold: float
    reason: str
    sites: tuple[OperationSite, ...]
    control: tuple[OperationSite, ...]
    controlled: bool = False
    p_concentration: float = 1.0
    repeated: int = 0

    def best(self) -> OperationSite | None:
        """The hook point with the strongest plane; None where nothing was testable."""
        return max(self.sites, key=lambda site: site.plane_z, default=None)

    def frame(self) -> "pd.DataFrame":
        """One row per hook point."""
        import pandas as pd

        from mechfourier.results.base import plain

        return pd.DataFrame([plain(site) for site in self.sites])


def analyse_operation(
    acts: Float[Tensor, "site a offset d"],
    *,
    n: int,
    confounds: Float[Tensor, "a offset feature"] | None = None,
    control: Float[Tensor, "_site _a _offset _d"] | None = None,
    permutations: int = 1000,
    surrogates: int = 400,
    first_offset: int = 0,
    digits: bool = True,
    seed: int = 0,
) -> OperationEvidence:
    """Measure activations on a full grid of n values times consecutive offsets.

    ``acts[site, a, o]`` belongs to the label (a + first_offset + o) mod n. ``confounds``: further features of
    the cells, beside token identity, powers of the raw sum, token lengths and (``digits``) the units digit of
    the raw sum. ``control``: the same grid in a re-initialised model. Raises ``UsageError`` for shapes that
    do not fit; a grid that cannot answer (holes, constant, too small) gives an evidence with a ``reason``.
    """
    check(acts, n, control, permutations, surrogates)
    repeated = acts.shape[2] if repeats(acts, n, first_offset) else 0
    if repeated:
        acts = acts[:, :, :n]
        control = None if control is None else control[:, :, :n]
        confounds = None if confounds is None else confounds[:, :n]
    offsets, width = acts.shape[2:]
    asked = (n, offsets, offsets / n, width, permutations, seed)
    if confounds is None:
        periods = _plain_periods(n, offsets, first_offset, digits)
    else:
        periods = Periods(
            Grid(n, offsets, first_offset, digits, rearrange(confounds, "a o f -> (a o) f").double())
        )
    grid = periods.grid
    reason = untestable(acts, n) or confounded(grid)
    if control is not None:
        reason = reason or holes_in(control, " of the untrained control")
    if not reason and not periods.harmonics:
        reason = no_harmonic(grid)
    if reason:
        harmonics = tuple(range(1, (n + 1) // 2))
        return OperationEvidence(*asked, (), harmonics, math.nan, reason, (), (), repeated=repeated)
    measured = _measure(grid, periods, acts, permutations, surrogates, seed)
    compared = ()
    if control is not None and not flat(control):
        compared = _measure(grid, periods, control, permutations, surrogates, seed).sites
    return OperationEvidence(
        *asked,
        periods.harmonics,
        periods.untestable,
        measured.threshold,
        "",
        measured.sites,
        compared,
        control is not None,
        measured.p_concentration,
        repeated,
    )


@lru_cache(maxsize=4)
def _plain_periods(n: int, offsets: int, first_offset: int, digits: bool) -> Periods:
    """Grids without confounds of their own come back often (scans, benchmarks), and their bases are
    costly.
    """
    return Periods(Grid(n, offsets, first_offset, digits))


@dataclass(frozen=True)
class Measured:
    """All hook points, the ratio that 1 in 100 surrogates reach somewhere, p of the concentration over hook
    points.
    """

    sites: tuple[OperationSite, ...]
    threshold: float
    p_concentration: float


def _measure(
    grid: Grid, periods: Periods, acts: Tensor, permutations: int, surrogates: int, seed: int
) -> "Measured":
    scored, residual = standardised(grid, acts)
    cell_planes = periods.harmonic_planes @ grid.sum_basis.T
    null = rotation_null(
        grid,
        cell_planes,
        rearrange(residual, "site cell d -> cell site d"),
        permutations=permutations,
        seed=seed,
    )
    views = with_tokens_exchanged(
        periods, [view_of(grid, periods, i, scored[i], residual[i], null) for i in range(acts.shape[0])], seed
    )
    worst = worst_surrogates(grid, [view for view in views if view.worth_it], surrogates, seed)
    sites = tuple(_site(grid, periods, view, null, worst, seed) for view in views)
    return Measured(sites, float(worst[:, 0].quantile(0.99)), _pooled(grid, views, sites, seed))


def _pooled(grid: Grid, views: list[View], sites: tuple[OperationSite, ...], seed: int) -> float:
    """p of the closed curve over all hook points where n is special, taken as one wide activation.

    One test instead of one per hook point: classes without an order in every layer have one in some layer by
    chance.
    """
    kept = [(v, s) for v, s in zip(views, sites, strict=True) if s.p < ALPHA and s.p_specific <= ALPHA / 5]
    if not kept:
        return 1.0
    size = [view.effects.norm().clamp_min(1e-300) for view, _ in kept]
    wide = torch.cat([view.effects / norm for norm, (view, _) in zip(size, kept, strict=True)], 1)
    noise = sum(view.floor.energy / float(norm) ** 2 for norm, (view, _) in zip(size, kept, strict=True))
    strongest = max((site for _, site in kept), key=lambda site: site.plane_z).k
    common = math.gcd(grid.n, *(grid.n // site.classes for _, site in kept))
    return class_contest(grid, wide, noise, common, strongest, seed).p


def _site(
    grid: Grid, periods: Periods, view: View, null: RotationNull, worst: Tensor, seed: int
) -> OperationSite:
    best = int(view.z.argmax())
    k = periods.harmonics[best]
    energy = float((view.residual**2).sum())
    ratio = float(specificity_ratio(view.background, view.profile, view.floor))
    classes = float(class_ratio(view.background, view.profile, view.floor))
    exactness, shift = localisation(periods, view.profile, view.floor, k)
    r2 = (periods.harmonic_planes @ view.profile).pow(2).sum(1)
    dim_index, dim = divmod(int(r2.argmax()), r2.shape[1])
    dim_k, partial_r2 = periods.harmonics[dim_index], float(r2.max())
    common = common_divisor(grid.n, periods.harmonics, view.plane - view.floor.mean)
    shapes = class_contest(grid, view.effects, view.floor.energy, common, k, seed)
    power = harmonic_power(view.effects)
    field = field_contest(grid, view.residual, view.floor, k)
    return OperationSite(
        site=view.index,
        **_share_fields(variance_shares(grid, view.scored)),
        profile_p=view.profile_p,
        k=k,
        key_harmonics=view.keys,
        plane_z=float(view.z[best]),
        plane_share=float(2 * (view.plane[best] - view.floor.mean).clamp_min(0)) / max(energy, 1e-300),
        p=view.p,
        p_tokens=view.p_tokens,
        ratio=ratio,
        p_specific=permutation_p(ratio, worst[:, 0]),
        class_ratio=classes,
        p_class=permutation_p(classes, worst[:, 1]),
        field_ratio=field.ratio,
        field_rival=field.name,
        difference=field.difference,
        other_p=field.other_p,
        strongest=field.strongest,
        difference_p=view.difference_p,
        sum_over_difference=_sum_over_difference(view),
        **_period_fields(periods, view),
        modulus=found_modulus(periods, view.profile, view.floor),
        exactness=exactness,
        peak_shift=shift,
        dim=dim,
        dim_k=dim_k,
        partial_r2=partial_r2,
        p_dim=permutation_p(partial_r2, null.dims.amax(1)),
        concentration=float(power.max() / power[common - 1 :: common].sum().clamp_min(1e-300)),
        classes=shapes.classes,
        p_concentration=shapes.p,
        closed=shapes.closed,
        open=shapes.rivals[shapes.best_rival],
        rival=shapes.best_rival,
        hardest=shapes.hardest,
        leading_share=leading_share(view.residual),
        shapes=_shape_evidence(shapes),
        wrap_transfer=wrap_transfer(grid, view.scored[:, dim], dim_k),
        harmonic_shares=tuple((power / power.sum().clamp_min(1e-300)).tolist()),
    )


def _shape_evidence(contest: ShapeContest) -> tuple[ShapeEvidence, ...]:
    """Every shape of the residue classes, best first."""
    found = contest.rivals | {"closed curve": contest.closed}
    ranked = sorted(found, key=lambda name: -found[name])
    return tuple(ShapeEvidence(name, found[name], None, None, contest.rejects.get(name)) for name in ranked)


def _sum_over_difference(view: View) -> float:
    """Energy of the functions of the sum over that of the functions of the difference, each above the noise,
    per dimension.
    """
    above = [
        max(float(part.pow(2).sum()) / part.shape[0] - view.floor.energy, 0.0)
        for part in (view.profile, view.difference)
    ]
    return above[0] / max(above[1], 1e-300) if above[0] > 0 else 0.0


def _period_fields(periods: Periods, view: View) -> dict[str, float]:
    grid = periods.grid
    off = view.residual - grid.sum_basis @ view.profile
    period = found_period(periods, view.profile, off, grid.residual_dof - grid.sum_basis.shape[1])
    return dict(period=period.value, period_low=period.low, period_high=period.high)


def _share_fields(shares: Shares) -> dict[str, float]:
    return dict(
        sum_line=shares.sum_line,
        a_only=shares.a_only,
        offset_only=shares.offset_only,
        rest=shares.rest,
        magnitude=shares.magnitude,
        main_p=shares.main_p,
    )
