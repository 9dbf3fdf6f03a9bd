"""Verdicts: one word, and a sentence for every reason.

The word of a value domain is that of the contest of shapes (:mod:`mechfourier.stats.shapes`) at the sites that share it, where templates agree and
the untrained model does not show the same shape (:mod:`mechfourier.stats.words`).
"""

from collections.abc import Iterator
from dataclasses import dataclass

from mechfourier.stats.copies import NEAR
from mechfourier.stats.shapes.contest import SiteShapes
from mechfourier.stats.shapes.evidence import Estimate
from mechfourier.stats.value import LEVEL, SIGN_FLIP_TEMPLATES, SiteEvidence, ValueEvidence
from mechfourier.stats.words import CIRCLES, headline_of, shapes_of, taking_part

WORDS: tuple[str, ...] = (
    "circular", "flattened circle", "nearly closed", "open curve", "wave", "clusters", "line", "other period", "values distinguishable",
    "modular", "open arc", "magnitude", "interaction", "token identity", "noise", "not testable",
)  # fmt: skip
"""Every decided word; "modular", "open arc", "magnitude" and "token identity" are those of operations, and of files of version 0.1."""


@dataclass(frozen=True)
class Verdict:
    """``word``: what the representation is; ``used``: whether an intervention showed that the model uses it;
    ``span``: the first and the last site of that word (value domains)."""

    word: str
    used: str = "not tested"
    reasons: tuple[str, ...] = ()
    span: tuple[int, int] | None = None

    def __str__(self) -> str:
        return self.word


def verdict_value(evidence: ValueEvidence) -> Verdict:
    """The verdict on a value domain, from its evidence alone."""
    best = evidence.best_site
    if evidence.untestable or best is None:
        return Verdict("not testable", reasons=(evidence.untestable or "no site was measured",))
    found = headline_of([site.word for site in evidence.sites])
    span = None if found.first is None or found.last is None else (found.first, found.last)
    return Verdict(found.word, reasons=tuple(_reasons(evidence, best)), span=span)


def _reasons(evidence: ValueEvidence, best: SiteEvidence) -> Iterator[str]:
    yield from best.reasons
    if best.contest is None or best.contest.word in ("noise", "not testable"):
        yield from _silent(best)
        return
    if best.word == "noise":
        return
    yield _contest(best, best.contest)
    yield from best.contest.reasons
    yield from _numbers(evidence, best.contest)
    if best.word in CIRCLES or evidence.p_value < LEVEL:
        yield _score(evidence, best)
        yield from _probe(evidence, best)
    yield _agreement(evidence, best)
    yield from _control(evidence, best)


def _silent(best: SiteEvidence) -> Iterator[str]:
    if best.copies:
        yield (
            f"{best.site} holds the same vectors in every template: agreement between templates is not evidence, and shapes cannot be "
            "told from noise"
        )
    if best.contest is not None:
        yield from best.contest.reasons


def _contest(best: SiteEvidence, found: SiteShapes) -> str:
    """The shapes of best evidence with their intervals."""
    own, asked = shapes_of(found.word), [(shape, shape.p) for shape in found.shapes if shape.p is not None]
    first = [each for each in asked if each[0].name in own][:1] or asked[:1]
    others = [each for each in asked if each[0].name not in own and each not in first][:1]
    told = [
        f"{s.name} {_share(Estimate(s.evidence, s.low, s.high))} ({'' if p < LEVEL else 'not '}rejected, p = {p:.2g})"
        for s, p in (*first, *others)
    ]
    return f"{best.site}: {found.label}; between-value power predicted of left-out values: {', '.join(told)}"


def _share(estimate: Estimate) -> str:
    if estimate.low is None or estimate.high is None:
        return f"{estimate.value:z.0%}"
    return f"{estimate.value:z.0%} [{100 * estimate.low:z.0f}, {100 * estimate.high:z.0f}]"


def _plain(estimate: Estimate, digits: int) -> str:
    if estimate.low is None or estimate.high is None:
        return f"{estimate.value:.{digits}f}"
    return f"{estimate.value:.{digits}f} [{estimate.low:.{digits}f}, {estimate.high:.{digits}f}]"


def _numbers(evidence: ValueEvidence, found: SiteShapes) -> Iterator[str]:
    """What belongs to the shape: its ends, the aspect of the ellipse, the value set aside, and which values took part."""
    name = dict(enumerate(evidence.values)).get
    if found.ends is not None and found.gap is not None:
        first, last = (name(v, f"value {v}") for v in found.ends)
        yield f"its ends, {first} and {last}, are {_plain(found.gap, 1)} steps apart (1 where it closes)"
    if found.aspect is not None:
        yield f"the ellipse at k = {found.k} has aspect {_plain(found.aspect, 2)} (1 for a circle)"
    if found.set_aside is not None:
        yield f"without {name(found.set_aside, f'value {found.set_aside}')}, which lies apart from the others"
    if (count := len(taking_part(evidence.n))) < evidence.n:
        yield f"{count} evenly spaced values of the {evidence.n} took part, so harmonics above {(count - 1) // 2} are not told apart"


def _score(evidence: ValueEvidence, best: SiteEvidence) -> str:
    kind = "all orders" if evidence.exact else f"{evidence.permutations} permutations"
    floor = (
        f"; {evidence.smallest_p:.2g} is the least that {evidence.n} values allow" if evidence.exact else ""
    )
    return f"{best.share:.0%} of the between-value power is at k = {best.k} (circular order: family-wise p = {best.p_value:.2g}, {kind}{floor})"


def _probe(evidence: ValueEvidence, best: SiteEvidence) -> Iterator[str]:
    if (probe := best.probe) is not None:
        yield (
            f"held-out error {probe.error:.2f} {evidence.unit} (label-permuted control: {probe.null_error:.2f}; held-out values and "
            f"templates, p = {probe.p_value:.2g})"
        )


def _agreement(evidence: ValueEvidence, best: SiteEvidence) -> str:
    """Do the templates agree, and is that evidence?"""
    copies = (
        f" ({evidence.templates} templates, the others are copies)"
        if best.distinct < evidence.templates
        else ""
    )
    if best.distinct >= SIGN_FLIP_TEMPLATES and evidence.signal_p != evidence.signal_p:
        return (
            f"{best.distinct} distinct templates{copies} are alike in fewer than {SIGN_FLIP_TEMPLATES} groups, too few to tell a shared "
            f"shape from noise drawn per group: give templates in other words"
        )
    if best.distinct < SIGN_FLIP_TEMPLATES:
        return (
            f"{best.distinct} distinct templates{copies} are too few to tell a shared shape from noise drawn per template, and for "
            f"intervals ({SIGN_FLIP_TEMPLATES} are needed)"
        )
    near = (
        f"; but they differ by {best.spread:.0%} of their norm only, so they could hardly disagree"
        if best.spread < NEAR
        else ""
    )
    return (
        f"{best.agreement:.0%} of the {best.distinct} distinct templates{copies} agree with the others about k = {best.k}; they agree on "
        f"the values at all with a sign-flip p = {evidence.signal_p:.2g}{near}"
    )


def _control(evidence: ValueEvidence, best: SiteEvidence) -> Iterator[str]:
    if not evidence.controlled:
        yield "the untrained control was not run"
    elif best.control is not None and best.control.lower:
        share = f"{max(best.control.evidence, 0.0):.0%} predicted by the same shape"
        told = (
            share
            if best.control.p_value < LEVEL
            else "the same shape predicts no more than with permuted labels"
        )
        yield f"untrained model: {told} (p = {best.control.p_value:.2g})"
