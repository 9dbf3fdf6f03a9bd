"""Ablations find what a planted model uses and clear what it does not; bad calls are one sentence."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from day_models import NOISE, RESID, UNREAD, USED, planted_circle, small_calendar
from extras import needs_minilm

from mechfourier.causal.ablate import AblationResult, ablate
from mechfourier.causal.edits import Ablations
from mechfourier.causal.experiment import Experiment
from mechfourier.causal.task import task_of
from mechfourier.causal.text import packaged_text, text_effect, text_for
from mechfourier.domains.definition import domain
from mechfourier.errors import InterventionChangedNothing, OutOfRange, UnknownSite, UsageError
from mechfourier.hooks.interventions import intervene, zero
from mechfourier.hooks.run import has_hooks
from mechfourier.hooks.site import Site


@pytest.fixture(scope="module")
def planted() -> Any:
    return planted_circle()


@pytest.fixture(scope="module")
def small() -> Any:
    return small_calendar()


def test_a_used_circle_is_found(planted: Any) -> None:
    found = ablate(planted, domain("days"), site=RESID, dims=USED, text=())
    assert found.base.accuracy == 1.0
    assert found.ablated.accuracy <= 2 / 7
    assert found.logit_diff_ci[1] < -5.0
    assert found.mcnemar_p < 1e-6
    assert found.became_right == 0
    assert (found.n_controls, found.p_controls) == (200, 1 / 201)
    assert not any("chance" in note for note in found.notes)


def test_controls_may_run_on_a_part_of_the_prompts(planted: Any) -> None:
    options: dict[str, Any] = {"site": RESID, "dims": USED, "text": ()}
    part = ablate(planted, domain("days"), n_control_prompts=14, **options)
    whole = ablate(planted, domain("days"), **options)
    assert (part.n_control_prompts, whole.n_control_prompts) == (14, 49)
    assert part.p_controls == whole.p_controls == 1 / 201
    assert part.logit_diff_change == whole.logit_diff_change
    assert any("14 of the 49 prompts" in note for note in part.notes)


def test_an_unread_circle_is_not_used(planted: Any) -> None:
    found = ablate(planted, domain("days"), site=RESID, dims=UNREAD, text=())
    assert found.ablated.accuracy == 1.0
    assert found.logit_diff_change == pytest.approx(0.0, abs=1e-5)
    assert found.mcnemar_p == 1.0
    assert found.p_controls is not None
    assert found.p_controls > 0.05


def test_a_subspace_is_its_dimensions(planted: Any) -> None:
    turn = torch.tensor([[0.6, -0.8], [0.8, 0.6]])
    plane = torch.zeros(4 + NOISE, 2)
    plane[:2] = 3.0 * turn  # any basis of the plane, of any length
    options: dict[str, Any] = {"site": RESID, "mode": "zero", "text": (), "controls": 200}
    by_plane = ablate(planted, domain("days"), plane=plane, **options)
    by_dims = ablate(planted, domain("days"), dims=USED, **options)
    assert by_plane.dims is None
    assert by_plane.rank == 2
    assert by_plane.logit_diff_change == pytest.approx(by_dims.logit_diff_change, abs=1e-4)
    assert by_plane.p_controls == 1 / 201
    assert by_plane.n_control_dims == 0


def test_wrap_and_no_wrap_cells_are_told_apart(planted: Any) -> None:
    found = ablate(planted, domain("days"), site=RESID, dims=USED, n_controls=0, text=())
    design = domain("days").operation_design(1)
    wraps = design.wraps.double().mean()
    mixed = found.ablated.accuracy_wrap * wraps + found.ablated.accuracy_no_wrap * (1 - wraps)  # type: ignore[operator]
    assert float(mixed) == pytest.approx(found.ablated.accuracy)


def test_a_model_at_chance_is_said_so(small: Any) -> None:
    found = ablate(
        small, domain("days"), site=RESID, dims=3, n_controls=20, text=packaged_and_known(small)[:5]
    )
    assert any("answers at chance" in note for note in found.notes)
    assert any("only 20 controls" in note for note in found.notes)


def packaged_and_known(model: Any) -> tuple[str, ...]:
    sentences, reason = text_for(model)
    assert reason is None
    return sentences


def test_zero_ablation_is_that_of_the_hook_layer(small: Any) -> None:
    found = ablate(small, domain("days"), site=RESID, dims=[3, 4], mode="zero", n_controls=0, text=())
    task = task_of(small, domain("days"))
    with zero(small, Site("resid_post", 0), dims=[3, 4]):
        scores = task.score(small)
    assert found.ablated.logit_diff == pytest.approx(scores.logit_diff, abs=1e-6)


def test_a_head_is_its_dimensions(small: Any) -> None:
    options: dict[str, Any] = {"site": "blocks.1.attn.hook_z", "controls": 0, "text": (), "samples": 14}
    by_head = ablate(small, domain("days"), head=1, **options)
    by_dims = ablate(small, domain("days"), dims=range(12, 24), **options)
    assert by_head.dims == by_dims.dims == tuple(range(12, 24))
    assert by_head.ablated == by_dims.ablated
    with pytest.raises(OutOfRange, match=r"head 2 of blocks.1.attn.hook_z; it has 2 \(0 to 1\)"):
        ablate(small, domain("days"), head=2, **options)
    with pytest.raises(UsageError, match="has no heads"):
        ablate(small, domain("days"), head=0, **{**options, "site": RESID})


def test_text_effects_are_those_of_the_two_models(small: Any) -> None:
    sentences = packaged_and_known(small)[:6]
    edit = Ablations(Site("resid_post", 1), "zero", torch.zeros(24), dims=torch.tensor([[1, 2, 3]])).single()
    found = text_effect(small, sentences, lambda: intervene(small, [edit]))
    from mechfourier.models.interface import encode

    ids = [e.ids for e in encode(small, sentences)]
    base = torch.cat(
        [-small(torch.tensor([i]))[0, :-1].log_softmax(-1)[range(len(i) - 1), i[1:]] for i in ids]
    )
    assert found.perplexity[0] == pytest.approx(float(base.mean().exp()), rel=1e-4)
    assert found.mean_kl > 0.0
    assert len(found.by_sentence(found.kl)) == 6
    low, high = found.kl_interval(seed=0)
    assert low <= found.mean_kl <= high
    nothing = Ablations(Site("resid_post", 1), "zero", torch.zeros(24), dims=torch.tensor([[1]]))
    same = text_effect(small, sentences, lambda: intervene(small, []))
    assert same.mean_kl == pytest.approx(0.0, abs=1e-6)
    assert nothing.width == 1


def test_the_packaged_text_is_sixty_different_sentences() -> None:
    assert len(set(packaged_text())) == len(packaged_text()) == 60


def test_results_make_the_round_trip_and_draw(small: Any) -> None:
    found = ablate(small, domain("days"), site=RESID, dims=3, n_controls=10, n_prompts=14)
    assert AblationResult.from_json(found.to_json()) == found
    value = json.loads(found.to_json())
    for key in (
        "model",
        "domain",
        "site",
        "dims",
        "mode",
        "p_controls",
        "mcnemar_p",
        "logit_diff_ci",
        "kl",
        "n_controls",
    ):
        assert key in value
    assert set(value["base"]) >= {"accuracy", "logit_diff", "perplexity"}
    assert value["base"]["perplexity"] > 1.0
    frame = found.frame().set_index("measure")
    assert frame.loc["accuracy", "ablated"] == found.ablated.accuracy
    assert len(found.plot().data[0].x) == 10
    assert "zero" not in str(found)
    assert found.n_prompts == 14


def test_a_model_without_text_says_why() -> None:
    from mechfourier.toys.one_layer.model import OneLayerConfig, OneLayerTransformer

    model = OneLayerTransformer(OneLayerConfig(p=11, d_model=16, n_heads=2, d_head=8, d_mlp=16))
    found = ablate(model, domain("mod-11"), site=RESID, dims=3, cycles=4)
    assert found.base.perplexity is None
    assert found.kl is None
    assert found.cycles == 1
    assert any("no perplexity" in note for note in found.notes)
    assert any("1 of the 4 cycles" in note for note in found.notes)


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"dims": 24}, OutOfRange, "dimension 24"),
        ({"dims": -1}, OutOfRange, "dimension -1"),
        ({"dims": []}, UsageError, "empty"),
        ({"dims": [1, 1]}, UsageError, "twice"),
        ({}, UsageError, "one of dims, head, plane or ks"),
        ({"dims": 1, "plane": torch.ones(24)}, UsageError, "one of dims, head, plane or ks"),
        ({"plane": torch.zeros(24)}, UsageError, "zero"),
        ({"plane": torch.ones(23)}, OutOfRange, "24 dimensions"),
        ({"dims": 1, "mode": "average"}, UsageError, "mode 'average'"),
        ({"dims": 1, "position": "first"}, UsageError, "position 'first'"),
        ({"dims": 1, "n_prompts": 50}, OutOfRange, "samples is 50"),
        ({"dims": 1, "n_controls": -1}, OutOfRange, "n_controls is -1"),
        ({"dims": 1, "site": "blocks.3.hook_resid_post"}, OutOfRange, "3"),
        ({"dims": 1, "site": "blocks.0.hook_resid_pots"}, UnknownSite, "resid_post"),
    ],
)
def test_bad_input_is_one_sentence(
    small: Any, options: dict[str, Any], error: type[Exception], says: str
) -> None:
    with pytest.raises(error, match=says):
        ablate(small, domain("days"), **{"site": RESID, **options})
    assert not has_hooks(small)


def test_an_ablation_that_changes_nothing_is_an_error(planted: Any) -> None:
    with torch.no_grad():
        kept = planted.noise[:, 0].clone()
        planted.noise[:, 0] = 0.0
    try:
        with pytest.raises(InterventionChangedNothing):
            ablate(planted, domain("days"), site=RESID, dims=4, mode="zero", n_controls=0, text=())
    finally:
        with torch.no_grad():
            planted.noise[:, 0] = kept


def test_an_interrupted_ablation_leaves_no_hook(small: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from mechfourier.causal import prefix_sharing

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(prefix_sharing._Tree, "read", interrupt)
    with pytest.raises(KeyboardInterrupt):
        ablate(small, domain("days"), site=RESID, dims=3, text=())
    assert not has_hooks(small)


def test_a_sentence_encoder_is_judged_by_similarity() -> None:
    needs_minilm()
    from mechfourier.models.registry import load

    model = load("minilm")
    found = ablate(
        model, domain("days"), site="blocks.2.hook_resid_post", dims=range(192), n_controls=4, n_prompts=14
    )
    assert found.outcome == "similarity"
    assert found.base.accuracy > 0.9
    assert found.base.perplexity is None
    assert found.logit_diff_change < 0.0
    assert any("no logits" in note for note in found.notes)
    asked, at = Experiment.of(model, "days", n_prompts=21), Site("resid_post", 2)
    task, around = asked.task, asked.moments(at)
    several = Ablations(at, "mean", around.mean, dims=torch.tensor([[0, 1], [5, 9]]))
    together = asked.ablated(several, "controls")
    with intervene(model, [Ablations(at, "mean", around.mean, dims=torch.tensor([[5, 9]])).single()]):
        torch.testing.assert_close(together[1], task.score(model).scores, atol=1e-5, rtol=1e-4)


def test_the_calendar_model_uses_its_circle_of_months() -> None:
    """The k = 1 plane of the mean token activations: without it the months are gone, and no control does
    that."""
    from mechfourier.domains.design import read_positions
    from mechfourier.hooks.capture import capture
    from mechfourier.models.interface import encode
    from mechfourier.models.registry import load

    model, months = load("calendar"), domain("months")
    design = months.value_design()
    encodings = encode(model, design.prompts)
    found = capture(model, encodings, ["blocks.0.hook_resid_pre"], read_positions(design, encodings))
    means = found["blocks.0.hook_resid_pre"].reshape(*design.shape, -1).mean(dim=1)
    first = torch.fft.rfft(means.double(), dim=0)[1]
    plane = torch.stack([first.real, first.imag], dim=1).float()
    result = ablate(model, months, site="blocks.0.hook_resid_pre", plane=plane, n_prompts=48)
    assert result.base.accuracy > 0.95
    assert result.ablated.accuracy < 0.5
    assert result.p_controls is not None
    assert result.p_controls < 0.005
    assert result.specificity is not None
    assert result.specificity > 1.0


def test_the_command_refuses_before_it_loads(tmp_path: Path) -> None:
    from typer.testing import CliRunner

    from mechfourier.cli.app import app

    for arguments, says in (
        (["ablate", "calendar", "--layer", "0"], "name one thing to ablate"),
        (["ablate", "calendar", "--dim", "8"], "name the layer"),
        (["ablate", "calendar", "--layer", "0", "--dim", "x"], "no list of dimensions"),
        (
            ["ablate", "calendar", "--layer", "0", "--dim", "1", "--text", str(tmp_path / "no.txt")],
            "cannot read",
        ),
    ):
        result = CliRunner().invoke(app, arguments)
        assert isinstance(result.exception, UsageError)
        assert says in str(result.exception)


def test_both_engines_give_the_same_ablation() -> None:
    from mechfourier.models.registry import load

    options: dict[str, Any] = {
        "site": "blocks.1.hook_resid_post",
        "dims": range(20),
        "controls": 10,
        "samples": 14,
    }
    hooked, bridge = (
        ablate(load("calendar", engine=engine), domain("days"), **options) for engine in ("hooked", "bridge")
    )
    assert hooked.logit_diff_change < -1.0
    assert bridge.logit_diff_change == pytest.approx(hooked.logit_diff_change, abs=1e-4)
    assert bridge.control_changes == pytest.approx(hooked.control_changes, abs=1e-4)
    assert bridge.kl == pytest.approx(hooked.kl, abs=1e-5)
