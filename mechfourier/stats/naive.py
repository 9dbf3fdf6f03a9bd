"""The method that the planted benchmark is run against: the best R² over dimensions and harmonics, as often
published."""

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from mechfourier.fourier.harmonics import r2_bound

NAIVE_R2 = 0.9
"""The claim "this dimension is circular" is made at an R² from here on."""


def class_means(acts: Float[Tensor, "site a offset d"]) -> Float[Tensor, "site n d"]:
    """Mean over the cells with equal (a + o) mod n: what turns smooth functions of the sum into cosines."""
    sites, n, offsets, d = acts.shape
    label = (torch.arange(n)[:, None] + torch.arange(offsets)[None]) % n
    flat = rearrange(acts, "site a o d -> (a o) site d")
    sums = torch.zeros(n, sites, d, dtype=acts.dtype).index_add_(0, label.flatten(), flat)
    counts = torch.bincount(label.flatten(), minlength=n)[:, None, None]
    return rearrange(sums / counts, "n site d -> site n d")


def best_r2(means: Float[Tensor, "site n d"]) -> float:
    """Best R² of constant, cos and sin of any harmonic k < n/2 over hook points and dimensions."""
    n = means.shape[1]
    centred = (means - means.mean(1, keepdim=True)).double()
    total = centred.pow(2).sum(1).clamp_min(1e-300)
    power = torch.fft.rfft(centred, dim=1).abs().pow(2)[:, 1 : (n + 1) // 2] * 2 / n
    return float((power / total[:, None]).amax())


def noise_bound(n: int, searched: int, *, level: float = 0.05) -> float:
    """The R² that the best of ``searched`` dimensions × ⌊(n−1)/2⌋ harmonics exceeds on white noise with
    probability ``level``."""
    return r2_bound(n, max(1, searched * ((n - 1) // 2)), level=1 - level)


def naive_circular(means: Float[Tensor, "site n d"]) -> bool:
    """Would the best R² be published as a circle?"""
    return best_r2(means) > NAIVE_R2
