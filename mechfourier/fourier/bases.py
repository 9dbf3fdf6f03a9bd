"""The orthonormal real Fourier basis on Z_n.

Rows, in order: the constant 1/√n; for k = 1, 2, … below n/2 the pair √(2/n)·cos(2πkv/n), √(2/n)·sin(2πkv/n);
and, where n is even, the Nyquist row (−1)^v/√n. Every row has length 1 and they are orthogonal, so the
squared coefficients of a function add up to its sum of squares (Parseval). Frequencies are in cycles per n
values.
"""

import functools

import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor

from mechfourier.errors import OutOfRange
from mechfourier.fourier.waves import harmonic_waves


def n_frequencies(n: int) -> int:
    """The number of frequencies above 0 on Z_n: ⌊n/2⌋ (the last is the Nyquist frequency where n is even)."""
    if n < 1:
        raise OutOfRange(f"a cycle of {n} values does not exist; n must be at least 1")
    return n // 2


def degrees_of_freedom(n: int) -> Int[Tensor, " freq"]:
    """Basis rows per frequency 0..⌊n/2⌋: 1 for the constant and Nyquist, 2 for every other."""
    dof = torch.full((n_frequencies(n) + 1,), 2)
    dof[0] = 1
    if n % 2 == 0:
        dof[-1] = 1
    return dof


def row_frequencies(n: int) -> Int[Tensor, " component"]:
    """The frequency of every row of :func:`fourier_basis`: 0, 1, 1, 2, 2, …"""
    return torch.repeat_interleave(torch.arange(n_frequencies(n) + 1), degrees_of_freedom(n))


@functools.lru_cache(maxsize=64)
def _basis64(n: int) -> Tensor:
    rows = rearrange(harmonic_waves(n, range(n_frequencies(n) + 1)), "v k pair -> (k pair) v")
    keep = torch.ones(len(rows), dtype=torch.bool)
    keep[1] = False
    if n % 2 == 0:
        keep[-1] = False
    rows = rows[keep]
    return rows / torch.linalg.norm(rows, dim=1, keepdim=True)


def fourier_basis(n: int, *, dtype: torch.dtype = torch.float64) -> Float[Tensor, "n n"]:
    """The orthonormal real Fourier basis on Z_n, one row per component (the module says in which order)."""
    n_frequencies(n)
    return _basis64(n).to(dtype).clone()


def frequency_rows(n: int, k: int) -> slice:
    """The rows of :func:`fourier_basis` that belong to frequency ``k``; raises ``OutOfRange`` outside
    0..⌊n/2⌋."""
    check_frequency(n, k)
    if k == 0:
        return slice(0, 1)
    return slice(2 * k - 1, min(2 * k + 1, n))


def check_frequency(n: int, k: int) -> None:
    """Raise ``OutOfRange`` where ``k`` is no frequency of a cycle of ``n`` values."""
    if not 0 <= k <= n_frequencies(n):
        raise OutOfRange(f"frequency {k} is outside 0..{n_frequencies(n)} of a cycle of {n} values")


def fold_frequency(k: int, n: int) -> int:
    """The frequency in 0..⌊n/2⌋ that looks like ``k`` on Z_n: k and n − k are the same circle, turned the
    other way."""
    k %= n
    return min(k, n - k)
