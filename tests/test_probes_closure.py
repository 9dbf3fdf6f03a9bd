"""Closure: the number of turns, the contest of shapes, the seam, and leave-one-out against refitting by hand."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from value_arrays import CIRCLES, planted, wave

from mechfourier.stats.closure import (
    closure,
    curve_designs,
    curve_models,
    curve_q2,
    fitted_turns,
    left_out_error,
    seam_similarity,
    shape_contest,
    template_draws,
    turn_tolerance,
)
from mechfourier.stats.spectrum import cross_gram, shared_gram


def gram_of(points: torch.Tensor) -> torch.Tensor:
    centred = points - points.mean(0)
    return centred @ centred.T


def shared(name: str, n: int = 12, **options: float) -> tuple[torch.Tensor, torch.Tensor]:
    cross = cross_gram(planted(name, n, **options))  # type: ignore[arg-type]
    return shared_gram(cross)[0], shared_gram(cross, template_draws(8, 60, seed=0))[:, 0]


@given(
    n=st.integers(7, 26),
    shares=st.lists(st.floats(0.0, 0.8), min_size=3, max_size=3),
)
@settings(max_examples=40, deadline=None)
def test_any_sum_of_harmonics_has_the_turns_of_the_strongest(n: int, shares: list[float]) -> None:
    parts = [wave(n, 1), *(s * wave(n, k) for k, s in enumerate(shares, 2) if 2 * k < n)]
    points = torch.cat(parts, 1)
    assert float(fitted_turns(gram_of(points), 1)[0]) == pytest.approx(1.0, abs=1e-9)


@pytest.mark.parametrize("n", [7, 12, 24])
@pytest.mark.parametrize("turns", [0.5, 0.75])
def test_an_arc_has_the_turns_it_was_given(n: int, turns: float) -> None:
    found, r2 = fitted_turns(gram_of(wave(n, turns, ends=True)), 1)
    assert float(found) == pytest.approx(turns * n / (n - 1), abs=0.011)
    assert float(r2) > 0.999
    below, _ = turn_tolerance(n)
    assert float(found) < 1 - below


@pytest.mark.parametrize("k", [2, 3, 5])
def test_a_circle_of_k_has_k_turns(k: int) -> None:
    assert float(fitted_turns(gram_of(wave(12, k)), k)[0]) == pytest.approx(k, abs=1e-9)


@pytest.mark.parametrize("n", [7, 12, 24])
def test_left_out_errors_are_those_of_refitting_without_each_value(n: int) -> None:
    points = torch.randn(n, 5, generator=torch.Generator().manual_seed(n), dtype=torch.float64)
    for _, _, columns in curve_designs(n, 1):
        by_hand = 0.0
        for v in range(n):
            keep = [w for w in range(n) if w != v]
            weights = torch.linalg.pinv(columns[keep]) @ points[keep]
            by_hand += float(((points[v] - columns[v] @ weights) ** 2).sum())
        assert float(left_out_error(points @ points.T, columns)) == pytest.approx(by_hand, rel=1e-8)


def test_the_right_curve_predicts_what_was_left_out() -> None:
    n = 12
    designs = {name: columns for name, _, columns in curve_designs(n, 1)}
    u = torch.arange(n).double()[:, None]
    assert float(curve_q2(gram_of(u), designs["linear"])) == pytest.approx(1.0)
    assert float(curve_q2(gram_of(torch.cat([u, u**2 / n], 1)), designs["quadratic"])) == pytest.approx(1.0)
    assert float(curve_q2(gram_of(wave(n, 1)), designs["harmonic 1"])) == pytest.approx(1.0)
    assert float(curve_q2(gram_of(wave(n, 1)), designs["cubic"])) < 0.9


def test_models_are_ranked_by_what_they_leave_and_what_they_cost() -> None:
    n = 12
    gram, _ = shared("circle", snr=4.0)
    noisy = cross_gram(planted("circle", snr=4.0))[0].mean((0, 1))
    models = {m.name: m for m in curve_models(gram, noisy, 1)}
    assert min(models.values(), key=lambda m: m.bic).closed
    assert models["harmonic 1"].q2 > max(m.q2 for m in models.values() if not m.closed)
    linear, quadratic = models["linear"], models["quadratic"]
    change = n * math.log((1 - quadratic.r2) / (1 - linear.r2)) + 2
    assert quadratic.aic - linear.aic == pytest.approx(change)
    assert linear.bic - linear.aic == pytest.approx(3 * (math.log(n) - 2))


@pytest.mark.parametrize("name", CIRCLES)
@pytest.mark.parametrize("n", [12, 24])
def test_circles_close(name: str, n: int) -> None:
    k = 2 if name == "circle k=2" else 1
    for seed in range(3):
        gram, draws = shared(name, n, seed=seed)
        found = closure(gram, k, draws=draws)
        assert found.closed, found.reasons
        assert found.turns.low <= found.turns.value <= found.turns.high


@pytest.mark.parametrize("name", ["arc 180", "arc 270", "walk", "smooth", "fading", "ramp"])
@pytest.mark.parametrize("n", [7, 12, 24])
def test_what_is_only_ordered_does_not_close(name: str, n: int) -> None:
    closed = [closure(*_first(shared(name, n, seed=seed))).closed for seed in range(6)]
    assert sum(closed) <= 1


def _first(pair: tuple[torch.Tensor, torch.Tensor]) -> tuple[torch.Tensor, int]:
    return pair[0], 1


def test_correlation_that_only_fades_loses_the_contest() -> None:
    n = 24
    lag = (torch.arange(n)[:, None] - torch.arange(n)).abs().double()
    centre = torch.eye(n, dtype=torch.float64) - 1 / n
    fading = centre @ torch.exp(-lag / 2) @ centre
    ring = centre @ torch.exp(-torch.minimum(lag, n - lag) / 2) @ centre
    closed, opened = shape_contest(fading, 1)
    assert float(opened) == pytest.approx(1.0) and closed < 0.99
    closed, opened = shape_contest(ring, 1)
    assert float(closed) == pytest.approx(1.0) and opened < 0.99


def test_the_seam_of_a_circle_is_a_neighbour_like_any_other() -> None:
    seam, others = seam_similarity(gram_of(wave(12, 1)))
    assert float(seam) == pytest.approx(float(others))
    seam, others = seam_similarity(gram_of(wave(12, 0.5, ends=True)))
    assert float(seam) < 0 < float(others)


def test_too_few_templates_give_no_interval() -> None:
    found = closure(shared("circle")[0], 1)
    assert math.isnan(found.turns.low) and found.closed
    assert "nan" not in " ".join(found.reasons)


def test_bootstrap_draws_hold_two_templates_at_least() -> None:
    draws = template_draws(3, 500, seed=1)
    assert bool(((draws > 0).sum(1) >= 2).all()) and bool((draws.sum(1) == 3).all())
    assert torch.equal(draws, template_draws(3, 500, seed=1))


def test_q2_of_a_table_of_curves_is_one_at_most() -> None:
    raw, told = [], []
    for seed in range(20):
        gram = shared_gram(cross_gram(planted("white", 12, seed=seed, templates=2)))[0]
        designs = [columns for _, _, columns in curve_designs(12, 1)]
        raw += [float(curve_q2(gram, columns)) for columns in designs]
        told += [model.q2 for model in curve_models(gram, gram, 1)]
    assert max(raw) > 1.0 >= max(told)
