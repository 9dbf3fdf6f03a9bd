"""Words and verdicts of a value domain: what changes them, what must not, and what they say."""

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
import torch
from value_arrays import plane, planted

from mechfourier.probes.result import places
from mechfourier.stats.shapes import Headline
from mechfourier.stats.shapes.catalogue import SHAPES
from mechfourier.stats.shapes.words import WORDS as SHAPE_WORDS
from mechfourier.stats.value import ValueEvidence, analyse_value
from mechfourier.stats.verdict import WORDS, Verdict, verdict_value
from mechfourier.stats.words import SiteWord, best_site, headline_of, shapes_of, taking_part

QUICK: dict[str, Any] = {"permutations": 99, "bootstrap": 60, "dimensions": False}


@pytest.fixture(scope="module")
def circle() -> ValueEvidence:
    names = [f"month {v}" for v in range(12)]
    return analyse_value(planted("circle"), **QUICK, unit="months", values=names)


def changed(evidence: ValueEvidence, **fields: Any) -> Verdict:
    return verdict_value(dataclasses.replace(evidence, **fields))


def test_a_circle_says_why(circle: ValueEvidence) -> None:
    verdict = verdict_value(circle)
    assert (verdict.word, verdict.used, verdict.span) == ("circular", "not tested", (0, 0))
    text = " ".join(verdict.reasons)
    for part in (
        "family-wise p",
        "held-out error",
        "months",
        "left-out values",
        "control was not run",
        "aspect",
        "largest p",
    ):
        assert part in text, part
    assert verdict.word in WORDS and str(verdict) == "circular"


def test_an_open_curve_names_its_ends_and_its_gap() -> None:
    names = [f"month {v}" for v in range(12)]
    acts = planted("arc 270", seed=1).roll(5, 1)
    verdict = verdict_value(analyse_value(acts, **QUICK, values=names))
    assert verdict.word == "open curve"
    assert any("its ends, month 4 and month 5, are" in reason for reason in verdict.reasons)


def changes(acts: torch.Tensor) -> dict[str, torch.Tensor]:
    """What is no property of a cycle of values."""
    draw = torch.Generator().manual_seed(5)
    _, _, templates, d = acts.shape
    return {
        "begun elsewhere": acts.roll(4, 1),
        "reversed": acts.flip(1),
        "rotated": acts @ plane(d, draw, d).float(),
        "scaled": 3000 * acts,
        "templates in another order": acts[:, :, torch.randperm(templates, generator=draw)],
        "every site twice": acts.repeat_interleave(2, 0),
        "float64": acts.double(),
    }


@pytest.mark.parametrize(
    ("name", "snr"),
    [
        ("circle", 0.15),
        ("circle k=2", 1.0),
        ("arc 270", 0.15),
        ("ramp", 1.0),
        ("identity", 1.0),
        ("walk", 0.3),
    ],
)
def test_nothing_that_is_no_shape_changes_a_word(name: str, snr: float) -> None:
    acts = planted(name, snr=snr, seed=3)
    control = planted("identity", seed=4)
    first = analyse_value(acts, control=control, **QUICK)
    for what, other in changes(acts).items():
        found = analyse_value(other, control=changes(control)[what], **QUICK)
        words = [site.word for site in found.sites]
        expected = [site.word for site in first.sites]
        assert words == (
            sorted(expected * 2, key=expected.index) if what == "every site twice" else expected
        ), what
        assert verdict_value(found).word == verdict_value(first).word, what


def test_a_site_alone_has_the_word_it_has_among_others() -> None:
    acts = torch.cat([planted("circle", layers=3, seed=1), planted("arc 180", layers=3, seed=2)])
    together = analyse_value(acts, **QUICK)
    alone = [analyse_value(acts[i : i + 1], **QUICK).sites[0].word for i in range(6)]
    assert [site.word for site in together.sites] == alone


def test_templates_that_do_not_agree_are_noise_however_smooth_it_is() -> None:
    words = [
        verdict_value(analyse_value(planted("walk per template", layers=3, seed=s), **QUICK)).word
        for s in range(12)
    ]
    assert words.count("noise") >= 10


def test_nothing_measured_is_not_testable(circle: ValueEvidence) -> None:
    assert changed(circle, untestable="too few values").reasons == ("too few values",)
    assert changed(circle, sites=()).word == "not testable"


def test_a_missing_sign_flip_test_is_said(circle: ValueEvidence) -> None:
    verdict = changed(circle, signal_p=math.nan, harmonic_p=math.nan)
    assert verdict.word == "circular" and ", too few to tell" in " ".join(verdict.reasons)


def test_every_word_of_the_contest_has_its_shapes() -> None:
    for word in set(SHAPE_WORDS.values()) - {"values distinguishable"}:
        assert shapes_of(word), word
    closed = {shape.name for shape in SHAPES if shape.closed}
    assert set(shapes_of("circular")) == closed == set(shapes_of("flattened circle"))
    assert set(shapes_of("undecided: circle or open curve")) == closed | {
        name for name, word in SHAPE_WORDS.items() if word == "open curve"
    }
    assert (
        shapes_of("undecided: circle or no order")
        and not shapes_of("noise")
        and not shapes_of("values distinguishable")
    )


def test_the_headline_is_where_its_word_is() -> None:
    words = ["noise", "open curve", "circular", "undecided: circle or open curve", "circular", "open curve"]
    assert headline_of(words) == Headline("circular", 2, 4)
    sites = [f"blocks.{i}.hook_resid_post" for i in range(6)]
    told = places(sites, words, "circular")
    assert told == (
        "at layers 2 and 4 of 6 (before: noise, open curve; between: undecided: circle or open curve; "
        "after: open curve)"
    )
    assert places(sites, ["circular"] * 6, "circular") == "at layers 0–5 of 6"
    assert places(sites[:1], ["circular"], "circular") == "at blocks.0.hook_resid_post"
    flicker = ["circular", "line"] * 4
    assert places([f"blocks.{i}.hook_resid_post" for i in range(8)], flicker, "circular").startswith(
        "at layers 0–6, 4 of those 7"
    )


def test_the_best_site_has_strong_neighbours() -> None:
    found = analyse_value(planted("circle", layers=5, snr=0.5, seed=2), **QUICK)
    contests = [site.contest for site in found.sites]
    sites = [SiteWord("circular", each) for each in contests]
    lucky = [
        dataclasses.replace(c, shapes=tuple(dataclasses.replace(s, evidence=e) for s in c.shapes))
        for c, e in zip((c for c in contests if c is not None), (0.9, 0.2, 0.7, 0.8, 0.5), strict=True)
    ]
    sites = [SiteWord("circular", each) for each in lucky]
    assert best_site(sites, [0.0] * 5) == 3
    assert best_site([SiteWord("values distinguishable", None)] * 3, [0.1, 0.3, 0.2]) == 1


def test_more_values_than_there_are_designs_for_are_thinned_evenly() -> None:
    assert taking_part(31).tolist() == list(range(31))
    assert taking_part(60).tolist() == list(range(0, 60, 2))
    steps = np.diff(np.r_[taking_part(113), 113])
    assert set(steps.tolist()) <= {3, 4}
    verdict = verdict_value(analyse_value(planted("circle", 60), **QUICK))
    assert verdict.word == "circular" and "30 evenly spaced values of the 60" in " ".join(verdict.reasons)
    arc = verdict_value(analyse_value(planted("arc 180", 60).roll(20, 1), **QUICK))
    assert arc.word == "open curve"
