"""Recordings in the order of time: noise that lasts is smooth over a heading that changes slowly, and is no tuning."""

from typing import Any

import numpy as np
import pytest

from mechfourier import ProbeResult, probe_activations
from mechfourier.probes.arrays.recording import follow, lasting, possible

FAST: dict[str, Any] = {"n_permutations": 99}


def heading(rows: int, step: float, seed: int) -> np.ndarray:
    return np.cumsum(np.random.default_rng(seed).normal(0, step, rows)) % 360


def lasting_noise(rows: int, d: int, keeps: float, seed: int) -> np.ndarray:
    draw = np.random.default_rng(seed).normal(size=(rows, d)) * np.sqrt(1 - keeps**2)
    for row in range(1, rows):
        draw[row] += keeps * draw[row - 1]
    return draw


def spikes(angle: np.ndarray, neurons: int = 60, seed: int = 0) -> np.ndarray:
    """Poisson counts of neurons that each prefer a direction."""
    preferred = np.arange(neurons) * 360 / neurons
    rates = 0.2 + 4 * np.exp(2 * (np.cos(np.radians(angle[:, None] - preferred)) - 1))
    return np.random.default_rng(seed).poisson(rates).astype(np.float32)


@pytest.mark.parametrize("keeps", [pytest.param(0.9, marks=pytest.mark.slow), 0.98, 1.0])
def test_lasting_noise_is_no_ring(keeps: float) -> None:
    words = []
    for seed in range(2):
        angle = heading(2500, 20, seed)
        acts = lasting_noise(2500, 30, min(keeps, 0.9999), seed + 10)
        words.append(probe_activations(acts, "degrees", labels=angle, **FAST).verdict)
    assert "circular" not in words and set(words) & {"noise", "not testable"}, words


def test_a_simulated_head_direction_system() -> None:
    angle = heading(3000, 20, 1)
    found = probe_activations(spikes(angle), "degrees", labels=angle, **FAST)
    assert isinstance(found, ProbeResult) and found.verdict == "circular", found
    slow = spikes(angle) + 2 * lasting_noise(3000, 60, 0.9, 2).astype(np.float32)
    found = probe_activations(slow, "degrees", labels=angle, **FAST)
    assert isinstance(found, ProbeResult) and found.verdict in ("circular", "not testable")
    assert any("stretches" in text for text in (*found.notes, *found.reasons))


def test_how_long_noise_lasts() -> None:
    turns = np.random.default_rng(0).uniform(size=4000)
    assert lasting(lasting_noise(4000, 40, 0.0, 1), turns) < 1.3
    assert lasting(lasting_noise(4000, 40, 0.9, 1), turns) == pytest.approx(19, rel=0.3)  # (1 + ρ)/(1 − ρ)
    small = lasting_noise(4000, 40, 0.0, 1) + 0.2 * lasting_noise(4000, 40, 0.99, 2)
    assert lasting(small, turns) > 4  # what means keep
    assert (
        possible(4000, 1.0) == (12, 8, 6) and possible(4000, 40.0) == (8, 6) and possible(4000, 400.0) == ()
    )


def test_what_follows_in_time() -> None:
    assert follow(heading(1000, 20, 0) / 360)
    assert not follow(np.random.default_rng(0).uniform(size=1000))
    assert not follow(
        np.sort(np.random.default_rng(0).uniform(size=1000))
    )  # one sweep: a note says what that means


def test_values_that_follow_each_other_are_cut_in_time_too() -> None:
    days = np.arange(700) % 7
    noise = lasting_noise(700, 30, 0.97, 3)
    found = probe_activations(noise, "days", labels=days, **FAST)
    assert found.verdict in ("noise", "not testable", "values distinguishable")
    told = " ".join((*found.notes, *found.reasons))
    assert "stretches" in told
