"""Neurons that write a period: those of planted and of trained networks are found, taken out, and compared."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from clocks import clock_network
from extras import needs_minilm
from real_models import real_model
from test_causal_rotate import KEYS, P
from typer.testing import CliRunner

from mechfourier.causal.last_token import LastToken
from mechfourier.causal.neuron_ablation import period_lead
from mechfourier.causal.number_questions import number_questions
from mechfourier.causal.period_credit import WritingTask
from mechfourier.causal.period_neurons import period_neurons
from mechfourier.causal.period_result import PeriodNeurons, period_name
from mechfourier.domains.definition import domain
from mechfourier.errors import OutOfRange, UnknownDomain, UsageError
from mechfourier.figures.period_neurons import neurons_figure, writers_figure
from mechfourier.fourier.neurons import grid_of, neuron_spectrum
from mechfourier.hooks.capture import capture
from mechfourier.hooks.interventions import edit_zero, intervene
from mechfourier.hooks.run import has_hooks
from mechfourier.hooks.site import Site
from mechfourier.models.registry import load
from mechfourier.toys.one_layer.model import OneLayerConfig, OneLayerTransformer


@pytest.fixture(scope="module")
def clock() -> OneLayerTransformer:
    return clock_network(P, KEYS)


@pytest.fixture(scope="module")
def found(clock: Any) -> PeriodNeurons:
    return period_neurons(clock, f"mod-{P}", n_permutations=199)


@pytest.fixture(scope="module")
def hours() -> PeriodNeurons:
    return period_neurons(load("calendar"), "hours-12", n_permutations=199)


def _tuned(model: Any, n: int) -> torch.Tensor:
    """The frequency of every neuron over the whole (a, b) grid."""
    pairs = torch.cartesian_prod(torch.arange(n), torch.arange(n))
    tokens = torch.cat([pairs, torch.full((len(pairs), 1), n)], dim=1)
    acts = capture(model, tokens, [Site("mlp_post", 0)], "last")[Site("mlp_post", 0)]
    return neuron_spectrum(grid_of(acts, n)).frequency


def test_the_neurons_of_a_clocks_circles_write_their_periods_and_no_others(
    clock: Any, found: PeriodNeurons
) -> None:
    assert [each.period for each in found.periods] == [
        P / k for k in KEYS
    ]  # nothing else has a part of the lead
    frequency = _tuned(clock, P)
    for key, each in zip(KEYS, found.periods, strict=True):
        own = set((frequency == key).nonzero()[:, 0].tolist())
        significant = {neuron.index for neuron in each.neurons if neuron.p_value < 0.05}
        assert significant and significant <= own
        assert each.neurons_share == pytest.approx(1.0, abs=0.02)
        assert all(neuron.of_own == pytest.approx(1.0, abs=0.05) for neuron in each.neurons[:3])
    assert sum(each.share for each in found.periods) == pytest.approx(1.0, abs=0.02)


def test_without_these_neurons_their_period_falls_and_the_other_stays(found: PeriodNeurons) -> None:
    for each in found.periods:
        ablated = each.ablated
        assert ablated is not None and ablated.lead_kept is not None and ablated.rest_kept is not None
        assert ablated.n_neurons == each.n_significant and ablated.intact == 1.0
        assert ablated.lead_kept < 0.9 and ablated.rest_kept == pytest.approx(1.0, abs=0.05)
        assert ablated.n_controls == 20 and ablated.size_ratio == pytest.approx(1.0, abs=0.2)


def test_all_that_writes_adds_up_to_one_and_neurons_to_their_mlps(hours: PeriodNeurons) -> None:
    assert hours.sum_error < 1e-3 * hours.lead and hours.n_neurons == 768
    for each in hours.periods:
        shares = {writer.name: writer.share for writer in each.writers}
        assert set(shares) == {"MLPs", "attention", "embedding", "rest"}
        assert sum(share or 0.0 for share in shares.values()) == pytest.approx(1.0, abs=1e-6)
        assert each.neurons_share == pytest.approx(shares["MLPs"], abs=0.01)
        assert each.low < each.lead < each.high and each.share > each.even
        listed = [neuron.lead for neuron in each.neurons]
        assert listed == sorted(listed, reverse=True) and len(listed) >= 10


def test_both_engines_credit_the_same_neurons(hours: PeriodNeurons) -> None:
    bridge = period_neurons(load("calendar", engine="bridge"), "hours-12", n_permutations=199)
    assert bridge.lead == pytest.approx(hours.lead, abs=1e-3)
    for ours, theirs in zip(hours.periods, bridge.periods, strict=True):
        assert [(n.layer, n.index) for n in ours.neurons] == [(n.layer, n.index) for n in theirs.neurons]
        assert [n.share for n in ours.neurons] == pytest.approx([n.share for n in theirs.neurons], abs=1e-4)
        assert ours.ablated is not None and theirs.ablated is not None
        assert ours.ablated.lead_kept == pytest.approx(theirs.ablated.lead_kept, abs=1e-3)
        assert ours.ablated.random_right == theirs.ablated.random_right


@pytest.mark.parametrize("engine", ["hooked", "bridge"])
def test_passes_of_the_last_token_are_those_of_whole_prompts(engine: str) -> None:
    model = load("calendar", engine=engine)
    asked = number_questions(model, domain("hours-12"), None, 40, 40, 0)
    passes = LastToken(model, asked.asked)
    assert passes.before is not None
    edits = [edit_zero(Site("mlp_post", layer), dims=[3, 40, 7], positions=-1) for layer in (0, 1)]
    at = torch.tensor([len(e.ids) - 1 for e in asked.asked.encodings])
    for made in ([], edits):
        with intervene(model, made, must_change=False):
            whole = capture(model, asked.asked.encodings, [Site("embed")], at, logits=True).logits
        assert whole is not None
        assert torch.allclose(
            passes.logits(made).float(), whole[:, list(asked.asked.choices)], atol=1e-3, rtol=1e-4
        )
    assert not torch.allclose(passes.logits(edits), passes.logits(), atol=0.1)
    assert not has_hooks(model)


def test_the_part_of_a_neuron_is_what_its_ablation_takes_where_the_way_is_linear(clock: Any) -> None:
    """One layer without a norm: a neuron at its mean takes its own part of the lead, to the last digit."""
    task = WritingTask.of(clock, domain(f"mod-{P}"), None, None, 0)
    plane = task.plane(P / KEYS[0])
    credit = task.credited(P / KEYS[0], plane, 99, 0)
    passes = LastToken(clock, task.asked.asked)
    for unit in np.argsort(-credit.leads)[:3].tolist():
        from mechfourier.causal.neuron_ablation import Ablating

        edits = Ablating(clock, task.asked, task.neurons, 0)._edits([unit])
        after = period_lead(task.asked, passes.logits(edits), plane).mean()
        assert float(credit.prompts.mean() - after) == pytest.approx(float(credit.leads[unit]), abs=1e-4)


def test_another_task_uses_the_same_neurons_or_not() -> None:
    model = load("calendar")
    found = period_neurons(
        model, "hours-12", periods=[12, 6], against="hours-24", n_controls=0, n_permutations=199
    )
    assert found.against == "hours-24" and found.against_accuracy is not None
    assert any("compared with hours-24" in note for note in found.notes)
    for each in found.periods:
        assert each.shared is not None and each.ablated is None
        assert each.shared.first == each.n_significant
        assert each.shared.shared <= min(each.shared.first, each.shared.second)
        assert each.shared.low <= each.shared.correlation <= each.shared.high


def test_results_survive_json_fit_a_screen_and_are_drawn(hours: PeriodNeurons) -> None:
    assert PeriodNeurons.from_json(hours.to_json()) == hours
    said = [line for line in str(hours).splitlines() if not line.startswith("note:")]
    assert max(map(len, said)) <= 80 and "found (family-wise p < 0.05)" in str(hours)
    frame, drawn = hours.frame(), neurons_figure(hours).data
    assert sum(len(trace.y) for trace in drawn) == len(frame)  # type: ignore[attr-defined]
    bars: Any = writers_figure(hours).data
    assert sum(float(np.sum(trace.y)) for trace in bars) == pytest.approx(
        sum(each.lead for each in hours.periods), rel=1e-6
    )
    assert len(hours.part().sections) >= 4 and len(hours.period_frame()) == len(hours.periods)


def test_what_cannot_be_asked_is_one_sentence() -> None:
    model = load("calendar")
    with pytest.raises(UsageError, match="are no numbers"):
        period_neurons(model, "days")
    with pytest.raises(OutOfRange, match="2 or more"):
        period_neurons(model, "hours-12", periods=[1.5])
    with pytest.raises(OutOfRange, match="no circle of period 100"):
        period_neurons(model, "hours-12", periods=[100])
    with pytest.raises(UsageError, match="the task itself"):
        period_neurons(model, "hours-12", against="hours-12", n_controls=0)
    with pytest.raises(UsageError, match="each of the 12 answers"):
        period_neurons(model, "hours-12", n_prompts=6)


def test_a_model_without_logits_or_mlps_has_no_neurons_to_credit() -> None:
    needs_minilm()
    with pytest.raises(UsageError, match="no logits"):
        period_neurons(load("minilm"), "hours-12")


def test_a_task_at_chance_is_said_and_not_compared(clock: Any) -> None:
    random = OneLayerTransformer(OneLayerConfig(p=P, d_model=16, n_heads=2, d_mlp=24), seed=4)
    found = period_neurons(random, f"mod-{P}", n_permutations=99, n_controls=0)
    assert any("chance" in note for note in found.notes)


def test_what_a_reader_has_to_know_is_said(clock: Any) -> None:
    found = period_neurons(clock, f"mod-{P}", periods=[3.3, 3.32], n_permutations=199, n_controls=0)
    notes = " ".join(found.notes)
    assert "3.3 and 3.32" in notes and "do not tell the two apart" in notes
    significant = any(each.n_significant for each in found.periods)
    assert ("no neuron was ablated: n_controls is 0" in notes) is significant
    least = replace(
        found.periods[0], n_significant=0, neurons=(replace(found.periods[0].neurons[0], p_value=0.3),)
    )
    said = " ".join(str(replace(found, periods=(least,))).split())
    neuron = least.neurons[0]
    assert (
        f"0 of {found.n_neurons} neurons; the largest, as layer.neuron: {neuron.layer}.{neuron.index} ("
        in said
    )
    assert "p = 0.3)" in said


@pytest.mark.parametrize(
    ("period", "n", "name"),
    [(113 / 23, 113, "113/23 (4.913)"), (5.0, 10, "5"), (12.0, 12, "12"), (2.4, 100, "2.4")],
)
def test_periods_are_named_as_fractions_of_the_cycle(period: float, n: int, name: str) -> None:
    assert period_name(period, n) == name


def test_permutations_that_can_find_nothing_and_misspelt_tasks_are_refused(clock: Any) -> None:
    with pytest.raises(
        OutOfRange, match=r"p cannot fall below 0\.024: no neuron could be found; give 99 or more"
    ):
        period_neurons(clock, f"mod-{P}", n_permutations=40)
    with pytest.raises(UnknownDomain, match=r"no task of hours-12 .closest: list"):
        period_neurons(load("calendar"), "hours-12", against="lst")


def test_the_command_prints_one_object_and_refuses_half_a_question(tmp_path: Path) -> None:
    from mechfourier.cli.app import app

    common = ["periods", "calendar", "--domain", "hours-12", "--out", str(tmp_path), "--permutations", "99"]
    done = CliRunner().invoke(
        app, [*common, "--neurons", "--controls", "2", "--json"], catch_exceptions=False
    )
    printed = json.loads(done.stdout)
    assert printed["kind"] == "period-neurons" and printed["periods"][0]["ablated"]["n_controls"] == 2
    assert len(list(tmp_path.glob("periods-*neurons*.html"))) == 1
    for wrong in (["--against", "hours-24"], ["--neurons", "--site", "resid_post", "--layer", "0"]):
        refused = CliRunner().invoke(app, [*common, *wrong])
        assert refused.exit_code != 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--domain", "months"], "values of months are no numbers"),
        (["--domain", "numbers", "--neurons", "--against", "days"], "values of days are no numbers"),
        (["--domain", "numbers", "--neurons", "--against", "hours-12:lst"], "closest: list"),
        (["--domain", "numbers", "--neurons", "--against", "summ"], "closest: sum"),
    ],
)
def test_questions_without_numbers_are_refused_before_a_model_is_loaded(
    words: list[str], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mechfourier.cli.app import app
    from mechfourier.models import registry

    monkeypatch.setattr(registry, "load", lambda *_, **__: pytest.fail("a model was loaded"))
    refused = CliRunner().invoke(app, ["periods", "calendar", *words])
    assert isinstance(refused.exception, UsageError) or refused.exit_code == 2
    assert said in str(refused.exception) + refused.output


@pytest.mark.slow
def test_the_neurons_of_a_trained_networks_key_period_are_tuned_to_it() -> None:
    model = load("one-layer")
    frequency = _tuned(model, 113)
    found = period_neurons(model, "mod-113", n_permutations=199, n_controls=0)
    assert found.accuracy == 1.0 and {round(113 / each.period) for each in found.periods} == {5, 23, 37}
    for each in found.periods:
        key = round(113 / each.period)
        significant = [neuron for neuron in each.neurons if neuron.p_value < 0.05]
        tuned = [int(frequency[neuron.index]) == key for neuron in significant]
        assert len(significant) > 20 and np.mean(tuned) > 0.95


@pytest.mark.real
@pytest.mark.slow
def test_a_real_model_writes_the_parity_of_a_sum_by_one_neuron() -> None:
    model = real_model("gemma3-270m")
    found = period_neurons(model, "numbers", task="sum", periods=[2], against="hours-12:list")
    assert (found.low, found.high, found.n_prompts) == (0, 9, 55)
    (parity,) = found.periods
    assert parity.n_significant == 1 and parity.neurons[0].p_value < 0.05
    assert parity.ablated is not None and parity.ablated.lead_kept is not None
    assert parity.ablated.lead_kept < 0.5 and parity.shared is not None
    said = [line for line in str(found).splitlines() if not line.startswith(("note:", "weights:"))]
    assert max(map(len, said[1:])) <= 80  # the first has the name of a folder
