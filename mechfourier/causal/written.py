"""Fourier components of the answer's logits: which harmonics write the answer, and which part of the model
writes each."""

from dataclasses import dataclass

import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor

from mechfourier.fourier.bases import n_frequencies, row_frequencies
from mechfourier.fourier.dft import fourier_coefficients, line_power


@dataclass(frozen=True)
class Harmonic:
    """``share``: of the variance of the choices' logits over the (a, offset) grid, what is cos or sin of
    2πk(a + offset)/n. ``written_by``: how that is made up of the parts of the model (adds up to 1; a part may
    work against the rest)."""

    k: int
    share: float
    written_by: dict[str, float]


@dataclass(frozen=True)
class GridShares:
    """Shares of the variance of the choices' logits over the (a, offset) grid: functions of the ``sum`` (the
    answer), of the ``difference``, of ``a_only``, of ``offset_only``, and the ``rest``."""

    sum: float
    difference: float
    a_only: float
    offset_only: float
    rest: float


def grid_shares(logits: Float[Tensor, "prompt choice"], shape: tuple[int, int]) -> GridShares:
    """Where the variance of the logits lies, all choices together."""
    grid = rearrange(_relative(logits.double()), "(a o) choice -> a o choice", a=shape[0])
    whole = max(float((grid - grid.mean(dim=(0, 1))).square().sum()), 1e-300)
    power = line_power(grid)
    lines = (power.sum, power.difference, power.a_only, power.b_only, power.rest)
    return GridShares(*(float(line.sum()) / whole for line in lines))


def harmonics_of(
    class_logits: dict[str, Float[Tensor, "n choice"]],
    n: int,
    logits: Float[Tensor, "prompt choice"],
    label: Int[Tensor, " prompt"],
) -> tuple[Harmonic, ...]:
    """Every harmonic k = 1..⌊n/2⌋ of the answer ``label`` in ``logits``, split over the parts whose logits,
    averaged over the prompts of each answer (as many for each), are ``class_logits``.

    The mean over the prompts of an answer is the projection on the sum line. Power is quadratic, so a part is
    credited with the inner product of its own component with the whole one.
    """
    relative, at = _relative(logits.double()), row_frequencies(n)
    whole = max(float((relative - relative.mean(dim=0)).square().sum()), 1e-300)
    means = (
        torch.zeros(n, logits.shape[1], dtype=torch.float64).index_add_(0, label, relative) * n / len(logits)
    )
    shares = _per_harmonic(fourier_coefficients(means).square(), n, at) * (len(logits) / n) / whole
    own = {name: fourier_coefficients(_relative(value)) for name, value in class_logits.items()}
    total = torch.stack(list(own.values())).sum(dim=0)
    norm = _per_harmonic(total.square(), n, at).clamp(min=1e-300)
    written = {name: (_per_harmonic(value * total, n, at) / norm).tolist() for name, value in own.items()}
    return tuple(
        Harmonic(k + 1, share, {name: values[k] for name, values in written.items()})
        for k, share in enumerate(shares.tolist())
    )


def _per_harmonic(rows: Float[Tensor, "n choice"], n: int, at: Int[Tensor, " n"]) -> Float[Tensor, " freq"]:
    """Sums over the rows of every frequency, without the constant."""
    sums = torch.zeros(n_frequencies(n) + 1, dtype=torch.float64)
    return sums.index_add_(0, at, rows.sum(dim=1))[1:]


def _relative(values: Float[Tensor, "row choice"]) -> Float[Tensor, "row choice"]:
    """What all choices share says nothing about the answer and is taken out."""
    return values - values.mean(dim=1, keepdim=True)
