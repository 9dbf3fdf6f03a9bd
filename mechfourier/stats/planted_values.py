"""Planted activations of value domains: n values in T templates, with a known answer."""

import torch
from jaxtyping import Float
from torch import Tensor

from mechfourier.stats.planted import Cells, Draw, Generator, embedded, lookup, smooth, wave


def _arc(cells: Cells, draw: Draw) -> Tensor:
    degrees = 120 + 120 * float(torch.rand(1, generator=draw))
    return wave(cells.a, cells.n * 360 / degrees)


def _ramp(cells: Cells, draw: Draw) -> Tensor:
    del draw
    return cells.a.double()[:, None]


VALUES: tuple[Generator, ...] = (
    Generator("circle", "cos and sin of 2πv/n in a random plane", lambda g, r: wave(g.a, g.n), True, everywhere=False),
    Generator("circle-basis", "the same in two coordinate axes", lambda g, r: wave(g.a, g.n), True, True, False),
    Generator("circle-k2", "cos and sin of 2π2v/n in a random plane", lambda g, r: wave(2 * g.a, g.n), True, everywhere=False),
    Generator("white", "nothing but white noise", None),
    Generator("autocorrelated", "noise correlated over neighbouring values, drawn per template", None, noise="smooth"),
    Generator("ramp", "the value as a number", _ramp),
    Generator("arc", "an open arc of 120 to 240 degrees", _arc),
    Generator("smooth-16", "16 smooth random functions of the value: an open curve", lambda g, r: smooth(g.a, 16, r, g.n / 4)),
    Generator("walk-16", "a random walk in 16 directions over the values", lambda g, r: lookup(g.a, 16, r).cumsum(0)),
    Generator("token-identity", "a random vector per value", lambda g, r: lookup(g.a, 16, r)),
)  # fmt: skip


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
    """Activations of n values in ``templates`` sentences: signal of the value, a mean per template, unit noise per cell."""
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
