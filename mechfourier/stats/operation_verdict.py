"""The verdict on an operation domain: one word, and a sentence for every number that led to it."""

import math

from mechfourier.stats.operation import OperationEvidence, OperationSite
from mechfourier.stats.token_exchange import ORDERED
from mechfourier.stats.verdict import Verdict

ALPHA = 0.05
SPECIFIC = 0.01
"""Level of period specificity: surrogates only resemble the null, so they are asked for more than 5 in
100.
"""
LEAST_RATIO = 1.3
LEAST_EXACTNESS = 0.75
MODULAR_EXACTNESS = 0.97
LEAST_CLASS_RATIO = 2.0
OVER_DIFFERENCE = 8.0
"""Layers with random weights that read both operands: ReLU neurons reach 2.5, attention (where 2 is the
expectation) 6 in 1 of 16 draws.
"""
LEAST_SUM = 2.0
"""Where the functions of a − o hold more than half the energy of those of a + o, the sum does not stand out."""
CLOSED = 0.02
STRAIGHT = 0.5
UNTOLD = "undecided: circle or magnitude"
UNADDED = "undecided: modular or interaction"
NEAR_PERIOD = 0.02
"""How far, relative to it, a period may lie outside its interval and still be that of a harmonic."""
REST = (("magnitude", UNTOLD), ("interaction", UNADDED), ("token identity",), ("noise",))
CLEARLY = 0.5
OVERSHADOWED = 0.95
"""Noise in two directions of five times a circle's size holds about that much, and the circle is mostly found."""
LEAST_P = 1e-6


def verdict_operation(evidence: OperationEvidence) -> Verdict:
    """Decide from what was measured; the order of the questions is that of docs/statistics.md.

    Hook points are taken in the order of their plane statistic; the first that is circular decides. Otherwise
    the strongest hook point tells what there is instead.
    """
    if evidence.reason:
        return Verdict("not testable", "not tested", (evidence.reason,))
    ranked = sorted(evidence.sites, key=lambda site: -site.plane_z)
    words = _words(evidence, ranked)
    if "circular" in words:
        site = ranked[words.index("circular")]
        lower, told = control_lower(evidence, site)
        reasons = (*reasons_of(evidence, site), told)
        return Verdict(
            "circular" if lower else "token identity", "not tested", (*reasons, *_limits(evidence))
        )
    special = [word for word in words if word in ("open arc", "modular")]
    word = special[0] if special else next(word for kind in REST for word in words if word in kind)
    site = ranked[words.index(word)]
    told = (*reasons_of(evidence, site), *_demoted(evidence, site, word), *_overshadowed(site))
    return Verdict(word, "not tested", (*told, *_limits(evidence)))


def _demoted(evidence: OperationEvidence, site: OperationSite, word: str) -> tuple[str, ...]:
    if word != "modular" or not is_specific(site) or site.p_concentration > CLOSED:
        return ()
    return (
        f"but n is special at {sum(map(is_specific, evidence.sites))} hook points, and taken together their "
        f"classes do not lie on a "
        f"closed curve (p = {evidence.p_concentration:.3g})",
    )


def _overshadowed(site: OperationSite) -> tuple[str, ...]:
    if not site.leading_share > OVERSHADOWED:  # NaN in few dimensions, and in older files
        return ()
    return (
        f"three directions hold {site.leading_share:.1%} of what the confounds leave: a circle much smaller than they are "
        f"would not be found beside them; take them out of the activations to ask what else there is",
    )


def words_by_site(evidence: OperationEvidence) -> tuple[str, ...]:
    """The word of every hook point, in the order of the sites. A circle that the untrained model shows as
    well is token identity, as in the verdict."""
    words = _words(evidence, list(evidence.sites))
    return tuple(
        "token identity" if word == "circular" and not control_lower(evidence, site)[0] else word
        for word, site in zip(words, evidence.sites, strict=True)
    )


def may_be_a_circle(evidence: OperationEvidence, site: OperationSite) -> bool:
    """Whether the function of the sum has the period of a harmonic: of one that this grid cannot tell from a smooth
    function, or of any whose plane holds more than every other, though not more than chance may make."""
    if site.profile_p >= SPECIFIC or not site.period > 0:
        return False
    n, low, high = evidence.n, site.period_low, site.period_high
    near = any(low * (1 - NEAR_PERIOD) <= n / k <= high * (1 + NEAR_PERIOD) for k in evidence.untestable)
    leads = site.p < ALPHA and site.ratio > LEAST_RATIO
    return near or (leads and any(low <= n / k <= high for k in evidence.testable))


def _words(evidence: OperationEvidence, ranked: list[OperationSite]) -> list[str]:
    """The word for every hook point. Where several are special at n, classes without an order have one at one
    of them by chance: a circle then needs a p-value corrected for their number, or a closed curve through all
    of them together. A function of the sum that may be a circle for all that the grid can tell is undecided.
    """
    special = sum(is_specific(site) for site in ranked)
    together = evidence.p_concentration <= CLOSED

    def word(site: OperationSite) -> str:
        found = word_of(site, evidence.n, len(ranked))
        if found == "circular" and not together and site.p_concentration * special > CLOSED:
            return "modular"
        return UNTOLD if found == "magnitude" and may_be_a_circle(evidence, site) else found

    return [word(site) for site in ranked]


def is_specific(site: OperationSite) -> bool:
    """A plane of the raw sum whose period is n/k and no other: neither smooth, nor base 10, nor any function
    of the sum; and of the sum, not of whatever two operands that are both there make of themselves.
    """
    return (
        site.p < ALPHA
        and site.ratio > LEAST_RATIO
        and site.p_specific <= SPECIFIC
        and site.exactness > least_exactness(site.ratio)
        and site.field_ratio > LEAST_RATIO
        and not site.p_tokens > ORDERED  # NaN in older files
        and not site.difference < OVER_DIFFERENCE
        and not site.class_ratio < LEAST_CLASS_RATIO  # NaN over fewer than three cycles
    )


def nothing_adds(site: OperationSite, sites: int = 1) -> bool:
    """Functions of both operands are there, and those of the sum do not stand out among them."""
    bar = SPECIFIC / sites
    if site.profile_p >= bar:
        return min(site.difference_p, site.other_p) < bar
    if site.sum_over_difference < LEAST_SUM:
        return True
    # other combinations than a − o are no evidence here: functions of the sum of any period leak into them
    away = site.difference_p < bar or (site.other_p < bar and site.strongest == "a − o")
    return away and site.p < ALPHA and site.difference < OVER_DIFFERENCE


def least_exactness(ratio: float) -> float:
    """How near to its peak the harmonic has to be: what stands out by a factor can be shifted by its inverse
    only.
    """
    return max(LEAST_EXACTNESS, 1 - 0.5 / max(ratio, 1.0))


def is_modular(site: OperationSite, n: int) -> bool:
    """Functions of the residue class stand out among the functions of the sum, though in no plane (a label on
    a line), and those of no neighbouring modulus take up more.
    """
    return (
        site.profile_p < SPECIFIC
        and site.p_class <= SPECIFIC
        and site.class_ratio > LEAST_CLASS_RATIO
        and site.modulus in (0, n)
        and (site.p >= ALPHA or site.exactness > min(least_exactness(site.ratio), MODULAR_EXACTNESS))
    )


def over_difference(site: OperationSite) -> bool:
    """Whether the sum's plane, or all functions of the sum, hold clearly more than those of a − o: what reads two
    circles without adding makes a plane of the class as well (cos a · cos o is half the cosine of the sum and half
    that of the difference).
    """
    return site.p >= ALPHA or max(site.difference, site.sum_over_difference) >= OVER_DIFFERENCE


def word_of(site: OperationSite, n: int, sites: int = 1) -> str:
    """The word for one of ``sites`` hook points, controls aside. The p-values that are not family-wise are
    corrected by their number (Bonferroni).
    """
    if is_specific(site):
        if site.p_concentration <= CLOSED:
            return "circular"
        return "open arc" if site.rival == "open curve" and site.open > site.closed else "modular"
    if nothing_adds(site, sites):
        return "interaction"
    if is_modular(site, n):
        return "modular" if over_difference(site) else UNADDED
    if site.profile_p < SPECIFIC / sites:
        return "magnitude"
    if site.main_p < SPECIFIC / sites:
        return "magnitude" if site.magnitude > STRAIGHT else "token identity"
    return "noise"


def control_lower(evidence: OperationEvidence, site: OperationSite) -> tuple[bool, str]:
    """Is the untrained model clearly lower at the same hook point, or is its plane no finding at all?"""
    control = next((c for c in evidence.control if c.site == site.site), None)
    if control is None:
        told = (
            "untrained model: its activations do not vary"
            if evidence.controlled
            else "the untrained control was not run"
        )
        return True, told
    lower = not is_specific(control) or control.plane_share < CLEARLY * site.plane_share
    return lower, (
        f"untrained model: {control.plane_share:.1%} of its variance in such a plane (p = {control.p:.3g}, "
        f"ratio "
        f"{control.ratio:.2f}): {'clearly lower' if lower else 'not lower, so training did not make it'}"
    )


def reasons_of(evidence: OperationEvidence, site: OperationSite) -> tuple[str, ...]:
    """A sentence per question that was asked of the hook point, up to the one that decided."""
    n, k = evidence.n, site.k
    plane = (
        f"hook point {site.site}: the best plane of the sum has period {n}/{k} and {site.plane_share:.1%} "
        f"of the variance that the "
        f"confounds leave (family-wise p = {site.p:.3g})"
    )
    if site.p >= ALPHA:
        return (plane, _instead(site, n, may_be_a_circle(evidence, site)))
    over = f", a − o {site.difference:.3g} (needed: {OVER_DIFFERENCE:.0f})" if site.difference < 1e6 else ""
    exact = (
        f"period {n}/{k} against every other period of the raw sum: ratio {site.ratio:.2f}, 1 in 100 "
        f"surrogates reach "
        f"{evidence.threshold:.2f}; against {site.field_rival} {site.field_ratio:.2f}{over}; "
        f"{site.exactness:.0%} of the nearest peak; as much with the tokens in another order: p = {site.p_tokens:.3g}"
    )
    if not is_specific(site):
        return (
            plane,
            f"{exact}: no circle of period {n}",
            _instead(site, n, may_be_a_circle(evidence, site)),
        )
    shape = (
        f"the likeness of {site.classes} residue classes: a closed curve explains {site.closed:.0%}, the "
        f"best other shape "
        f"({site.rival}) {site.open:.0%} (against {site.hardest}: p = {site.p_concentration:.3g}); "
        f"{site.concentration:.0%} of their "
        "power is on one harmonic"
    )
    few = "; fewer than 6 classes cannot show a circle" if site.classes < 6 else ""
    return (plane, exact, shape + few)


def _instead(site: OperationSite, n: int, untold: bool) -> str:
    if nothing_adds(site):
        return _together(site)
    if is_modular(site, n) and not over_difference(site):
        return (
            f"functions of the sum hold {site.sum_over_difference:.1f} times the energy of functions of a − o (needed: "
            f"{OVER_DIFFERENCE:.0f}), as they may where both operands are there together and nothing adds"
        )
    if is_modular(site, n):
        plane = (
            "and none of their planes stands out from the periods beside it"
            if site.p < ALPHA
            else "but turn in no plane"
        )
        return (
            f"functions of the residue class hold {site.class_ratio:.1f} times the energy of other "
            f"functions of the sum ({site.p_class:.1%} of surrogates as much), {plane}"
        )
    if site.profile_p < SPECIFIC:
        few = (
            "; fewer than three cycles of offsets cannot tell it from a function of the residue class that "
            "turns in no single plane"
            if math.isnan(site.class_ratio)
            else ""
        )
        found = (
            f"; its strongest period is {site.period:.4g} [{site.period_low:.4g}, {site.period_high:.4g}] "
            f"of the raw sum"
            if site.period_high < 4 * n
            else ""
        )
        kind = f"that may have a period {n}/k or none" if untold else f"of no period {n}/k"
        return f"a function of the raw sum is there ({_p(site.profile_p)}), {kind}{found}{few}"
    if site.main_p < SPECIFIC:
        return (
            f"the operands by themselves hold {site.a_only + site.offset_only:.0%} of the variance "
            f"({_p(site.main_p)}), "
            f"{site.magnitude:.0%} of it along straight lines"
        )
    return "neither the operands nor their sum explain more variance than chance"


def _together(site: OperationSite) -> str:
    strongest = f"; the strongest combination of the operands is {site.strongest} ({_p(site.other_p)})"
    ending = strongest if site.other_p < SPECIFIC else ""
    if site.profile_p >= SPECIFIC:
        return (
            f"both operands are there together (functions of a − o: {_p(site.difference_p)}), but no function of a + o "
            f"stands out ({_p(site.profile_p)}){ending}"
        )
    return (
        f"functions of a + o hold {site.sum_over_difference:.2f} times the energy of functions of a − o "
        f"({_p(site.difference_p)}): both operands are there together, and their sum does not stand out{ending}"
    )


def _p(value: float) -> str:
    """A p-value from a normal approximation, whose far tail is worth nothing."""
    return f"p = {value:.3g}" if value >= LEAST_P else f"p < {LEAST_P:g}"


def _limits(evidence: OperationEvidence) -> tuple[str, ...]:
    """What was not measured again, and what this grid could not have shown."""
    told = []
    if evidence.repeated:
        told.append(
            f"offsets {evidence.n} apart have the same activations, as if the same prompts were given again: of "
            f"{evidence.repeated} offsets the first {evidence.n} were measured"
        )
    if evidence.untestable:
        ks = ", ".join(map(str, evidence.untestable[:6])) + (", …" if len(evidence.untestable) > 6 else "")
        told.append(
            f"k = {ks} could not be told from a smooth function of the sum or from base 10 on "
            f"{evidence.cycles:.3g} cycle{'s' * (evidence.cycles != 1)} of offsets"
        )
    return tuple(told)
