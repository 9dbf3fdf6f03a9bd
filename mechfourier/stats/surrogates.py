"""Surrogates for period specificity: functions of the raw sum like the one observed, for which n is not
special.

The profile over the raw sum is taken to (nearly orthogonal) Fourier coordinates, the functions of the residue
class are removed, and each coefficient is replaced by one drawn from its neighbourhood with a random phase
(local bootstrap of the periodogram, Paparoditis & Politis 1999; random phases as in Theiler et al. 1992).
Slopes, low rank and correlations between dimensions stay; whatever is special at exactly n is gone. Only the
part above the noise is drawn so; the noise comes from the off-sum residual, because the same noise drawn
twice would pass for a signal.
"""

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mechfourier.stats.specificity import Background, Floor, class_ratio, specificity_ratio

NOTCH = 0.75
LEAST_WEIGHT = 0.15
"""A bin of which the confounds and the notch leave less says too little about its neighbours."""
CHUNK = 20


@dataclass(frozen=True, eq=False)
class SurrogateBasis:
    """Fourier-like frame of the profile space: ``frame @ frame.T`` is the identity of that space."""

    background: Background

    @cached_property
    def bins(self) -> int:
        return self.background.periods.grid.n_sums // 2

    @cached_property
    def frame(self) -> Float[Tensor, "profile two_bins"]:
        """Symmetric orthogonalisation (Löwdin) of the sinusoids at multiples of 1 / range; bin-major, cos
        then sin."""
        freqs = torch.arange(1, self.bins + 1, dtype=torch.float64) / self.background.periods.grid.n_sums
        waves = self.background.periods.waves(freqs).reshape(2 * self.bins, -1)
        left, values, right = torch.linalg.svd(waves.T, full_matrices=False)
        kept = values > 1e-9 * values[0]
        return left[:, kept] @ right[kept]

    @cached_property
    def weight(self) -> Float[Tensor, " bin"]:
        """How much of every bin the confounds leave: 1 for all of it."""
        return _per_bin(self.frame.T)

    @cached_property
    def _clean(self) -> Float[Tensor, "two_bins profile"]:
        removed = self.background.removed
        return self.frame.T - (self.frame.T @ removed) @ removed.T

    @cached_property
    def analysis(self) -> Float[Tensor, "two_bins profile"]:
        """Profile to coefficients, with what the background does not know removed and each bin at full
        weight."""
        return (
            self._clean / _per_bin(self._clean).clamp_min(LEAST_WEIGHT).sqrt().repeat_interleave(2)[:, None]
        )

    @cached_property
    def pool(self) -> Int[Tensor, "bin candidate"]:
        """For each bin the nearest bins off the removed harmonics, as many as lie within one spacing of
        harmonics."""
        grid = self.background.periods.grid
        notched = torch.tensor(self.background.notched, dtype=torch.float64) * grid.n_sums / grid.n
        place = torch.arange(1, self.bins + 1, dtype=torch.float64)
        distance = (place[:, None] - notched[None]).abs().amin(1) if len(notched) else place
        left = _per_bin(self._clean)
        allowed = torch.nonzero((distance >= NOTCH) & (left >= LEAST_WEIGHT)).flatten()
        if len(allowed) < 3:
            allowed = left.argsort(descending=True)[:3].sort().values
        width = min(len(allowed), max(4, math.ceil(grid.n_sums / grid.n)))
        gaps = (torch.arange(self.bins)[:, None] - allowed[None]).abs()
        return allowed[gaps.argsort(dim=1, stable=True)[:, :width]]

    def signal_share(
        self, coefficients: Float[Tensor, "two_bins m"], floor: Floor
    ) -> tuple[Float[Tensor, " bin"], Float[Tensor, " bin"]]:
        """(share of signal, scale of the noise) of every bin, from the energy of its pool against the noise
        floor."""
        local = _per_bin(coefficients)[self.pool].mean(1)
        noise = torch.minimum(local, torch.full_like(local, floor.energy))
        return 1 - noise / local.clamp_min(1e-300), (noise / max(floor.energy, 1e-300)).sqrt()


def _per_bin(rows: Float[Tensor, "two_bins m"]) -> Float[Tensor, " bin"]:
    """Mean energy of the two quadratures of every bin."""
    return (rows**2).sum(1).reshape(-1, 2).mean(1)


def surrogate_ratios(
    basis: SurrogateBasis,
    profile: Float[Tensor, "profile d"],
    off: Float[Tensor, "row d"],
    floor: Floor,
    *,
    draws: int,
    seed: int,
) -> Float[Tensor, "draw two"]:
    """The specificity ratio and the class ratio of ``draws`` surrogates of one hook point's profile.

    ``off``: rows of pure noise (``off_rows``). The same ``seed`` gives the same bins and phases at every hook
    point, which keeps their dependence.
    """
    generator = torch.Generator().manual_seed(seed)
    both = torch.cat([basis.analysis @ profile, off])
    if both.shape[1] > both.shape[0]:
        both = torch.linalg.qr(both.T, mode="r").R.T
    coefficients, noise = both[: 2 * basis.bins], both[2 * basis.bins :]
    share, scale = basis.signal_share(coefficients, floor)
    ratios = []
    for start in range(0, draws, CHUNK):
        count = min(CHUNK, draws - start)
        drawn = _turned(basis, coefficients, count, generator) * share.sqrt().repeat_interleave(2)[:, None]
        fresh = _rotated(noise, count, generator) * scale.repeat_interleave(2)[:, None]
        drawn = basis.frame @ ((drawn + fresh) * basis.weight.sqrt().repeat_interleave(2)[:, None])
        pair = specificity_ratio(basis.background, drawn, floor), class_ratio(basis.background, drawn, floor)
        ratios.append(torch.stack(pair, 1))
    return torch.cat(ratios)


def off_rows(
    off: Float[Tensor, "cell d"], rows: int, floor: Floor, generator: torch.Generator
) -> Float[Tensor, "rows d"]:
    """Random mixtures of the off-sum part of the activations, of the energy of one row of noise each."""
    weights = torch.randn(rows, off.shape[0], generator=generator, dtype=off.dtype)
    mixed = weights @ off
    return mixed * (floor.energy / mixed.pow(2).sum(1).mean().clamp_min(1e-300)) ** 0.5


def _turned(
    basis: SurrogateBasis, coefficients: Tensor, draws: int, generator: torch.Generator
) -> Float[Tensor, "draw two_bins m"]:
    """Local bootstrap with random phases; the same for all columns, so that relations between dimensions
    stay."""
    choice = torch.randint(basis.pool.shape[1], (draws, basis.bins), generator=generator)
    source = basis.pool.T.gather(0, choice)
    phase = 2 * torch.pi * torch.rand(draws, basis.bins, generator=generator, dtype=torch.float64)
    pairs = coefficients.reshape(basis.bins, 2, -1)[source]
    cos, sin = phase.cos()[..., None], phase.sin()[..., None]
    first = cos * pairs[:, :, 0] - sin * pairs[:, :, 1]
    second = sin * pairs[:, :, 0] + cos * pairs[:, :, 1]
    return torch.stack([first, second], 2).flatten(1, 2)


def _rotated(
    noise: Float[Tensor, "row m"], draws: int, generator: torch.Generator
) -> Float[Tensor, "draw row m"]:
    """Fresh noise: one random rotation, its rows and columns permuted and its signs flipped anew for every
    draw."""
    rows = noise.shape[0]
    turn, _ = torch.linalg.qr(torch.randn(rows, rows, generator=generator, dtype=noise.dtype))
    order = torch.rand(2, draws, rows, generator=generator).argsort(2)
    signs = torch.randint(0, 2, (draws, 1, rows), generator=generator) * 2.0 - 1
    return (turn[order[0][:, :, None], order[1][:, None, :]] * signs) @ noise
