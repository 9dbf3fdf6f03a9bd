"""A period's part of the lead: it is a sum over units, planted writers are found, and nothing is found in noise."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import kstest

from mechfourier.errors import OutOfRange
from mechfourier.stats.writers import (
    exchanged_p,
    fewest,
    overlap,
    peaks,
    period_plane,
    rank_correlation,
    unit_leads,
)

TEN = np.arange(10.0)


def _lead(logits: np.ndarray) -> float:
    return float((np.diag(logits) - logits.mean(1)).mean())


@given(st.integers(5, 20), st.integers(0, 1000))
def test_on_a_cycle_the_parts_of_all_periods_add_up_to_the_lead(n: int, seed: int) -> None:
    logits = np.random.default_rng(seed).standard_normal((n, n))
    planes = [period_plane(np.arange(1.0, n + 1), n / k, line=False) for k in range(1, n // 2 + 1)]
    parts = [float(np.trace(q.T @ logits @ q)) / n for q in planes]
    assert sum(parts) == pytest.approx(_lead(logits), abs=1e-9)
    assert sum(q.shape[1] for q in planes) == n - 1


@given(st.integers(0, 1000), st.sampled_from([2.0, 5.0, 10.0]))
def test_units_add_up_to_what_they_write_together(seed: int, period: float) -> None:
    rng = np.random.default_rng(seed)
    means, rows = rng.standard_normal((10, 7)), rng.standard_normal((7, 10))
    plane = period_plane(TEN, period, line=True)
    together = float(np.trace(plane.T @ (means @ rows) @ plane)) / 10
    assert unit_leads(means, rows @ plane, plane).sum() == pytest.approx(together, abs=1e-9)


def test_a_line_and_a_constant_have_no_period() -> None:
    for period in (2.0, 5.0, 10.0):
        plane = period_plane(TEN, period, line=True)
        assert np.abs(plane.T @ np.stack([np.ones(10), TEN], 1)).max() < 1e-9
        assert np.allclose(plane.T @ plane, np.eye(plane.shape[1]))


def test_the_largest_unit_of_noise_has_a_uniform_p() -> None:
    """Also where units differ in size, and write what they read."""
    found = []
    for seed in range(300):
        rng = np.random.default_rng(seed)
        size = rng.exponential(1.0, 30)
        means, rows = size * rng.standard_normal((10, 30)), rng.standard_normal((30, 10))
        plane = period_plane(TEN, 5.0, line=True)
        found.append(exchanged_p(means, rows @ plane, plane, n_permutations=199, seed=seed).min())
    assert kstest(found, "uniform").pvalue > 0.01
    assert 0.02 < np.mean(np.array(found) <= 0.05) < 0.09


@pytest.mark.slow
@pytest.mark.parametrize("follows", ["nothing", "the answer", "some of each"])
@pytest.mark.parametrize("period", [2.0, 5.0, 10.0])
def test_means_of_unequally_many_prompts_find_nothing_more_often_than_the_level(
    period: float, follows: str
) -> None:
    """One to ten prompts per answer, as sums of two digits have; units of noise, units whose means differ however many
    prompts they are of, and both."""
    plane, p, counts = period_plane(TEN, period, line=True), [], np.arange(1, 11)
    for seed in range(400):
        rng = np.random.default_rng(seed)
        noise = np.stack([rng.standard_normal((count, 100)).mean(0) for count in counts])
        signal = rng.standard_normal((10, 100))
        half = np.arange(100) < 50
        means = {"nothing": noise, "the answer": signal, "some of each": np.where(half, 1.5 * noise, signal)}
        found = means[follows] + 2 * rng.standard_normal(100)
        rows = rng.standard_normal((100, 10))
        p.append(exchanged_p(found, rows @ plane, plane, counts=counts, n_permutations=99, seed=seed).min())
    assert np.mean(np.array(p) <= 0.05) < 0.08  # 400 draws: 2.7 standard errors above the level


def test_equally_many_prompts_are_exchanged_as_they_are() -> None:
    rng = np.random.default_rng(0)
    plane = period_plane(TEN, 5.0, line=True)
    means, written = rng.standard_normal((10, 30)), rng.standard_normal((30, 10)) @ plane
    plain, same, unequal = (
        exchanged_p(means, written, plane, counts=counts, n_permutations=99, seed=0)
        for counts in (None, np.full(10, 7), np.arange(1, 11))
    )
    assert np.array_equal(plain, same)
    assert (unequal >= plain).all() and (unequal > plain).any()


def test_planted_writers_are_found_with_their_phase_and_no_others() -> None:
    rng = np.random.default_rng(0)
    numbers, plane = np.arange(20.0), period_plane(np.arange(20.0), 5.0, line=True)
    means, rows = 0.1 * rng.standard_normal((20, 50)), 0.1 * rng.standard_normal((50, 20))
    for unit, phase in ((3, 1.0), (8, 3.5)):
        wave = np.cos(2 * np.pi * (numbers - phase) / 5)
        means[:, unit] += wave
        rows[unit] += wave
    other = np.cos(2 * np.pi * numbers / 4)  # as strong, of another period
    means[:, 11] += other
    rows[11] += other
    p = exchanged_p(means, rows @ plane, plane, n_permutations=199, seed=0)
    assert np.flatnonzero(p < 0.05).tolist() == [3, 8]
    assert peaks(means, numbers, 5.0, line=True)[[3, 8]] == pytest.approx([1.0, 3.5], abs=0.15)


def test_a_unit_that_works_against_its_period_is_no_writer() -> None:
    wave = np.cos(2 * np.pi * np.arange(20.0) / 5)[:, None]
    plane = period_plane(np.arange(20.0), 5.0, line=False)
    assert unit_leads(wave, -wave.T @ plane, plane)[0] < 0
    assert exchanged_p(wave, -wave.T @ plane, plane, n_permutations=99, seed=0)[0] > 0.5


def test_few_numbers_hold_no_circle() -> None:
    with pytest.raises(OutOfRange, match="no circle of period 100"):
        period_plane(TEN, 100.0, line=True)
    with pytest.raises(OutOfRange, match="no circle of period 5"):
        period_plane(np.arange(4.0), 5.0, line=True)


def test_sets_that_are_drawn_at_random_share_what_is_expected() -> None:
    rng, p = np.random.default_rng(0), []
    for _ in range(300):
        first, second = (set(rng.choice(1000, 200, replace=False).tolist()) for _ in range(2))
        found = overlap(first, second, 1000)
        assert found.expected == pytest.approx(40.0)
        p.append(found.p_value)
    assert 0.4 < np.mean(p) < 0.6 and 0.02 < np.mean(np.array(p) <= 0.05) < 0.08
    assert overlap({1, 2}, set(), 10).p_value == 1.0
    assert overlap({1, 2}, {1, 2}, 10_000).p_value < 1e-7


def test_the_interval_of_a_rank_correlation_covers_it() -> None:
    rng, covered = np.random.default_rng(0), 0
    for _ in range(200):
        a, b = rng.standard_normal((2, 40))
        _, low, high = rank_correlation(a, b)
        covered += low <= 0 <= high
    assert covered >= 180
    assert rank_correlation(np.arange(30.0), np.arange(30.0) ** 3)[0] == pytest.approx(1.0)
    assert rank_correlation(np.zeros(30), np.arange(30.0)) == (0.0, -1.0, 1.0)


def test_half_is_counted_over_what_adds() -> None:
    assert fewest(np.array([5.0, 3.0, 2.0, -9.0])) == 1
    assert fewest(np.array([1.0, 1.0, 1.0, 1.0])) == 2
    assert fewest(np.array([-1.0, 0.0])) is None
