"""Value domains: everything that is measured on ``acts[site, value, template, d]`` before a verdict is
given."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from einops import einsum
from jaxtyping import Float, Int
from torch import Tensor

from mechfourier.errors import UsageError
from mechfourier.results.base import Result
from mechfourier.stats.controls import ControlEvidence
from mechfourier.stats.copies import (
    distinct,
    distinct_cross,
    distinct_gram,
    effective_templates,
    template_groups,
    template_spread,
)
from mechfourier.stats.dimensions import Dimension, best_dimensions
from mechfourier.stats.null import (
    LabelPermutations,
    alike,
    circle_null,
    circle_reliability_p,
    circle_scores,
    label_orders,
    reliability_p,
    sign_flips,
    smallest_p,
)
from mechfourier.stats.shapes.contest import (
    FEWEST_TEMPLATES,
    FEWEST_VALUES,
    ShapeEvidence,
    SiteShapes,
)
from mechfourier.stats.spectrum import (
    constant_sites,
    cross_gram,
    harmonic_planes,
    harmonic_share,
)
from mechfourier.stats.subspace import SubspaceProbe, subspace_probe
from mechfourier.stats.words import SiteWord, best_site, site_words

LEVEL = 0.05
SIGN_FLIP_TEMPLATES = 6  # 2^(T−1) sign patterns reach p < .05 from six templates on
FLIPS = 2048  # all sign patterns up to 12 templates
DRAWS = 200
PROBE_PERMUTATIONS = 200


@dataclass(frozen=True)
class SiteEvidence:
    """One hook point. ``word``: which shape the values lie in here, after the controls; ``contest``: all
    shapes with their evidence, before them; ``control``: the same shape in the untrained model; ``reasons``:
    why the word is another than the contest's.

    ``p_value``: of the best circle score, permuted labels, family-wise over all sites and harmonics;
    ``score`` is 1 for a circle and nothing else; ``spectrum[k − 1]`` is the share of the between-value power
    at k, template noise removed; ``share`` that at ``k``; ``r2`` the held-out R² of the subspace probe;
    ``agreement`` the share of templates that, alone, agree with the others. ``distinct``: how many templates
    read different vectors here (copies count once in every statistic), ``effective`` how many they are worth,
    ``spread`` by how much distinct ones differ (the median over pairs, as a share of their norm).
    """

    site: str
    p_value: float
    k: int
    r2: float
    spectrum: tuple[float, ...]
    score: float
    share: float
    agreement: float
    probe: SubspaceProbe | None
    dimensions: tuple[Dimension, ...]
    distinct: int = 0
    effective: float = math.nan
    spread: float = math.nan
    word: str = ""
    contest: SiteShapes | None = None
    control: ControlEvidence | None = None
    reasons: tuple[str, ...] = ()

    @property
    def copies(self) -> bool:
        """Every template reads the same vectors: nothing over templates can be tested."""
        return self.distinct == 1

    @property
    def shapes(self) -> tuple[ShapeEvidence, ...]:
        """Every shape of the contest, best first."""
        return () if self.contest is None else self.contest.shapes


@dataclass(frozen=True)
class ValueEvidence(Result, kind="value-evidence", schema=2):
    """Everything measured on a value domain; ``verdict_value`` turns it into a word.

    ``circle_p``: that no site is a circle, all of them taken together (the contest of shapes); ``signal_p``:
    do templates agree on the values at all; ``harmonic_p``: do they share a circle, at any harmonic (both by
    sign flips of whole templates, NaN below six templates). ``best``: the site of best evidence among those
    of the headline's word. ``values``: what the values are called. ``smallest_p`` is the least permutation p
    that n values allow. ``untestable`` says why nothing could be tested ("" otherwise).
    """

    n: int
    templates: int
    d_model: int
    unit: str
    permutations: int
    exact: bool
    seed: int
    untestable: str
    p_value: float
    smallest_p: float
    signal_p: float
    harmonic_p: float
    dimension_p: float
    best: int
    sites: tuple[SiteEvidence, ...]
    circle_p: float = math.nan
    controlled: bool = False
    values: tuple[str, ...] = ()
    null: tuple[float, ...] = field(default=(), repr=False)

    @classmethod
    def migrate(cls, values: dict[str, Any], schema: int) -> dict[str, Any]:
        """Files of version 0.1 hold the closure rules, which the contest of shapes replaced; their words and
        sentences stay in the probe's."""
        values = super().migrate(values, schema)
        if schema >= cls.about.schema:
            return values
        values |= {
            "sites": [_without(site, ("closure", "aspect", "order_p")) for site in values.get("sites", ())]
        }
        return _without(values, ("order_p", "flatness", "models", "control"))

    @property
    def best_site(self) -> SiteEvidence | None:
        """The site that speaks for the headline, or None where nothing was testable."""
        return self.sites[self.best] if self.sites else None


def _without(values: dict[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    return {key: item for key, item in values.items() if key not in names}


def analyse_value(
    acts: Float[Tensor, "site value template d"],
    *,
    permutations: int = 1000,
    seed: int = 0,
    control: Float[Tensor, "_ _ _ _"] | None = None,
    sites: Sequence[str] | None = None,
    values: Sequence[str] = (),
    unit: str = "steps",
    dimensions: bool = True,
    bootstrap: int = DRAWS,
) -> ValueEvidence:
    """Every value statistic of docs/statistics.

    Args: acts: activations of n values in T templates at every site; any float dtype. permutations: label
    permutations of the family-wise null (n ≤ 7: all n! orders instead). control: the same prompts in the same
    model with re-initialised weights. sites, values, unit: what they are called. dimensions: also search the basis
    dimensions (the slowest part). bootstrap: draws from every fitted shape of the contest (0: no contest).

    Returns: evidence, with ``untestable`` set where there are too few values or templates, NaN, or nothing
    that varies. Raises ``UsageError`` where shapes, types or names do not fit together.
    """
    names = _names(acts, control, sites)
    _, n, templates, d = acts.shape
    reason = _untestable(acts, control, names)
    if reason and (templates < 2 or n < 3 or not bool(torch.isfinite(acts).all())):
        return _nothing(n, templates, d, unit, permutations, seed, reason)
    flat = constant_sites(acts)
    still = acts.masked_fill(flat[:, None, None, None], 0.0) if bool(flat.any()) else acts
    search = _search(still, label_orders(n, permutations=permutations, seed=seed))
    orders, null = search.orders, search.null.amax(1)
    p = orders.p_value(search.top, null)
    dims, dimension_p = best_dimensions(_means(still, search.kept), orders, skip=not dimensions)
    deep = [NOT_DEEP if reason or bool(x) else search.deep(i, seed) for i, x in enumerate(flat)]
    harmonic, signal = (math.nan,) * 2 if reason else _reliability(search.cross, search.kept, seed)
    words, circle_p = [SiteWord()] * len(names), math.nan
    if not reason:
        options = dict(draws=bootstrap, permutations=permutations, seed=seed)
        words, circle_p = site_words(acts, control, signal, cross=search.cross, **options)
    each = zip(names, p.tolist(), dims, deep, words, strict=True)
    rows = tuple(
        SiteEvidence(site=name, p_value=value, dimensions=best, **search.about(i), **probed, **vars(word))
        for i, (name, value, best, probed, word) in enumerate(each)
    )
    best = best_site(words, search.top.tolist())
    return replace(
        _nothing(n, templates, d, unit, len(orders), seed, reason),
        exact=orders.exact,
        p_value=float(p[best]),
        smallest_p=smallest_p(n) if orders.exact else 1 / (len(orders) + 1),
        signal_p=signal,
        harmonic_p=harmonic,
        dimension_p=dimension_p,
        best=best,
        sites=rows,
        circle_p=circle_p,
        controlled=control is not None,
        values=tuple(values),
        null=tuple(null.sort().values[:: max(1, len(orders) // 500)].tolist()),
    )


NOT_DEEP: dict[str, Any] = {"probe": None, "r2": math.nan}


@dataclass(frozen=True, eq=False)
class _Search:
    """What is computed of all sites at once: products of values over templates, the best harmonic, and its
    null."""

    cross: Float[Tensor, "site t u n n2"]
    groups: list[Tensor]
    kept: list[list[int]]
    gram: Float[Tensor, "site n n2"]
    orders: LabelPermutations
    top: Float[Tensor, " site"]
    k: Int[Tensor, " site"]
    null: Float[Tensor, "b site"]
    null_k: Int[Tensor, "b site"]
    share: Float[Tensor, "site k"]

    def own(self, i: int) -> Float[Tensor, "t u n n2"]:
        """Products over the distinct templates of a site."""
        return distinct_cross(self.cross[i], self.kept[i])

    def about(self, i: int) -> dict[str, Any]:
        """What is said of every site, testable or not."""
        at, kept = int(self.k[i]), self.kept[i]
        return dict(
            k=at,
            score=float(self.top[i]),
            spectrum=tuple(self.share[i].tolist()),
            share=float(self.share[i, at - 1]),
            agreement=_agreement(self.own(i), at) if len(kept) > 1 else math.nan,
            distinct=len(kept),
            effective=effective_templates(self.groups[i]),
            spread=template_spread(self.cross[i], kept),
        )

    def deep(self, i: int, seed: int) -> dict[str, Any]:
        """The subspace probe of a testable site."""
        at, drawn = int(self.k[i]), _probe_orders(self.orders, seed)
        probe = subspace_probe(self.own(i), at, self.orders.index[drawn], order_k=self.null_k[drawn, i])
        return dict(probe=probe, r2=probe.r2)


def _search(acts: Float[Tensor, "site value template d"], orders: LabelPermutations) -> _Search:
    cross = cross_gram(acts)
    groups = [template_groups(each) for each in cross]
    kept = [distinct(each) for each in groups]
    gram = distinct_gram(cross, kept)
    top, k = circle_scores(gram).max(1)
    null, null_k = circle_null(gram, orders)
    return _Search(cross, groups, kept, gram, orders, top, k + 1, null, null_k, harmonic_share(gram))


def _probe_orders(orders: LabelPermutations, seed: int) -> Int[Tensor, " draw"]:
    """The label permutations that the subspace probe is run on again."""
    drawn = torch.randperm(len(orders), generator=torch.Generator().manual_seed(seed))
    return drawn[:PROBE_PERMUTATIONS]


def _names(acts: Tensor, control: Tensor | None, sites: Sequence[str] | None) -> list[str]:
    for what, given in (("activations", acts), ("control", control)):
        if given is not None and (given.ndim != 4 or not given.is_floating_point()):
            raise UsageError(
                f"the {what} have shape {tuple(given.shape)} and type {given.dtype}; give floating-point "
                f"numbers [site, value, template, d]"
            )
    names = [str(s) for s in sites] if sites is not None else [f"site {i}" for i in range(len(acts))]
    if len(names) != len(acts) or not len(acts):
        raise UsageError(f"{len(names)} site names for activations of {len(acts)} sites; give one per site")
    if control is not None and control.shape != acts.shape:
        raise UsageError(
            f"the control has shape {tuple(control.shape)}, the activations {tuple(acts.shape)}; run it on "
            f"the same prompts"
        )
    return names


def _untestable(acts: Tensor, control: Tensor | None, names: list[str]) -> str:
    n, templates = acts.shape[1:3]
    for what, values in (("activations", acts), ("control activations", control)):
        if values is not None and not bool(torch.isfinite(values).all()):
            bad = ~torch.isfinite(values).flatten(1).all(1)
            return f"the {what} hold NaN or infinity at {names[int(bad.nonzero()[0])]}"
    if templates < FEWEST_TEMPLATES:
        few = "one template cannot" if templates == 1 else f"{templates} templates can hardly"
        return f"{few} tell the value from its noise; give at least {FEWEST_TEMPLATES}, better eight"
    if n < FEWEST_VALUES:
        return (
            f"{n} values are too few: a circle and a constant use up their degrees of freedom (at least "
            f"{FEWEST_VALUES} are needed)"
        )
    if bool(constant_sites(acts).all()):
        return (
            "the activations are constant over the values at every site (is the value before the position "
            "read?)"
        )
    return ""


def _nothing(n: int, templates: int, d: int, unit: str, b: int, seed: int, reason: str) -> ValueEvidence:
    nan = math.nan
    return ValueEvidence(
        n=n,
        templates=templates,
        d_model=d,
        unit=unit,
        permutations=b,
        exact=False,
        seed=seed,
        untestable=reason,
        p_value=nan,
        smallest_p=smallest_p(n),
        signal_p=nan,
        harmonic_p=nan,
        dimension_p=nan,
        best=0,
        sites=(),
    )


def _means(
    acts: Float[Tensor, "site value template d"], kept: Sequence[Sequence[int]]
) -> Float[Tensor, "site value d"]:
    """The mean over distinct templates, in float64."""
    return torch.stack(
        [site[:, list(chosen)].double().mean(1) for site, chosen in zip(acts, kept, strict=True)]
    )


def _reliability(cross: Tensor, kept: Sequence[Sequence[int]], seed: int) -> tuple[float, float]:
    """p that templates share a circle anywhere, and that they agree on the values at all.

    Of copies one counts, and templates that are more alike than the others are flipped together; sites with
    fewer than six distinct templates have no say, and without any, or with fewer than six such groups, the
    p-values are NaN.
    """
    sites = [i for i, chosen in enumerate(kept) if len(chosen) >= SIGN_FLIP_TEMPLATES]
    if not sites:
        return math.nan, math.nan
    # without the templates that are copies everywhere, so that all sign patterns of the others can be gone
    # through
    used = sorted({t for i in sites for t in kept[i]})
    mask = torch.tensor([[float(t in kept[i]) for t in used] for i in sites], dtype=cross.dtype)
    inner = torch.stack([einsum(cross[i], "t u v v -> t u")[used][:, used] for i in sites])
    groups = alike(inner).unique(return_inverse=True)[1]
    if int(groups.max()) + 1 < SIGN_FLIP_TEMPLATES:
        return math.nan, math.nan
    apart = (mask[:, :, None] * mask[:, None]) * (groups[:, None] != groups[None])
    signs = sign_flips(int(groups.max()) + 1, limit=FLIPS, seed=seed)[:, groups]
    masked = (cross[i][used][:, used] * pairs[..., None, None] for i, pairs in zip(sites, apart, strict=True))
    return circle_reliability_p(masked, signs), reliability_p(inner * apart, signs)


def _agreement(cross: Float[Tensor, "t u n n2"], k: int) -> float:
    """Share of templates whose harmonic ``k`` points the same way as that of the other templates' mean."""
    plane = harmonic_planes(cross.shape[-1])[k - 1]
    pairs = einsum(plane, cross, plane, "i v, t u v w, i w -> t u")
    return float(((pairs.sum(1) - pairs.diagonal()) > 0).double().mean())
