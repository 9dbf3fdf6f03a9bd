"""Sweeps give what single ablations give, find the one unit that matters, and keep the family-wise error."""

import json
from typing import Any

import pytest
import torch
from day_models import small_calendar
from typer.testing import CliRunner

from mechfourier.causal.ablate import ablate
from mechfourier.causal.edits import Ablations
from mechfourier.causal.experiment import Experiment
from mechfourier.causal.readout import readout, through_readout
from mechfourier.causal.sweep import SweepResult, flip_p_values, sweep_ablate, through_model
from mechfourier.causal.task import AnswerTask
from mechfourier.causal.text import text_effect, text_for
from mechfourier.domains.definition import domain
from mechfourier.errors import InterventionChangedNothing, OutOfRange, UnknownSite, UsageError
from mechfourier.hooks.interventions import intervene
from mechfourier.hooks.run import has_hooks
from mechfourier.hooks.site import Site

P = 11


@pytest.fixture(scope="module")
def toy() -> Any:
    """A one-layer transformer with random weights and biases."""
    from mechfourier.toys.one_layer.model import OneLayerConfig, OneLayerTransformer

    config = OneLayerConfig(p=P, d_model=16, n_heads=2, d_mlp=24, biases=True)
    return OneLayerTransformer(config, seed=3)


@pytest.fixture(scope="module")
def lone() -> Any:
    """The same with one live neuron, number 5."""
    from mechfourier.toys.one_layer.model import OneLayerConfig, OneLayerTransformer

    model = OneLayerTransformer(OneLayerConfig(p=P, d_model=16, n_heads=2, d_mlp=24), seed=4)
    with torch.no_grad():
        W_out = model.get_parameter("blocks.0.mlp.W_out")
        W_out[torch.arange(24) != 5] = 0.0
    return model


@pytest.fixture(scope="module")
def small() -> Any:
    return small_calendar(n_layers=2, d_head=8, d_mlp=20)


@pytest.mark.parametrize("mode", ["mean", "zero"])
@pytest.mark.parametrize("kind", ["mlp_post", "mlp_out", "resid_post"])
def test_the_read_out_is_the_model(toy: Any, mode: Any, kind: str) -> None:
    asked, site = Experiment.of(toy, f"mod-{P}"), Site(kind, 0)
    task, mean = asked.task, asked.moments(site).mean
    every = Ablations(site, mode, mean, dims=torch.arange(len(mean))[:, None])
    matrix, base = readout(toy, task, site), task.score(toy)
    assert matrix is not None
    assert isinstance(task, AnswerTask)
    drops, accuracy = through_readout(toy, task, base, every, matrix)
    by_model, accuracy_by_model = through_model(asked, every)
    torch.testing.assert_close(drops, by_model, atol=2e-5, rtol=1e-4)
    torch.testing.assert_close(accuracy, accuracy_by_model, atol=1.5 / P**2, rtol=0)


def test_units_are_what_single_ablations_find(toy: Any, small: Any) -> None:
    swept = sweep_ablate(toy, f"mod-{P}", sites="mlp_post")
    one = ablate(toy, domain(f"mod-{P}"), site="blocks.0.mlp.hook_post", dims=7, n_controls=0, text=())
    assert (swept.unit, swept.method, swept.n_units) == ("neuron", "read-out", 24)
    assert swept.effects[0][7] == pytest.approx(-one.logit_diff_change, abs=1e-5)
    assert swept.accuracies[0][7] == pytest.approx(one.ablated.accuracy, abs=1.5 / P**2)
    heads = sweep_ablate(small, "days", sites="z", n_permutations=50)
    assert (heads.unit, heads.method) == ("head", "forward passes")
    assert [len(row) for row in heads.effects] == [2, 2]
    one = ablate(small, domain("days"), site="blocks.1.attn.hook_z", dims=range(8, 16), n_controls=0, text=())
    assert heads.effects[1][1] == pytest.approx(-one.logit_diff_change, abs=1e-5)
    assert heads.accuracies[1][1] == pytest.approx(one.ablated.accuracy)
    last = sweep_ablate(
        small, "days", sites="resid_post", layers=1, position="last", n_prompts=14, n_permutations=50
    )
    one = ablate(
        small,
        domain("days"),
        site="blocks.1.hook_resid_post",
        dims=3,
        position="last",
        n_prompts=14,
        n_controls=0,
        text=(),
    )
    assert last.effects[0][3] == pytest.approx(-one.logit_diff_change, abs=1e-5)
    assert any("chance" in note for note in last.notes)
    assert not has_hooks(small)
    assert not has_hooks(toy)


def test_the_specific_effect_is_that_of_single_ablations(small: Any) -> None:
    sentences, reason = text_for(small)
    assert reason is None
    swept = sweep_ablate(small, "days", sites="mlp_out", layers=0, n_permutations=50, text=sentences[:6])
    assert swept.specific is not None
    site = Site("mlp_out", 0)
    asked = Experiment.of(small, "days")
    base, around = asked.baseline.margin, asked.moments(site)
    for unit in (0, 9):
        edit = Ablations(site, "mean", around.mean, dims=torch.tensor([[unit]])).single()
        alone = text_effect(small, sentences[:6], lambda edit=edit: intervene(small, [edit]))
        expected = swept.effects[0][unit] / float(base.double().std()) - alone.effect
        assert swept.specific[0][unit] == pytest.approx(expected, abs=1e-4)
    assert swept.frame()["specific"].is_monotonic_decreasing
    assert not has_hooks(small)


def test_text_that_would_take_hours_is_left_out_and_said(small: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from mechfourier.causal import text

    monkeypatch.setattr(text, "TEXT_LIMIT", 1e6)
    swept = sweep_ablate(small, "days", sites="mlp_out", layers=0, n_permutations=50)
    assert swept.specific is None
    assert any("no specific effect" in note for note in swept.notes)


def test_the_one_neuron_that_writes_is_found(lone: Any) -> None:
    found = sweep_ablate(lone, f"mod-{P}", sites="mlp_post")
    assert abs(found.effects[0][5]) > 0
    assert [u for u, e in enumerate(found.effects[0]) if abs(e) > 1e-6] == [5]
    assert all(p == 1.0 for u, p in enumerate(found.p_values[0]) if u != 5)
    frame, again = found.frame(), SweepResult.from_json(found.to_json())
    assert frame["effect"].is_monotonic_decreasing
    assert again == found
    assert list(found.plot().data[0].z[0]) == list(found.effects[0])
    assert "neuron" in str(found)


def test_family_wise_error() -> None:
    generator = torch.Generator().manual_seed(0)
    wrong = 0
    for seed in range(200):
        noise = torch.randn(40, 30, generator=generator) * torch.logspace(-2, 2, 40)[:, None]
        wrong += bool((flip_p_values(noise, flips=99, seed=seed) <= 0.05).any())
    assert wrong <= 20  # 10 expected, P(more than 20) = 0.001
    planted = torch.randn(40, 30, generator=generator)
    planted[9] += 2.0
    planted[3] = 0.0
    p = flip_p_values(planted, flips=999, seed=0)
    assert p[9] == 1 / 1000
    assert p[3] == 1.0
    assert (p > 0.05).sum() >= 38


def test_bad_calls_say_what_is_wrong(toy: Any, small: Any) -> None:
    days = domain("days")
    with pytest.raises(UsageError, match="no neurons"):
        sweep_ablate(small, days, sites="resid_post", unit="neuron")
    with pytest.raises(UsageError, match="no heads"):
        sweep_ablate(small, days, sites="mlp_post", unit="head")
    with pytest.raises(UsageError, match="closest: neuron"):
        sweep_ablate(small, days, unit="neurn")
    with pytest.raises(OutOfRange, match="layers 0-1"):
        sweep_ablate(small, days, layers="0-4")
    with pytest.raises(UnknownSite, match="mlp_post"):
        sweep_ablate(small, days, sites="mlp_pst")
    with pytest.raises(UsageError, match="closest: mean"):
        sweep_ablate(small, days, mode="men")
    with pytest.raises(UsageError, match="one at a time"):
        sweep_ablate(small, days, sites=["resid_post", "z"])
    with pytest.raises(OutOfRange, match="n_permutations"):
        sweep_ablate(small, days, n_permutations=0)
    with pytest.raises(InterventionChangedNothing, match="ever varies"):
        sweep_ablate(toy, f"mod-{P}", sites="hook_pos_embed", position="last", n_prompts=11)


def test_the_command(tmp_path: Any) -> None:
    from mechfourier.cli.app import app

    options = ["sweep-ablate", "one-layer", "--domain", "mod-113", "--site", "mlp_post", "--samples", "300"]
    options += ["--flips", "99", "--out", str(tmp_path)]
    shown = CliRunner().invoke(app, options)
    assert shown.exit_code == 0, shown.output
    assert "512 neurons" in shown.output
    printed = json.loads(CliRunner().invoke(app, [*options, "--json"]).stdout)
    assert printed["method"] == "read-out"
    assert len(printed["effects"][0]) == 512
    assert len(list(tmp_path.glob("sweep-ablate-*.html"))) == 1
