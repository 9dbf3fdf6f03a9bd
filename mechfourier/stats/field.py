"""What the operands make together: the circle of their sum against every other combination, a − o first of
all."""

import math
from dataclasses import dataclass

import torch
from einops import rearrange
from jaxtyping import Float
from scipy.special import gammaincc
from torch import Tensor

from mechfourier.fourier.waves import waves
from mechfourier.stats.confounds import Grid
from mechfourier.stats.specificity import (
    NOISE_SPREADS,
    Floor,
    planes,
    smaller_eigenvalue,
    smaller_singular_energy,
)


@dataclass(frozen=True)
class Field:
    """T of the sum's circle over the best other combination of the operands (``ratio``, its ``name``), and
    how far it stands above a − o (``difference``: in T or in energy, whichever is less). ``other_p``: of any
    combination that is no sum, ``strongest``.
    """

    ratio: float
    name: str
    difference: float
    other_p: float
    strongest: str


def field_contest(grid: Grid, residual: Float[Tensor, "cell d"], floor: Floor, k: int) -> Field:
    """T at (k/n, k/n) over the best T at the same frequency along *one* operand and any other along the
    other.

    A field that is smooth over both operands has every low frequency, a product of a function of a with one
    of o has (k, l) with (k, k), and a circle of a times a circle of o, or a layer with random weights that
    reads both, has a − o as strongly as a + o (a layer that reads both through the same weights only its
    cosine); a circle of the sum has one pair per harmonic. Where the operands can be exchanged a − o has no
    sine to make a circle of; there all but ±k are compared, and doubled: for a product the folded T is 4
    |S(k)|² |V|² at (k, k) and 2 (|S(k)|² + |S(l)|²) |V|² at (k, l).
    """
    plane, left = _sum_plane(grid, k)
    if grid.exchangeable:
        left = 1.0  # the cells with a = o are missing from all pairs of frequencies alike
    scores = plane @ residual
    own = (float(smaller_singular_energy(scores)) - floor.mean) / left
    own_energy = (float(scores.pow(2).sum()) / 2 - floor.energy) / left
    small, energy = field_spectrum(grid, residual)
    spectrum = small - floor.mean
    k_o = k * grid.full_cycles
    least = max(NOISE_SPREADS * floor.spread, 1e-9 * float(residual.pow(2).sum()), 1e-300)
    away = float(spectrum[k, -k_o]), float(energy[k, -k_o]) / 2 - floor.energy
    single = least / 4  # noise of one pair, not the largest of many
    over = min(own / max(away[0], single), own_energy / max(away[1], single))
    compared = torch.full_like(spectrum, -torch.inf)
    compared[k], compared[:, k_o] = spectrum[k], spectrum[:, k_o]
    compared[:, 0], compared[0], compared[k, k_o] = -torch.inf, -torch.inf, -torch.inf
    if grid.exchangeable:
        compared[k, -k_o], compared[-k, k_o] = -torch.inf, -torch.inf
        compared, over = 2 * (2 * compared), torch.inf  # the mean of twins holds half of a wave
    j, at = divmod(int(compared.argmax()), spectrum.shape[1])
    p, strongest = _other(grid, small, floor)
    return Field(own / max(float(compared.max()), least), combination(grid, j, at), over, p, strongest)


def field_spectrum(
    grid: Grid, residual: Float[Tensor, "cell d"]
) -> tuple[Float[Tensor, "n offsets"], Float[Tensor, "n offsets"]]:
    """T and the energy of every pair of frequencies (j/n along a, l/whole cycles along o), from the 2-D DFT
    over whole cycles.
    """
    cube = rearrange(residual, "(a o) d -> a o d", a=grid.n)[:, : grid.full_cycles * grid.n]
    coefficients = torch.fft.fft2(cube, dim=(0, 1), norm="ortho") * 2**0.5
    real, imaginary = coefficients.real, coefficients.imag
    a, b, c = real.square().sum(-1), imaginary.square().sum(-1), (real * imaginary).sum(-1)
    return smaller_eigenvalue(a, b, c), a + b


def _other(grid: Grid, small: Float[Tensor, "n offsets"], floor: Floor) -> tuple[float, str]:
    """(p, name) of the strongest pair of frequencies that is no function of the sum: T of noise taken as
    Gamma, Bonferroni.
    """
    cycles = grid.full_cycles
    j, at = torch.arange(small.shape[0])[:, None], torch.arange(small.shape[1])[None]
    sums = (j * cycles - at).abs() <= cycles // 2
    kept = torch.where(sums | (j == 0) | (at == 0) | (2 * j > grid.n), 0.0, small)
    best = int(kept.argmax())
    if floor.mean <= 0 or floor.spread <= 0:
        return 1.0, combination(grid, *divmod(best, small.shape[1]))
    shape, scale = (floor.mean / floor.spread) ** 2, floor.spread**2 / floor.mean
    tail = float(gammaincc(shape, float(kept.max()) / scale))
    return min(1.0, tail * small.numel() / 2), combination(grid, *divmod(best, small.shape[1]))


def combination(grid: Grid, j: int, at: int) -> str:
    """What the wave of frequencies j/n along a and at/(whole cycles) along o is a function of: "a − o", "2a
    + o".
    """
    size = grid.full_cycles * grid.n
    j, at = (j - grid.n if 2 * j > grid.n else j), (at - size if 2 * at > size else at)
    if at % grid.full_cycles or not j:
        return f"a wave of {j} turn{'s' * (j != 1)} over a and {at} over o"
    over = at // grid.full_cycles
    common = math.gcd(j, over) * (1 if j > 0 else -1)
    first, second = j // common, over // common
    return f"{_times(first)}a {'+' if second > 0 else '−'} {_times(abs(second))}o"


def _times(factor: int) -> str:
    return "" if factor == 1 else str(factor)


def _sum_plane(grid: Grid, k: int) -> tuple[Float[Tensor, "2 cell"], float]:
    """The plane of the sum's harmonic k over whole cycles, and the share of its weaker wave that the
    confounds leave.
    """
    used = (grid.offset - grid.first_offset) < grid.full_cycles * grid.n
    pair = grid.residual(waves(k * grid.raw_sum.double() / grid.n) * used[:, None]).T
    return planes(pair), float(smaller_singular_energy(pair)) / (0.5 * int(used.sum()))
