"""Functions of the residue class: the n class effects of an operation grid, confounds partialled out, and
their harmonics.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from mechfourier.fourier.waves import waves
from mechfourier.stats.class_shapes import ShapeContest, shape_contest
from mechfourier.stats.confounds import Grid

PERMUTED_CLASSES = 499


def class_effects(
    columns: Float[Tensor, "cell n"], residual: Float[Tensor, "cell d"]
) -> Float[Tensor, "n d"]:
    """Effects of the residue classes in the residual space, in symmetrically orthonormalised coordinates
    (Löwdin).

    ``columns``: class indicators, confounds removed. Noise stays equal and independent over classes; a
    harmonic that the confounds overlap comes out weaker, not noisier (least-squares effects beside the
    confounds would show noise concentrated on it).
    """
    values, vectors = _spectrum(columns.T @ columns)
    root = vectors / values.sqrt() @ vectors.T
    effects = root @ (columns.T @ residual.double())
    return effects - effects.mean(0)


def seen_through(grid: Grid) -> Float[Tensor, "n n"]:
    """What makes class means (a direction per class, say) the effects of `class_effects`: the root of CᵀC."""
    values, vectors = _spectrum(grid.class_gram)
    return vectors * values.sqrt() @ vectors.T


def _spectrum(gram: Float[Tensor, "n n"]) -> tuple[Float[Tensor, " kept"], Float[Tensor, "n kept"]]:
    values, vectors = torch.linalg.eigh(gram)
    kept = values > 1e-9 * values[-1].clamp_min(1e-300)
    return values[kept], vectors[:, kept]


def harmonic_power(effects: Float[Tensor, "n d"]) -> Float[Tensor, " k"]:
    """Power of the class effects at k = 1 … n // 2, summed over dimensions; sums to the total (Parseval)."""
    n = effects.shape[0]
    power = torch.fft.rfft(effects, dim=0).abs().pow(2).sum(1)[1:] * 2 / n
    if n % 2 == 0:
        power[-1] = power[-1] / 2
    return power


def common_divisor(n: int, harmonics: tuple[int, ...], strength: Float[Tensor, " k"]) -> int:
    """The greatest common divisor of n and of all harmonics at least half as strong as the strongest."""
    bar = 0.5 * float(strength.max())
    return math.gcd(n, *(k for k, t in zip(harmonics, strength.tolist(), strict=True) if t >= bar))


def class_contest(
    grid: Grid, effects: Float[Tensor, "n d"], noise: float, common: int, k: int, seed: int
) -> ShapeContest:
    """The shapes of the n / ``common`` classes that differ, in the order of harmonic k where it passes all.

    ``noise``: energy of the noise in the effect of one class.
    """
    n = effects.shape[0]
    step = k // common if math.gcd(k, n) == common else 1
    gram = effects @ effects.T
    return shape_contest(
        without_identity(gram, grid, noise),
        classes=n // common,
        step=step,
        permutations=PERMUTED_CLASSES,
        seed=seed,
        power=float(gram.diagonal().mean()) / common,
        through=seen_through(grid),
    )


def without_identity(gram: Float[Tensor, "n n"], grid: Grid, noise: float) -> Float[Tensor, "n n"]:
    """``gram`` less what a direction of its own for every class would give it.

    Where the confounds overlap a harmonic, a direction per class comes out weaker there, and that alone is a
    likeness that depends on the distance round the cycle. Its power is that of the weakest harmonic.
    """
    identity = grid.class_gram * (grid.n / grid.cells)
    full, own = (
        harmonic_power_of(identity),
        harmonic_power_of(gram - noise * torch.eye(grid.n, dtype=gram.dtype)),
    )
    kept = full > 0.1 * full.max()
    return gram - float((own / full)[kept].min().clamp_min(0)) * identity


def harmonic_power_of(gram: Float[Tensor, "n n"]) -> Float[Tensor, " k"]:
    """Power per quadrature at k = 1 … n // 2 of effects with this Gram matrix."""
    n = gram.shape[0]
    return torch.fft.ifft(torch.fft.fft(gram, dim=0), dim=1).diagonal().real[1 : n // 2 + 1]


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
