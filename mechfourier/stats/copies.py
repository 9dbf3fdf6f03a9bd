"""Templates that read the same vectors: copies of one template, whose agreement is no evidence.

At the embedding every template holds the same token, and causal models read the same activation wherever the
text up to the value is the same. A statistic over templates (agreement, held-out templates, a bootstrap)
would count one observation many times there.
"""

from collections.abc import Sequence

import torch
from einops import reduce
from jaxtyping import Float, Int
from torch import Tensor

from mechfourier.stats.spectrum import shared_gram

NEAR = 0.1
"""Median difference of distinct templates below which they could hardly disagree."""
SAME = 0.01
"""Largest difference between two copies: the norm of the difference of their value-centred tables, over the norm of those tables."""


def template_distances(cross: Float[Tensor, "t u n n2"]) -> Float[Tensor, "t u"]:
    """‖Y_t − Y_u‖ over the root mean square of ‖Y_t‖ and ‖Y_u‖, Y_t being the activations of template t less
    their mean over values."""
    inner = reduce(cross.diagonal(dim1=-2, dim2=-1), "t u v -> t u", "sum")
    power = inner.diagonal()
    scale = (power[:, None] + power[None]) / 2
    squared = (2 * (scale - inner)).clamp_min(0)
    return (squared / scale.clamp_min(torch.finfo(cross.dtype).tiny)).sqrt()


def template_spread(cross: Float[Tensor, "t u n n2"], kept: Sequence[int]) -> float:
    """Median of :func:`template_distances` over pairs of distinct templates; 0 where there is one."""
    if len(kept) < 2:
        return 0.0
    chosen = list(kept)
    rows, columns = torch.triu_indices(len(chosen), len(chosen), 1)
    return float(template_distances(cross[chosen][:, chosen])[rows, columns].median())


def template_groups(cross: Float[Tensor, "t u n n2"], tolerance: float = SAME) -> Int[Tensor, " t"]:
    """The first template that every template is a copy of (itself where it is none); templates without any
    variance are copies too."""
    same = template_distances(cross) <= tolerance
    return same.to(torch.uint8).argmax(1)


def distinct(groups: Int[Tensor, " t"]) -> list[int]:
    """One template of every group of copies."""
    return groups.unique().tolist()


def effective_templates(groups: Int[Tensor, " t"]) -> float:
    """T²/Σ(size of group)²: the number of templates that T are worth, 1 where all are copies, T where none
    is."""
    sizes = groups.unique(return_counts=True)[1].double()
    return float(sizes.sum() ** 2 / (sizes**2).sum())


def distinct_cross(cross: Float[Tensor, "t u n n2"], kept: Sequence[int]) -> Float[Tensor, "k l n n2"]:
    """``cross`` of one template per group; where only one is left, of that one and its copy, so that pairs
    exist."""
    chosen = list(kept) if len(kept) > 1 or len(cross) < 2 else [kept[0], kept[0]]
    return cross[chosen][:, chosen]


def distinct_gram(
    cross: Float[Tensor, "site t u n n2"], kept: Sequence[Sequence[int]]
) -> Float[Tensor, "site n n2"]:
    """``shared_gram`` over distinct templates: pairs of copies share their noise, which would count as
    signal.

    A site with one distinct template keeps its noise, as there is nothing to tell it from.
    """
    return torch.stack([shared_gram(distinct_cross(c, k)[None])[0] for c, k in zip(cross, kept, strict=True)])
