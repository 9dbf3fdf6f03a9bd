"""Verdicts follow from the evidence alone: every branch, from one true circle changed in one place."""

import dataclasses
import math
from typing import Any

import pytest
from value_arrays import planted

from mechfourier.stats.controls import ControlEvidence
from mechfourier.stats.value import ValueEvidence, analyse_value
from mechfourier.stats.verdict import WORDS, Verdict, verdict_value


@pytest.fixture(scope="module")
def circle() -> ValueEvidence:
    return analyse_value(planted("circle"), permutations=199, bootstrap=50, dimensions=False, unit="months")


def changed(evidence: ValueEvidence, **fields: Any) -> Verdict:
    return verdict_value(dataclasses.replace(evidence, **fields))


def opened(evidence: ValueEvidence) -> ValueEvidence:
    site = evidence.sites[0]
    assert site.closure is not None
    open_closure = dataclasses.replace(site.closure, closed=False, reasons=("the ends lie apart",))
    return dataclasses.replace(evidence, sites=(dataclasses.replace(site, closure=open_closure),))


def test_a_circle_says_why(circle: ValueEvidence) -> None:
    verdict = verdict_value(circle)
    assert (verdict.word, verdict.used) == ("circular", "not tested")
    text = " ".join(verdict.reasons)
    for part in ("family-wise p", "held-out error", "months", "held-out", "control was not run", "turns"):
        assert part in text
    assert verdict.word in WORDS and str(verdict) == "circular"


def test_templates_that_do_not_agree_are_noise(circle: ValueEvidence) -> None:
    assert changed(circle, signal_p=0.4).word == "noise"


@pytest.mark.parametrize(
    ("order_p", "flatness", "word"),
    [(0.5, 0.5, "token identity"), (0.01, 0.5, "open arc"), (0.01, 0.02, "magnitude")],
)
def test_without_a_harmonic_it_depends_on_order(
    circle: ValueEvidence, order_p: float, flatness: float, word: str
) -> None:
    assert changed(circle, p_value=0.3, order_p=order_p, flatness=flatness).word == word


def test_a_harmonic_that_templates_do_not_share_is_not_believed(circle: ValueEvidence) -> None:
    verdict = changed(circle, harmonic_p=0.2, order_p=0.5)
    assert verdict.word == "token identity" and "templates do not agree on it" in verdict.reasons[0]


def test_an_open_curve_is_never_circular(circle: ValueEvidence) -> None:
    verdict = verdict_value(dataclasses.replace(opened(circle), flatness=0.4))
    assert verdict.word == "open arc" and "the ends lie apart" in verdict.reasons
    assert changed(opened(circle), flatness=0.01).word == "magnitude"


def test_a_circle_at_one_hook_point_among_open_curves_is_chance(circle: ValueEvidence) -> None:
    best, beside = circle.sites[0], opened(circle).sites[0]
    assert beside.closure is not None
    far = (dataclasses.replace(beside, p_value=0.5),) * 6
    alone = changed(circle, sites=(beside, best, beside, *far), best=1, flatness=0.4)
    assert alone.word == "open arc" and "alone" in alone.reasons[-1]
    weak = dataclasses.replace(beside, p_value=0.5)
    assert changed(circle, sites=(weak, best, weak, *far), best=1).word == "circular"
    assert changed(circle, sites=(beside, best, best, *far), best=1).word == "circular"
    assert changed(circle, sites=(beside, best, beside), best=1).word == "circular"


def test_a_plane_that_reads_random_labels_as_well_takes_it_back(circle: ValueEvidence) -> None:
    site = circle.sites[0]
    assert site.probe is not None
    lucky = dataclasses.replace(site, probe=dataclasses.replace(site.probe, p_value=0.3))
    verdict = changed(circle, sites=(lucky,))
    assert verdict.word == "token identity" and "permuted labels predicts" in " ".join(verdict.reasons)


def test_a_control_as_good_as_the_model_takes_it_back(circle: ValueEvidence) -> None:
    same = ControlEvidence(score=0.9, p_value=0.005, ratio=0.95, lower=False)
    verdict = changed(circle, control=same)
    assert verdict.word == "token identity" and "95%" in " ".join(verdict.reasons)


def test_nothing_measured_is_not_testable(circle: ValueEvidence) -> None:
    assert changed(circle, untestable="too few values").reasons == ("too few values",)
    assert changed(circle, sites=()).word == "not testable"


def test_a_missing_sign_flip_test_is_said(circle: ValueEvidence) -> None:
    verdict = changed(circle, signal_p=math.nan, harmonic_p=math.nan)
    assert verdict.word == "circular" and "templates are too few" in " ".join(verdict.reasons)
