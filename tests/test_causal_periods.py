"""Periods of numbers: planted separability and planted circles are found, and what is used moves by its period."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from clocks import clock_network
from scipy.stats import kstest
from small_run import write_run
from test_causal_rotate import KEYS, P
from typer.testing import CliRunner

import mechfourier
from mechfourier.causal.number_fit import WHOLE, sums
from mechfourier.causal.periods import PeriodsResult, periods
from mechfourier.causal.stability import StabilityResult, compared_planes, opened, stability
from mechfourier.domains.definition import domain
from mechfourier.errors import OutOfRange, UsageError
from mechfourier.figures.periods import periods_figure
from mechfourier.figures.stability import stability_figure
from mechfourier.models.registry import load
from mechfourier.stats.residues import period_shares, separability, token_statistics
from mechfourier.toys.one_layer.model import OneLayerTransformer

VALUES = np.arange(100)


@pytest.fixture(scope="module")
def clock() -> OneLayerTransformer:
    return clock_network(P, KEYS)


def _classes(modulus: int, noise: float, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((modulus, 40))
    return centres[VALUES % modulus] + noise * rng.standard_normal((100, 40))


@pytest.mark.parametrize("noise", [0.5, 2.0])
def test_a_planted_separability_is_measured(noise: float) -> None:
    kappas = []
    for seed in range(20):
        found = separability(_classes(10, noise, seed), VALUES, 10, n_permutations=99)
        assert found is not None and found.p_value == 0.01 and found.kappa > found.null_upper
        kappas.append(found.kappa)
    # nine of the ten centres' degrees of freedom lie between classes, and so do nine of the noise's 99; 90 within
    planted = (100 * 9 / 10 + 9 * noise**2) / (90 * noise**2)
    assert np.mean(kappas) == pytest.approx(planted, rel=0.1)


def test_the_p_of_separability_is_uniform_without_classes_also_beside_a_line() -> None:
    p = []
    for seed in range(200):
        rng = np.random.default_rng(seed)
        line = np.outer(VALUES, rng.standard_normal(20))
        found = separability(line + rng.standard_normal((100, 20)), VALUES, 5, n_permutations=99, seed=seed)
        assert found is not None
        p.append(found.p_value)
    assert kstest(p, "uniform").pvalue > 0.01


def test_a_vector_per_digit_has_spikes_at_ten_five_and_two_and_no_circle_of_seven() -> None:
    shares = period_shares(_classes(10, 0.3), VALUES, [2, 5, 10, 7, 100])
    assert shares[:3].min() > 0.05 and shares[3:].max() < 0.05
    known = token_statistics(VALUES, np.ones(100, dtype=np.int64))
    tokens = period_shares(known, VALUES, [10, 7])
    assert tokens[0] > 3 * tokens[1]  # digits alone give the spike


def test_a_planted_circle_is_the_whole_of_its_power() -> None:
    angle = 2 * np.pi * VALUES / 10
    circle = np.stack([np.cos(angle), np.sin(angle)], 1) @ np.random.default_rng(0).standard_normal((2, 30))
    line = np.outer(VALUES, np.ones(30))
    assert period_shares(circle + line, VALUES, [10])[0] == pytest.approx(1.0, abs=1e-6)
    assert period_shares(circle + line, VALUES, [5])[0] < 0.01
    assert separability(line, VALUES, 10) is None  # nothing beside the line
    assert separability(circle, VALUES, 100) is None  # every class is one number


def test_the_periods_that_a_clock_reads_move_its_answers_and_others_do_not(clock: Any) -> None:
    own, other = tuple(P / k for k in KEYS), P / 5
    found = periods(clock, f"mod-{P}", periods=(*own, other), site="hook_embed", n_controls=20)
    parts = {part.name: part for part in found.parts}
    assert found.accuracy == 1.0
    assert parts[WHOLE].exact == 1.0 and parts["all periods"].exact == 1.0
    assert parts["all periods"].of_whole == pytest.approx(1.0)
    assert parts[f"period {other:g}"].exact < 0.1 and parts["line"].exact < 0.1
    assert parts["all periods"].p_value == 1 / 21
    assert parts["line"].moved is None  # answers go round a cycle that no whole period divides


def test_a_circle_of_period_ten_moves_answers_by_delta_modulo_ten() -> None:
    ten = clock_network(10, (1,), d_mlp=128)
    found = periods(ten, "mod-10", periods=(10, 5), site="hook_embed", n_controls=20)
    parts = {part.name: part for part in found.parts}
    alone, other = parts["period 10"], parts["period 5"]
    assert alone.moved == alone.exact == alone.of_whole == 1.0 and alone.kept == 1.0
    assert other.moved is not None and other.moved < 0.2
    assert alone.random is not None and alone.moved is not None and alone.random < alone.moved


def test_sums_are_a_domain_of_their_own() -> None:
    made = sums(0, 99)
    assert made.n == 100 and made.tasks[0].answers[-1] == "108" and not made.cyclic
    with pytest.raises(OutOfRange, match="low-high"):
        sums(9, 3)
    with pytest.raises(UsageError, match="are no numbers"):
        periods(load("calendar"), "days")
    with pytest.raises(OutOfRange, match="fewer periods"):
        periods(load("calendar"), "hours-12", periods=(2, 3, 4, 5, 6, 7, 10, 12), site="hook_embed")


def test_results_survive_json_and_figures_draw_the_table(clock: Any) -> None:
    found = periods(clock, f"mod-{P}", periods=(P / 2, P / 3), site="hook_embed", n_controls=0)
    assert PeriodsResult.from_json(found.to_json()) == found
    drawn: Any = periods_figure(found).data[0]
    assert list(drawn.y) == [part.exact for part in found.parts]
    assert found.part().sections


def test_runs_that_share_coordinates_share_planes_and_others_do_not() -> None:
    generator = torch.Generator().manual_seed(0)
    angle = 2 * torch.pi * torch.arange(12) / 12
    circle = torch.stack([angle.cos(), angle.sin()], 1)
    first, other = (circle @ torch.linalg.qr(torch.randn(40, 2, generator=generator)).Q.T for _ in range(2))
    same, notes = compared_planes(
        ["a", "b"], [(1,), (1,)], [first, first + 0.01 * torch.randn(12, 40)], seed=0
    )
    assert same[0].overlap > 0.99 and same[0].p_value < 0.01 and max(same[0].angles) < 10 and not notes
    apart, notes = compared_planes(["a", "b"], [(1, 2), (1,)], [first, other], seed=0)
    assert [pair.k for pair in apart] == [1] and apart[0].overlap < 0.3
    assert "share no coordinates" in notes[0]


def test_a_checkpoint_of_a_run_is_opened_by_its_file(tmp_path: Any) -> None:
    run = write_run(tmp_path / "run")
    files = sorted((run / "checkpoints").glob("*.safetensors"))
    first, last = opened(str(files[0])), opened(str(run))
    assert first.mechfourier_name == str(files[0])
    pairs = [dict(model.named_parameters()) for model in (first, last)]
    assert any(not torch.equal(pairs[0][name], pairs[1][name]) for name in pairs[0])


@pytest.mark.slow
def test_the_same_run_twice_repeats_in_everything(tmp_path: Any) -> None:
    for name in ("one", "other"):  # as two runs: the same name twice is refused
        shutil.copytree(Path(mechfourier.__file__).parent / "data" / "calendar", tmp_path / name)
    runs = [str(tmp_path / "one"), str(tmp_path / "other")]
    found = stability(runs, "days", n_controls=199, n_permutations=199)
    assert found.verdict_count == found.used_count == 2 and found.share_sd == 0.0
    assert found.planes and all(pair.overlap == pytest.approx(1.0, abs=1e-6) for pair in found.planes)
    assert StabilityResult.from_json(found.to_json()) == found
    drawn: Any = stability_figure(found).data[0]
    assert list(drawn.y) == [run.exact_share for run in found.runs]
    with pytest.raises(UsageError, match="two models"):
        stability(["calendar"], "days")


def test_the_command_prints_one_object(tmp_path: Any) -> None:
    from mechfourier.cli.app import app

    common = ["periods", "calendar", "--json", "--out", str(tmp_path)]
    wanted = [
        *common,
        "--domain",
        "hours-12",
        "--periods",
        "12,10",
        "--site",
        "hook_embed",
        "--controls",
        "5",
    ]
    done = CliRunner().invoke(app, wanted, catch_exceptions=False)
    assert json.loads(done.stdout)["kind"] == "periods"
    assert CliRunner().invoke(app, [*common, "--domain", "days", "--range", "0-9"]).exit_code != 0
    assert domain("numbers").n == 10
