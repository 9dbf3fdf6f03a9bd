"""A study finds use where there is use, clears a circle that nothing reads, and tests nothing that a model
cannot do."""

import json
import re
from dataclasses import replace
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from mechfourier.causal.study import Candidate, StudyResult, choose, study
from mechfourier.causal.usage import usage_verdict
from mechfourier.errors import OutOfRange
from mechfourier.fourier.analytic import analytic_weights
from mechfourier.hooks.run import has_hooks
from mechfourier.models.registry import load
from mechfourier.toys.one_layer.model import OneLayerConfig, OneLayerTransformer

P, KEYS, PLANTED = 13, (2, 3), 5
SIZES: dict[str, Any] = dict(d_model=32, n_heads=4, d_head=8, d_mlp=64)
UNREAD = (30, 31)  # dimensions of the residual stream that no weight reads or writes


def clock(planted: float = 0.0) -> OneLayerTransformer:
    """A model mod 13 in closed form; ``planted`` is the radius of one more circle in its embedding, which
    nothing reads."""
    weights = {k: v.float() for k, v in analytic_weights(P, frequencies=KEYS, **SIZES).items()}
    angle = 2 * torch.pi * PLANTED / P * torch.arange(P)
    assert not any(bool(weights[f"blocks.0.attn.W_{n}"][:, UNREAD, :].any()) for n in "QKV")
    assert not weights["blocks.0.mlp.W_in"][UNREAD, :].any() and not weights["unembed.W_U"][UNREAD, :].any()
    weights["embed.W_E"][:P, UNREAD] = planted * torch.stack([angle.cos(), angle.sin()], 1)
    model = OneLayerTransformer(OneLayerConfig(p=P, **SIZES), weights=weights)
    model.mechfourier_name = "planted"
    return model


@pytest.fixture(scope="module")
def read_circle() -> StudyResult:
    return study(clock(), "mod-13", site="hook_embed", n_permutations=99, n_prompts=65)


@pytest.fixture(scope="module")
def unread_circle() -> StudyResult:
    return study(clock(planted=6.0), "mod-13", site="hook_embed", n_permutations=99, n_prompts=65)


def test_a_circle_that_is_read_is_used(read_circle: StudyResult) -> None:
    assert read_circle.used == "used" and set(read_circle.ks) == set(KEYS)
    assert read_circle.rotation is not None and read_circle.rotation.exact_share == 1.0
    assert read_circle.rotation.p_value is not None and read_circle.rotation.p_value < 0.005
    assert read_circle.ablation is not None and read_circle.ablation.n_controls >= 200
    assert read_circle.patch is not None and read_circle.patch.success == 1.0
    assert read_circle.probe.used == "used"


def test_a_circle_that_nothing_reads_is_not_used(unread_circle: StudyResult) -> None:
    """It holds nearly all of the embedding's power, and the model does its task without it."""
    assert unread_circle.accuracy == 1.0
    assert unread_circle.ks == (PLANTED,)
    assert unread_circle.candidates[0].power_share > 0.9
    assert unread_circle.used == "not used"
    assert unread_circle.rotation is not None and unread_circle.rotation.exact_share == 0.0
    assert unread_circle.ablation is not None and unread_circle.ablation.logit_diff_change == pytest.approx(
        0, abs=1e-3
    )


def test_asked_for_the_harmonics_it_reads_the_planted_model_is_used() -> None:
    result = study(clock(planted=6.0), "mod-13", site="hook_embed", ks=KEYS, n_permutations=99, n_prompts=39)
    assert result.used == "used"


def test_a_model_at_chance_is_judged_by_its_own_answers() -> None:
    """Turns need no right answers; an ablation, which is judged by them, is not run."""
    random = OneLayerTransformer(OneLayerConfig(p=P, **SIZES), seed=1)
    result = study(random, "mod-13", n_permutations=99, n_prompts=39)
    assert result.used == "not used" and result.rotation is not None and result.ablation is None
    assert any("at chance" in reason for reason in result.reasons)
    assert set(result.frame()["intervention"]) == {"rotate", "patch"} and not has_hooks(random)


def test_a_model_that_reads_a_circle_and_answers_wrongly_uses_it() -> None:
    """Its answers are those of the clock, all five too high: none is right, and each turns with the circle."""
    model = clock()
    model.unembed.W_U.data = model.unembed.W_U.data.roll(5, 1)
    result = study(model, "mod-13", site="hook_embed", n_permutations=99, n_prompts=39)
    assert result.accuracy == 0.0 and result.used == "used"
    assert result.share is not None and result.share.value == 1.0 and result.ablation is None


def test_the_calendar_uses_its_months() -> None:
    result = study(load("calendar"), "months", n_permutations=99, n_prompts=48, text=())
    # the contest hears an open curve, March and April apart; the model turns with it all the same
    assert result.used == "used" and result.verdict in ("circular", "open curve")
    assert result.rotation is not None and result.rotation.p_value is not None
    assert result.rotation.p_value < 0.005
    assert result.rotation.exact_share > 0.5 > 5 * (result.rotation.random_share or 0.0)


@pytest.mark.slow
def test_the_grokked_model_uses_its_circles() -> None:
    result = study(load("one-layer"), "mod-113", n_prompts=1130, n_permutations=99)
    assert result.used == "used"
    assert result.rotation is not None and result.rotation.exact_share >= 0.9
    assert result.ablation is not None and result.ablation.p_controls is not None
    assert result.ablation.p_controls < 0.005


def test_the_rule(read_circle: StudyResult) -> None:
    """Either test is enough, each only beyond its controls and by as much as the rule asks."""
    turn, ablation = read_circle.rotation, read_circle.ablation
    assert turn is not None and ablation is not None
    matched = replace(ablation, p_controls=0.004, control_variance_ratio=1.0, logit_diff_ci=(-2.0, -1.0))
    harmless = replace(matched, p_controls=0.2)
    weak = replace(turn, directed_p=0.3)
    assert usage_verdict(harmless, turn)[0] == "used"
    assert usage_verdict(harmless, weak)[0] == usage_verdict(None, weak)[0] == "not used"
    assert usage_verdict(None, replace(turn, directed_ci=(0.01, 0.3)))[0] == "used"  # a little is enough
    assert usage_verdict(None, replace(turn, directed_ci=(-0.01, 0.3)))[0] == "not used"
    assert usage_verdict(matched, weak)[0] == "used"
    assert "not shown to be used as a circle" in usage_verdict(matched, weak)[1][-1]
    assert usage_verdict(replace(matched, control_variance_ratio=0.01), weak)[0] == "not used"
    assert usage_verdict(replace(matched, logit_diff_ci=(-2.0, 0.1)), weak)[0] == "not used"


def test_the_earliest_of_the_good_places_is_taken() -> None:
    def place(site: str, power: float, moved: float) -> Candidate:
        return Candidate(site, "value", (1,), power, moved)

    good = [place("a", 0.2, 0.1), place("b", 0.2, 0.85), place("c", 0.9, 1.0)]
    assert choose(good, 12).site == "b"
    assert choose([place("a", 0.2, 0.1), place("b", 0.7, 0.0)], 12).site == "b"
    last = replace(place("c", 0.9, 1.0), position="last")
    assert choose([*good[:2], last], 12).site == "b"  # the value's token first, where anything turns there
    assert choose([place("a", 0.2, 0.0), last], 12).site == "c"


def test_a_study_survives_json_and_writes_one_page(read_circle: StudyResult, tmp_path: Any) -> None:
    from mechfourier.figures.report import write_result

    value = json.loads(read_circle.to_json())
    assert value["used"] == "used" and {"exact_share", "random_share"} <= set(value["rotation"])
    assert StudyResult.from_json(read_circle.to_json()).to_json() == read_circle.to_json()
    page = write_result(read_circle, tmp_path).read_text()
    assert value["share"] == {"value": 1.0, "low": value["share"]["low"], "high": 1.0, "reason": None}
    assert {"name", "moved", "low", "high"} <= set(value["ladder"][0]) and value["task"] == "arithmetic"
    for words in ("How much", "Rotation", "Causal arms", "Ablation", "Places looked at", "Harmonic spectrum"):
        assert words in page
    assert re.findall(r'src="([^"]+)"', page) == [path.name for path in tmp_path.glob("plotly-*.packed.js")]


def test_too_few_controls_are_refused() -> None:
    with pytest.raises(OutOfRange, match="199"):
        study(clock(), "mod-13", n_controls=50)


def test_hooks_are_gone_after_an_interruption(monkeypatch: pytest.MonkeyPatch) -> None:
    model = clock()
    monkeypatch.setattr("mechfourier.causal.study.rotation", _interrupt)
    with pytest.raises(KeyboardInterrupt):
        study(model, "mod-13", site="hook_embed", n_permutations=99, n_prompts=26)
    assert not has_hooks(model)


def _interrupt(*_: Any, **__: Any) -> Any:
    raise KeyboardInterrupt


def test_the_command_says_both_words(tmp_path: Any) -> None:
    from mechfourier.cli.app import app

    arguments = [
        "study",
        "calendar",
        "--domain",
        "days",
        "--site",
        "hook_embed",
        "--permutations",
        "99",
        "--no-cache",
    ]
    done = CliRunner().invoke(app, [*arguments, "--json", "--out", str(tmp_path)], catch_exceptions=False)
    value = json.loads(done.stdout)
    assert value["used"] == "used" and value["rotation"]["exact_share"] > value["rotation"]["random_share"]
    assert len(list(tmp_path.glob("study-calendar-days-*.html"))) == 1


def test_what_chose_the_place_tests_nothing_and_nothing_is_computed_twice(
    read_circle: StudyResult, monkeypatch: pytest.MonkeyPatch
) -> None:
    """65 prompts, 16 of which chose; every prompt of the grid is scored once, and captured once for all
    tests."""
    from mechfourier.causal.experiment import Measured
    from mechfourier.causal.task import AnswerTask

    parts = (read_circle.ablation, read_circle.rotation, read_circle.patch, read_circle.arms)
    assert [part.n_prompts for part in parts if part is not None] == [49] * 4
    scored: list[int] = []
    captured: list[tuple[Any, ...]] = []
    score, vectors = AnswerTask.score, Measured.vectors

    def counted(self: AnswerTask, model: Any) -> Any:
        if not has_hooks(model):
            scored.extend(self.rows.tolist())
        return score(self, model)

    def seen(self: Measured, sites: Any, positions: Any, rows: Any) -> Any:
        captured.append((len(sites), len(positions)))
        return vectors(self, sites, positions, rows)

    monkeypatch.setattr(AnswerTask, "score", counted)
    monkeypatch.setattr(Measured, "vectors", seen)
    again = study(clock(), "mod-13", site="hook_embed", n_permutations=99, n_prompts=65)
    assert again.to_json() == read_circle.to_json()
    assert len(scored) == len(set(scored))


def test_every_part_says_what_was_read_where(read_circle: StudyResult) -> None:
    for part in (read_circle.ablation, read_circle.rotation, read_circle.patch, read_circle.arms):
        assert part is not None and part.tokens is not None
        assert len(part.tokens.templates) == 1
    assert read_circle.rotation is not None and read_circle.rotation.tokens is not None
    row = read_circle.rotation.tokens.templates[0]
    assert row.read == 0
