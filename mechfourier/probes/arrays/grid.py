"""Two cycles at once (day and hour): is it a torus? The contest on each factor, on their product, and what is of both."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from einops import einsum, rearrange, reduce
from jaxtyping import Float
from torch import Tensor

from mechfourier.domains.definition import Domain
from mechfourier.errors import OutOfRange
from mechfourier.probes.arrays.asked import Plan
from mechfourier.probes.arrays.cells import MOST_TEMPLATES, cell_means
from mechfourier.probes.planes import HarmonicPlane, plane_of, planes_of, turns_of
from mechfourier.probes.probe import value_result
from mechfourier.probes.result import ArraysRead, ProbeResult
from mechfourier.results.base import Result
from mechfourier.stats.copies import distinct, distinct_gram, template_groups
from mechfourier.stats.planes import principal_angles
from mechfourier.stats.shapes.contest import FEWEST_TEMPLATES
from mechfourier.stats.spectrum import cross_gram
from mechfourier.stats.value import ValueEvidence, analyse_value
from mechfourier.stats.words import CIRCLES, taking_part

if TYPE_CHECKING:
    import pandas as pd

LEAST_ANGLE = 30.0
"""Degrees between the planes of two circles below which they are not told apart as two."""


@dataclass(frozen=True)
class GridProbe(
    Result,
    kind="grid-probe",
    figure="mechfourier.figures.grid_probe:grid_figure",
    part="mechfourier.figures.grid_probe:grid_part",
    command="probe",
):
    """Two cycles in one set of activations.

    ``verdict``: "torus" where both factors are circles at one site, in planes of their own; "not a torus", "undecided" or "not
    testable". ``p_value``: the larger of the p-values that no site is a circle of each factor (a torus needs both). ``factors``: the
    contest on each, the other averaged out or standing for templates; ``product``: on all pairs in their order, one after the other
    (None below three templates). ``angle``: the smallest angle between the two planes at ``site``, degrees. ``shares``: of the power
    between cells, of the first factor alone, of the second, and of both together (template noise removed where there are
    templates); ``power[k][l]``: the share at k cycles of the first and l of the second factor (l counts from −⌊n₂/2⌋).
    """

    model: str
    domain: str
    n: tuple[int, int]
    verdict: str
    used: str
    reasons: tuple[str, ...]
    notes: tuple[str, ...]
    p_value: float
    site: str
    angle: float
    shares: tuple[float, float, float]
    power: tuple[tuple[float, ...], ...]
    factors: tuple[ProbeResult, ProbeResult]
    product: ProbeResult | None
    arrays: ArraysRead

    def __str__(self) -> str:
        at = f" at {self.site}" if self.site and self.verdict == "torus" else ""
        p = f", p = {self.p_value:.2g}" if self.verdict == "torus" and math.isfinite(self.p_value) else ""
        head = f"{self.verdict} ({self.used} for use): {self.domain} in {self.model}{at}{p}"
        return "\n".join([head, *(f"  - {reason}" for reason in self.reasons)])

    @property
    def planes(self) -> tuple[HarmonicPlane, ...]:
        """The planes of both factors at every site; raises ``UsageError`` for a result that was read from JSON."""
        return tuple(plane for factor in self.factors for plane in factor.planes)

    def frame(self) -> "pd.DataFrame":
        """One row per factor (and the product) and site."""
        import pandas as pd

        parts = [part for part in (*self.factors, self.product) if part is not None]
        return pd.concat([part.frame().assign(factor=part.domain) for part in parts], ignore_index=True)

    def next_steps(self) -> tuple[str, ...]:
        return ()


def grid_probe(
    made: Plan,
    acts: Float[Tensor, "site cell template r"],
    control: Tensor | None,
    how: dict[str, int],
    common: dict[str, Any],
) -> GridProbe:
    """From the coordinates of all cells to the words of both factors and of their product."""
    assert made.second is not None
    pair = (made.domain, made.second)
    names = [cells.name for cells in made.sites]
    tables = [_factor(acts, pair, i) for i in (0, 1)]
    blanks = [None if control is None else _factor(control, pair, i) for i in (0, 1)]
    found = [_analysed(t, b, names, d, how) for t, b, d in zip(tables, blanks, pair, strict=True)]
    factors = tuple(
        _result(made, e, t, i, common) for i, (e, t) in enumerate(zip(found, tables, strict=True))
    )
    product = _product(acts, control, names, pair, how, common) if acts.shape[2] >= FEWEST_TEMPLATES else None
    at = _site(found)
    grams = _gram(acts[at : at + 1])[0]
    power = _power(grams, pair)
    shares = (float(power[1:, 0].sum()), float(power[0, 1:].sum()), float(power[1:, 1:].sum()))
    angle = _angle(tables, found, at)
    verdict, told = _verdict(found, pair, at, angle)
    reasons = (*told, *_reasons(pair, factors, shares, acts.shape[2], product))
    kept = {key: common[key] for key in ("model", "notes", "arrays")}
    if acts.shape[2] < FEWEST_TEMPLATES:
        kept["notes"] = (*kept["notes"], _levels(pair))
    return GridProbe(
        **kept,
        domain=f"{pair[0].name},{pair[1].name}",
        n=(pair[0].n, pair[1].n),
        verdict=verdict,
        used="not tested",
        reasons=reasons,
        p_value=max(e.circle_p for e in found),
        site=names[at],
        angle=angle,
        shares=shares,
        power=tuple(tuple(row) for row in power.roll(pair[1].n // 2, 1).tolist()),
        factors=(factors[0], factors[1]),
        product=product,
    )


def _levels(pair: tuple[Domain, Domain]) -> str:
    return (
        f"there are no {FEWEST_TEMPLATES} templates, so {pair[1].unit} stand for templates of {pair[0].name} and {pair[0].unit} for those "
        f"of {pair[1].name}: noise that is shared by neighbours counts as agreement, and their product cannot be tested"
    )


def _factor(
    acts: Float[Tensor, "site cell template r"], pair: tuple[Domain, Domain], i: int
) -> Float[Tensor, "site v t r"]:
    """The table of one factor: the other averaged out where there are templates, else standing for them."""
    split = rearrange(acts, "s (a b) t r -> s a b t r", a=pair[0].n)
    split = split if i == 0 else split.transpose(1, 2)
    if acts.shape[2] >= FEWEST_TEMPLATES:
        return split.mean(2)
    flat = rearrange(split, "s v w t r -> s v (w t) r")
    groups = torch.arange(flat.shape[2]) * min(MOST_TEMPLATES, flat.shape[2]) // flat.shape[2]
    sums = flat.new_zeros(*flat.shape[:2], int(groups.max()) + 1, flat.shape[3]).index_add_(2, groups, flat)
    return sums / torch.bincount(groups)[:, None]


def _analysed(
    acts: Tensor, control: Tensor | None, names: list[str], domain: Domain, how: dict[str, int]
) -> ValueEvidence:
    return analyse_value(
        acts, control=control, sites=names, values=domain.values, unit=domain.unit, dimensions=False, **how
    )


def _result(made: Plan, evidence: ValueEvidence, acts: Tensor, i: int, common: dict[str, Any]) -> ProbeResult:
    assert made.second is not None
    domain = (made.domain, made.second)[i]
    about = {**common, "domain": domain.name, "n": domain.n, "unit": domain.unit, "design": "value"}
    result = value_result(evidence, acts, domain.values, about)
    return result.with_planes(lambda: _planes(made, evidence, i))


def _planes(made: Plan, evidence: ValueEvidence, i: int) -> tuple[HarmonicPlane, ...]:
    cells = (rearrange(cell_means(each), "(a b) d -> a b d", a=made.domain.n) for each in made.sites)
    return planes_of((each.mean(1 - i) for each in cells), evidence.sites)


def _product(
    acts: Tensor,
    control: Tensor | None,
    names: list[str],
    pair: tuple[Domain, Domain],
    how: dict[str, int],
    common: dict[str, Any],
) -> ProbeResult:
    """All pairs as one cycle, the second factor running within the first."""
    every = [f"{a} {b}" for a in pair[0].values for b in pair[1].values]
    kept = torch.from_numpy(taking_part(len(every)))  # those that the contest sees; the rest only cost time
    values, acts, control = (
        [every[i] for i in kept],
        acts[:, kept],
        None if control is None else control[:, kept],
    )
    n = len(values)
    evidence = analyse_value(
        acts, control=control, sites=names, values=values, unit="pairs", dimensions=False, **how
    )
    about = {
        **common,
        "domain": f"{pair[0].name} × {pair[1].name}",
        "n": n,
        "unit": "pairs",
        "design": "value",
    }
    return value_result(evidence, acts, values, about)


def _site(found: list[ValueEvidence]) -> int:
    """The site where both are circles and the weaker one is strongest; else where the power of both is."""
    rows = list(zip(*(e.sites for e in found), strict=True))
    if not rows:
        return 0
    both = [i for i, pair in enumerate(rows) if all(row.word in CIRCLES for row in pair)]
    return max(both or range(len(rows)), key=lambda i: min(row.score for row in rows[i]))


def _gram(acts: Float[Tensor, "site cell template r"]) -> Float[Tensor, "site cell cell2"]:
    """Inner products of cells, the noise of templates removed where there are several."""
    pair = acts if acts.shape[2] > 1 else acts.expand(-1, -1, 2, -1)
    cross = cross_gram(pair)
    return distinct_gram(cross, [distinct(template_groups(each)) for each in cross])


def _power(gram: Float[Tensor, "cell cell2"], pair: tuple[Domain, Domain]) -> Float[Tensor, "k l"]:
    """Shares of the power at k = 0 … ⌊n₁/2⌋ cycles of the first and l = 0 … n₂ − 1 of the second factor (−l and n₂ − l are the
    same), a pair and its conjugate counted once."""
    n, m = pair[0].n, pair[1].n
    first = torch.fft.fft(torch.eye(n, dtype=torch.float64))
    second = torch.fft.fft(torch.eye(m, dtype=torch.float64))
    split = rearrange(gram, "(a b) (c d) -> a b c d", a=n, c=n).to(first.dtype)
    half = einsum(first, second, split, "k a, l b, a b c d -> k l c d")
    power = einsum(half, first.conj(), second.conj(), "k l c d, k c, l d -> k l").real
    top = n // 2 + 1
    folded = power[:top].clone()
    for k in range(1, top):
        if 2 * k != n:
            folded[k] += power[n - k][(-torch.arange(m)) % m]
    folded = folded.clamp_min(0)
    folded[0, 0] = 0
    return folded / folded.sum().clamp_min(1e-300)


def _angle(tables: list[Tensor], found: list[ValueEvidence], at: int) -> float:
    """The smallest angle between the planes of the two factors' harmonics, degrees; NaN where one has none."""
    bases = []
    for table, evidence in zip(tables, found, strict=True):
        if not evidence.sites:
            return math.nan
        row = evidence.sites[at]
        try:
            bases.append(
                plane_of(
                    reduce(table[at], "v t r -> v r", "mean"),
                    turns_of(row),
                    row.site,
                ).basis
            )
        except OutOfRange:
            return math.nan
    return float(principal_angles(*(basis.numpy() for basis in bases))[0])


def _verdict(
    found: list[ValueEvidence], pair: tuple[Domain, Domain], at: int, angle: float
) -> tuple[str, tuple[str, ...]]:
    for evidence, domain in zip(found, pair, strict=True):
        if evidence.untestable:
            return "not testable", (f"{domain.name}: {evidence.untestable}",)
    words = [evidence.sites[at].word for evidence in found]
    site = found[0].sites[at].site
    told = f"{site}: {pair[0].name} {words[0]}, {pair[1].name} {words[1]}"
    if all(word in CIRCLES for word in words):
        if angle < LEAST_ANGLE:
            return "not a torus", (
                f"{told}, but both turn in one plane (smallest angle {angle:.0f}°), so neither can be read without the other",
            )
        return "torus", (f"{told}, in planes of their own (smallest angle {angle:.0f}°)",)
    open_question = [word for word in words if word.startswith("undecided") and "circle" in word]
    rest = [word for word in words if word not in CIRCLES and word not in open_question]
    if rest:
        return "not a torus", (f"{told}; a torus needs a circle of each at one site",)
    return "undecided", (f"{told}; a torus needs a circle of each at one site",)


def _reasons(
    pair: tuple[Domain, Domain],
    factors: Sequence[ProbeResult],
    shares: tuple[float, float, float],
    templates: int,
    product: ProbeResult | None,
) -> tuple[str, ...]:
    noise = "template noise removed" if templates > 1 else "noise included"
    out = [
        f"of the power between cells {shares[0]:.0%} is of {pair[0].name} alone, {shares[1]:.0%} of {pair[1].name} alone, and "
        f"{shares[2]:.0%} of both together ({noise})"
    ]
    out += [f"{factor.domain}: {reason}" for factor in factors for reason in factor.reasons[:3]]
    if product is not None:
        one = "yes" if product.verdict in CIRCLES else "no"
        out.append(
            f"one circle through all {pair[0].n * pair[1].n} pairs in their order ({product.n} of them, evenly spaced, took part): {one} ({product.verdict})"
        )
    return tuple(out)
