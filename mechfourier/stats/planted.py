"""Planted activations with a known answer: true circles, and everything that only looks like one.

Signal-to-noise ratio, everywhere: the power of the planted signal over the power of the noise, both summed
over all dimensions (noise: 1 per dimension). A circle has two directions, so at ``snr=1`` in 64 dimensions it
has 32 times the variance of the noise along each of them, and at ``snr=1/32`` the same variance.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mechfourier.errors import UsageError, nearest
from mechfourier.fourier.waves import waves

Draw = torch.Generator
HEAVY = {"t2": 2, "cauchy": 1}
"""Degrees of freedom of the noise with heavy tails."""


@dataclass(frozen=True)
class Cells:
    """The integers of a grid, as generators see them."""

    n: int
    a: Int[Tensor, " cell"]
    o: Int[Tensor, " cell"]

    @property
    def s(self) -> Int[Tensor, " cell"]:
        return self.a + self.o

    @property
    def c(self) -> Int[Tensor, " cell"]:
        return self.s % self.n


Signal = Callable[[Cells, Draw], Tensor]


@dataclass(frozen=True)
class Generator:
    """One way to make activations. ``circular``: the right verdict is ``circular``. ``basis``: directions are
    coordinate axes. ``everywhere``: planted at every hook point (else at one of them, drawn at random).
    ``noise``: "white", "smooth" for noise correlated over neighbouring cells or values, "t2" or "cauchy" for
    heavy tails."""

    name: str
    what: str
    signal: Signal | None
    circular: bool = False
    basis: bool = False
    everywhere: bool = True
    noise: str = "white"


def wave(index: Tensor, period: float) -> Float[Tensor, "cell 2"]:
    """cos and sin of 2π index / period."""
    return waves(index.double() / period)


def lookup(index: Int[Tensor, " cell"], directions: int, draw: Draw) -> Float[Tensor, "cell direction"]:
    """A random vector for every level of ``index``."""
    levels, position = torch.unique(index, return_inverse=True)
    return torch.randn(len(levels), directions, generator=draw, dtype=torch.float64)[position]


def smooth(
    index: Int[Tensor, " cell"], directions: int, draw: Draw, length: float
) -> Float[Tensor, "cell direction"]:
    """A Gaussian process of ``index`` with a squared-exponential kernel of the given length."""
    levels, position = torch.unique(index, return_inverse=True)
    gap = (levels[:, None] - levels[None]).double() / length
    kernel = torch.exp(-(gap**2) / 2) + 1e-6 * torch.eye(len(levels), dtype=torch.float64)
    white = torch.randn(len(levels), directions, generator=draw, dtype=torch.float64)
    return (torch.linalg.cholesky(kernel) @ white)[position]


def _uniform(draw: Draw, low: float, high: float) -> float:
    return low + (high - low) * float(torch.rand(1, generator=draw))


def one(column: Tensor) -> Float[Tensor, "cell 1"]:
    return column.double()[:, None]


def both(*parts: Tensor, shares: bool = False) -> Tensor:
    """Several signals in directions of their own, of the same variance per direction, or (``shares``) the
    same power each."""
    power = [part.shape[1] ** 0.5 if shares else 1.0 for part in parts]
    return torch.cat([unit_variance(part) / root for part, root in zip(parts, power, strict=True)], 1)


def unit_variance(columns: Float[Tensor, "row direction"]) -> Float[Tensor, "row direction"]:
    """Centred, and scaled to a variance of 1 in the mean over directions: the shape of a curve stays."""
    centred = columns - columns.mean(0)
    return centred / centred.pow(2).mean().sqrt().clamp_min(1e-12)


def _arc(index: Tensor, draw: Draw) -> Tensor:
    top = float(index.max()) + 1
    return wave(index, top * 360 / _uniform(draw, 120, 240))


def _sawtooth(cells: Cells, draw: Draw) -> Tensor:
    period = _uniform(draw, 1.3, 1.7) * cells.n
    return one((cells.s.double() / period) % 1)


def _divisor(cells: Cells, draw: Draw) -> Tensor:
    smallest = next(q for q in range(2, cells.n + 1) if cells.n % q == 0)
    return lookup(cells.c % max(cells.n // smallest, 2), 16, draw)


def _noise_walk(cells: Cells, draw: Draw) -> Tensor:
    return smooth(cells.a, 16, draw, 3.0) * smooth(cells.o, 16, draw, 6.0)


def circles(letter: str, index: Callable[[Cells], Tensor]) -> tuple[Generator, ...]:
    """Circles of ``index``, which descriptions call ``letter``: in a random plane, in two axes, and twice round."""
    return (
        Generator(
            "circle",
            f"cos and sin of 2π{letter}/n in a random plane",
            lambda g, r: wave(index(g), g.n),
            True,
            everywhere=False,
        ),
        Generator(
            "circle-basis",
            "the same in two coordinate axes",
            lambda g, r: wave(index(g), g.n),
            True,
            True,
            False,
        ),
        Generator(
            "circle-k2",
            f"cos and sin of 2π2{letter}/n in a random plane",
            lambda g, r: wave(2 * index(g), g.n),
            True,
            everywhere=False,
        ),
    )


OPERATIONS: tuple[Generator, ...] = (
    *circles("c", lambda g: g.c),
    Generator(
        "circle+quadratic",
        "a circle, and the squared raw sum in a third direction",
        lambda g, r: both(wave(g.c, g.n), one(g.s**2)),
        True,
        everywhere=False,
    ),
    Generator(
        "circle+random-sum",
        "a circle, and two random functions of the raw sum",
        lambda g, r: both(wave(g.c, g.n), lookup(g.s, 2, r)),
        True,
        everywhere=False,
    ),
    Generator("white", "nothing but white noise", None),
    Generator("autocorrelated", "noise correlated over neighbouring cells", None, noise="smooth"),
    Generator("smooth-field", "16 products of smooth functions of a and o", _noise_walk),
    Generator("ramp", "the raw sum", lambda g, r: one(g.s)),
    Generator("arc", "an open arc of 120 to 240 degrees along the raw sum", lambda g, r: _arc(g.s, r)),
    Generator("quadratic", "the squared raw sum", lambda g, r: one(g.s**2)),
    Generator("product", "a times o", lambda g, r: one(g.a * g.o)),
    Generator("relu", "relu(a + o - n)", lambda g, r: one((g.s - g.n).clamp_min(0))),
    Generator(
        "steps",
        "staircases of the raw sum, one with steps of n",
        lambda g, r: both(one(g.s // g.n), one(g.s // 7)),
    ),
    Generator(
        "two-digit",
        "both operands have two digits; the sum has",
        lambda g, r: both(one((g.a >= 10) & (g.o >= 10)), one(g.s >= 10)),
    ),
    Generator(
        "relu+steps+digits",
        "relu, steps and two-digit in directions of their own",
        lambda g, r: both(one((g.s - g.n).clamp_min(0)), one(g.s // g.n), one(g.s >= 10)),
    ),
    Generator(
        "digits", "a random vector per units digit of the raw sum", lambda g, r: lookup(g.s % 10, 8, r)
    ),
    Generator("helix-10", "cos and sin of the raw sum with period 10", lambda g, r: wave(g.s, 10)),
    Generator("sawtooth", "a sawtooth of the raw sum, period 1.3 to 1.7 n", _sawtooth),
    Generator(
        "smooth-2", "2 smooth random functions of the raw sum", lambda g, r: smooth(g.s, 2, r, g.n / 4)
    ),
    Generator(
        "smooth-8", "8 smooth random functions of the raw sum", lambda g, r: smooth(g.s, 8, r, g.n / 3)
    ),
    Generator("random-sum-2", "2 random functions of the raw sum", lambda g, r: lookup(g.s, 2, r)),
    Generator("random-sum-16", "16 random functions of the raw sum", lambda g, r: lookup(g.s, 16, r)),
    Generator(
        "token-identity",
        "a random vector per a and per o",
        lambda g, r: both(lookup(g.a, 8, r), lookup(g.o, 8, r)),
    ),
    Generator(
        "circle-of-a",
        "a circle of a alone and one of o alone",
        lambda g, r: both(wave(g.a, g.n), wave(g.o, g.n)),
    ),
    Generator("modular-2", "a random point of a plane per residue class", lambda g, r: lookup(g.c, 2, r)),
    Generator("modular-16", "a random vector per residue class", lambda g, r: lookup(g.c, 16, r)),
    Generator("modular-divisor", "a random vector per residue class of a divisor of n", _divisor),
    Generator("label-ramp", "the label as a number 0 … n-1", lambda g, r: one(g.c)),
    Generator("label-arc", "an open arc of 120 to 240 degrees along the label", lambda g, r: _arc(g.c, r)),
)


def find(name: str, generators: tuple[Generator, ...] = OPERATIONS) -> Generator:
    """The generator of that name; raises ``UsageError`` with the nearest names."""
    for generator in generators:
        if generator.name == name:
            return generator
    raise UsageError(f"no planted generator {name!r}; closest: {nearest(name, [g.name for g in generators])}")


def planted_operation(
    generator: Generator,
    *,
    n: int,
    cycles: int = 4,
    layers: int = 1,
    d_model: int = 64,
    snr: float = 1.0,
    seed: int = 0,
) -> Float[Tensor, "site a offset d"]:
    """Activations of a full grid of n values times ``cycles * n`` offsets, noise of unit variance."""
    draw = torch.Generator().manual_seed(seed)
    offsets = cycles * n
    cells = Cells(n, torch.arange(n).repeat_interleave(offsets), torch.arange(offsets).repeat(n))
    chosen = int(torch.randint(layers, (1,), generator=draw))
    out = torch.empty(layers, n * offsets, d_model)
    for layer in range(layers):
        out[layer] = grid_noise(generator, n, offsets, d_model, draw)
        if generator.signal is not None and (generator.everywhere or layer == chosen):
            out[layer] += embedded(generator.signal(cells, draw), generator, d_model, snr, draw)
    return out.reshape(layers, n, offsets, d_model)


def grid_noise(
    generator: Generator, n: int, offsets: int, d_model: int, draw: Draw
) -> Float[Tensor, "cell d"]:
    """White noise, a stationary Gaussian field with correlation exp(-distance / 2) along a and along o, or
    heavy tails."""
    white = torch.randn(n, offsets, d_model, generator=draw)
    if generator.noise in HEAVY:
        degrees = HEAVY[generator.noise]
        chi2 = torch.randn(degrees, n, offsets, d_model, generator=draw).square().mean(0)
        white = white / chi2.clamp_min(1e-12).sqrt()
    if generator.noise == "smooth":
        white = torch.einsum("ab,op,bpd->aod", _memory(n), _memory(offsets), white)
    return white.reshape(n * offsets, d_model)


def _memory(size: int, length: float = 2.0) -> Float[Tensor, "size size"]:
    gap = (torch.arange(size)[:, None] - torch.arange(size)[None]).abs() / length
    return torch.linalg.cholesky(torch.exp(-gap.double())).float()


def embedded(
    columns: Float[Tensor, "row direction"], generator: Generator, d_model: int, snr: float, draw: Draw
) -> Float[Tensor, "row d"]:
    """Signal columns, of power ``snr * d_model`` together, along orthonormal directions (random, or
    coordinate axes)."""
    count = columns.shape[1]
    if count > d_model:
        raise UsageError(
            f"{generator.name!r} has {count} directions and does not fit into d_model {d_model}; use at "
            f"least {count}"
        )
    scaled = unit_variance(columns) * (snr * d_model / count) ** 0.5
    if generator.basis:
        axes = torch.randperm(d_model, generator=draw)[:count]
        directions = torch.nn.functional.one_hot(axes, d_model).double()
    else:
        random = torch.randn(d_model, count, generator=draw, dtype=torch.float64)
        directions = torch.linalg.qr(random).Q.T
    return (scaled @ directions).float()
