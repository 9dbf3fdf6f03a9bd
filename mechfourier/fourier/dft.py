"""Power spectra of functions on Z_n and on the grid Z_n × Z_n.

Power is the sum of squared coefficients in the orthonormal basis of :mod:`mechfourier.fourier.bases`, so the
powers of a function add up to its sum of squares. The first axes are the values; every further axis is
carried along.
"""

from dataclasses import dataclass

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from mechfourier.errors import OutOfRange
from mechfourier.fourier.bases import fourier_basis, n_frequencies, row_frequencies


def fourier_coefficients(y: Float[Tensor, "n *rest"]) -> Float[Tensor, "n *rest"]:
    """The coefficients of ``y`` (first axis: the n values) in the orthonormal real Fourier basis."""
    return torch.tensordot(fourier_basis(len(y), dtype=y.dtype).to(y.device), y, dims=1)


def frequency_power(y: Float[Tensor, "n *rest"]) -> Float[Tensor, "freq *rest"]:
    """Power of ``y`` at the frequencies 0..⌊n/2⌋ (index = frequency; the sum over them is the sum of
    ``y²``)."""
    n = len(y)
    power = fourier_coefficients(y) ** 2
    out = power.new_zeros(n_frequencies(n) + 1, *y.shape[1:])
    return out.index_add_(0, row_frequencies(n).to(y.device), power)


def power_share(y: Float[Tensor, "n *rest"]) -> Float[Tensor, "freq *rest"]:
    """Share of the power above frequency 0 at the frequencies 1..⌊n/2⌋ (row 0 is k = 1); 0 where ``y`` is
    constant."""
    power = frequency_power(y)[1:]
    total = power.sum(0, keepdim=True)
    floor = torch.finfo(y.dtype).eps ** 2 * (y**2).sum(
        0, keepdim=True
    )  # below this it is rounding of a constant
    return torch.where(total > floor, power / total.clamp_min(torch.finfo(y.dtype).tiny), 0.0)


def norm_by_component(y: Float[Tensor, "n d"]) -> Float[Tensor, " n"]:
    """Euclidean norm over ``d`` of every Fourier component: what Nanda et al. (2023, figure 3) plot for W_E
    and W_L."""
    return torch.linalg.norm(fourier_coefficients(y), dim=1)


def fourier_coefficients_2d(y: Float[Tensor, "n m *rest"]) -> Float[Tensor, "n m *rest"]:
    """Coefficients on the grid in the product basis: entry [i, j] belongs to row i of the basis of Z_n times
    row j of Z_m."""
    half = fourier_coefficients(y)
    return rearrange(fourier_coefficients(rearrange(half, "n m ... -> m n ...")), "m n ... -> n m ...")


def frequency_power_2d(y: Float[Tensor, "n m *rest"]) -> Float[Tensor, "freq_a freq_b *rest"]:
    """Power at every pair of frequencies (|k_a|, |k_b|); sums to the sum of ``y²``.

    It does not tell a + b from a − b: see :func:`line_power`.
    """
    n, m = y.shape[:2]
    power = fourier_coefficients_2d(y) ** 2
    rows = power.new_zeros(n_frequencies(n) + 1, m, *y.shape[2:])
    rows.index_add_(0, row_frequencies(n).to(y.device), power)
    out = power.new_zeros(n_frequencies(n) + 1, n_frequencies(m) + 1, *y.shape[2:])
    return out.index_add_(1, row_frequencies(m).to(y.device), rows)


@dataclass(frozen=True)
class LinePower:
    """Where the power of a function of (a, b) lies, per frequency k = 1..⌊n/2⌋ (axis 0, row 0 is k = 1).

    ``sum``: functions cos/sin(2πk(a+b)/n); ``difference``: cos/sin(2πk(a−b)/n); ``a_only``, ``b_only``:
    functions of one operand; ``constant``: the squared mean times the number of cells; ``rest``: everything
    else, over all frequencies. The five and ``rest`` add up to the sum of squares.
    """

    sum: Tensor
    difference: Tensor
    a_only: Tensor
    b_only: Tensor
    constant: Tensor
    rest: Tensor

    @property
    def total(self) -> Tensor:
        """The sum of squares of the function, the constant included."""
        lines = self.sum.sum(0) + self.difference.sum(0) + self.a_only.sum(0) + self.b_only.sum(0)
        return lines + self.constant + self.rest

    def share(self) -> "LinePower":
        """The same as shares of the variance (the constant apart); 0 everywhere for a constant function."""
        total = self.total
        variance = total - self.constant
        scale = torch.where(
            variance > 1e-12 * total, 1 / variance.clamp_min(torch.finfo(variance.dtype).tiny), 0.0
        )
        return LinePower(
            self.sum * scale,
            self.difference * scale,
            self.a_only * scale,
            self.b_only * scale,
            self.constant * 0,
            self.rest * scale,
        )


def line_power(y: Float[Tensor, "n m *rest"]) -> LinePower:
    """Power on the sum line, the difference line and the two axes of the 2-D spectrum of ``y[a, b]``.

    ``m`` must be a whole number of cycles of ``n`` (b = 0..m−1); frequencies are in cycles per n values on
    both axes. At the Nyquist frequency a + b and a − b are the same function; its power counts as the sum
    line. Raises ``OutOfRange`` where ``m`` is no multiple of ``n``.
    """
    n, m = y.shape[:2]
    if m % n:
        raise OutOfRange(f"a grid of {n} × {m} cells does not hold whole cycles of {n} in its second axis")
    power = torch.fft.fft2(y, dim=(0, 1), norm="ortho").abs() ** 2
    k = torch.arange(1, n_frequencies(n) + 1, device=y.device)
    kb = k * (m // n)
    both = torch.where(2 * k == n, 1.0, 2.0).to(y.dtype)  # k and −k, which coincide at Nyquist
    weight = both.reshape(-1, *[1] * (y.ndim - 2))
    apart = torch.where(2 * k == n, 0.0, 2.0).to(y.dtype).reshape(weight.shape)
    total, constant = (y**2).sum((0, 1)), power[0, 0]
    on_sum, on_difference = power[k, kb] * weight, power[k, m - kb] * apart
    a_only, b_only = power[k, 0] * weight, power[0, kb] * weight
    found = (on_sum + on_difference + a_only + b_only).sum(0)
    return LinePower(
        on_sum, on_difference, a_only, b_only, constant, (total - constant - found).clamp_min(0.0)
    )


def sum_line_share(y: Float[Tensor, "n m *rest"]) -> Float[Tensor, "freq *rest"]:
    """Share of the variance of ``y[a, b]`` that is cos/sin(2πk(a+b)/n), per k = 1..⌊n/2⌋."""
    return line_power(y).share().sum
