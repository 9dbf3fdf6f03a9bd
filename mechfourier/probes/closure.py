"""Closed or open: does the last value lie next to the first?

An ordered representation (a ramp, an arc, a random walk) has most of its power at k = 1 and beats a permutation test,
so order is not closure. Every look at closure is computed from the shared Gram matrix G of the values
(:func:`mechfourier.probes.spectrum.shared_gram`), whose squared distances D[v, w] = G[v,v] + G[w,w] − 2G[v,w] are free of
template noise:

- *curves*: closed (harmonic) against open curves (polynomials of degree 1 to 3), by leaving values out;
- *turns*: the number of turns f over which the values are spread, from D ≈ c + b·(1 − cos(2πf·lag/n)) in the plane of
  harmonic k. The constant takes up what is peculiar to each value. f = k closes; a random walk has about half a turn, a
  ramp less, three quarters of a circle about .75;
- *contest*: which shape explains D better, one in which likeness falls off with the distance along the line, or the same
  shape round the cycle (a correlation that only fades and never comes back has f near 1 on long cycles, so the turns
  alone do not show it);
- *seam*: the likeness of (last, first) against that of all other neighbours;
- *wrap*: the slope of D on the harmonic over pairs more than half a cycle apart against that over the nearer
  pairs, 1 on a circle (reported).
"""

import dataclasses
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from einops import einsum
from jaxtyping import Float
from torch import Tensor

from mechfourier.fourier.harmonics import harmonic_design
from mechfourier.probes.spectrum import harmonic_planes

GRID = 0.005  # turns
THREE_QUARTERS = 0.25  # gap of the widest arc that has to count as open, in turns
LEAST_SEAM = 0.5  # of the likeness of other neighbours
FADES = (0.5, 0.7, 1.0, 1.4, 2.0, 2.8, 4.0, 5.6, 8.0)  # lengths over which likeness fades, in steps


def squared_distances(gram: Float[Tensor, "*lead n n2"]) -> Float[Tensor, "*lead n n2"]:
    """D[v, w] = G[v,v] + G[w,w] − 2·G[v,w], unbiased where ``gram`` is (then it may fall below 0)."""
    own = torch.diagonal(gram, dim1=-2, dim2=-1)
    return own[..., :, None] + own[..., None, :] - 2 * gram


def pair_lags(n: int) -> tuple[Tensor, Tensor, Tensor]:
    """Indices i < j of every pair of values, and their lag j − i."""
    i, j = torch.triu_indices(n, n, 1)
    return i, j, (j - i).double()


def turn_grid(n: int, k: int) -> Float[Tensor, " f"]:
    """Candidate numbers of turns, within ¾ of a turn of ``k``, k itself among them; never beyond n/2, which would alias."""
    steps = torch.arange(-150, 151, dtype=torch.float64) * GRID + k
    return steps[(steps >= 0.1) & (steps <= max(n / 2, k))]


def in_plane(gram: Float[Tensor, "*lead n n2"], k: int) -> Float[Tensor, "*lead n n2"]:
    """Gram matrix of the values' shadows on the plane of harmonic ``k``: z_v = Σ_{w≠v} G[v, w]·(cos, sin)(2πkw/n).

    A value has no part in the plane it is projected on (w ≠ v), else anything would draw a circle. What is peculiar to
    single values, and other harmonics in other planes, drop out; an open curve stays open, since the projection is linear.
    """
    own = torch.diag_embed(torch.diagonal(gram, dim1=-2, dim2=-1))
    shadow = (gram - own) @ harmonic_planes(gram.shape[-1])[k - 1].T
    return shadow @ shadow.mT


def fitted_turns(gram: Float[Tensor, "*lead n n2"], k: int) -> tuple[Tensor, Tensor]:
    """Best number of turns near ``k`` in its plane, and the R² of its fit to the squared distances there; axes: lead."""
    n = gram.shape[-1]
    gram = in_plane(gram, k)
    i, j, lag = pair_lags(n)
    grid = turn_grid(n, k)
    kernel = 1 - torch.cos(2 * math.pi / n * grid[:, None] * lag)
    kernel = kernel - kernel.mean(1, keepdim=True)
    kernel = kernel / torch.linalg.norm(kernel, dim=1, keepdim=True)
    y = squared_distances(gram)[..., i, j]
    y = y - y.mean(-1, keepdim=True)
    slope = (y @ kernel.T).clamp_min(0)
    best = slope.max(-1)
    total = (y**2).sum(-1).clamp_min(torch.finfo(y.dtype).tiny)
    return grid[best.indices], best.values**2 / total


def turn_tolerance(n: int) -> tuple[float, float]:
    """How far f may lie below and above k: below, half way from a closed circle (the gap is one step, 1/n turn) to a
    ¾-turn arc (a gap of a quarter); above, an eighth of a turn of overlap."""
    return max(THREE_QUARTERS - 1 / n, 0.05) / 2 * n / (n - 1), 0.125


def shape_contest(gram: Float[Tensor, "*lead n n2"], k: int) -> tuple[Tensor, Tensor]:
    """Best R² on the squared distances of the closed shapes and of the open ones (every shape: a constant and a slope ≥ 0).

    Open: fading exponentially or as a Gaussian with the lag, the lag itself, its square, arcs short of closing.
    Closed: the same fading with the lag round the cycle, and the circle at ``k``.
    """
    n = gram.shape[-1]
    i, j, lag = pair_lags(n)
    round_lag = torch.minimum(lag, n - lag)
    short = torch.arange(max(0.3, k - 0.75), k - turn_tolerance(n)[0], 0.02, dtype=torch.float64)
    arcs = 1 - torch.cos(2 * math.pi / n * short[:, None] * lag)
    circle = 1 - torch.cos(2 * math.pi / n * k * lag)[None]
    opened = torch.cat([_fading(lag), lag[None], lag[None] ** 2, arcs])
    closed = torch.cat([_fading(round_lag), circle])
    y = squared_distances(gram)[..., i, j]
    return _best_fit(y, closed), _best_fit(y, opened)


def _fading(lag: Float[Tensor, " pair"]) -> Float[Tensor, "shape pair"]:
    length = torch.tensor(FADES, dtype=lag.dtype)[:, None]
    smooth = length[length[:, 0] >= 1]
    return torch.cat([1 - torch.exp(-lag / length), 1 - torch.exp(-((lag / smooth) ** 2) / 2)])


def _best_fit(y: Float[Tensor, "*lead pair"], shapes: Float[Tensor, "shape pair"]) -> Float[Tensor, "*lead"]:
    centred = shapes - shapes.mean(1, keepdim=True)
    unit = centred / torch.linalg.norm(centred, dim=1, keepdim=True).clamp_min(1e-12)
    y = y - y.mean(-1, keepdim=True)
    total = (y**2).sum(-1).clamp_min(torch.finfo(y.dtype).tiny)
    return (y @ unit.T).clamp_min(0).amax(-1) ** 2 / total


def wrap_ratio(gram: Float[Tensor, "*lead n n2"], k: int) -> Float[Tensor, "*lead"]:
    """Slope of D on −cos(2πk·lag/n) over lags beyond n/2, divided by the slope over lags up to n/2."""
    n = gram.shape[-1]
    i, j, lag = pair_lags(n)
    x = -torch.cos(2 * math.pi * k / n * lag)
    y = squared_distances(gram)[..., i, j]
    near = lag <= n / 2
    columns = torch.stack([torch.ones_like(x), x * near, x * ~near], 1)
    slopes = y @ torch.linalg.pinv(columns).T
    floor = 1e-9 * y.abs().amax(-1)
    return torch.where(
        slopes[..., 1] > floor, slopes[..., 2] / slopes[..., 1].clamp_min(torch.finfo(y.dtype).tiny), 0.0
    ).clamp(-9.0, 9.0)


def seam_similarity(gram: Float[Tensor, "*lead n n2"]) -> tuple[Tensor, Tensor]:
    """Likeness of (last, first) and the mean of all other neighbours, above the mean over all pairs.

    In units of the mean squared length of a value, so 1 is "the same" and 0 "no more alike than any two values".
    """
    n = gram.shape[-1]
    own = torch.diagonal(gram, dim1=-2, dim2=-1)
    scale = own.mean(-1).abs().clamp_min(torch.finfo(gram.dtype).tiny)
    every = (gram.sum((-2, -1)) - own.sum(-1)) / (n * (n - 1))
    others = torch.diagonal(gram, offset=1, dim1=-2, dim2=-1).mean(-1)
    return (gram[..., n - 1, 0] - every) / scale, (others - every) / scale


@dataclass(frozen=True)
class CurveModel:
    """One curve through the values. ``closed``: it returns to its start. ``parameters`` per dimension.

    ``q2``: 1 − (error on left-out values)/(error of the mean of the other values), template noise removed; below 0 the
    mean predicts better. ``r2`` is in-sample. ``aic`` and ``bic`` are of the template means, per effective dimension:
    n·log(RSS/n) + 2p and + p·log n (differences between models are what they tell).
    """

    name: str
    closed: bool
    parameters: int
    q2: float
    r2: float
    aic: float
    bic: float


def curve_designs(n: int, k: int) -> list[tuple[str, bool, Tensor]]:
    """Polynomials of degree 1 to 3, harmonics k and k with 2k (or with 1): name, closed, columns with the constant."""
    v = torch.arange(n, dtype=torch.float64)
    u = (v - v.mean()) / v.std()
    ones = torch.ones(n, 1, dtype=torch.float64)
    powers = [torch.stack([u**p for p in range(degree + 1)], 1) for degree in (1, 2, 3)]
    designs = [(name, False, x) for name, x in zip(("linear", "quadratic", "cubic"), powers, strict=True)]
    second = 2 * k if 4 * k < n else 1
    sets = [(k,)] if second == k else [(k,), tuple(sorted((k, second)))]
    for ks in sets:
        name = "harmonic " + " + ".join(map(str, ks))
        designs.append((name, True, torch.cat([ones, harmonic_design(v, float(n), harmonics=ks)], 1)))
    return [(name, closed, x) for name, closed, x in designs if x.shape[1] <= n - 2]


def left_out_operator(columns: Float[Tensor, "n p"]) -> Float[Tensor, "n n"]:
    """The matrix that takes values to their errors when each is predicted from all others (PRESS): (I − H)/(1 − h)."""
    q, _ = torch.linalg.qr(columns)
    hat = q @ q.T
    left = torch.eye(len(columns), dtype=columns.dtype) - hat
    return left / left.diagonal()[:, None]


def left_out_error(
    gram: Float[Tensor, "*lead n n2"], columns: Float[Tensor, "n p"]
) -> Float[Tensor, "*lead"]:
    """Summed squared error on left-out values over all dimensions; with a shared ``gram``, between different templates."""
    operator = left_out_operator(columns)
    return einsum(operator, gram, operator, "e v, ... v w, e w -> ...")


def curve_q2(gram: Float[Tensor, "*lead n n2"], columns: Float[Tensor, "n p"]) -> Float[Tensor, "*lead"]:
    """1 − left-out error of the curve / left-out error of the mean."""
    mean = left_out_error(gram, torch.ones(len(columns), 1, dtype=columns.dtype))
    error = left_out_error(gram, columns)
    safe = mean.clamp_min(torch.finfo(gram.dtype).tiny)
    return torch.where(mean > 0, 1 - error / safe, torch.zeros_like(error))


def curve_models(
    gram: Float[Tensor, "n n2"], mean_gram: Float[Tensor, "n n2"], k: int
) -> tuple[CurveModel, ...]:
    """Every curve of :func:`curve_designs`. ``gram``: shared; ``mean_gram``: of the template means (noise included)."""
    n = len(gram)
    tiny = torch.finfo(gram.dtype).tiny
    total = max(float(mean_gram.trace()), tiny)
    rows = []
    for name, closed, columns in curve_designs(n, k):
        q, _ = torch.linalg.qr(columns)
        rss = max(total - float(einsum(q, mean_gram, q, "v i, v w, w i ->")), 1e-12 * total)
        p = columns.shape[1]
        fit = n * math.log(rss / n)
        q2, aic, bic = float(curve_q2(gram, columns)), fit + 2 * (p + 1), fit + (p + 1) * math.log(n)
        rows.append(CurveModel(name, closed, p, q2, 1 - rss / total, aic, bic))
    return tuple(rows)


@dataclass(frozen=True)
class Interval:
    """An estimate with a 95 % percentile interval from resampling the templates (NaN where there are too few)."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Closure:
    """What one site says about closure at ``k``; ``closed`` is the joint judgement, ``reasons`` why.

    ``turns``: fitted number of turns. ``contest``: R² of the best closed shape less that of the best open one.
    ``seam``: likeness of (last, first) less that of other neighbours (``neighbours``). ``wrap``: see :func:`wrap_ratio`.
    ``closed_q2``, ``open_q2``: left-out Q² of the best harmonic and the best polynomial (``open_model``).
    """

    k: int
    turns: Interval
    turns_r2: float
    contest: Interval
    seam: Interval
    neighbours: float
    wrap: Interval
    closed_q2: float
    open_q2: float
    open_model: str
    closed: bool
    reasons: tuple[str, ...]


def template_draws(count: int, draws: int, *, seed: int) -> Float[Tensor, "draw t"]:
    """Bootstrap counts of the templates; every draw holds at least two different ones."""
    generator = torch.Generator().manual_seed(seed)
    picks = torch.randint(0, count, (draws, count), generator=generator)
    lone = (picks == picks[:, :1]).all(1)
    picks[lone, -1] = (picks[lone, 0] + 1) % count
    return torch.nn.functional.one_hot(picks, count).sum(1).double()


def _interval(value: Tensor, draws: Tensor | None) -> Interval:
    if draws is None or not len(draws):
        return Interval(float(value), math.nan, math.nan)
    low, high = torch.quantile(draws, torch.tensor([0.025, 0.975], dtype=draws.dtype)).tolist()
    return Interval(float(value), low, high)


def closure(
    gram: Float[Tensor, "n n2"], k: int, *, draws: Float[Tensor, "draw n n2"] | None = None
) -> Closure:
    """Judge closure at harmonic ``k`` from the shared ``gram`` of one site and its bootstrap ``draws`` over templates."""
    n = len(gram)
    curves = [(name, closed, float(curve_q2(gram, x))) for name, closed, x in curve_designs(n, k)]
    open_model, _, open_q2 = max((c for c in curves if not c[1]), key=lambda c: c[2])

    def measured(statistic: Callable[[Tensor], Tensor]) -> Interval:
        return _interval(statistic(gram), None if draws is None else statistic(draws))

    found = Closure(
        k=k,
        turns=measured(lambda g: fitted_turns(g, k)[0]),
        turns_r2=float(fitted_turns(gram, k)[1]),
        contest=measured(lambda g: torch.sub(*shape_contest(g, k))),
        seam=measured(lambda g: torch.sub(*seam_similarity(g))),
        neighbours=float(seam_similarity(gram)[1]),
        wrap=measured(lambda g: wrap_ratio(g, k)),
        closed_q2=max(q2 for _, closed, q2 in curves if closed),
        open_q2=open_q2,
        open_model=open_model,
        closed=False,
        reasons=(),
    )
    against = tuple(_against(found, n))
    return dataclasses.replace(found, closed=not against, reasons=against or (_for(found),))


def _between(interval: Interval) -> str:
    if math.isnan(interval.low):
        return f"{interval.value:.2f}"
    return f"{interval.value:.2f} [{interval.low:.2f}, {interval.high:.2f}]"


def _against(found: Closure, n: int) -> Iterator[str]:
    """What speaks against a closed circle, a sentence each."""
    below, above = turn_tolerance(n)
    low, high = found.k - below, found.k + above
    # the interval must clear the bar, not the estimate alone; without an interval (NaN) the estimate has to do
    turns = found.turns.value if math.isnan(found.turns.low) else found.turns.low
    if not (turns >= low and found.turns.value <= high):
        yield (
            f"the values spread over {_between(found.turns)} turns; a closed circle has {found.k} "
            f"(from {low:.2f} to {high:.2f} counts)"
        )
    margin = found.contest.value if math.isnan(found.contest.low) else found.contest.low
    if not margin > 0:
        yield (
            "likeness falls off along a line rather than round a cycle: R² of the best closed shape less that of the "
            f"best open one is {_between(found.contest)}"
        )
    near = 6 * found.k <= n  # farther apart, neighbours on a circle are no longer alike
    if near and found.neighbours + found.seam.value < LEAST_SEAM * found.neighbours:
        yield (
            f"the last and the first value are less alike than other neighbours: {_between(found.seam)} below "
            f"a likeness of {found.neighbours:.2f}"
        )
    if not found.closed_q2 > found.open_q2:
        yield (
            f"an open curve ({found.open_model}) predicts left-out values better: Q² {found.open_q2:.2f} "
            f"against {found.closed_q2:.2f}"
        )


def _for(found: Closure) -> str:
    return (
        f"it closes: {_between(found.turns)} turns, closed shapes ahead of open ones by R² {_between(found.contest)}, "
        f"the last and first value as alike as other neighbours ({_between(found.seam)}), left-out Q² "
        f"{found.closed_q2:.2f} against {found.open_q2:.2f} for the best open curve ({found.open_model})"
    )
