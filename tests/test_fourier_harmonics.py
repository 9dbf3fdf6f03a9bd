import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mechfourier.errors import OutOfRange
from mechfourier.fourier.dft import power_share
from mechfourier.fourier.harmonics import fit_harmonic, harmonic_design, harmonic_r2, partial_r2, r2_bound


def _noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@given(n=st.integers(3, 40), seed=st.integers(0, 1000))
def test_r2_on_a_full_cycle_is_the_share_of_power(n: int, seed: int) -> None:
    y = _noise(n, 4, seed=seed) + 5.0
    torch.testing.assert_close(harmonic_r2(y), power_share(y), atol=1e-10, rtol=0)


@given(n=st.integers(3, 30), k=st.integers(1, 15), seed=st.integers(0, 1000))
def test_one_fit_and_all_fits_agree_on_any_values(n: int, k: int, seed: int) -> None:
    k = 1 + (k - 1) % (n // 2)
    values = torch.randint(0, n, (2 * n,), generator=torch.Generator().manual_seed(seed)).double()
    y = _noise(2 * n, 3, seed=seed)
    fit = fit_harmonic(y, k, n=n, values=values)
    torch.testing.assert_close(harmonic_r2(y, values=values, n=n)[k - 1], fit.r2, atol=1e-9, rtol=0)
    left = ((y - fit.predict(values)) ** 2).sum(0) / ((y - y.mean(0)) ** 2).sum(0)
    torch.testing.assert_close(1 - left, fit.r2, atol=1e-9, rtol=0)


@given(
    n=st.integers(3, 30),
    k=st.integers(1, 14),
    amplitude=st.floats(0.1, 10),
    turn=st.floats(0.05, 0.95),
    mean=st.floats(-5, 5),
)
def test_a_planted_harmonic_is_recovered(n: int, k: int, amplitude: float, turn: float, mean: float) -> None:
    k = 1 + (k - 1) % ((n - 1) // 2)
    peak = turn * n / k
    v = torch.arange(n).double()
    y = (mean + amplitude * torch.cos(2 * math.pi * k * (v - peak) / n))[:, None]
    fit = fit_harmonic(y, k)
    assert fit.intercept.item() == pytest.approx(mean, abs=1e-9)
    assert fit.amplitude.item() == pytest.approx(amplitude, rel=1e-9)
    assert fit.peak.item() == pytest.approx(peak, abs=1e-6)
    assert fit.r2.item() == pytest.approx(1.0)


def test_partial_r2_counts_only_what_the_confounds_leave() -> None:
    n = 24
    v = torch.arange(n).double()
    circle = harmonic_design(v, float(n), harmonics=(2,))
    ramp = v[:, None]
    y = 3 * circle @ torch.tensor([[0.6], [0.8]], dtype=torch.float64) + 100 * ramp
    assert harmonic_r2(y)[1].item() < 0.5
    assert partial_r2(y, circle, ramp).item() == pytest.approx(1.0)
    assert partial_r2(y, circle, circle).item() == 0.0
    assert partial_r2(ramp, circle, ramp).item() == pytest.approx(0.0, abs=1e-9)


def test_the_bound_reproduces_the_published_thresholds_and_noise_respects_it() -> None:
    assert r2_bound(7, 1024 * 3) == pytest.approx(0.996, abs=1e-3)
    assert r2_bound(23, 1024 * 11) == pytest.approx(0.708, abs=1e-3)
    best = harmonic_r2(_noise(13, 20_000, seed=3))[0].reshape(200, 100).max(1).values
    over = (best > r2_bound(13, 100)).double().mean().item()
    assert 0.01 < over < 0.10
    assert r2_bound(3, 1) == 1.0
    with pytest.raises(OutOfRange):
        r2_bound(7, 0)


def test_wrong_frequency_and_wrong_number_of_values_are_refused() -> None:
    with pytest.raises(OutOfRange, match="harmonic 4"):
        fit_harmonic(_noise(7, 1), 4)
    with pytest.raises(OutOfRange, match="6 values for 7 rows"):
        harmonic_r2(_noise(7, 1), values=torch.arange(6).double())
