"""Periodic neurons: which hidden units are functions of the digit sum, and how much of them one period
explains."""

import math
from dataclasses import dataclass
from typing import Any

import torch
from einops import rearrange, reduce
from jaxtyping import Float
from torch import Tensor

from mechfourier.domains.design import read_positions
from mechfourier.fourier.key_freqs import matrix_share
from mechfourier.hooks.capture import capture
from mechfourier.hooks.site import Site
from mechfourier.models.interface import encode
from mechfourier.toys.adder.domains import adder_domain
from mechfourier.toys.adder.weights import shares_of

CONTEXTS = 8
DRAWS = 300
CURVES = 8
LIVE = 1e-6


@dataclass(frozen=True)
class SumNeurons:
    """The neurons of one MLP at one answer position, over the 10 × 10 grid of the two digits (no carry coming
    in, averaged over problems). Shares are of a neuron's variance over the grid: ``raw_sum`` any function of
    a + b, ``mod_sum`` any of (a + b) mod 10, ``r2`` one harmonic ``k`` of it, ``additive`` what functions of
    a and of b alone explain; ``carry`` the step at a + b = 10. ``null``: the r2 that the best neuron reaches
    in 95 % of draws in which both digits are renamed at random; ``p`` is family-wise over the neurons.
    ``concentration``: share of the harmonic within what (a + b) mod 10 explains, all neurons together, by k.
    ``top``: the neurons (their numbers) with the highest r2, ``curves`` their mean activations at a + b =
    0..18.
    """

    site: str
    where: str
    live: int
    total: int
    raw_sum: tuple[float, ...]
    mod_sum: tuple[float, ...]
    additive: tuple[float, ...]
    carry: tuple[float, ...]
    r2: tuple[float, ...]
    k: tuple[int, ...]
    p: tuple[float, ...]
    null: float
    concentration: tuple[float, ...]
    concentration_null: float
    top: tuple[int, ...]
    curves: tuple[tuple[float, ...], ...]

    def count(self, bar: float) -> int:
        """Live neurons of which one harmonic of the sum explains at least ``bar``."""
        return sum(r2 >= bar for r2 in self.r2)

    @property
    def significant(self) -> int:
        """Neurons whose family-wise p is below .05."""
        return sum(p < 0.05 for p in self.p)


def sum_grid(
    model: Any, site: Site, *, place: int, digits: int, where: str, seed: int = 0
) -> Float[Tensor, "a b neuron"]:
    """Activations over the grid of both digits at ``place``, averaged over ``CONTEXTS`` problems without a
    carry coming in."""
    grids = []
    for context in range(CONTEXTS):
        domain = adder_domain(
            "digit-sum-mod-10",
            place=place,
            digits=digits,
            templates=2,
            form=model.cfg.format,
            seed=seed + 1000 * context,
        )
        prompts = [domain.prompt(*cell) for row in domain.grid for cell in row]
        encodings = encode(model, prompts)
        if where == "value":
            at = torch.tensor([e.last_token_of(*domain.span(place)) for e in encodings])
        else:
            at = read_positions(domain.operation_design(1), encodings)
        acts = capture(model, encodings, [site], at)[site]
        grids.append(rearrange(acts, "(a b) neuron -> a b neuron", a=10))
    return reduce(torch.stack(grids), "context a b neuron -> a b neuron", "mean").double()


def sum_neurons(model: Any, site: Site, *, place: int, digits: int, where: str, seed: int = 0) -> SumNeurons:
    """Measure the neurons of ``site`` (an ``mlp_post``), read at a's digit (``where="value"``) or at the step
    that writes (``"last"``)."""
    grid = sum_grid(model, site, place=place, digits=digits, where=where, seed=seed)
    spot = "a's digit" if where == "value" else "the step that writes it"
    return measure_neurons(grid, str(site), spot, seed=seed)


def measure_neurons(
    grid: Float[Tensor, "a b neuron"], site: str = "", where: str = "", *, seed: int = 0
) -> SumNeurons:
    """The same from activations ``grid[a, b]`` of the ten by ten digits (float64)."""
    y = grid - grid.mean((0, 1))
    variance = y.pow(2).sum((0, 1))
    live = variance > LIVE * variance.max().clamp_min(1e-30)
    unit = rearrange(y[..., live] / variance[live].sqrt(), "a b neuron -> (a b) neuron")
    a, b = (
        rearrange(x, "a b -> (a b)")
        for x in torch.meshgrid(torch.arange(10), torch.arange(10), indexing="ij")
    )
    harmonics = _harmonics(a, b)
    shares = _power(unit, harmonics)
    drawn = _null(unit, seed)
    best, k = shares.max(0)
    worst = drawn.max(1).values
    concentration, bound = _concentration(y[..., live], (a + b) % 10, seed)
    alive, first = live.nonzero()[:, 0], best.argsort(descending=True)[:CURVES]
    cells = rearrange(grid, "a b neuron -> (a b) neuron")
    by_sum = torch.stack([cells[a + b == s].mean(0) for s in range(19)])
    listed = {
        "raw_sum": _between(unit, a + b),
        "mod_sum": _between(unit, (a + b) % 10),
        "additive": _additive(unit, a, b),
        "carry": _between(unit, (a + b >= 10).long()),
    }
    return SumNeurons(
        site=site,
        where="a's digit" if where == "value" else "the step that writes it",
        live=int(live.sum()),
        total=len(live),
        r2=tuple(best.tolist()),
        k=tuple((k + 1).tolist()),
        p=tuple(((1 + (worst[:, None] >= best).sum(0)) / (1 + len(worst))).tolist()),
        null=float(worst.quantile(0.95)),
        concentration=tuple(concentration.tolist()),
        concentration_null=bound,
        top=tuple(alive[first].tolist()),
        curves=tuple(tuple(by_sum[:, i].tolist()) for i in alive[first].tolist()),
        **{name: tuple(value.tolist()) for name, value in listed.items()},
    )


def _harmonics(a: Tensor, b: Tensor) -> Float[Tensor, "k pair cell"]:
    """Orthonormal cosine and sine of k·2π(a + b)/10 over the cells, k = 1..5 (no sine at 5)."""
    angle = 2 * math.pi * torch.arange(1, 6)[:, None].double() * (a + b) / 10
    pairs = torch.stack([torch.cos(angle), torch.sin(angle)], 1)
    pairs[4, 1] = 0.0
    return pairs / pairs.norm(dim=-1, keepdim=True).clamp_min(1e-9)


def _power(
    unit: Float[Tensor, "cell neuron"], harmonics: Float[Tensor, "k pair cell"]
) -> Float[Tensor, "k neuron"]:
    return (harmonics @ unit).pow(2).sum(1)


def _null(unit: Float[Tensor, "cell neuron"], seed: int) -> Float[Tensor, "draw neuron"]:
    """Best harmonic of each neuron when the digits of both operands are renamed at random: its dependence on
    each digit and on pairs of them stays, the order of the digits goes."""
    generator = torch.Generator().manual_seed(seed)
    found = []
    for _ in range(DRAWS):
        a, b = torch.randperm(10, generator=generator), torch.randperm(10, generator=generator)
        grid = torch.meshgrid(a, b, indexing="ij")
        found.append(_power(unit, _harmonics(*(rearrange(g, "a b -> (a b)") for g in grid))).max(0).values)
    return torch.stack(found)


def _between(unit: Float[Tensor, "cell neuron"], label: Tensor) -> Float[Tensor, " neuron"]:
    """Share of the variance between the classes of ``label``."""
    onehot = torch.nn.functional.one_hot(label).double()
    means = (onehot.T @ unit) / onehot.sum(0)[:, None].clamp_min(1)
    return (means.pow(2) * onehot.sum(0)[:, None]).sum(0)


def _additive(unit: Float[Tensor, "cell neuron"], a: Tensor, b: Tensor) -> Float[Tensor, " neuron"]:
    """Share explained by a function of a plus a function of b (the grid is balanced, so the two parts add
    up)."""
    return _between(unit, a) + _between(unit, b)


def _concentration(
    y: Float[Tensor, "a b neuron"], label: Tensor, seed: int
) -> tuple[Float[Tensor, " k"], float]:
    """Power of the class means over all neurons by k, as shares, and the largest share in 95 % of random
    orders of the classes."""
    onehot = torch.nn.functional.one_hot(label).double()
    means = onehot.T @ rearrange(y, "a b neuron -> (a b) neuron") / 10
    generator = torch.Generator().manual_seed(seed)
    orders = torch.rand(DRAWS, 10, generator=generator).argsort(1)
    return matrix_share(means), float(shares_of(means[orders]).amax(1).quantile(0.95))
