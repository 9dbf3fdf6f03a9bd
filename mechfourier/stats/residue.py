"""Functions of the residue class: the n class effects of an operation grid, confounds partialled out, and
their harmonics.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from mechfourier.fourier.waves import waves
from mechfourier.stats.confounds import Grid


def class_effects(
    columns: Float[Tensor, "cell n"], residual: Float[Tensor, "cell d"]
) -> Float[Tensor, "n d"]:
    """Effects of the residue classes in the residual space, in symmetrically orthonormalised coordinates
    (Löwdin).

    ``columns``: class indicators, confounds removed. Noise stays equal and independent over classes; a
    harmonic that the confounds overlap comes out weaker, not noisier (least-squares effects beside the
    confounds would show noise concentrated on it).
    """
    values, vectors = torch.linalg.eigh(columns.T @ columns)
    kept = values > 1e-9 * values[-1].clamp_min(1e-300)
    root = vectors[:, kept] / values[kept].sqrt() @ vectors[:, kept].T
    effects = root @ (columns.T @ residual.double())
    return effects - effects.mean(0)


def harmonic_power(effects: Float[Tensor, "n d"]) -> Float[Tensor, " k"]:
    """Power of the class effects at k = 1 … n // 2, summed over dimensions; sums to the total (Parseval)."""
    n = effects.shape[0]
    power = torch.fft.rfft(effects, dim=0).abs().pow(2).sum(1)[1:] * 2 / n
    if n % 2 == 0:
        power[-1] = power[-1] / 2
    return power


def wrap_transfer(grid: Grid, activations: Float[Tensor, " cell"], k: int) -> float:
    """R² on the cells past the first wrap of a constant and harmonic k fitted before it (a + o < n).

    1 for a pure modular cosine, below 0 for a function of the raw sum; reported, not decisive.
    """
    wave = waves(k * grid.raw_sum.double() / grid.n)
    design = torch.cat([torch.ones_like(wave[:, :1]), wave], 1)
    before = grid.raw_sum < grid.n
    if int(before.sum()) < 4 or int((~before).sum()) < 4:
        return math.nan
    y = activations.double()
    fit = torch.linalg.lstsq(design[before], y[before, None]).solution
    rest = y[~before]
    total = float((rest - rest.mean()).pow(2).sum())
    return 1 - float((rest - (design[~before] @ fit)[:, 0]).pow(2).sum()) / total if total > 0 else math.nan
