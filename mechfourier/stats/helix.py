"""Number lines in base 10: a helix of chosen periods plus a line.

Source: Kantamneni & Tegmark 2025, "Language Models Use Trigonometry to Do Addition", arXiv 2502.00873: the
representation of a number a, reduced by PCA, is fitted by C·B(a) with B(a) = [a, cos(2πa/T), sin(2πa/T) for T
in 2, 5, 10, 100]. A nine-dimensional basis fits much by itself, so the fit stands here beside two nulls,
shuffled numbers and random period sets, and beside rivals that have no circle (``rivals``: digits, number of
digits, logarithm, polynomial), all scored on numbers left out of the fit.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from numpy import ndarray

from mechfourier.errors import OutOfRange
from mechfourier.fourier.waves import waves
from mechfourier.results.base import Result
from mechfourier.stats.null import check_permutations
from mechfourier.stats.permutation import permutation_p
from mechfourier.stats.rivals import Rival, beside_rivals, held_out_r2, orthonormal, press, residual_of

PERIODS = (2.0, 5.0, 10.0, 100.0)
COMPONENTS = 100
LONGEST = 100
"""Periods, in lengths of the range."""
LEVEL = 0.05


@dataclass(frozen=True)
class HelixFit(Result, kind="helix"):
    """How well a helix describes the representation of the numbers.

    All R² are shares of the centred variance over all (kept) principal components. ``r2_held_out`` leaves
    each number out of its own fit. ``p_shuffled``: numbers permuted. ``p_periods``: period sets of the same
    size drawn log-uniformly from [2, number of values]. ``period_share``: what the held-out R² loses when a
    period is left out. ``rivals``: accounts without a circle, and what the periods explain beyond each.
    """

    site: str
    values: int
    components: int
    periods: tuple[float, ...]
    r2: float
    r2_held_out: float
    r2_linear: float
    r2_polynomial: float
    r2_random_periods: float
    p_shuffled: float
    p_periods: float
    period_share: tuple[float, ...]
    rivals: tuple[Rival, ...] = ()

    @property
    def best_rival(self) -> Rival | None:
        """The rival of greatest held-out R²."""
        return max(self.rivals, key=lambda rival: rival.r2_held_out, default=None)

    def special(self, fits: int = 1) -> bool:
        """Whether the periods are special: the helix explains more of the left-out numbers than every rival
        and than random periods, and its periods explain part of what each rival leaves. p-values at 5 %,
        after Bonferroni for ``fits`` fits."""
        beyond = all(
            rival.r2_held_out < self.r2_held_out and rival.partial_r2 > 0 and rival.p_partial * fits < LEVEL
            for rival in self.rivals
        )
        return beyond and self.p_periods * fits < LEVEL

    def verdict(self, fits: int = 1) -> str:
        """``special`` in words, with the numbers that decide it."""
        over = f" ({fits} fits, Bonferroni)" if fits > 1 else ""
        if self.special(fits):
            weakest = min(self.rivals, key=lambda rival: rival.partial_r2)
            return (
                f"these periods are special: they explain more than every rival, and of what {weakest.name} "
                f"leaves still "
                f"{weakest.partial_r2:.3f} (p = {weakest.p_partial:.3g}){over}"
            )
        if self.p_periods * fits >= LEVEL:
            return (
                f"these periods are not special: random periods do as well (p = {self.p_periods:.3g}){over}"
            )
        best = self.best_rival
        if best is not None and best.r2_held_out >= self.r2_held_out:
            return (
                f"these periods are not special: {best.name} explains {best.r2_held_out:.3f} of the "
                f"left-out numbers, the helix "
                f"{self.r2_held_out:.3f}"
            )
        least = max(self.rivals, key=lambda rival: rival.p_partial)
        return (
            f"these periods are not special: beyond {least.name} they explain {least.partial_r2:.3f} of the "
            f"rest "
            f"(p = {least.p_partial:.3g}){over}"
        )

    def __str__(self) -> str:
        named = ", ".join(f"{rival.name} {rival.r2_held_out:.3f}" for rival in self.rivals)
        return (
            f"{self.site}: helix {'/'.join(f'{p:g}' for p in self.periods)} + line: held-out R² "
            f"{self.r2_held_out:.3f} "
            f"(in sample {self.r2:.3f}, numbers shuffled p = {self.p_shuffled:.3g}, random periods "
            f"{self.r2_random_periods:.3f}, "
            f"p = {self.p_periods:.3g})\n  rivals, held out: line {self.r2_linear:.3f}, {named}"
        )

    def frame(self) -> pd.DataFrame:
        rows = [
            ("helix + line, held out", self.r2_held_out),
            ("helix + line, in sample", self.r2),
            ("line, held out", self.r2_linear),
            *((f"{rival.name}, held out", rival.r2_held_out) for rival in self.rivals),
            *((f"periods beyond {rival.name}, partial", rival.partial_r2) for rival in self.rivals),
            ("random periods, held out (mean)", self.r2_random_periods),
            *(
                (f"lost without period {p:g}", s)
                for p, s in zip(self.periods, self.period_share, strict=True)
            ),
        ]
        return pd.DataFrame(rows, columns=["model", "r2"]).assign(site=self.site)


def helix_basis(
    values: Float[ndarray, " value"], periods: Sequence[int | float]
) -> Float[ndarray, "value feature"]:
    """[1, a, cos(2πa/T), sin(2πa/T) …]; a sine that vanishes on all integers (T = 2) is left out."""
    columns = [np.ones_like(values), values - values.mean()]
    for period in periods:
        for column in waves(torch.from_numpy(values / period)).numpy().T:
            if np.abs(column - column.mean()).max() > 1e-9:
                columns.append(column)
    return np.stack(columns, -1)


def check_periods(periods: Sequence[int | float], count: int) -> None:
    """Raise ``OutOfRange`` for periods that ``count`` whole numbers in a row cannot show: shorter than 2 (the same on whole numbers
    as a longer one), a hundred times as long as the range (a line), or one twice."""
    for period in periods:
        if not 2 <= period <= LONGEST * count:
            raise OutOfRange(
                f"a period of {period:g} cannot be seen in {count} whole numbers; periods run from 2 to {LONGEST * count}"
            )
        if list(periods).count(period) > 1:
            raise OutOfRange(f"the period {period:g} is given twice; give each once")


def _polynomial_basis(values: Float[ndarray, " value"], size: int) -> Float[ndarray, "value feature"]:
    """Legendre polynomials of degree 0 … size − 1 on the range of the values (well conditioned)."""
    scaled = 2 * (values - values.min()) / np.ptp(values) - 1
    return np.polynomial.legendre.legvander(scaled, size - 1)


def _reduced(activations: Float[ndarray, "value d"], components: int) -> Float[ndarray, "value component"]:
    """The first principal components of the centred activations."""
    centred = activations - activations.mean(0)
    u, s, _ = np.linalg.svd(centred, full_matrices=False)
    if s[0] <= 1e-12:
        raise OutOfRange("the activations do not vary with the number at this site; choose a later one")
    kept = int(min(components, (s > 1e-9 * s[0]).sum()))
    return u[:, :kept] * s[:kept]


def helix_fit(
    activations: Float[ndarray, "value d"],
    values: Int[ndarray, " value"],
    *,
    site: str = "",
    periods: Sequence[int | float] = PERIODS,
    components: int = COMPONENTS,
    permutations: int = 1000,
    seed: int = 0,
) -> HelixFit:
    """Fit a helix to the mean activation of every number; see ``HelixFit``.

    Raises ``OutOfRange`` where there are too few numbers for the periods, or activations that are constant or
    not finite.
    """
    check_permutations(permutations)
    activations, values = np.asarray(activations, np.float64), np.asarray(values, np.float64)
    basis = helix_basis(values, periods)
    if len(values) < basis.shape[1] + 5:
        raise OutOfRange(
            f"{len(values)} numbers cannot carry {basis.shape[1]} parameters; widen --range or drop periods"
        )
    if not np.isfinite(activations).all():
        raise OutOfRange(f"the activations at {site or 'this site'} hold NaN or infinity")
    scores = _reduced(activations, components)
    rng = np.random.default_rng(seed)
    polynomial = _polynomial_basis(values, basis.shape[1])
    held_out = held_out_r2(basis, scores)
    random_periods = _random_period_scores(values, scores, len(periods), draws=permutations, rng=rng)
    without = [held_out_r2(helix_basis(values, [q for q in periods if q != p]), scores) for p in periods]
    return HelixFit(
        site=site,
        values=len(values),
        components=scores.shape[1],
        periods=tuple(float(p) for p in periods),
        r2=float(1 - (residual_of(orthonormal(basis), scores) ** 2).sum() / (scores**2).sum()),
        r2_held_out=held_out,
        r2_linear=held_out_r2(helix_basis(values, []), scores),
        r2_polynomial=held_out_r2(polynomial, scores),
        r2_random_periods=float(random_periods.mean()),
        p_shuffled=_shuffled_p(basis, scores, draws=permutations, rng=rng),
        p_periods=permutation_p(held_out, random_periods),
        period_share=tuple(held_out - w for w in without),
        rivals=beside_rivals(
            values.astype(int), scores, basis, polynomial, _orders(len(values), permutations, seed)
        ),
    )


def _random_period_scores(
    values: Float[ndarray, " value"],
    scores: Float[ndarray, "value component"],
    count: int,
    *,
    draws: int,
    rng: np.random.Generator,
) -> Float[ndarray, " draw"]:
    """Held-out R² of ``draws`` helices whose periods are drawn log-uniformly from [2, range of the
    values]."""
    logs = rng.uniform(np.log(2), np.log(max(np.ptp(values), 4)), (draws, count))
    return np.array([held_out_r2(helix_basis(values, np.exp(row).tolist()), scores) for row in logs])


def _shuffled_p(
    basis: Float[ndarray, "value feature"],
    scores: Float[ndarray, "value component"],
    *,
    draws: int,
    rng: np.random.Generator,
) -> float:
    """Permutation p of the held-out residual power: the numbers change places, the form stays."""
    q = orthonormal(basis)
    observed = press(q, scores)
    shuffled = np.array([press(q, rng.permutation(scores)) for _ in range(draws)])
    return permutation_p(-observed, -shuffled)


def _orders(count: int, draws: int, seed: int) -> Int[ndarray, "draw value"]:
    """Permutations for the rivals' null, with a generator of their own."""
    rng = np.random.default_rng([seed, 1])
    return np.stack([rng.permutation(count) for _ in range(draws)])
