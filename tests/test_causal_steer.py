"""Steering turns what the model answers to the target; along the circle it passes through the values between."""

import json
from typing import Any

import numpy as np
import pytest
import torch
from clocks import clock_network
from test_causal_rotate import KEYS, P
from typer.testing import CliRunner

import mechfourier as mf
from mechfourier.causal.dose import DoseResult, dose
from mechfourier.causal.experiment import Experiment
from mechfourier.causal.follow import surprisal_after
from mechfourier.causal.plane import curve, maps_at, plane
from mechfourier.causal.steer import SteerResult, steer
from mechfourier.causal.steering import named_value, steps_to
from mechfourier.causal.subspaces import harmonic_subspace
from mechfourier.domains.definition import domain
from mechfourier.errors import OutOfRange, UsageError
from mechfourier.figures.steer import dose_figure, shares_figure, steer_figure
from mechfourier.hooks.run import has_hooks, last_logits
from mechfourier.models.interface import encode
from mechfourier.models.registry import load


@pytest.fixture(scope="module")
def calendar() -> Any:
    return load("calendar")


@pytest.fixture(scope="module")
def steered(calendar: Any) -> SteerResult:
    return steer(calendar, "days", to="Friday", site="hook_embed", n_controls=20)


@pytest.fixture(scope="module")
def dosed(calendar: Any) -> DoseResult:
    return dose(calendar, "days", to="+3", site="hook_embed")


def test_a_used_circle_steers_every_answer_and_random_planes_do_not(steered: SteerResult) -> None:
    assert steered.success == 1.0 and steered.success_before == 0.0
    assert steered.success_ci[0] > 0.85
    assert steered.random_share is not None and steered.random_share < 0.3
    assert steered.acts_on[0] > 0.95
    for text in steered.texts:
        assert np.argmax(text.p_after) == np.argmax(text.p_reference)
        assert text.after.split()[0] == text.reference.split()[0]


def test_own_prompts_and_the_whole_class_mean(calendar: Any) -> None:
    found = steer(
        calendar, "days", to="+2", prompts=["Monday + 3 days ="], whole=True, site="hook_embed", n_controls=0
    )
    (text,) = found.texts
    assert (text.value, text.steps) == ("Monday", 2)
    assert text.before.split()[0] == "Thursday" and text.after == text.reference
    assert text.after.split()[0] == "Saturday"
    assert found.p_value is None and found.whole


def test_the_last_token_is_turned_to_the_answer_itself(calendar: Any) -> None:
    found = steer(
        calendar, "days", to="Friday", position="last", site="blocks.1.hook_resid_post", n_controls=0
    )
    answers = [found.answers[int(np.argmax(text.p_after))].strip() for text in found.texts]
    assert answers.count("Friday") == len(answers)


def test_the_prompts_value_is_found_or_asked_for() -> None:
    days, numbers = domain("days"), domain("mod-113")
    assert named_value(days, "The day after Monday is").value == 0
    assert named_value(numbers, "{5} + 9 mod 113 =").text == "5 + 9 mod 113 ="
    with pytest.raises(UsageError, match=r"put one in braces: '\{5\} \+ 9 mod 113 ='"):
        named_value(numbers, "5 + 9 mod 113 =")
    with pytest.raises(UsageError, match="names no value of days"):
        named_value(days, "The day after Mondays is")
    with pytest.raises(UsageError, match="closest: Monday"):
        named_value(days, "The day after {Mondy} is")


def test_steps_go_the_short_way_round() -> None:
    value = torch.arange(7)
    steps = steps_to(domain("days"), "Monday", value, 7)
    assert torch.equal((value + steps) % 7, torch.zeros(7, dtype=torch.long))
    assert int(steps.abs().max()) == 3
    with pytest.raises(OutOfRange, match="whole turn"):
        steps_to(domain("days"), "+14", value, 7)
    with pytest.raises(UsageError, match="closest: Friday"):
        steps_to(domain("days"), "Fryday", value, 7)


def test_the_circle_passes_through_the_values_between_and_the_chord_does_not(dosed: DoseResult) -> None:
    assert dosed.verdict == "along the circle" and dosed.nearest_gap_ci[0] > 0.3
    frame = dosed.frame()
    circle, straight = (frame[frame["path"] == path].set_index("dose") for path in ("circle", "straight"))
    thirds = [d for d in circle.index if abs(3 * d - round(3 * d)) < 1e-9]
    assert len(thirds) == 4
    assert (circle.loc[thirds, "nearest"] == 1.0).all()  # every whole step is answered as that day
    assert straight.loc[thirds[2], "nearest"] < 0.5
    assert np.allclose(circle["edit_norm"], straight["edit_norm"], atol=1e-6)
    ends = [path[["start", "target"]].to_numpy()[-1] for path in (circle, straight)]
    assert np.allclose(*ends, atol=1e-5)
    assert np.allclose(frame[["start", "between", "target", "elsewhere"]].sum(axis=1), 1, atol=1e-6)
    radius = frame[frame["path"] == "radius"].set_index("dose")
    assert radius.loc[1.0, "start"] > 0.99 > 0.5 > radius.loc[0.0, "start"]


def test_a_clock_in_closed_form_reads_the_angle_and_not_the_radius() -> None:
    clock = clock_network(P, KEYS)
    found = dose(clock, f"mod-{P}", to="+2", site="hook_embed", k=KEYS)
    assert found.verdict == "along the circle"
    assert found.doses[0].perplexity is None  # it writes no text
    assert next(d for d in found.doses if d.path == "radius" and d.dose == 1.5).start > 0.9
    assert not has_hooks(clock)


def test_the_curve_passes_through_the_class_means_and_turns_are_those_of_the_planes() -> None:
    generator = torch.Generator().manual_seed(0)
    for n in (7, 12):
        means = torch.randn(n, 20, generator=generator) + 2
        whole = curve(means, range(1, n // 2 + 1), torch.arange(n).double())
        assert torch.allclose(whole, means - means.mean(0), atol=1e-4)
        turn = harmonic_subspace(means, (1, 2))
        assert torch.allclose(maps_at(turn, n, torch.arange(n).double()), turn.maps(n), atol=1e-4)
        half = maps_at(turn, n, torch.tensor([0.5]))[0]
        assert torch.allclose(half @ half, turn.maps(n)[1], atol=1e-3)


def test_a_plane_goes_into_transformer_lens_as_a_hook(calendar: Any) -> None:
    found = plane(calendar, "days", site="hook_embed", k=1)
    basis = found.array
    assert basis.shape == (calendar.cfg.d_model, 2) and np.allclose(basis.T @ basis, np.eye(2), atol=1e-6)
    asked = Experiment.of(calendar, "days")
    angle = np.unwrap(
        np.arctan2(*((asked.at("hook_embed", "value").means.numpy() - found.center.numpy()) @ basis).T[::-1])
    )
    assert len(set(np.sign(np.diff(angle)))) == 1 and np.ptp(np.diff(angle)) < 1.0  # round in one direction
    prompt = "Monday + 3 days ="
    encoding = encode(calendar, [prompt])[0]
    tokens = torch.tensor([encoding.ids])
    at = encoding.last_token_of(0, 6)
    logits = calendar.run_with_hooks(tokens, fwd_hooks=[found.rotate_hook(2, position=at)])[0, -1]
    plain = last_logits(calendar, lambda: calendar(tokens), torch.tensor([tokens.shape[1] - 1]))[0]
    words = [calendar.tokenizer.decode([int(each.argmax())]).strip() for each in (plain, logits)]
    assert words == ["Thursday", "Saturday"]


def test_surprisal_is_the_models_own(calendar: Any) -> None:
    encoding = encode(calendar, ["Monday + 3 days ="])[0]
    follow = mf.generate(calendar, ["Monday + 3 days ="], max_new_tokens=2).tokens[0]
    found = surprisal_after(calendar, [encoding.ids], [follow])
    tokens = torch.tensor([[*encoding.ids, *follow]])
    log_p = calendar(tokens)[0].log_softmax(-1)
    expected = -(log_p[-3, follow[0]] + log_p[-2, follow[1]]) / 2
    assert float(found[0]) == pytest.approx(float(expected), abs=1e-4)


def test_figures_draw_the_tables_and_results_survive_json(steered: SteerResult, dosed: DoseResult) -> None:
    assert SteerResult.from_json(steered.to_json()) == steered
    assert DoseResult.from_json(dosed.to_json()) == dosed
    after: Any = steer_figure(steered).data[1]
    assert (
        sorted(after.y) == sorted(steered.acts_on) and after.y[list(after.x).index(0)] == steered.acts_on[0]
    )
    frame = dosed.frame()
    figure: Any = dose_figure(dosed)
    lines: Any = [trace for trace in figure.data if trace.name]
    assert list(lines[0].y) == frame[frame["path"] == "circle"]["nearest"].tolist()
    start: Any = shares_figure(dosed, "radius").data[0]
    assert list(start.y) == frame[frame["path"] == "radius"]["start"].tolist()
    assert "In words" not in str(dosed.part().sections[0].heading) and len(dosed.part().sections) >= 6
    assert steered.part().sections


def test_wrong_calls_say_what_is_wrong(calendar: Any) -> None:
    with pytest.raises(UsageError, match="not both"):
        steer(calendar, "days", to="Friday", whole=True, k=1)
    with pytest.raises(UsageError, match="stands at Friday already"):
        steer(calendar, "days", to="Friday", prompts=["Friday + 1 days ="], site="hook_embed", n_controls=0)
    with pytest.raises(UsageError, match="no logits"):
        steer(load("minilm"), "days", to="Friday")
    with pytest.raises(OutOfRange, match="n_doses"):
        dose(calendar, "days", n_doses=2)


def test_commands_print_one_object(tmp_path: Any) -> None:
    from mechfourier.cli.app import app

    common = [
        "steer",
        "calendar",
        "--domain",
        "days",
        "--json",
        "--out",
        str(tmp_path),
        "--site",
        "hook_embed",
    ]
    done = CliRunner().invoke(app, [*common, "--to", "Friday", "--controls", "10"], catch_exceptions=False)
    assert json.loads(done.stdout)["kind"] == "steer"
    done = CliRunner().invoke(app, [*common, "--dose"], catch_exceptions=False)
    assert json.loads(done.stdout)["verdict"] == "along the circle"
    assert len(list(tmp_path.glob("steer*calendar-days*.html"))) == 2
    assert CliRunner().invoke(app, common).exit_code != 0
