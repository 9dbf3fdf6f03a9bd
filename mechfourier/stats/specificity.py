"""Period specificity: is *exactly n* special, or does any function of the raw sum do as well?

All of it happens in the small space of functions of the raw sum, confounds removed (``Grid.sum_basis``, at
most n + offsets dimensions), and only through inner products of activations: the width of the model does
not matter.
"""

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor

from mechfourier.fourier.waves import waves
from mechfourier.stats.confounds import Grid, one_hot, orthonormal

MIN_PERIODS = 3.5
"""A harmonic is testable when the raw sum runs through at least so many of its periods."""
OVERSAMPLING = 6
EXCLUSION = 0.75
"""Frequencies closer than this to a harmonic of n, in units of 1 / range of the sum, are not compared with
it.
"""
MIN_SURVIVING = 0.2
"""A period is left out when the confounds take more than 1 - this of one of its quadratures."""
MIN_COMPARED = 0.03
"""The same for the periods it is compared with: a plane that is mostly confounded still has the right
noise.
"""
FULL_CYCLES = 3
"""From so many cycles on, all functions of the residue class can be removed and enough other periods
remain.
"""
NOISE_SPREADS = 2.0


def smaller_singular_energy(pairs: Float[Tensor, "*batch 2 m"]) -> Float[Tensor, "*batch"]:
    """The smaller squared singular value of 2 x m matrices, in closed form from their 2 x 2 Gram matrix."""
    first, second = pairs[..., 0, :], pairs[..., 1, :]
    return smaller_eigenvalue(first.square().sum(-1), second.square().sum(-1), (first * second).sum(-1))


def smaller_eigenvalue(
    a: Float[Tensor, "*batch"], b: Float[Tensor, "*batch"], c: Float[Tensor, "*batch"]
) -> Float[Tensor, "*batch"]:
    """Of the symmetric matrices [[a, c], [c, b]], none below 0."""
    return ((a + b) - torch.sqrt((a - b) ** 2 + 4 * c**2)).clamp_min(0) / 2


def planes(waves: Float[Tensor, "*batch 2 row"]) -> Float[Tensor, "*batch 2 row"]:
    """Orthonormal bases of the planes that pairs of rows span."""
    if waves.shape[-1] < 2 or waves.numel() == 0:
        return waves
    basis, _ = torch.linalg.qr(waves.transpose(-1, -2))
    return basis.transpose(-1, -2)


def plane_spectrum(
    bases: Float[Tensor, "*freq 2 row"], rows: Float[Tensor, "*batch row m"]
) -> Float[Tensor, "..."]:
    """T for every plane: the smaller squared singular value of basis times ``rows``; shape (*batch,
    *freq).
    """
    flat = bases.reshape(-1, bases.shape[-1])
    scores = (flat @ rows).reshape(*rows.shape[:-2], *bases.shape[:-1], rows.shape[-1])
    return smaller_singular_energy(scores)


@dataclass(frozen=True, eq=False)
class Periods:
    """The sinusoids of the raw sum that an operation grid can tell apart.

    Frequencies are in cycles per unit of the sum; ``waves`` and planes are in the coordinates of
    ``grid.sum_basis``.
    """

    grid: Grid

    @cached_property
    def harmonics(self) -> tuple[int, ...]:
        """Testable k: both quadratures exist (k < n/2), survive the confounds, pass often enough, and their
        period is none of base 10."""
        n = self.grid.n
        ks = [k for k in range(1, (n + 1) // 2) if k * self.grid.n_sums / n >= MIN_PERIODS]
        if self.grid.digits:
            ks = [k for k in ks if (10 * k) % n]
        if not ks:
            return ()
        surviving = self.surviving(self.waves(torch.tensor(ks, dtype=torch.float64) / self.grid.n))
        return tuple(k for k, share in zip(ks, surviving.tolist(), strict=True) if share >= MIN_SURVIVING)

    @cached_property
    def untestable(self) -> tuple[int, ...]:
        """Harmonics k < n/2 that this grid cannot test."""
        return tuple(k for k in range(1, (self.grid.n + 1) // 2) if k not in self.harmonics)

    @cached_property
    def harmonic_planes(self) -> Float[Tensor, "k 2 profile"]:
        return planes(self.waves(torch.tensor(self.harmonics, dtype=torch.float64) / self.grid.n))

    @property
    def resolution(self) -> float:
        """One over the range of the sum: how close two periods' frequencies may lie."""
        return 1.0 / self.grid.n_sums

    @cached_property
    def other_waves(self) -> Float[Tensor, "freq 2 profile"]:
        """Every other period: a grid ``OVERSAMPLING`` times finer than the resolution, off the harmonics of
        n.
        """
        step = self.resolution / OVERSAMPLING
        freqs = torch.arange(step, 0.5, step, dtype=torch.float64)
        position = freqs * self.grid.n
        distance = (position - position.round()).abs() / self.grid.n
        return self.waves(freqs[distance >= EXCLUSION * self.resolution])

    @cached_property
    def shifts(self) -> Float[Tensor, " shift"]:
        return torch.linspace(-EXCLUSION, EXCLUSION, 13, dtype=torch.float64)

    def near_planes(self, k: int) -> Float[Tensor, "shift 2 profile"]:
        """The plane of harmonic k shifted by -0.75 … 0.75 resolutions."""
        return planes(self.waves(k / self.grid.n + self.shifts * self.resolution))

    def waves(self, freqs: Float[Tensor, " freq"]) -> Float[Tensor, "freq 2 profile"]:
        """cos and sin of the raw sum, confounds removed."""
        sums = torch.unique(self.grid.raw_sum).double()
        return waves(freqs[:, None] * sums).mT @ self._from_sums

    @cached_property
    def neighbours(self) -> dict[int, Float[Tensor, "profile rank"]]:
        """Functions of the residue class modulo n, n ± 1, n ± 2 and n ± 3."""
        grid = self.grid
        moduli = [m for m in range(grid.n - 3, grid.n + 4) if 2 < m < grid.n_sums // 2]
        columns = {m: one_hot(grid.raw_sum % m) for m in moduli}
        return {m: orthonormal(grid.sum_basis.T @ column) for m, column in columns.items()}

    @cached_property
    def _from_sums(self) -> Float[Tensor, "sum profile"]:
        return one_hot(self.grid.raw_sum).T @ self.grid.sum_basis

    def surviving(self, waves: Float[Tensor, "freq 2 profile"]) -> Float[Tensor, " freq"]:
        """Energy left in the weaker quadrature, as a share of a full one (half a unit per cell)."""
        return smaller_singular_energy(waves) / (0.5 * self.grid.cells)


@dataclass(frozen=True, eq=False)
class Background:
    """What n is compared with: all other periods, after removing ``removed`` so that a circle does not leak
    into them.

    Over three cycles or more ``removed`` is every function of the residue class; over fewer these take up
    most of the space, and only the harmonics that were found (``keys``) are removed.
    """

    periods: Periods
    keys: tuple[int, ...]

    @cached_property
    def all_classes(self) -> bool:
        return self.periods.grid.n_offsets >= FULL_CYCLES * self.periods.grid.n

    @cached_property
    def notched(self) -> tuple[int, ...]:
        """Harmonics that the background knows nothing of."""
        return tuple(range(1, self.periods.grid.n // 2 + 1)) if self.all_classes else self.keys

    @cached_property
    def removed(self) -> Float[Tensor, "profile rank"]:
        grid = self.periods.grid
        if self.all_classes:
            return orthonormal(grid.sum_basis.T @ grid.class_columns)
        return orthonormal(
            self.periods.waves(torch.tensor(self.keys, dtype=torch.float64) / grid.n).flatten(0, 1).T
        )

    @cached_property
    def planes(self) -> Float[Tensor, "freq 2 profile"]:
        waves = self.periods.other_waves
        waves = waves - (waves @ self.removed) @ self.removed.T
        return planes(waves[self.periods.surviving(waves) >= MIN_COMPARED])


@dataclass(frozen=True, eq=False)
class Floor:
    """The plane statistic without any function of the sum: mean and spread over random planes of the
    off-sum part.
    ``energy``: squared length of one row of it; ``scale``: sqrt of tr C² of its covariance.
    """

    mean: float
    spread: float
    energy: float
    scale: float


def off_sum_floor(off: Float[Tensor, "row d"], dof: int) -> Floor:
    """Mean and standard deviation of the smaller squared singular value of a random 2-frame of the off-sum
    part.

    For Gaussian rows with covariance C the two diagonal sums have mean tr C and variance 2 tr C²; the smaller
    eigenvalue of the 2 x 2 Gram is their mean minus a Rayleigh variable of scale sqrt(tr C²). Both are
    taken as independent, which makes the spread too large by a third at most.
    """
    if dof <= 0:
        return Floor(0.0, 0.0, 0.0, 0.0)
    small = off.T @ off if off.shape[0] >= off.shape[1] else off @ off.T
    scale, energy = float(small.norm()) / dof, float(small.diagonal().sum()) / dof
    mean = max(energy - (torch.pi / 2) ** 0.5 * scale, 0.0)
    return Floor(mean, (3 - torch.pi / 2) ** 0.5 * scale, energy, scale)


def specificity_ratio(
    background: Background, profile: Float[Tensor, "*batch profile m"], floor: Floor
) -> Float[Tensor, "*batch"]:
    """Best harmonic of n over the best other period, both above the noise floor.

    The denominator is at least ``NOISE_SPREADS`` spreads of the noise, so that noise over noise is no
    evidence; 0 where no other period is left to compare with.
    """
    own = plane_spectrum(background.periods.harmonic_planes, profile).amax(-1) - floor.mean
    if background.planes.shape[0] == 0:
        return torch.zeros_like(own)
    least = NOISE_SPREADS * floor.spread + 1e-9 * float(profile.pow(2).sum((-1, -2)).mean())
    other = plane_spectrum(background.planes, profile).amax(-1) - floor.mean
    return own / other.clamp_min(max(least, 1e-300))


def class_ratio(
    background: Background, profile: Float[Tensor, "*batch profile m"], floor: Floor
) -> Float[Tensor, "*batch"]:
    """Energy per dimension of the functions of the residue class over that of all other functions of the
    sum, both above the noise (the denominator at least ``NOISE_SPREADS`` spreads of it).

    Unlike the plane statistic it also sees a label on a line. NaN over fewer than three cycles.
    """
    inside, rank = (background.removed.T @ profile).pow(2).sum((-1, -2)), background.removed.shape[1]
    rest = profile.shape[-2] - rank
    if not background.all_classes or rank == 0 or rest <= 0:
        return torch.full_like(inside, torch.nan)
    outside = profile.pow(2).sum((-1, -2)) - inside
    least = NOISE_SPREADS * 2**0.5 * floor.scale / rest**0.5 + 1e-9 * float(inside.mean()) / rank
    return (inside / rank - floor.energy) / (outside / rest - floor.energy).clamp_min(max(least, 1e-300))


def localisation(
    periods: Periods, profile: Float[Tensor, "profile m"], floor: Floor, k: int
) -> tuple[float, float]:
    """How exactly the period is n/k: (T at the harmonic over the best T within 0.75 resolutions, shift of
    that best).

    A circle of a *neighbouring* period that the grid barely resolves peaks beside the harmonic, not on it.
    """
    near = plane_spectrum(periods.near_planes(k), profile) - floor.mean
    peak = int(near.argmax())
    share = float(near[len(near) // 2] / near[peak]) if float(near[peak]) > 0 else 0.0
    return max(share, 0.0), float(periods.shifts[peak])


@dataclass(frozen=True)
class Period:
    """The period of the raw sum whose plane holds most, with its 95 % interval (from the curvature of
    the likelihood).
    """

    value: float
    low: float
    high: float


def found_period(
    periods: Periods, profile: Float[Tensor, "profile m"], off: Float[Tensor, "row m"], dof: int
) -> Period:
    """Of all periods, on a grid that is narrowed down to 1/1,500 of the resolution. ``off``: the part that
    is no function of the sum.
    """
    step = periods.resolution / OVERSAMPLING
    freqs = torch.arange(2 * step, 0.5, step, dtype=torch.float64)
    freqs = freqs[periods.surviving(periods.waves(freqs)) >= MIN_SURVIVING]
    if not len(freqs) or dof <= 0:
        return Period(math.nan, math.nan, math.nan)
    best = freqs[plane_spectrum(planes(periods.waves(freqs)), profile).argmax()]
    for narrower in (1, 4, 16, 64):  # by the energy of the plane, which is maximum likelihood
        freqs = best + step / narrower * torch.linspace(-1, 1, 9, dtype=torch.float64)
        best = freqs[(planes(periods.waves(freqs)) @ profile).pow(2).sum((1, 2)).argmax()]
    scores = planes(periods.waves(best[None]))[0] @ profile
    directions = torch.linalg.qr(scores.T).Q
    noise = float((off @ directions).pow(2).sum()) / (2 * dof)
    shift = 0.2 * periods.resolution
    beside = best + shift * torch.tensor([-1.0, 0.0, 1.0], dtype=torch.float64)
    energy = (planes(periods.waves(beside)) @ (profile @ directions)).pow(2).sum((1, 2))
    curvature = float(2 * energy[1] - energy[0] - energy[2]) / shift**2
    error = 1.96 * (2 * noise / max(curvature, 1e-300)) ** 0.5
    return Period(float(1 / best), float(1 / (best + error)), float(1 / (best - error).clamp_min(1e-9)))


def found_modulus(periods: Periods, profile: Float[Tensor, "profile m"], floor: Floor) -> int:
    """The m near n whose residue classes of the raw sum take up most energy above the noise."""
    excess = {}
    for m, basis in periods.neighbours.items():
        excess[m] = float((basis.T @ profile).pow(2).sum()) - basis.shape[1] * floor.energy
    return max(excess, key=lambda m: excess[m])
