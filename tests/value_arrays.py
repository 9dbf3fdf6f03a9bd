"""Planted value activations for the tests: [site, value, template, d] with a known answer.

``snr`` is the between-value power of the signal over the template noise, both summed over all dimensions.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor


def plane(d: int, draw: torch.Generator, count: int = 2) -> Tensor:
    """Orthonormal random directions [count, d]."""
    return torch.linalg.qr(torch.randn(d, count, generator=draw, dtype=torch.float64)).Q.T


def wave(n: int, turns: float, *, ends: bool = False) -> Tensor:
    """Points of a circle over ``turns`` turns; with ``ends`` the last point lies at the end of the arc."""
    steps = torch.arange(n).double() / (n - 1 if ends else n)
    angle = 2 * math.pi * turns * steps
    return torch.stack([angle.cos(), angle.sin()], 1)


def fading(n: int, d: int, kernel: Callable[[Tensor], Tensor], draw: torch.Generator) -> Tensor:
    """A Gaussian process over the values with covariance ``kernel(lag)`` in every dimension."""
    lag = (torch.arange(n)[:, None] - torch.arange(n)).abs().double()
    root = torch.linalg.cholesky(kernel(lag) + 1e-6 * torch.eye(n, dtype=torch.float64))
    return root @ torch.randn(n, d, generator=draw, dtype=torch.float64)


SIGNALS: dict[str, Callable[[int, int, torch.Generator], Tensor]] = {
    "circle": lambda n, d, g: wave(n, 1) @ plane(d, g),
    "circle k=2": lambda n, d, g: wave(n, 2) @ plane(d, g),
    "circle in two axes": lambda n, d, g: wave(n, 1) @ torch.eye(d, dtype=torch.float64)[:2],
    "circle of k = 1 and 2": lambda n, d, g: torch.cat([wave(n, 1), 0.5 * wave(n, 2)], 1) @ plane(d, g, 4),
    "arc 180": lambda n, d, g: wave(n, 0.5, ends=True) @ plane(d, g),
    "arc 270": lambda n, d, g: wave(n, 0.75, ends=True) @ plane(d, g),
    "ramp": lambda n, d, g: torch.arange(n).double()[:, None] @ plane(d, g, 1),
    "identity": lambda n, d, g: torch.randn(n, d, generator=g, dtype=torch.float64),
    "walk": lambda n, d, g: torch.randn(n, d, generator=g, dtype=torch.float64).cumsum(0),
    "smooth": lambda n, d, g: fading(n, d, lambda lag: torch.exp(-(lag**2) / 8), g),
    "fading": lambda n, d, g: fading(n, d, lambda lag: 0.7**lag, g),
    "white": lambda n, d, g: torch.zeros(n, d, dtype=torch.float64),
    "walk per template": lambda n, d, g: torch.zeros(n, d, dtype=torch.float64),
}
CIRCLES = ("circle", "circle k=2", "circle in two axes", "circle of k = 1 and 2")


def planted(
    name: str,
    n: int = 12,
    *,
    d: int = 64,
    templates: int = 8,
    layers: int = 1,
    snr: float = 1.0,
    seed: int = 0,
) -> Tensor:
    """Activations [layers, n, templates, d] in float32; every layer is the same signal, turned and with new
    noise."""
    draw = torch.Generator().manual_seed(seed)
    signal = SIGNALS[name](n, d, draw)
    signal = signal - signal.mean(0)
    power = (signal**2).sum() / n
    signal = signal / power.clamp_min(1e-12).sqrt()
    out = []
    for layer in range(layers):
        turn = torch.linalg.qr(torch.randn(d, d, generator=draw, dtype=torch.float64)).Q
        noise = torch.randn(n, templates, d, generator=draw, dtype=torch.float64)
        if name == "walk per template":
            noise = noise.cumsum(0)
        noise = noise / ((noise**2).sum() / (n * templates) * snr).sqrt()
        added = 0.3 * torch.randn(1, templates, d, generator=draw, dtype=torch.float64)
        out.append((signal if layer == 0 else signal @ turn)[:, None] + noise + added)
    return torch.stack(out).float()
