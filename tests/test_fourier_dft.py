import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mechfourier.errors import OutOfRange
from mechfourier.fourier.dft import (
    fourier_coefficients,
    fourier_coefficients_2d,
    frequency_power,
    frequency_power_2d,
    line_power,
    norm_by_component,
    power_share,
    sum_line_share,
)


def _noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@given(n=st.integers(2, 40), seed=st.integers(0, 1000))
def test_parseval_in_one_dimension(n: int, seed: int) -> None:
    y = _noise(n, 3, seed=seed)
    torch.testing.assert_close(frequency_power(y).sum(0), (y**2).sum(0))
    torch.testing.assert_close(norm_by_component(y) ** 2, (fourier_coefficients(y) ** 2).sum(1))


@given(n=st.integers(2, 14), m=st.integers(2, 14), seed=st.integers(0, 1000))
def test_parseval_on_a_grid(n: int, m: int, seed: int) -> None:
    y = _noise(n, m, 2, seed=seed)
    torch.testing.assert_close(frequency_power_2d(y).sum((0, 1)), (y**2).sum((0, 1)))
    torch.testing.assert_close((fourier_coefficients_2d(y) ** 2).sum((0, 1)), (y**2).sum((0, 1)))


@given(n=st.integers(2, 40), seed=st.integers(0, 1000))
def test_power_agrees_with_the_fft(n: int, seed: int) -> None:
    y = _noise(n, seed=seed)
    fft = torch.fft.rfft(y, norm="ortho").abs() ** 2
    weight = torch.full_like(fft, 2.0)
    weight[0] = 1.0
    if n % 2 == 0:
        weight[-1] = 1.0
    torch.testing.assert_close(frequency_power(y), fft * weight)


def test_a_constant_has_no_share_anywhere() -> None:
    assert power_share(torch.full((7, 2), 3.3, dtype=torch.float64)).sum() == 0
    assert power_share(torch.zeros(8)).sum() == 0


@given(
    n=st.integers(3, 17),
    cycles=st.integers(1, 4),
    k=st.integers(1, 8),
    kind=st.sampled_from(["sum", "difference", "a_only", "b_only"]),
    phase=st.floats(0.1, 1.4),
)
def test_a_planted_wave_lies_on_its_own_line(n: int, cycles: int, k: int, kind: str, phase: float) -> None:
    k = 1 + (k - 1) % (n // 2)
    a, b = torch.arange(n).double()[:, None], torch.arange(n * cycles).double()[None, :]
    argument = {"sum": a + b, "difference": a - b, "a_only": a + 0 * b, "b_only": b + 0 * a}[kind]
    y = torch.cos(2 * math.pi * k * argument / n + phase) + 0.5
    share = line_power(y).share()
    expected = "sum" if kind == "difference" and 2 * k == n else kind
    assert getattr(share, expected)[k - 1] == pytest.approx(1.0, abs=1e-9)
    assert share.rest == pytest.approx(0.0, abs=1e-9)


@given(n=st.integers(2, 14), cycles=st.integers(1, 3), seed=st.integers(0, 1000))
def test_the_lines_and_the_rest_are_everything(n: int, cycles: int, seed: int) -> None:
    y = _noise(n, n * cycles, 2, seed=seed)
    lines = line_power(y)
    torch.testing.assert_close(lines.total, (y**2).sum((0, 1)))
    shares = lines.share()
    torch.testing.assert_close(shares.total, torch.ones(2, dtype=torch.float64))


def test_any_function_of_the_residue_class_is_on_the_sum_line() -> None:
    a, b = torch.arange(11)[:, None], torch.arange(11)[None, :]
    y = _noise(11, 4)[(a + b) % 11]
    torch.testing.assert_close(sum_line_share(y).sum(0), torch.ones(4, dtype=torch.float64))


def test_a_grid_of_broken_cycles_is_refused() -> None:
    with pytest.raises(OutOfRange, match="7 × 10"):
        line_power(torch.zeros(7, 10))
