"""The waves cos(2πt) and sin(2πt): the one place where turns become numbers."""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor


def waves(turns: Float[Tensor, "*lead"]) -> Float[Tensor, "*lead 2"]:
    """cos and sin of ``turns`` full turns, in float64; whole turns are taken off first, so that no phase is
    lost."""
    angle = 2 * math.pi * torch.remainder(turns.double(), 1.0)
    return torch.stack([torch.cos(angle), torch.sin(angle)], -1)


def harmonic_waves(n: int, ks: int | Sequence[int]) -> Float[Tensor, "n *k 2"]:
    """cos(2πkv/n) and sin(2πkv/n) of the n values v of a cycle, for one harmonic k or for several; phases are
    exact."""
    harmonics = torch.as_tensor(ks, dtype=torch.long)
    values = torch.arange(n).reshape(-1, *[1] * harmonics.ndim)
    return waves((values * harmonics % n).double() / n)
