"""The contest of shapes: arrays in, a word with its evidence out, for every site and for all of them.

See docs/shapes.md for what is asked, how often the answers are wrong on data with a known answer, and what
they cannot tell.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from numpy import ndarray
from threadpoolctl import threadpool_limits
from torch import Tensor

from mechfourier.errors import OutOfRange
from mechfourier.stats.shapes.decide import CLEAR, LEVEL, MORE, Decision, decide, decide_site
from mechfourier.stats.shapes.designs import Design
from mechfourier.stats.shapes.evidence import Estimate, agreement_p, aspect, gap
from mechfourier.stats.shapes.headline import Headline, combined_p, headline
from mechfourier.stats.shapes.tables import (
    canonical_frame,
    cross_gram,
    distinct_templates,
    tempered,
    unbiased_mean,
)
from mechfourier.stats.shapes.words import CIRCLES, CIRCULAR, DISTINCT, FLAT, without_circle, word_of

SAME = 1e-5
"""Relative difference of inner products that is taken for rounding."""
NEARLY = 0.2
"""A site below this may take the evidence of its neighbours."""
FEWEST_VALUES = 5
FEWEST_TEMPLATES = 3
MOST_VALUES = 31
PERIODS = ("nearly one turn", "other period", "other period beside a line", "classes")


@dataclass(frozen=True)
class ShapeEvidence:
    """One shape on one site. ``evidence``: share of the power between values that it predicts of values left
    out, at most 1, with its 95 % interval (None below six templates). ``p``: how often data of this shape
    would favour the others as strongly, or, where the word is a circle, a circle as strongly; None where that
    was not asked (closed shapes that are not the best one)."""

    name: str
    evidence: float
    low: float | None
    high: float | None
    p: float | None


@dataclass(frozen=True)
class SiteShapes:
    """The contest at one site.

    ``word``: circular, flattened circle, nearly closed, open curve, wave, clusters, line, other period,
    values distinguishable, noise, not testable, or "undecided: A or B". ``p``: the largest probability of any
    rival that a circle would win by as much. ``k``, ``aspect``, ``beside_line``: of the circle. ``gap``:
    steps between the ends of an open or nearly closed curve; ``ends``: the two values (indices) between which
    it is cut. ``period``: in values, of other periods. ``set_aside``: the value without which the rest lies
    on a circle.
    """

    word: str
    p: float
    agreement_p: float
    templates: int
    shapes: tuple[ShapeEvidence, ...] = ()
    reasons: tuple[str, ...] = ()
    k: int | None = None
    aspect: Estimate | None = None
    beside_line: bool = False
    gap: Estimate | None = None
    ends: tuple[int, int] | None = None
    period: float | None = None
    set_aside: int | None = None

    @property
    def label(self) -> str:
        """The word with what belongs to it: "circular at k = 2, beside a line", "period 10 of 12 values",
        "nearly closed (gap 2.2 steps)"."""
        text = self.word
        if self.k is not None and self.k != 1:
            text += f" at k = {self.k}"
        if self.beside_line:
            text += " beside a line"
        if self.period is not None:
            text = f"period {self.period:.3g}"
        if self.gap is not None:
            text += f" (gap {self.gap.value:.1f} steps)"
        return text


@dataclass(frozen=True)
class Contest:
    """All sites. ``p``: that no site is a circle, all of them taken together."""

    sites: tuple[SiteShapes, ...]
    p: float
    headline: Headline

    @property
    def word(self) -> str:
        return self.headline.word


def contest(
    acts: Tensor | ndarray,
    *,
    n_bootstrap: int = 200,
    n_permutations: int = 1000,
    seed: int = 0,
    gram_of: Callable[[int], Float[ndarray, "t t n n"]] | None = None,
) -> Contest:
    """Which shape the values of a cycle lie in, at every site.

    ``acts``: ``[value, template, d]`` or ``[site, value, template, d]``, values in cyclic order. Relabelling
    by a shift or a reversal, rotation, scale, the order and copies of templates and of sites change no word.
    ``gram_of``: the inner products of a site (:func:`~mechfourier.stats.shapes.tables.cross_gram`), where they
    are at hand.
    Raises ``OutOfRange`` for arrays of another kind.
    """
    stack = checked(acts)

    def tested(i: int) -> ndarray | str:
        return _gram(stack[i], None if gram_of is None else gram_of(i))

    found = _each(len(stack), tested, lambda gram: _site(gram, n_bootstrap, n_permutations, seed))
    p = _together(found)
    if p >= LEVEL and any(site.word in CIRCLES for site, _ in found):
        found = _refined(found, MORE * n_bootstrap, seed)
        p = _together(found)
    sites = tuple(_among(found, i, p) for i in range(len(found)))
    return Contest(sites, p, headline([site.word for site in sites]))


def _together(found: list[tuple[SiteShapes, Decision | None]]) -> float:
    """One p of all sites whose templates agree about the values, copies counted once."""
    return combined_p(
        [site.p for site in {id(site): site for site, decision in found if decision is not None}.values()]
    )


def _refined(
    found: list[tuple[SiteShapes, Decision | None]], n_bootstrap: int, seed: int
) -> list[tuple[SiteShapes, Decision | None]]:
    """Circles once more with more draws, whose number bounds p: one circle among many sites needs a p far
    below the level."""
    again: dict[int, tuple[SiteShapes, Decision | None]] = {}
    for site, decision in found:
        if decision is not None and site.word in CIRCLES and id(site) not in again:
            own, without = decision.table, decision.set_aside
            finer = decide(own, without, n_bootstrap=n_bootstrap, seed=seed)
            again[id(site)] = described(finer, word_of(finer), site.agreement_p), finer
    return [again.get(id(site), (site, decision)) for site, decision in found]


def checked(acts: Tensor | ndarray) -> Float[ndarray, "site value template d"]:
    """The stack of sites in double precision."""
    array = acts.detach().cpu().double().numpy() if isinstance(acts, Tensor) else np.asarray(acts)
    if array.ndim == 3:
        array = array[None]
    if array.ndim != 4 or not np.issubdtype(array.dtype, np.floating):
        raise OutOfRange(
            f"activations of shape {tuple(array.shape)} and type {array.dtype}; give floating-point numbers "
            "[value, template, d] or [site, value, template, d]"
        )
    if array.shape[1] > MOST_VALUES:
        raise OutOfRange(
            f"{array.shape[1]} values on the cycle; the contest holds designs for up to {MOST_VALUES}"
        )
    return array


def _gram(
    site: Float[ndarray, "value template d"], gram: Float[ndarray, "u u n n"] | None = None
) -> Float[ndarray, "t t n n"] | str:
    """The inner products of distinct templates, or why there is nothing to test."""
    n, templates, _ = site.shape
    if n < FEWEST_VALUES:
        return f"{n} values: at least {FEWEST_VALUES} are needed"
    if not np.isfinite(site).all():
        return "activations are not finite"
    if gram is None:
        gram = cross_gram(site / max(float(np.abs(site).max()), 1e-300))
    if not np.einsum("ttvv->", gram) > 0 or np.ptp(site, axis=0).max() <= 1e-6 * np.abs(site).max():
        return "activations do not depend on the value"
    kept = distinct_templates(gram)
    if len(kept) < FEWEST_TEMPLATES:
        return (
            f"{len(kept)} distinct template{'s' * (len(kept) != 1)} of {templates}: at least "
            f"{FEWEST_TEMPLATES} are needed"
        )
    return gram[np.ix_(kept, kept)]


def _each(
    count: int,
    tested: Callable[[int], ndarray | str],
    make: Callable[[ndarray | str], tuple[SiteShapes, Decision | None]],
) -> list[tuple[SiteShapes, Decision | None]]:
    """The contest of every site, on as many threads as torch has; of sites with the same inner products once.
    Of many sites these would fill the memory, so they are computed where they are needed."""
    first = _copies_of(count, tested)
    wanted = [i for i, j in enumerate(first) if i == j]
    # the matrices are small: a thread for each site beats several for one product
    with threadpool_limits(1, user_api="blas"), ThreadPoolExecutor(torch.get_num_threads()) as pool:
        found = dict(zip(wanted, pool.map(lambda i: make(tested(i)), wanted), strict=True))
    return [found[j] for j in first]


def _copies_of(count: int, tested: Callable[[int], ndarray | str]) -> list[int]:
    """For every site the first one with the same inner products."""
    first: list[int] = []
    norms: dict[int, float] = {}
    for i in range(count):
        gram = tested(i)
        if isinstance(gram, str):
            first.append(i)
            continue
        norm = float(np.linalg.norm(gram))
        most = SAME * (norm + np.sqrt(gram.size) * float(np.abs(gram).max()))
        near = [j for j, other in norms.items() if abs(other - norm) <= most]
        first.append(next((j for j in near if _same(tested(j), gram)), i))
        if first[i] == i:
            norms[i] = norm
    return first


def _same(one: ndarray | str, other: ndarray | str) -> bool:
    if isinstance(one, str) or isinstance(other, str):
        return False
    return one.shape == other.shape and np.allclose(one, other, rtol=SAME, atol=SAME * np.abs(other).max())


def _site(
    gram: Float[ndarray, "t t n n"] | str, n_bootstrap: int, n_permutations: int, seed: int
) -> tuple[SiteShapes, Decision | None]:
    if isinstance(gram, str):
        return SiteShapes("not testable", 1.0, 1.0, 0, reasons=(gram,)), None
    frame = canonical_frame(unbiased_mean(gram))
    framed = gram[:, :, frame.order][:, :, :, frame.order]
    agreement = agreement_p(framed, count=n_permutations, seed=seed)
    if agreement >= LEVEL:
        reason = f"templates do not agree about the values (p = {agreement:.2g})"
        return SiteShapes("noise", 1.0, agreement, len(gram), reasons=(reason,)), None
    decision = decide_site(tempered(gram), frame, n_bootstrap=n_bootstrap, seed=seed)
    return described(decision, word_of(decision), agreement), decision


def _among(found: list[tuple[SiteShapes, Decision | None]], i: int, p: float) -> SiteShapes:
    """The word of a site among the others: a circle that does not stand the number of sites is undecided, and
    one that is nearly significant by itself takes the evidence of its neighbours."""
    site, decision = found[i]
    if decision is None:
        return site
    is_circle = site.word in CIRCLES
    if is_circle and p >= LEVEL:
        reason = f"one circle among so many sites is no evidence (p = {p:.2g})"
        return described(decision, without_circle(decision), site.agreement_p, reason)
    if not is_circle and p < LEVEL and decision.p < NEARLY:
        pooled = combined_p([neighbour.p for neighbour in _neighbours([s for s, _ in found], i)])
        if pooled < LEVEL:
            reason = f"by itself p = {decision.p:.2g}, with the sites beside it {pooled:.2g}"
            return described(decision, CIRCULAR, site.agreement_p, reason)
    return site


def _neighbours(sites: list[SiteShapes], i: int) -> list[SiteShapes]:
    """The site, and the nearest one on either side that is not a copy of it."""
    own = sites[i]
    before = next((s for s in reversed(sites[:i]) if s is not own), own)
    after = next((s for s in sites[i:] if s is not own), own)
    return list({id(s): s for s in (own, before, after)}.values())


def described(decision: Decision, word: str, agreement: float, *reasons: str) -> SiteShapes:
    """The word with its numbers."""
    table, closed = decision.table, decision.closed_name
    k = int(decision.design(closed).params.get("k", 1)) if word == CIRCULAR else None
    line_from = decision.design(closed).params["cut"] if closed == "circle beside a line" else None
    ellipse = aspect(table, k, None if line_from is None else int(line_from)) if k is not None else None
    if ellipse is not None and ellipse.value < FLAT:
        word = "flattened circle"
    curve = _curve_design(decision) if "open curve" in word or word == "nearly closed" else None
    cut = int(curve.params["cut"]) if curve is not None else None
    between = gap(table, cut) if cut is not None else None
    if between is not None and between.value > len(table.frame.order):
        between = None  # it hardly turns: how far apart its ends are, in steps of a circle, says nothing
    period = _period(decision) if word == "other period" else None
    return SiteShapes(
        word=word,
        p=decision.p,
        agreement_p=agreement,
        templates=table.templates,
        shapes=shape_evidence(decision),
        reasons=(*_reasons(decision, word), *reasons),
        k=k,
        aspect=ellipse,
        beside_line=word == CIRCULAR and closed == "circle beside a line",
        gap=between,
        ends=_ends(decision, cut) if cut is not None and between is not None else None,
        period=period,
        set_aside=int(table.frame.order[decision.set_aside]) if decision.set_aside is not None else None,
    )


def _curve_design(decision: Decision) -> Design:
    return _best_of(decision, "nearly closed", "smooth path", "arc", "arc beside a line", "polynomial")


def _best_of(decision: Decision, *names: str) -> Design:
    present = [name for name in names if name in decision.scores]
    return decision.design(min(present, key=lambda name: decision.scores[name]))


def _period(decision: Decision) -> float:
    """In values."""
    params = _best_of(decision, *PERIODS).params
    return params["period"] if "period" in params else len(decision.table.frame.order) / params["turns"]


def _ends(decision: Decision, cut: int) -> tuple[int, int]:
    """The caller's values at the two ends of a curve that begins at place ``cut`` of the frame."""
    order = decision.table.frame.order
    return tuple(sorted((int(order[cut]), int(order[cut - 1]))))  # pyright: ignore[reportReturnType]


def shape_evidence(decision: Decision) -> tuple[ShapeEvidence, ...]:
    """Every shape, best first."""
    out = []
    for name in sorted(decision.scores, key=decision.scores.__getitem__):
        share = decision.share(name)
        p = decision.rejects.get(name) if decision.circular else decision.adequate.get(name)
        if name == decision.closed_name:
            p = decision.adequate["closed"]
        out.append(ShapeEvidence(name, share.value, share.low, share.high, p))
    return tuple(out)


def _reasons(decision: Decision, word: str) -> Sequence[str]:
    if word == DISTINCT and decision.adequate["distinct values"] >= LEVEL:
        return (f"no order of the values beyond chance (p = {decision.adequate['distinct values']:.2g})",)
    if word == DISTINCT:
        return ("no shape predicts of values left out more than their mean does",)
    name = max(decision.rejects, key=lambda rival: decision.rejects[rival])
    p = decision.rejects[name]
    if word in CIRCLES:  # of few values p is larger than that of the rival alone
        return (f"a circle wins by as much on data of no other shape (largest p = {decision.p:.2g}, {name})",)
    out = []
    if decision.free:
        times = float(np.exp(decision.harmonic_excess))
        out.append(f"neighbours are alike, but a circle of few harmonics leaves {times:.1f} times the error")
    elif decision.lead > CLEAR:
        out.append(f"a circle leaves {float(np.exp(decision.lead)):.1f} times the error of another shape")
    elif decision.closed_rejected:
        out.append(
            f"a circle does not fit (p = {decision.adequate['closed']:.2g}): a path predicts "
            f"{decision.missed:.0%} of the power more"
        )
    if p >= LEVEL:
        out.append(f"{name} is not rejected against a circle (p = {p:.2g})")
    elif (
        not decision.closed_rejected and decision.p >= LEVEL
    ):  # more is asked of few values than of the rival alone
        out.append(
            f"a circle of so few values wins by as much on data of another shape (p = {decision.p:.2g}, {name})"
        )
    return tuple(out)
