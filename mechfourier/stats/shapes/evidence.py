"""Numbers with intervals: evidence of every shape, aspect of the circle, gap of an open curve.

Everything here is a function of products of different templates, which are free of noise in expectation, and
the interval comes from how templates and their pairs differ, or from leaving out one template at a time
(jackknife, Student's t with T − 1 degrees of freedom). Below six templates there is none.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray
from scipy.special import ncfdtr, ndtri, stdtrit

from mechfourier.stats.permutation import permutation_p
from mechfourier.stats.shapes.designs import waves
from mechfourier.stats.shapes.families import Family
from mechfourier.stats.shapes.tables import Table

FEWEST_TEMPLATES = 6
"""Templates from which on an interval covers."""


@dataclass(frozen=True)
class Estimate:
    """A number and its 95 % interval; ``low`` and ``high`` are None where there is none."""

    value: float
    low: float | None = None
    high: float | None = None


def without_each(table: Table) -> Float[ndarray, "t m m"]:
    """The noise-free Gram matrix estimated without each template in turn."""
    g, t = table.gram, table.templates
    symmetric = (g + g.transpose(1, 0, 3, 2)) / 2
    off = symmetric * (1 - np.eye(t))[:, :, None, None]
    whole, by_template = off.sum((0, 1)), off.sum(1)
    return (whole - 2 * by_template) / ((t - 1) * (t - 2))


def jackknife(
    table: Table,
    statistic: Callable[[Float[ndarray, "m m"]], float],
    low: float = -np.inf,
    high: float = np.inf,
) -> Estimate:
    """``statistic`` of the noise-free Gram matrix, with its interval; both are cut off at ``low`` and
    ``high``."""
    value = float(np.clip(statistic(table.mean), low, high))
    t = table.templates
    if t < FEWEST_TEMPLATES:
        return Estimate(value)
    whole = statistic(table.mean)
    left = np.array([statistic(gram) for gram in without_each(table)])
    pseudo = t * whole - (t - 1) * left
    half = float(stdtrit(t - 1, 0.975)) * pseudo.std(ddof=1) / np.sqrt(t)
    return Estimate(value, float(np.clip(whole - half, low, high)), float(np.clip(whole + half, low, high)))


def predicted_share(table: Table, designs: Family, index: int) -> Estimate:
    """Share of the power between values that the design predicts of values left out, its free parameters paid
    for: 1 where it predicts everything, 0 where no more than the mean does, at most 1.

    The best of many designs flatters itself, so the interval reaches down as far as all designs of the shape
    may err together (:func:`_selection`).
    """
    value = share_of(designs.forms([index])[0], table.mean)
    if table.templates < FEWEST_TEMPLATES or np.trace(table.mean) <= 0:
        return Estimate(min(value, 1.0))
    siblings = designs.siblings(index)
    forms = designs.forms(siblings)
    errors = _PairErrors.of(_share_of_pairs(table, forms))
    halves, own = errors.half_widths(), siblings.index(index)
    half = float(halves[own])
    # the design that wins by chance is often one whose templates happen to agree
    rivals = value - shares_of(forms, table.mean) < 2 * half
    rivals[own] = True
    below = max(half, float(halves[rivals].mean()))
    return Estimate(min(value, 1.0), value - below * _selection(errors), min(value + half, 1.0))


def _share_of_pairs(table: Table, forms: Float[ndarray, "design m2"]) -> Float[ndarray, "design t t"]:
    """What every pair of different templates adds to the shares of some designs, to first order."""
    t, m = table.templates, len(table.kept)
    gram = (table.gram + table.gram.transpose(1, 0, 3, 2)) / 2
    error = np.einsum("tuv,kv->ktu", gram.reshape(t, t, m * m), forms)
    power = np.einsum("tuvv->tu", gram)
    pairs = ~np.eye(t, dtype=bool)
    whole = power[pairs].mean()
    ratio = error[:, pairs].mean(1) / whole
    return -((m - 1) ** 2) / (m * whole) * (error - ratio[:, None, None] * power) * pairs


@dataclass(frozen=True)
class _PairErrors:
    """Means over pairs of templates, taken apart into what each template adds (``single``) and what only the
    pair does (``rest``), with their variances: the jackknife counts the second twice.
    """

    single: Float[ndarray, "design t"]
    rest: Float[ndarray, "design t t"]

    @classmethod
    def of(cls, pairs: Float[ndarray, "design t t"]) -> "_PairErrors":
        t = pairs.shape[1]
        mean = pairs.sum((1, 2)) / (t * (t - 1))
        single = (pairs.sum(2) / (t - 1) - mean[:, None]) * (t - 1) / (t - 2)
        rest = pairs - (mean[:, None, None] + single[:, :, None] + single[:, None, :])
        return cls(single, rest * ~np.eye(t, dtype=bool))

    def half_widths(self) -> Float[ndarray, " design"]:
        """Half of the 95 % interval of every design; Student's t, degrees of freedom by Satterthwaite."""
        t = self.single.shape[1]
        freedom = t * (t - 3) / 2
        pair = (self.rest**2).sum((1, 2)) / 2 / freedom
        own = np.maximum((self.single**2).sum(1) / (t - 1) - pair / (t - 2), 0.0)
        of_single, of_pairs = 4 * own / t, 2 * pair / (t * (t - 1))
        variance = of_single + of_pairs
        spread = np.maximum(of_single**2 / (t - 1) + of_pairs**2 / freedom, np.finfo(float).tiny)
        degrees = np.maximum(variance**2 / spread, 1.0)  # at least one; below it only where nothing varies
        return stdtrit(degrees, 0.975) * np.sqrt(variance)


def _selection(errors: _PairErrors) -> float:
    """How much further the largest of all designs' errors reaches than that of a single one: the 97.5 %
    quantile of the largest standardised error over that of one, by a multiplier bootstrap over templates."""
    t = errors.single.shape[1]
    if len(errors.single) == 1:
        return 1.0
    numbers = _multipliers(t)
    products = (numbers[:, :, None] * numbers[:, None, :]).reshape(len(numbers), -1)
    drawn = errors.single @ numbers.T * 2 / t
    drawn += errors.rest.reshape(len(errors.rest), -1) @ products.T / (t * (t - 1))
    largest = (drawn / np.maximum(drawn.std(1, keepdims=True), 1e-300)).max(0)
    return max(1.0, float(np.quantile(largest, 0.975)) / float(ndtri(0.975)))


@lru_cache(maxsize=8)
def _multipliers(templates: int) -> Float[ndarray, "b t"]:
    numbers = np.random.default_rng(19).standard_normal((400, templates))
    return numbers - numbers.mean(1, keepdims=True)


def share_of(form: Float[ndarray, " m2"], gram: Float[ndarray, "m m"]) -> float:
    """`shares_of` one design."""
    return float(shares_of(form[None], gram)[0])


def shares_of(forms: Float[ndarray, "design m2"], gram: Float[ndarray, "m m"]) -> Float[ndarray, " design"]:
    """Share of the power of a table that designs with these errors predict; the mean predicts nothing."""
    m, total = len(gram), float(np.trace(gram))
    return 1 - forms @ gram.ravel() * (m - 1) ** 2 / (m * total) if total > 0 else np.zeros(len(forms))


def aspect(table: Table, k: int, line_from: int | None = None) -> Estimate:
    """Ratio of the short to the long axis of the ellipse at harmonic k, beside a line that begins at place
    ``line_from``.

    The ellipse's eccentricity vector e (real and imaginary part of the non-circular power over the power) has
    length (1 − a²)/(1 + a²). Its length is never negative, so the interval inverts the test of every length
    (non-central F) instead of going to and fro.
    """
    n = len(table.frame.order)
    basis = np.column_stack(waves(k, table.kept, n))
    if line_from is not None:
        basis = np.column_stack([basis, (table.kept - line_from) % n])
    basis = basis - basis.mean(0)
    solve = np.linalg.pinv(basis)[:2]

    def vector(gram: Float[ndarray, "m m"]) -> Float[ndarray, " 2"]:
        power = solve @ gram @ solve.T
        total = power[0, 0] + power[1, 1]
        return np.array([power[0, 0] - power[1, 1], 2 * power[0, 1]]) / total if total > 0 else np.zeros(2)

    whole, t = vector(table.mean), table.templates
    length = min(float(np.linalg.norm(whole)), 1.0)
    if t < FEWEST_TEMPLATES:
        return Estimate(_axes(length))
    left = np.array([vector(gram) for gram in without_each(table)])
    pseudo = t * whole - (t - 1) * left
    spread = np.sqrt(pseudo.var(0, ddof=1).mean() / t)
    short, long = _length_interval(length, spread, 2 * (t - 1))
    return Estimate(_axes(length), _axes(min(long, 1.0)), _axes(short))


def _axes(length: float) -> float:
    return float(np.sqrt((1 - length) / (1 + length)))


def _length_interval(length: float, spread: float, freedom: int) -> tuple[float, float]:
    """Lengths of a vector in the plane that do not contradict its estimate, of standard error ``spread``
    along each axis."""
    if spread <= 0:
        return length, length
    if length > FAR * spread:  # the length of a long vector is as good as normal
        half = float(stdtrit(freedom, 0.975)) * spread
        return length - half, length + half
    observed = (length / spread) ** 2 / 2
    lengths = np.linspace(0, length + 6 * spread, 600)
    below = ncfdtr(2, freedom, np.maximum((lengths / spread) ** 2, 1e-12), observed)
    return float(lengths[np.argmax(below <= 0.975)]), float(lengths[np.argmax(below <= 0.025)])


FAR = 6.0
TURNS = np.linspace(0.1, 1.3, 121)


def gap(table: Table, cut: int) -> Estimate:
    """Steps between the ends of an arc that begins at ``cut``: 1 where it closes as a circle does, n/f − n +
    1 for f turns."""
    n = len(table.frame.order)
    forms = np.stack([_left_over(waves(f, (table.kept - cut) % n, n)) for f in TURNS])

    def fitted_gap(gram: Float[ndarray, "m m"]) -> float:
        return n / _lowest(TURNS, forms.reshape(len(TURNS), -1) @ gram.ravel()) - n + 1

    return jackknife(table, fitted_gap)


def _left_over(columns: list[Float[ndarray, " m"]]) -> Float[ndarray, "m m"]:
    u = np.linalg.svd(np.column_stack([np.ones(len(columns[0])), *columns]), full_matrices=False)[0]
    return np.eye(len(u)) - u @ u.T


def _lowest(at: Float[ndarray, " f"], values: Float[ndarray, " f"]) -> float:
    """Place of the minimum, between grid points by a parabola."""
    i = int(np.clip(values.argmin(), 1, len(at) - 2))
    a, b, c = values[i - 1 : i + 2]
    bend = a - 2 * b + c
    shift = 0.5 * (a - c) / bend if bend > 0 else 0.0
    return float(at[i] + np.clip(shift, -1, 1) * (at[1] - at[0]))


def agreement_p(gram: Float[ndarray, "t t n n"], *, count: int, seed: int) -> float:
    """Whether templates agree about the values at all: signs of whole templates flipped, however noise is
    correlated over values; below six templates, which have too few signs, labels permuted in every template
    by itself."""
    t, n = len(gram), gram.shape[2]
    between = np.einsum("tuvv->tu", gram) * (1 - np.eye(t))
    rng = np.random.default_rng(seed + 2)
    if t >= FEWEST_TEMPLATES:
        bits = np.arange(2 ** (t - 1)) if t <= 11 else rng.integers(2 ** min(t - 1, 62), size=count)
        signs = 1 - 2 * ((bits[:, None] >> np.arange(t)) & 1)
        drawn = np.einsum("bt,tu,bu->b", signs, between, signs)
        missing = 0 if t <= 11 else 1  # the identity is among the signs where all are enumerated
        return float((missing + np.sum(drawn >= between.sum() * (1 - 1e-12))) / (missing + len(drawn)))
    orders: Int[ndarray, "b t n"] = np.argsort(rng.random((count, t, n)), 2)
    upper = [(a, b) for a in range(t) for b in range(a + 1, t)]
    drawn = sum(gram[a, b][orders[:, a], orders[:, b]].sum(1) for a, b in upper)
    return permutation_p(float(between.sum() / 2), np.asarray(drawn))
