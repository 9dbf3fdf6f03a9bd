"""Attention sinks and massive dimensions, from arrays alone.

A causal model puts a huge norm on a token that later tokens attend to by default, most often the first (Xiao
et al. 2024, "Efficient streaming language models with attention sinks"; Sun et al. 2024, "Massive activations
in large language models"). What is read there hardly depends on the token. Likewise a few dimensions are so
large that every inner product is mostly theirs.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

SINK = 20.0
"""Times the median norm of the other tokens from which a position counts as a sink."""
LARGE = 20.0
"""Times the median mean magnitude from which a dimension counts as massive."""
MOST_VARIANCE = 0.10
"""Share of the between-value variance from which one dimension counts as massive …"""
MANY_TIMES = 20.0
"""… if that is also this many times the even share 1/d: of eight dimensions, each may well hold a tenth."""


@dataclass(frozen=True)
class Massive:
    """A dimension at one site: its ``share`` of the variance between values (over values, templates
    averaged), and its mean ``magnitude`` over prompts in multiples of the median dimension's."""

    site: str
    dim: int
    share: float
    magnitude: float


@dataclass(frozen=True)
class SinkSite:
    """Norms at one site in multiples of the median norm of the other tokens: at the position read (``ratio``,
    the median over prompts), at the prompt's first token (``first``), and the ``share`` of prompts whose
    ratio is 20 or more. NaN: not measured."""

    site: str
    ratio: float
    first: float
    share: float


def sink_site(
    name: str,
    read: Float[Tensor, " prompt"],
    first: Float[Tensor, " sample"],
    others: Float[Tensor, " token"],
) -> SinkSite:
    """Norms at the positions read and at first tokens, against the median of ``others``."""
    middle = float(others.median()) if others.numel() else math.nan
    if not middle > 0:
        return SinkSite(name, math.nan, math.nan, math.nan)
    ratio = read / middle
    return SinkSite(
        name, float(ratio.median()), float(first.median()) / middle, float((ratio >= SINK).double().mean())
    )


def massive_dimensions(
    acts: Float[Tensor, "site value template d"], sites: Sequence[str]
) -> tuple[Massive, ...]:
    """The dimensions of every site that are massive in variance or in magnitude, the largest shares first
    within a site."""
    found = []
    for name, site in zip(sites, acts, strict=True):
        share, magnitude = dimension_shares(site)
        floor = max(MOST_VARIANCE, MANY_TIMES / site.shape[-1])
        for dim in ((share > floor) | (magnitude > LARGE)).nonzero()[:, 0].tolist():
            found.append(Massive(name, dim, float(share[dim]), float(magnitude[dim])))
    return tuple(found)


def dimension_shares(
    site: Float[Tensor, "value template d"],
) -> tuple[Float[Tensor, " d"], Float[Tensor, " d"]]:
    """Every dimension's share of the between-value variance, and its mean magnitude over the median
    dimension's.

    Zeros where nothing varies, or where the median magnitude is 0 (sites filled up with constant dimensions).
    """
    means = site.mean(1, dtype=torch.float64)
    variance = (means - means.mean(0)).pow(2).sum(0)
    magnitude = site.abs().mean((0, 1), dtype=torch.float64)
    alive = magnitude[magnitude > 0]
    middle = alive.median() if alive.numel() else magnitude.new_tensor(0.0)
    total = variance.sum()
    share = variance / total if total > 0 else torch.zeros_like(variance)
    return share, magnitude / middle if middle > 0 else torch.zeros_like(magnitude)


def by_class(acts: Float[Tensor, "site a offset d"], n: int) -> Float[Tensor, "site label repeat d"]:
    """An operation grid with the cells of each answer (a + offset) mod n together, so that "between values"
    means between answers."""
    rows, offsets = acts.shape[1:3]
    label = ((torch.arange(rows)[:, None] + torch.arange(offsets)) % n).flatten()
    order = torch.argsort(label, stable=True)
    return acts.flatten(1, 2)[:, order].unflatten(1, (n, -1))
