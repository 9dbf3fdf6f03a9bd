"""Verdicts: one word, and a sentence for every reason.

``circular`` needs all of: a family-wise p under .05; templates that agree on the harmonic; closure (turns, contest of
shapes, seam, left-out curves, see :mod:`mechfourier.stats.closure`), and, of many hook points, not at one alone among open ones; and both controls clearly lower: a plane fitted to
random labels (p of the held-out error under .05) and a re-initialised model, where one was run.
"""

import math
from dataclasses import dataclass
from typing import Literal

from mechfourier.stats.copies import NEAR
from mechfourier.stats.value import LEVEL, SIGN_FLIP_TEMPLATES, SiteEvidence, ValueEvidence

Word = Literal[
    "circular", "modular", "open arc", "magnitude", "interaction", "token identity", "noise", "not testable"
]

WORDS: tuple[Word, ...] = (
    "circular", "modular", "open arc", "magnitude", "interaction", "token identity", "noise", "not testable",
)  # fmt: skip
MANY_SITES = 8  # from as many sites on, selecting the best inflates it
LINE = 0.1  # second over first axis of the trend, below which the values lie on a line; a half circle has .19


@dataclass(frozen=True)
class Verdict:
    """``word``: what the representation is; ``used``: whether an intervention showed that the model uses it."""

    word: str
    used: str = "not tested"
    reasons: tuple[str, ...] = ()

    def __str__(self) -> str:
        return self.word


def verdict_value(evidence: ValueEvidence) -> Verdict:
    """The verdict on a value domain, from its evidence alone."""
    best = evidence.best_site
    if evidence.untestable or best is None:
        return Verdict("not testable", reasons=(evidence.untestable or "no site was measured",))
    if evidence.signal_p >= LEVEL:
        return Verdict(
            "noise",
            reasons=(
                f"the templates do not agree on the values (sign-flip p = {evidence.signal_p:.3g} over all sites)",
            ),
        )
    harmonic = evidence.p_value < LEVEL and not evidence.harmonic_p >= LEVEL
    if harmonic:
        return _harmonic(evidence, best)
    return _without_circle(evidence, best)


def _harmonic(evidence: ValueEvidence, best: SiteEvidence) -> Verdict:
    found = best.closure
    reasons = [_score(evidence, best), *_probe(evidence, best)]
    if found is None or not found.closed:
        against = found.reasons if found else ()
        return Verdict(_open_word(evidence), reasons=(*reasons, *against))
    if beside := _open_neighbours(evidence):
        told = (
            f"it closes at {best.site} alone: {' and '.join(beside)} hold the same order and stay open, and selecting the best of "
            f"{len(evidence.sites)} sites inflates it"
        )
        return Verdict(_open_word(evidence), reasons=(*reasons, told))
    if best.probe is not None and best.probe.p_value >= LEVEL:
        reasons.append(
            "but a plane fitted to permuted labels predicts held-out values as well: the order may be chance"
        )
        return Verdict("token identity", reasons=(*reasons, *found.reasons))
    control = evidence.control
    if control is not None and not control.lower:
        reasons.append(
            f"but untrained model: {control.ratio:.0%} of this signal (p = {control.p_value:.3g}): it shows the same circle, "
            "so training did not make it"
        )
        return Verdict("token identity", reasons=(*reasons, *found.reasons))
    if control is None:
        reasons.append("the untrained control was not run")
    else:
        reasons.append(
            f"untrained model: {max(control.ratio, 0.0):.0%} of this signal (p = {control.p_value:.3g})"
        )
    return Verdict("circular", reasons=(*reasons, *found.reasons))


def _open_neighbours(evidence: ValueEvidence) -> list[str]:
    """Hook points just before and after the best one, where both are significant and neither closes.

    In a model of many layers activations change little from one hook point to the next, so a circle is seen at two or more; where it is
    seen at one, the others must at least not be open curves of the same strength. Of few hook points none is the luckiest of many, and
    a shallow model may well compute a circle in one block and read it in the next: there the rule does not apply.
    """
    if len(evidence.sites) < MANY_SITES:
        return []
    near = [evidence.sites[i] for i in (evidence.best - 1, evidence.best + 1) if 0 <= i < len(evidence.sites)]
    strong = [site for site in near if site.p_value < LEVEL and site.closure is not None]
    if any(site.closure is not None and site.closure.closed for site in strong):
        return []
    return [site.site for site in strong]


def _score(evidence: ValueEvidence, best: SiteEvidence) -> str:
    kind = "all orders" if evidence.exact else f"{evidence.permutations} permutations"
    floor = (
        f"; {evidence.smallest_p:.2g} is the least that {evidence.n} values allow" if evidence.exact else ""
    )
    return (
        f"{best.site}: {best.share:.0%} of the between-value power is at k = {best.k}, an ellipse of aspect "
        f"{best.aspect:.2f} (family-wise p = {evidence.p_value:.2g}, {kind}{floor})"
    )


def _probe(evidence: ValueEvidence, best: SiteEvidence) -> list[str]:
    probe = best.probe
    if probe is None:
        return []
    held_out = "held-out values" if best.copies else "held-out values and templates"
    told = (
        f"held-out error {probe.error:.2f} {evidence.unit} (label-permuted control: {probe.null_error:.2f}; {held_out}, "
        f"p = {probe.p_value:.2g})"
    )
    return [told, _agreement(evidence, best)]


def _agreement(evidence: ValueEvidence, best: SiteEvidence) -> str:
    """Do the templates agree, and is that evidence?"""
    if best.copies:
        return (
            f"{best.site} holds the same vectors in every template: agreement between templates is not evidence, and there "
            "are no intervals over templates"
        )
    copies = (
        f" ({evidence.templates} templates, the others are copies)"
        if best.distinct < evidence.templates
        else ""
    )
    if math.isnan(evidence.harmonic_p) or best.distinct < SIGN_FLIP_TEMPLATES:
        return (
            f"{best.distinct} distinct templates{copies} are too few to tell a shared circle from noise drawn per template "
            f"({SIGN_FLIP_TEMPLATES} are needed)"
        )
    near = (
        f"; but they differ by {best.spread:.0%} of their norm only, so they could hardly disagree"
        if best.spread < NEAR
        else ""
    )
    return (
        f"{best.agreement:.0%} of the {best.distinct} distinct templates{copies} agree with the others on its direction "
        f"(sign-flip p = {evidence.harmonic_p:.2g}){near}"
    )


def _open_word(evidence: ValueEvidence) -> Word:
    return "magnitude" if evidence.flatness < LINE else "open arc"


def _without_circle(evidence: ValueEvidence, best: SiteEvidence) -> Verdict:
    if evidence.p_value < LEVEL:
        first = (
            f"k = {best.k} at {best.site} stands out (p = {evidence.p_value:.2g}), but templates do not agree on it "
            f"(sign-flip p = {evidence.harmonic_p:.2g})"
        )
    else:
        first = f"no harmonic stands out: the best, k = {best.k} at {best.site}, has family-wise p = {evidence.p_value:.2g}"
    if evidence.order_p < LEVEL:
        shape = "on a line" if evidence.flatness < LINE else "along a curve"
        told = (
            f"the values are in order {shape} (trend p = {evidence.order_p:.2g}); that it closes is not shown"
        )
        return Verdict(_open_word(evidence), reasons=(first, told))
    told = "" if math.isnan(evidence.signal_p) else f" (sign-flip p = {evidence.signal_p:.2g})"
    return Verdict(
        "token identity",
        reasons=(
            first,
            f"the values are distinguishable{told} but unordered (trend p = {evidence.order_p:.2g})",
        ),
    )
