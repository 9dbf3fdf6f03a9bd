"""Planted activations of value domains: n values in T templates, with a known answer."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mechfourier.stats.planted import (
    Cells,
    Draw,
    Generator,
    circles,
    embedded,
    lookup,
    smooth,
    unit_variance,
    wave,
)


def _listed(cells: Cells, draw: Draw) -> Int[Tensor, " cell"]:
    """Positions on a list that begins at a random value of the cycle."""
    return (cells.a - int(torch.randint(cells.n, (1,), generator=draw))) % cells.n


def _arc(cells: Cells, draw: Draw) -> Tensor:
    degrees = 120 + 120 * float(torch.rand(1, generator=draw))
    return wave(_listed(cells, draw), (cells.n - 1) * 360 / degrees)


def _ramp(cells: Cells, draw: Draw) -> Tensor:
    return _listed(cells, draw).double()[:, None]


def _ellipse(cells: Cells, draw: Draw) -> Tensor:
    phase = float(torch.rand(1, generator=draw))
    return wave(cells.a + phase * cells.n, cells.n) * torch.tensor([1.0, 0.5])


def _cosine(cells: Cells, draw: Draw) -> Tensor:
    return wave(cells.a + cells.n * float(torch.rand(1, generator=draw)), cells.n)[:, :1]


def _blocks(cells: Cells, draw: Draw) -> Tensor:
    groups = 3 + int(torch.randint(2, (1,), generator=draw))
    return lookup(_listed(cells, draw) * groups // cells.n, 16, draw)


def _beside(*parts: Tensor) -> Tensor:
    """Signals of equal power over all their directions, each in directions of its own."""
    return torch.cat([unit_variance(part) / part.shape[1] ** 0.5 for part in parts], 1)


def _misplaced(cells: Cells, draw: Draw) -> Tensor:
    at = cells.a.double().clone()
    at[int(torch.randint(cells.n, (1,), generator=draw))] = cells.n * float(torch.rand(1, generator=draw))
    return wave(at, cells.n)


VALUES: tuple[Generator, ...] = (
    *circles("v", lambda g: g.a),
    Generator(
        "circle-k1+3",
        "circles of k = 1 and 3 of equal power",
        lambda g, r: _beside(wave(g.a, g.n), wave(3 * g.a, g.n)),
        True,
        everywhere=False,
    ),
    Generator(
        "circle+line",
        "a circle, and a line of equal power in a third direction",
        lambda g, r: _beside(wave(g.a, g.n), _ramp(g, r)),
        True,
        everywhere=False,
    ),
    Generator(
        "circle+identity",
        "a circle, and a random vector per value of equal power",
        lambda g, r: _beside(wave(g.a, g.n), lookup(g.a, 16, r)),
        True,
        everywhere=False,
    ),
    Generator("ellipse", "an ellipse of aspect .5 at a random phase", _ellipse, True, everywhere=False),
    Generator(
        "circle-misplaced",
        "a circle with one value at a random place of it",
        _misplaced,
        True,
        everywhere=False,
    ),
    Generator("white", "nothing but white noise", None),
    Generator(
        "autocorrelated",
        "noise correlated over neighbouring values, drawn per template",
        None,
        noise="smooth",
    ),
    Generator("ramp", "the value as a number, begun anywhere", _ramp),
    Generator("arc", "an open arc of 120 to 240 degrees, begun anywhere", _arc),
    Generator("cosine", "a cosine along one direction, at a random phase", _cosine),
    Generator(
        "cosine+identity",
        "the same, and a random vector per value of equal power",
        lambda g, r: _beside(_cosine(g, r), lookup(g.a, 32, r)),
    ),
    Generator(
        "clusters",
        "three or four blocks at random points of 16 dimensions, one across the wrap now and then",
        _blocks,
    ),
    Generator("helix-10", "cos and sin of 2πv/10", lambda g, r: wave(g.a, 10)),
    Generator(
        "arc+identity",
        "an open arc, and a random vector per value of equal power",
        lambda g, r: _beside(_arc(g, r), lookup(g.a, 16, r)),
    ),
    Generator(
        "smooth-16",
        "16 smooth random functions of the value: an open curve",
        lambda g, r: smooth(g.a, 16, r, g.n / 4),
    ),
    Generator(
        "walk-16", "a random walk in 16 directions over the values", lambda g, r: lookup(g.a, 16, r).cumsum(0)
    ),
    Generator("token-identity", "a random vector per value", lambda g, r: lookup(g.a, 16, r)),
)


def planted_value(
    generator: Generator,
    *,
    n: int,
    templates: int = 8,
    layers: int = 1,
    d_model: int = 64,
    snr: float = 1.0,
    seed: int = 0,
) -> Float[Tensor, "site value template d"]:
    """Activations of n values in ``templates`` sentences: signal of the value, a mean per template, unit
    noise per cell."""
    draw = torch.Generator().manual_seed(seed)
    cells = Cells(n, torch.arange(n), torch.zeros(n, dtype=torch.int64))
    chosen = int(torch.randint(layers, (1,), generator=draw))
    out = torch.empty(layers, n, templates, d_model)
    for layer in range(layers):
        noise = torch.randn(n, templates, d_model, generator=draw)
        if generator.noise == "smooth":
            noise = torch.einsum("vw,wtd->vtd", _memory(n), noise)
        out[layer] = noise + torch.randn(templates, d_model, generator=draw)
        if generator.signal is not None and (generator.everywhere or layer == chosen):
            out[layer] += embedded(generator.signal(cells, draw), generator, d_model, snr, draw)[:, None]
    return out


def _memory(size: int) -> Float[Tensor, "size size"]:
    """Square root of a correlation that falls by e over two values."""
    gap = (torch.arange(size)[:, None] - torch.arange(size)[None]).abs() / 2.0
    return torch.linalg.cholesky(torch.exp(-gap.double())).float()
