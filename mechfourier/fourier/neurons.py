"""How purely each neuron computes with one frequency, on the grid of all (a, b).

The share of frequency k in a neuron is the share of its variance over the grid that lies in the eight
functions cos/sin(2πka/n), cos/sin(2πkb/n) and their four products (Nanda et al. 2023, section 4.2): its power
at (k, 0), (0, k) and (k, k) in the spectrum of |frequencies|.
"""

from dataclasses import dataclass

import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mechfourier.errors import OutOfRange
from mechfourier.fourier.bases import n_frequencies
from mechfourier.fourier.dft import frequency_power_2d

# A neuron whose variance over the grid is below this part of the largest neuron's takes no part in the
# answer.
LIVE_VARIANCE = 1e-6
CLUSTER_SHARE = 0.85  # the bar of Nanda et al. (2023) for "explained by one frequency"


@dataclass(frozen=True)
class NeuronSpectrum:
    """``share[k−1, neuron]``: share of the neuron's variance at frequency k; ``variance[neuron]`` over the
    grid."""

    share: Float[Tensor, "freq neuron"]
    variance: Float[Tensor, " neuron"]

    @property
    def live(self) -> Bool[Tensor, " neuron"]:
        """Neurons that vary over the grid (more than ``LIVE_VARIANCE`` of the largest variance)."""
        return (self.variance > LIVE_VARIANCE * self.variance.max()) & (self.variance > 0)

    @property
    def frequency(self) -> Int[Tensor, " neuron"]:
        """The frequency with the largest share; 0 for a dead neuron."""
        return torch.where(self.live, self.share.argmax(0) + 1, 0)

    @property
    def best_share(self) -> Float[Tensor, " neuron"]:
        """The share at :attr:`frequency`; 0 for a dead neuron."""
        return torch.where(self.live, self.share.max(0).values, 0.0)

    def share_above(self, bar: float) -> float:
        """The part of the live neurons whose best frequency explains at least ``bar`` of their variance."""
        if not 0 <= bar <= 1:
            raise OutOfRange(f"a share of variance lies between 0 and 1, not at {bar}")
        n_live = int(self.live.sum())
        return float((self.best_share[self.live] >= bar).sum() / n_live) if n_live else 0.0

    def clusters(self, bar: float = CLUSTER_SHARE) -> dict[int, Int[Tensor, " member"]]:
        """Frequency → the neurons it explains to at least ``bar``; frequencies without neurons are left
        out."""
        chosen = torch.where(self.best_share >= bar, self.frequency, 0)
        return {int(k): torch.nonzero(chosen == k).flatten() for k in torch.unique(chosen) if k > 0}


def neuron_spectrum(activations: Float[Tensor, "n n neuron"]) -> NeuronSpectrum:
    """Single-frequency shares of ``activations[a, b, neuron]``."""
    n = activations.shape[0]
    mean = activations.mean((0, 1), keepdim=True)
    power = frequency_power_2d(activations - mean)
    k = torch.arange(1, n_frequencies(n) + 1, device=activations.device)
    at_k = power[k, 0] + power[0, k] + power[k, k]
    total = power.sum((0, 1))
    # rounding of a constant activation is no variance
    floor = (torch.finfo(activations.dtype).eps * 8) ** 2 * (mean**2).squeeze((0, 1)) * n * n
    real = total > floor
    share = torch.where(real, at_k / total.clamp_min(torch.finfo(total.dtype).tiny), 0.0)
    return NeuronSpectrum(share, torch.where(real, total / (n * n), 0.0))


def cluster_sum(
    activations: Float[Tensor, "pair neuron"],
    to_logits: Float[Tensor, "neuron c"],
    clusters: dict[int, Int[Tensor, " member"]],
) -> dict[int, Float[Tensor, "pair c"]]:
    """What each cluster of neurons writes to the logits; key 0 holds the neurons of no cluster."""
    outside = torch.ones(len(to_logits), dtype=torch.bool, device=to_logits.device)
    for members in clusters.values():
        outside[members] = False
    groups = {0: torch.nonzero(outside).flatten(), **clusters}
    return {k: activations[:, members] @ to_logits[members] for k, members in groups.items()}


def grid_of(flat: Float[Tensor, "pair *rest"], n: int) -> Float[Tensor, "n n *rest"]:
    """Rows of all (a, b), row-major in a, as a grid."""
    return rearrange(flat, "(a b) ... -> a b ...", a=n, b=n)
