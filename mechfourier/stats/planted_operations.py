"""Further planted operation grids, on both sides: what trained networks hold when they add, and what two
operands make when nothing adds.

The circles of :data:`FURTHER` are the ways in which networks have been found to add on circles (Clock and
Pizza, several harmonics); the rest are functions of the residue class in another shape, other periods,
other combinations of the operands, and layers with random weights.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from mechfourier.stats.planted import Cells, Draw, Generator, both, lookup, one, smooth, wave


def _waves(cells: Cells, *ks: int) -> Tensor:
    return torch.cat([wave(k * cells.s, cells.n) for k in ks], 1)


def _random_harmonics(count: int, cells: Cells, draw: Draw) -> Tensor:
    order = torch.randperm((cells.n - 1) // 2, generator=draw)
    return _waves(cells, *(1 + int(k) for k in order[:count]))


def _random(draw: Draw, *size: int) -> Float[Tensor, "..."]:
    return torch.randn(*size, generator=draw, dtype=torch.float64)


def _tokens(cells: Cells) -> Float[Tensor, "cell 4"]:
    return torch.cat([wave(cells.a, cells.n), wave(cells.o, cells.n)], 1)


def _random_layer(neurons: int, out: int, cells: Cells, draw: Draw) -> Tensor:
    hidden = torch.relu(_tokens(cells) @ _random(draw, 4, neurons) + _random(draw, neurons))
    return hidden @ _random(draw, neurons, out)


def _random_gate(cells: Cells, draw: Draw) -> Tensor:
    return _attention(torch.stack([wave(cells.a, cells.n), wave(cells.o, cells.n)], 1), draw)


def _attention(tokens: Float[Tensor, "cell two d"], draw: Draw) -> Float[Tensor, "cell 16"]:
    """Eight heads with random weights: a softmax over the two operands, applied to their values."""
    d = tokens.shape[-1]
    score = (2 / d) ** 0.5 * 2 * (tokens @ _random(draw, d, 8)) * _random(draw, 8)
    return torch.einsum("cth,ctd->chd", score.softmax(1), tokens).flatten(1) @ _random(draw, 8 * d, 16)


def _embedded(cells: Cells, draw: Draw, d: int = 16) -> Float[Tensor, "cell two d"]:
    """A random vector per number, the same for both operands, and one per position: tokens in no order."""
    numbers, places = _random(draw, 1 + int(cells.o.max()), d), _random(draw, 2, d)
    return numbers[torch.stack([cells.a, cells.o], 1)] + places


def _random_network(neurons: int, cells: Cells, draw: Draw) -> Tensor:
    """ReLU neurons with random weights that read random vectors of the two tokens."""
    read = _embedded(cells, draw).flatten(1) / 4
    return torch.relu(read @ _random(draw, read.shape[1], neurons)) @ _random(draw, neurons, 32)


def _random_transformer(cells: Cells, draw: Draw) -> Tensor:
    """Attention and a gated layer with random weights over random vectors of the two tokens."""
    mixed = _attention(_embedded(cells, draw), draw)
    mixed = mixed / mixed.std()
    gate, up = (mixed @ _random(draw, 16, 64) / 4 for _ in range(2))
    return mixed + torch.nn.functional.silu(gate) * up @ _random(draw, 64, 16) / 4


def _aligned_layer(cells: Cells, draw: Draw) -> Tensor:
    """Random ReLU neurons that read both operands through the same weights, at the same phase: a − o is
    there as its cosine alone.
    """
    phase = 2 * torch.pi * torch.rand(64, generator=draw, dtype=torch.float64)
    a, o = (2 * torch.pi * x.double()[:, None] / cells.n + phase for x in (cells.a, cells.o))
    return torch.relu(a.cos() + o.cos()) @ _random(draw, 64, 32)


def _pizza(cells: Cells, *ks: int) -> Tensor:
    """|cos(πk(a−o)/n)| times the sum's circle (Zhong et al. 2023)."""
    gap = (cells.a - cells.o).double()[:, None]
    return torch.cat([(torch.pi * k * gap / cells.n).cos().abs() * wave(k * cells.s, cells.n) for k in ks], 1)


def _seasons(cells: Cells, draw: Draw) -> Tensor:
    count, first = 2 + _integer(3, draw), _integer(cells.n, draw)
    return lookup((cells.c + first) % cells.n * count // cells.n, 16, draw)


def _integer(below: int, draw: Draw) -> int:
    return int(torch.randint(below, (1,), generator=draw))


def _turned(cells: Cells, draw: Draw) -> Tensor:
    """A cosine of the label along one direction, at a random phase."""
    return wave(cells.c + float(torch.rand(1, generator=draw)) * cells.n, cells.n)[:, :1]


def _neighbour(change: float, cells: Cells) -> Tensor:
    return wave(cells.s, cells.n + change)


FURTHER: tuple[Generator, ...] = (
    Generator(
        "clock", "circles of a, of o and of the sum", lambda g, r: both(_tokens(g), wave(g.s, g.n)), True
    ),
    Generator("clock-k1+3", "the same at k = 1 and 3", lambda g, r: both(_tokens(g), _waves(g, 1, 3)), True),
    Generator(
        "pizza",
        "|cos((a−o)/2)| times the circle of the sum, and both operands' circles",
        lambda g, r: both(_tokens(g), _pizza(g, 1)),
        True,
    ),
    Generator("pizza-k1+3", "the same at k = 1 and 3", lambda g, r: both(_tokens(g), _pizza(g, 1, 3)), True),
    Generator(
        "aligned-layer",
        "64 random ReLU neurons that read both operands through the same weights",
        _aligned_layer,
    ),
    Generator("circles-k1+3", "circles at k = 1 and 3 of equal power", lambda g, r: _waves(g, 1, 3), True),
    Generator(
        "circles-2",
        "k = 1 and another random harmonic, of equal power",
        lambda g, r: _waves(g, 1, 2 + _integer((g.n - 3) // 2, r)),
        True,
    ),
    Generator(
        "circles-3", "three random harmonics of equal power", lambda g, r: _random_harmonics(3, g, r), True
    ),
    Generator(
        "circles-5", "five random harmonics of equal power", lambda g, r: _random_harmonics(5, g, r), True
    ),
    Generator(
        "ellipse",
        "a circle of the sum half as wide as long",
        lambda g, r: wave(g.s, g.n) * torch.tensor([1.0, 0.5]),
        True,
    ),
    Generator(
        "circle+class",
        "a circle, and a random vector per residue class of the same power",
        lambda g, r: both(wave(g.s, g.n), lookup(g.c, 16, r), shares=True),
        True,
    ),
    Generator(
        "circle+difference",
        "a circle of the sum, and one of the difference of a quarter its size",
        lambda g, r: torch.cat([4 * wave(g.s, g.n), wave(g.a - g.o, g.n)], 1),
        True,
    ),
    Generator("heavy", "noise with two degrees of freedom (Student's t)", None, noise="t2"),
    Generator("cauchy", "Cauchy noise", None, noise="cauchy"),
    Generator(
        "random-layer",
        "64 random ReLU neurons that read the circles of a and o, read out into 32 directions",
        lambda g, r: _random_layer(64, 32, g, r),
    ),
    Generator("random-layer-256", "256 of them", lambda g, r: _random_layer(256, 32, g, r)),
    Generator("random-gate", "attention with random weights over the circles of a and o", _random_gate),
    Generator(
        "random-tokens",
        "64 random ReLU neurons that read a random vector per token",
        lambda g, r: _random_network(64, g, r),
    ),
    Generator("random-tokens-8", "8 of them", lambda g, r: _random_network(8, g, r)),
    Generator(
        "random-transformer",
        "attention and a gated layer with random weights over random vectors of the tokens",
        _random_transformer,
    ),
    Generator(
        "product-of-circles",
        "the outer product of the circles of a and o",
        lambda g, r: (wave(g.a, g.n)[:, :, None] * wave(g.o, g.n)[:, None]).flatten(1),
    ),
    Generator("difference", "a circle of a − o", lambda g, r: wave(g.a - g.o, g.n)),
    Generator(
        "sum<difference",
        "a circle of a − o, and a smaller one of the sum",
        lambda g, r: torch.cat([wave(g.s, g.n), 2 * wave(g.a - g.o, g.n)], 1),
    ),
    Generator("2a+o", "a circle of 2a + o", lambda g, r: wave(2 * g.a + g.o, g.n)),
    Generator("a+2o", "a circle of a + 2o", lambda g, r: wave(g.a + 2 * g.o, g.n)),
    Generator("cosine", "one cosine of the label", _turned),
    Generator(
        "cosine+class",
        "one cosine of the label, and a random vector per class of the same power",
        lambda g, r: both(_turned(g, r), lookup(g.c, 16, r), shares=True),
    ),
    Generator(
        "two-cosines",
        "a cosine of the label and one of twice the label",
        lambda g, r: torch.cat([wave(g.s, g.n)[:, :1], wave(2 * g.s, g.n)[:, 1:]], 1),
    ),
    Generator(
        "one-hot-class",
        "a direction for every residue class",
        lambda g, r: torch.nn.functional.one_hot(g.c, g.n).double(),
    ),
    Generator("seasons", "two to four blocks of neighbouring classes, begun anywhere", _seasons),
    Generator(
        "label-path",
        "a smooth open path along the label in 8 directions",
        lambda g, r: smooth(g.c, 8, r, g.n / 3),
    ),
    Generator(
        "label-arc-270", "an open arc of 270 degrees along the label", lambda g, r: wave(g.c, g.n * 4 / 3)
    ),
    Generator("period-n+1", "a circle of period n + 1 of the sum", lambda g, r: _neighbour(1, g)),
    Generator("period-n-1", "a circle of period n − 1 of the sum", lambda g, r: _neighbour(-1, g)),
    Generator("period-n+0.5", "a circle of period n + ½ of the sum", lambda g, r: _neighbour(0.5, g)),
    Generator("period-2n", "a circle of period 2n of the sum", lambda g, r: wave(g.s, 2 * g.n)),
    Generator(
        "class-n+1",
        "a random vector per residue class modulo n + 1",
        lambda g, r: lookup(g.s % (g.n + 1), 16, r),
    ),
    Generator(
        "class-13",
        "a random vector per residue class of the sum modulo 13 (17 for 13)",
        lambda g, r: lookup(g.s % (13 if g.n != 13 else 17), 16, r),
    ),
    Generator(
        "residues",
        "a random vector per sum of (a mod 5) and (o mod 11)",
        lambda g, r: lookup(g.a % 5 + g.o % 11, 16, r),
    ),
    Generator("quotient", "a random vector per (a + o) // n", lambda g, r: lookup(g.s // g.n, 16, r)),
    Generator("product-class", "a random vector per a·o mod n", lambda g, r: lookup(g.a * g.o % g.n, 16, r)),
    Generator(
        "carry",
        "the carry of a + o in base 10, and in base n",
        lambda g, r: both(one(g.a % 10 + g.o % 10 >= 10), one(g.a + g.o % g.n >= g.n)),
    ),
    Generator(
        "min-max",
        "min and max of a and o",
        lambda g, r: both(one(torch.minimum(g.a, g.o)), one(torch.maximum(g.a, g.o))),
    ),
    Generator("distance", "a random vector per |a − o|", lambda g, r: lookup((g.a - g.o).abs(), 16, r)),
)
