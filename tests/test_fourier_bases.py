import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mechfourier.errors import OutOfRange
from mechfourier.fourier.bases import (
    degrees_of_freedom,
    fold_frequency,
    fourier_basis,
    frequency_rows,
    row_frequencies,
)


@given(n=st.integers(1, 80))
def test_rows_are_orthonormal(n: int) -> None:
    basis = fourier_basis(n)
    assert basis.shape == (n, n)
    torch.testing.assert_close(basis @ basis.T, torch.eye(n, dtype=torch.float64), atol=1e-12, rtol=0)


@given(n=st.integers(2, 80), k=st.integers(0, 40))
def test_rows_of_a_frequency_span_its_cosines_at_any_phase(n: int, k: int) -> None:
    if k > n // 2:
        with pytest.raises(OutOfRange, match=str(k)):
            frequency_rows(n, k)
        return
    rows = fourier_basis(n)[frequency_rows(n, k)]
    assert len(rows) == degrees_of_freedom(n)[k]
    wave = torch.cos(2 * torch.pi * ((k * torch.arange(n)) % n).double() / n + 0.7)
    torch.testing.assert_close(rows.T @ (rows @ wave), wave, atol=1e-12, rtol=0)


def test_row_frequencies_name_the_nyquist_row_of_even_n() -> None:
    assert row_frequencies(7).tolist() == [0, 1, 1, 2, 2, 3, 3]
    assert row_frequencies(6).tolist() == [0, 1, 1, 2, 2, 3]


def test_the_basis_handed_out_cannot_spoil_the_next_one() -> None:
    fourier_basis(5).zero_()
    assert fourier_basis(5).abs().sum() > 0


@given(n=st.integers(2, 60), k=st.integers(-200, 200))
def test_folded_frequency_is_the_same_cosine(n: int, k: int) -> None:
    folded = fold_frequency(k, n)
    assert 0 <= folded <= n // 2
    v = torch.arange(n)
    torch.testing.assert_close(
        torch.cos(2 * torch.pi * ((k * v) % n).double() / n),
        torch.cos(2 * torch.pi * ((folded * v) % n).double() / n),
    )
