"""Closed or open: does the last value lie next to the first?

An ordered representation (a ramp, an arc, a random walk) has most of its power at k = 1 and beats a permutation test,
so order is not closure. Every look at closure is computed from the shared Gram matrix G of the values
(:func:`mechfourier.stats.spectrum.shared_gram`), free of template noise:

- *turns*: the number of turns f over which the values are spread. The likeness G[v, w] of every two different values is
  fitted by that of points at angles 2πfv/n. What is peculiar to single values is on the diagonal of G, which is left
  out. f = k closes; three quarters of a circle have about .8, a random walk about half a turn, a ramp less;
- *contest*: which explains G[v, w] better, likeness that falls off with the distance along the line, or the same shapes
  round the cycle? A correlation that only fades and never comes back has f near 1 on long cycles, so the turns alone
  do not show it;
- *seam*: the likeness of the neighbours across the wrap, (last, first), against that of all other neighbours;
- *curves*: closed (harmonic) against open curves (polynomials of degree 1 to 3), by leaving values out. Their ends have
  more leverage than the points of a circle, which helps the circle, so the curves can only speak against closure.
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from einops import einsum, rearrange
from jaxtyping import Float
from torch import Tensor

from mechfourier.fourier.harmonics import harmonic_design
from mechfourier.fourier.waves import waves

GRID = 0.01  # turns
THREE_QUARTERS = 0.25  # gap of the widest arc that has to count as open, in turns
LEAST_SEAM = 0.6  # of the likeness of other neighbours
# Share of the template resamples in which closed shapes have to win. In noise both fit alike: with half of them, smooth open
# curves at the signal-to-noise ratio 1/32 pass in 8 % of draws, with .9 in 2.5 % (circles there: 74 % and 56 %).
WINS = 0.9
FADES = (0.5, 0.7, 1.0, 1.4, 2.0, 2.8, 4.0, 5.6, 8.0)  # lengths over which likeness fades, in steps


def pairs_of(gram: Float[Tensor, "*lead n n2"]) -> Float[Tensor, "*lead pair"]:
    """Likeness of every two different values (upper triangle), less its mean over the pairs."""
    n = gram.shape[-1]
    i, j = torch.triu_indices(n, n, 1)
    pairs = gram[..., i, j]
    return pairs - pairs.mean(-1, keepdim=True)


def shapes_of(kernels: Float[Tensor, "shape n n2"]) -> Float[Tensor, "shape pair"]:
    """The pairs of centred kernels, each of length 1: what G looks like where a kernel is the truth."""
    n = kernels.shape[-1]
    centre = torch.eye(n, dtype=kernels.dtype) - 1 / n
    pairs = pairs_of(centre @ kernels @ centre)
    return pairs / torch.linalg.norm(pairs, dim=1, keepdim=True).clamp_min(1e-12)


def fits(
    gram: Float[Tensor, "*lead n n2"], shapes: Float[Tensor, "shape pair"]
) -> Float[Tensor, "*lead shape"]:
    """R² of every shape (a constant and a slope ≥ 0) on the pairs of ``gram``."""
    pairs = pairs_of(gram)
    total = (pairs**2).sum(-1, keepdim=True).clamp_min(torch.finfo(gram.dtype).tiny)
    return (pairs @ shapes.T).clamp_min(0) ** 2 / total


def lags(n: int) -> Float[Tensor, "n n"]:
    """|v − w|."""
    v = torch.arange(n, dtype=torch.float64)
    return (v[:, None] - v).abs()


def arc_kernels(n: int, turns: Float[Tensor, " f"]) -> Float[Tensor, "f n n"]:
    """Likeness of points at angles 2πfv/n on a circle, for every number of turns f."""
    return waves(turns[:, None, None] * lags(n) / n)[..., 0]


def turn_grid(n: int, k: int) -> Float[Tensor, " f"]:
    """Candidate numbers of turns, within ¾ of a turn of ``k``, k itself among them; never beyond n/2, which would alias."""
    steps = torch.arange(-75, 76, dtype=torch.float64) * GRID + k
    return steps[(steps >= 0.1) & (steps <= max(n / 2, k))]


@functools.lru_cache(maxsize=128)
def _turn_shapes(n: int, k: int) -> tuple[Tensor, Tensor]:
    """Pairs of circular arcs [f, pair], and orthonormal bases of those of elliptical ones [f, pair, 3]."""
    grid = turn_grid(n, k)
    wave = waves(grid[:, None] * torch.arange(n) / n).mT
    wave = wave - wave.mean(-1, keepdim=True)
    products = einsum(wave, wave, "f i v, f j w -> f i j v w")
    products = torch.stack([products[:, 0, 0], products[:, 1, 1], products[:, 0, 1] + products[:, 1, 0]], 1)
    bases = torch.linalg.qr(pairs_of(products).mT).Q
    return shapes_of(arc_kernels(n, grid)), bases


def fitted_turns(gram: Float[Tensor, "*lead n n2"], k: int) -> tuple[Tensor, Tensor]:
    """Best number of turns near ``k`` and the R² of its fit; axes: lead.

    Fitted twice, by arcs of a circle and by arcs of an ellipse; what is nearer to ``k`` counts. The ends of a flattened
    circle would else look overlapping or apart, depending on where on it the first value lies.
    """
    n = gram.shape[-1]
    circles, ellipses = _turn_shapes(n, k)
    pairs = pairs_of(gram)
    total = (pairs**2).sum(-1, keepdim=True).clamp_min(torch.finfo(gram.dtype).tiny)
    basis = rearrange(ellipses, "f pair c -> pair (f c)")
    flattened = rearrange((pairs @ basis) ** 2, "... (f c) -> ... f c", c=3).sum(-1) / total
    found = torch.stack([fits(gram, circles).max(-1).indices, flattened.argmax(-1)])
    r2 = torch.stack([fits(gram, circles).amax(-1), flattened.amax(-1)])
    turns = turn_grid(n, k)[found]
    nearer = (turns - k).abs().argmin(0, keepdim=True)
    return turns.gather(0, nearer)[0], r2.gather(0, nearer)[0]


def turn_tolerance(n: int) -> tuple[float, float]:
    """How far f may lie below and above k: below, half way from a closed circle (the gap is one step, 1/n turn) to a
    ¾-turn arc (a gap of a quarter); above, an eighth of a turn of overlap."""
    return max(THREE_QUARTERS - 1 / n, 0.05) / 2 * n / (n - 1), 0.125


@functools.lru_cache(maxsize=128)
def _contestants(n: int, k: int) -> tuple[Tensor, Tensor]:
    lag = lags(n)
    round_lag = torch.minimum(lag, n - lag)
    circle = arc_kernels(n, torch.tensor([float(k)], dtype=torch.float64))
    opened = torch.cat([_fading(lag), -lag[None], -(lag[None] ** 2)])
    return shapes_of(torch.cat([_fading(round_lag), circle])), shapes_of(opened)


def shape_contest(gram: Float[Tensor, "*lead n n2"], k: int) -> tuple[Tensor, Tensor]:
    """Best R² of the closed shapes and of the open ones.

    Open: likeness that fades exponentially or as a Gaussian with the lag, or falls with the lag or its square.
    Closed: the same fading with the lag round the cycle, and the circle at ``k``.
    """
    closed, opened = _contestants(gram.shape[-1], k)
    return fits(gram, closed).amax(-1), fits(gram, opened).amax(-1)


def _fading(lag: Float[Tensor, "n n"]) -> Float[Tensor, "shape n n"]:
    length = torch.tensor(FADES, dtype=lag.dtype)[:, None, None]
    smooth = length[length[:, 0, 0] >= 1]
    return torch.cat([torch.exp(-lag / length), torch.exp(-((lag / smooth) ** 2) / 2)])


def seam_similarity(gram: Float[Tensor, "*lead n n2"], k: int = 1) -> tuple[Tensor, Tensor]:
    """Likeness of the neighbours across the wrap and that of all other neighbours, above the mean over all pairs.

    Neighbours are (last, first), and on long cycles, where one pair is noisy, all pairs up to a twelfth of a turn apart.
    In units of the mean squared length of a value, so 1 is "the same" and 0 "no more alike than any two values".
    """
    n = gram.shape[-1]
    reach = max(1, round(n / (12 * k)))
    own = torch.diagonal(gram, dim1=-2, dim2=-1)
    scale = own.mean(-1).abs().clamp_min(torch.finfo(gram.dtype).tiny)
    every = (gram.sum((-2, -1)) - own.sum(-1)) / (n * (n - 1))
    across = sum(
        torch.diagonal(gram, offset=n - lag, dim1=-2, dim2=-1).sum(-1) for lag in range(1, reach + 1)
    )
    within = [
        torch.diagonal(gram, offset=lag, dim1=-2, dim2=-1).mean(-1) * lag for lag in range(1, reach + 1)
    ]
    pairs = reach * (reach + 1) / 2
    return (across / pairs - every) / scale, (torch.stack(within).sum(0) / pairs - every) / scale


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
        # an error that is free of template noise may fall below 0 by chance, and Q² then exceeds 1
        q2 = min(float(curve_q2(gram, columns)), 1.0)
        aic, bic = fit + 2 * (p + 1), fit + (p + 1) * math.log(n)
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

    ``turns``: fitted number of turns. ``contest``: R² of the best closed shape less that of the best open one, and ``wins`` the
    share of template resamples in which it is above 0 (NaN where there are too few templates).
    ``seam``: likeness of (last, first) less that of other neighbours (``neighbours``). ``curves``: left-out Q² of the best
    harmonic curve less that of the best polynomial (``open_model``), which are ``closed_q2`` and ``open_q2``.
    """

    k: int
    turns: Interval
    turns_r2: float
    contest: Interval
    wins: float
    seam: Interval
    neighbours: float
    curves: Interval
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


def curve_contest(gram: Float[Tensor, "*lead n n2"], k: int) -> tuple[Tensor, Tensor]:
    """Left-out Q² of the best closed and the best open curve."""
    q2 = {True: [], False: []}
    for _, closed, columns in curve_designs(gram.shape[-1], k):
        q2[closed].append(curve_q2(gram, columns))
    return torch.stack(q2[True]).amax(0), torch.stack(q2[False]).amax(0)


def closure(
    gram: Float[Tensor, "n n2"], k: int, *, draws: Float[Tensor, "draw n n2"] | None = None
) -> Closure:
    """Judge closure at harmonic ``k`` from the shared ``gram`` of one site and its bootstrap ``draws`` over templates."""
    n = len(gram)
    opened = [(float(curve_q2(gram, x)), name) for name, closed, x in curve_designs(n, k) if not closed]

    def measured(statistic: Callable[[Tensor], Tensor]) -> Interval:
        return _interval(statistic(gram), None if draws is None else statistic(draws))

    found = Closure(
        k=k,
        turns=measured(lambda g: fitted_turns(g, k)[0]),
        turns_r2=float(fitted_turns(gram, k)[1]),
        contest=measured(lambda g: torch.sub(*shape_contest(g, k))),
        wins=math.nan if draws is None else _wins(draws, k),
        seam=measured(lambda g: torch.sub(*seam_similarity(g, k))),
        neighbours=float(seam_similarity(gram, k)[1]),
        curves=measured(lambda g: torch.sub(*curve_contest(g, k))),
        closed_q2=float(curve_contest(gram, k)[0]),
        open_q2=max(opened)[0],
        open_model=max(opened)[1],
        closed=False,
        reasons=(),
    )
    against = tuple(_against(found, n))
    return dataclasses.replace(found, closed=not against, reasons=against or (_for(found),))


def _wins(draws: Float[Tensor, "draw n n2"], k: int) -> float:
    return float((torch.sub(*shape_contest(draws, k)) > 0).double().mean()) if len(draws) else math.nan


def _between(interval: Interval) -> str:
    if math.isnan(interval.low):
        return f"{interval.value:.2f}"
    return f"{interval.value:.2f} [{interval.low:.2f}, {interval.high:.2f}]"


def _q2(value: float) -> str:
    """Q² as text, 1 at most: beyond, the error estimate lies below 0 by chance."""
    return f"{min(value, 1.0):.2f}"


def _seam(found: Closure) -> str:
    """Likeness across the wrap as a multiple of that of other neighbours."""
    unit = max(abs(found.neighbours), 1e-12)
    parts = ((found.neighbours + x) / unit for x in (found.seam.value, found.seam.low, found.seam.high))
    return f"{_between(Interval(*parts))}×"


def _against(found: Closure, n: int) -> Iterator[str]:
    """What speaks against a closed circle, a sentence each."""
    below, above = turn_tolerance(n)
    low, high = found.k - below, found.k + above
    if not low <= found.turns.value <= high:
        yield (
            f"the values span {_between(found.turns)} turns; a closed circle spans {found.k} (accepted: {low:.2f} to {high:.2f})"
        )
    if not found.contest.value > 0 or found.wins < WINS:
        often = (
            ""
            if math.isnan(found.wins)
            else f", above 0 in {found.wins:.0%} of resamples (needed: {WINS:.0%})"
        )
        yield (
            "similarity decays with linear, not circular, distance: R² of the best closed shape minus that of the best open one "
            f"is {_between(found.contest)}{often}"
        )
    near = 6 * found.k <= n  # farther apart, neighbours on a circle are no longer alike
    if near and found.neighbours + found.seam.value < LEAST_SEAM * found.neighbours:
        yield (
            f"the last value is not next to the first: wrap-around similarity is {_seam(found)} that of adjacent values"
        )
    worse = found.curves.value if math.isnan(found.curves.high) else found.curves.high
    if worse < 0:
        yield (
            f"an open curve ({found.open_model}) predicts left-out values better: Q² {_q2(found.open_q2)}, "
            f"closed {_q2(found.closed_q2)}"
        )


def _for(found: Closure) -> str:
    return (
        f"it closes: {_between(found.turns)} turns; R² of closed minus open shapes {_between(found.contest)}; wrap-around "
        f"similarity {_seam(found)} that of adjacent values; left-out Q² {_q2(found.closed_q2)}, best open curve "
        f"({found.open_model}) {_q2(found.open_q2)}"
    )
