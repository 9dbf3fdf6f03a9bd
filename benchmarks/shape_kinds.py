"""Planted tables of values on a cycle with a known answer: circles, and what only looks like one.

Signal-to-noise ratio: power of the signal over that of the noise, both over all dimensions; of a circle with
something beside it, the power of the circle alone.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy import ndarray
from numpy.random import Generator as Rng


def unit(y: ndarray) -> ndarray:
    """Centred, of mean power 1 per value."""
    y = y - y.mean(0)
    return y / max(np.sqrt((y**2).sum() / len(y)), 1e-12)


def turned(turns: ndarray) -> ndarray:
    return np.stack([np.cos(2 * np.pi * turns), np.sin(2 * np.pi * turns)], 1)


def beside(*parts: tuple[float, ndarray]) -> ndarray:
    """Several signals in directions of their own, each with its power."""
    return np.concatenate([np.sqrt(power) * unit(y) for power, y in parts], 1)


def identity(n: int, rng: Rng, dims: int = 48) -> ndarray:
    return rng.standard_normal((n, dims))


def process(n: int, rng: Rng, dims: int, length: float, rough: bool = False) -> ndarray:
    at = np.arange(n)
    gap = np.abs(at[:, None] - at) / length
    kernel = np.exp(-gap) if rough else np.exp(-(gap**2) / 2)
    return np.linalg.cholesky(kernel + 1e-6 * np.eye(n)) @ rng.standard_normal((n, dims))


def listed(n: int, rng: Rng) -> ndarray:
    """Positions on a list that begins at a random value of the cycle."""
    return (np.arange(n) - rng.integers(n)) % n


def around(n: int) -> ndarray:
    return np.arange(n) / n


def moved(n: int, rng: Rng) -> ndarray:
    t = around(n)
    t[rng.integers(n)] = rng.random()
    return turned(t)


def swapped(n: int, rng: Rng) -> ndarray:
    """A circle, but the order of the labels is not the order on it: two neighbours change places."""
    t, i = around(n), int(rng.integers(n))
    t[[i, (i + 1) % n]] = t[[(i + 1) % n, i]]
    return turned(t)


def uneven(n: int, rng: Rng) -> ndarray:
    return turned(around(n) + rng.uniform(-0.4, 0.4, n) / n)


def speed(n: int, rng: Rng) -> ndarray:
    t = around(n)
    return turned(t + 0.6 / (2 * np.pi) * np.sin(2 * np.pi * (t + rng.random())))


def ellipse(n: int, rng: Rng, aspect: float) -> ndarray:
    return turned(around(n) + rng.random()) * [1, aspect]


def arc(n: int, rng: Rng, degrees: float) -> ndarray:
    return turned(degrees / 360 * listed(n, rng) / (n - 1))


def cosine(n: int, rng: Rng, k: int = 1) -> ndarray:
    return np.cos(2 * np.pi * (k * around(n) + rng.random()))[:, None]


def blocks(n: int, rng: Rng, groups: int, dims: int = 16) -> ndarray:
    return rng.standard_normal((groups, dims))[listed(n, rng) * groups // n]


def uneven_blocks(n: int, rng: Rng, groups: int) -> ndarray:
    cuts = np.sort(rng.choice(np.arange(1, n), groups - 1, replace=False))
    return rng.standard_normal((groups, 16))[np.searchsorted(cuts, listed(n, rng), side="right")]


def on_list(n: int, rng: Rng, curve: Callable[[ndarray], list[ndarray]]) -> ndarray:
    """A curve of u from 0 to 1 along a list that begins anywhere."""
    return np.stack(curve(listed(n, rng) / (n - 1)), 1)


def star(n: int, rng: Rng) -> ndarray:
    """Two spokes from a hub: out along one direction, and out along another."""
    at = listed(n, rng)
    half = n // 2
    return np.stack([np.where(at < half, half - at, 0), np.where(at >= half, at - half, 0)], 1).astype(float)


def hub(n: int, rng: Rng) -> ndarray:
    """One value far from all others, which lie anywhere."""
    y = 0.3 * rng.standard_normal((n, 8))
    y[rng.integers(n)] = 3
    return y


def tree(n: int, rng: Rng) -> ndarray:
    """A binary hierarchy of neighbouring values: a random vector for every branch."""
    at, levels = listed(n, rng), []
    for depth in range(1, 4):
        levels.append(rng.standard_normal((2**depth, 8))[at * 2**depth // n])
    return np.concatenate(levels, 1)


def bits(n: int, rng: Rng) -> ndarray:
    return np.stack([(np.arange(n) >> b) & 1 for b in range(int(np.ceil(np.log2(n))))], 1).astype(float)


def arcs_apart(n: int, rng: Rng, *breaks: int) -> ndarray:
    """A list in pieces, each on a part of a circle in a plane of its own."""
    at = listed(n, rng)
    piece = np.searchsorted(breaks, at, side="right")
    y = np.zeros((n, len(breaks) + 1, 2))
    y[np.arange(n), piece] = turned(at / n + rng.random(len(breaks) + 1)[piece])
    return y.reshape(n, -1)


def strokes(n: int, rng: Rng) -> ndarray:
    """Half of the values along one line, half along another, in directions of their own, apart."""
    at = listed(n, rng)
    first = at < n // 2
    along = np.where(first, at, at - n // 2) / (n / 4) - 1.0
    return np.stack([along * first, along * ~first, 1.0 * first], 1)


def month_lengths(n: int, rng: Rng) -> ndarray:
    lengths = np.array([31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31])
    return np.concatenate(
        [np.eye(3)[np.searchsorted([28, 30, 31], np.resize(lengths, n))], 0.3 * rng.standard_normal((n, 4))],
        1,
    )


def vowels(n: int, rng: Rng) -> ndarray:
    is_vowel = np.isin(np.arange(n) % 26, [0, 4, 8, 14, 20])
    return np.concatenate([2.0 * is_vowel[:, None], 0.3 * rng.standard_normal((n, 8))], 1)


@dataclass(frozen=True)
class Kind:
    """One way to make data. ``power``: of the signal, at signal-to-noise 1. ``words``: right answers besides
    "undecided". ``asked`` is False where "circular" is neither right nor wrong: no rate is held to a bar."""

    make: Callable[[int, Rng], ndarray]
    words: tuple[str, ...]
    power: float = 1.0
    asked: bool = True

    @property
    def circular(self) -> bool:
        return self.words[0] == "circular"


ROUND, OPEN, DISTINCT = ("circular",), ("open curve",), ("values distinguishable",)
PERIOD = ("other period", "open curve")


def line_beside(power: float) -> Kind:
    return Kind(
        lambda n, r: beside((1, turned(around(n))), (power, listed(n, r)[:, None] * 1.0)), ROUND, 1 + power
    )


CIRCLES: dict[str, Kind] = {
    "circle": Kind(lambda n, r: turned(around(n)), ROUND),
    "circle, line .25": line_beside(0.25),
    "circle, line .5": line_beside(0.5),
    "circle, line 1": line_beside(1),
    "circle, line 2": line_beside(2),
    "circle, line 4": line_beside(4),
    "ellipse .7": Kind(lambda n, r: ellipse(n, r, 0.7), ROUND),
    "ellipse .5": Kind(lambda n, r: ellipse(n, r, 0.5), ROUND),
    "uneven spacing": Kind(uneven, ROUND),
    "uneven speed": Kind(speed, ROUND),
    "k = 1 and 3": Kind(lambda n, r: beside((0.5, turned(around(n))), (0.5, turned(3 * around(n)))), ROUND),
    "k = 1 and 2": Kind(lambda n, r: beside((0.7, turned(around(n))), (0.3, turned(2 * around(n)))), ROUND),
    "k = 2": Kind(lambda n, r: turned(2 * around(n)), ROUND),
    "one value misplaced": Kind(moved, ROUND),
    "two neighbours swapped": Kind(swapped, ROUND, asked=False),
    "circle, identity 1": Kind(lambda n, r: beside((1, turned(around(n))), (1, identity(n, r))), ROUND, 2),
    "circle, identity .5": Kind(
        lambda n, r: beside((1, turned(around(n))), (0.5, identity(n, r))), ROUND, 1.5
    ),
    "similarity round the cycle": Kind(lambda n, r: _periodic(n, r), ROUND),
    "circle of clusters, tight": Kind(
        lambda n, r: turned(around(n) + 0.25 / n * np.sin(4 * np.pi * around(n))), ROUND
    ),
}
LOOKALIKES: dict[str, Kind] = {
    "noise": Kind(lambda n, r: np.zeros((n, 1)), ("noise",)),
    "identity": Kind(identity, DISTINCT),
    "identity, 2 dims": Kind(lambda n, r: identity(n, r, 2), DISTINCT),
    "identity, 4 dims": Kind(lambda n, r: identity(n, r, 4), DISTINCT),
    "circle in random order": Kind(lambda n, r: turned(r.permutation(n) / n), DISTINCT),
    "line in random order": Kind(lambda n, r: r.permutation(n)[:, None] * 1.0, DISTINCT),
    "arc 180": Kind(lambda n, r: arc(n, r, 180), OPEN),
    "arc 240": Kind(lambda n, r: arc(n, r, 240), OPEN),
    "arc 270": Kind(lambda n, r: arc(n, r, 270), OPEN),
    "arc 300": Kind(lambda n, r: arc(n, r, 300), ("nearly closed", "open curve")),
    "cosine": Kind(cosine, ("wave",)),
    "cosine, identity 1": Kind(
        lambda n, r: beside((1, cosine(n, r)), (1, identity(n, r))), ("wave", *DISTINCT), 2
    ),
    "cosine k = 2": Kind(lambda n, r: cosine(n, r, 2), ("wave",)),
    "2 clusters": Kind(lambda n, r: blocks(n, r, 2), ("clusters",)),
    "3 clusters": Kind(lambda n, r: blocks(n, r, 3), ("clusters",)),
    "4 clusters": Kind(lambda n, r: blocks(n, r, 4), ("clusters",)),
    "6 clusters": Kind(lambda n, r: blocks(n, r, 6), ("clusters", *DISTINCT)),
    "4 clusters, identity .3": Kind(
        lambda n, r: beside((1, blocks(n, r, 4)), (0.3, identity(n, r, 16))), ("clusters",), 1.3
    ),
    "3 uneven clusters": Kind(lambda n, r: uneven_blocks(n, r, 3), ("clusters", *OPEN)),
    "4 uneven clusters": Kind(lambda n, r: uneven_blocks(n, r, 4), ("clusters", *OPEN)),
    "4 clusters and a line": Kind(
        lambda n, r: beside((1, blocks(n, r, 4)), (1, listed(n, r)[:, None] * 1.0)), ("clusters", *OPEN), 2
    ),
    "line": Kind(lambda n, r: listed(n, r)[:, None] * 1.0, ("line", *OPEN)),
    "line, identity 1": Kind(
        lambda n, r: beside((1, listed(n, r)[:, None] * 1.0), (1, identity(n, r))), ("line", *OPEN), 2
    ),
    "logarithm": Kind(lambda n, r: np.log(listed(n, r) + 1.0)[:, None], ("line", *OPEN)),
    "parabola": Kind(lambda n, r: on_list(n, r, lambda u: [u, 4 * (u - 0.5) ** 2]), OPEN),
    "cubic": Kind(lambda n, r: on_list(n, r, lambda u: [u, 4 * (u - 0.5) ** 2, 8 * (u - 0.5) ** 3]), OPEN),
    "tent": Kind(lambda n, r: np.abs(listed(n, r) - n / 2)[:, None], ("wave", *OPEN)),
    "sawtooth of half the cycle": Kind(lambda n, r: (listed(n, r) % (n // 2))[:, None] * 1.0, PERIOD),
    "U shape": Kind(
        lambda n, r: on_list(n, r, lambda u: [np.clip(np.abs(3 * u - 1.5), 0.5, 1.5), np.clip(3 * u, 1, 2)]),
        OPEN,
    ),
    "L shape": Kind(star, OPEN),
    "spiral": Kind(
        lambda n, r: on_list(
            n, r, lambda u: [(1 + u) * np.cos(1.6 * np.pi * u), (1 + u) * np.sin(1.6 * np.pi * u)]
        ),
        OPEN,
    ),
    "logarithmic spiral": Kind(
        lambda n, r: on_list(
            n, r, lambda u: [np.exp(1.5 * u) * np.cos(2 * np.pi * u), np.exp(1.5 * u) * np.sin(2 * np.pi * u)]
        ),
        OPEN,
    ),
    "helix of 1.5 turns": Kind(
        lambda n, r: on_list(n, r, lambda u: [np.cos(3 * np.pi * u), np.sin(3 * np.pi * u), 2 * u]), PERIOD
    ),
    "helix of 2.5 turns": Kind(
        lambda n, r: on_list(n, r, lambda u: [np.cos(5 * np.pi * u), np.sin(5 * np.pi * u), 2 * u]), PERIOD
    ),
    "half turn (Möbius)": Kind(
        lambda n, r: beside((1, turned(0.5 * listed(n, r) / n)), (0.5, turned(1.5 * listed(n, r) / n))), OPEN
    ),
    "Lissajous 1:2, open": Kind(
        lambda n, r: on_list(n, r, lambda u: [np.cos(1.4 * np.pi * u), np.sin(2.8 * np.pi * u)]), OPEN
    ),
    "Lissajous 2:3, open": Kind(
        lambda n, r: on_list(n, r, lambda u: [np.cos(2.8 * np.pi * u), np.sin(4.2 * np.pi * u)]), PERIOD
    ),
    "period 10": Kind(lambda n, r: turned(np.arange(n) / 10), PERIOD),
    "period n - 1": Kind(
        lambda n, r: turned(listed(n, r) / (n - 1)), ("other period", "nearly closed", "open curve")
    ),
    "period n - 2": Kind(lambda n, r: turned(listed(n, r) / (n - 2)), PERIOD),
    "period 7.5": Kind(lambda n, r: turned(np.arange(n) / 7.5), PERIOD),
    "period 10 and a line": Kind(
        lambda n, r: beside((1, turned(np.arange(n) / 10)), (1, np.arange(n)[:, None] * 1.0)), PERIOD, 2
    ),
    "classes modulo 3": Kind(lambda n, r: identity(3, r, 16)[np.arange(n) % 3], ("other period", *DISTINCT)),
    "classes modulo 4": Kind(lambda n, r: identity(4, r, 16)[np.arange(n) % 4], ("other period", *DISTINCT)),
    "even and odd": Kind(lambda n, r: (np.arange(n) % 2)[:, None] * 1.0, ("other period", "wave", *DISTINCT)),
    "two half arcs": Kind(lambda n, r: arcs_apart(n, r, n // 2), OPEN),
    "two uneven arcs": Kind(lambda n, r: arcs_apart(n, r, int(r.integers(n // 3, n // 2))), OPEN),
    "three arcs": Kind(lambda n, r: arcs_apart(n, r, n // 3, 2 * n // 3), ("clusters", *OPEN)),
    "two strokes": Kind(strokes, ("clusters", *OPEN)),
    "hub": Kind(hub, DISTINCT),
    "hierarchy": Kind(tree, ("clusters", *OPEN)),
    "binary code": Kind(bits, ("other period", "clusters", *OPEN, *DISTINCT)),
    "month lengths": Kind(month_lengths, DISTINCT),
    "vowels": Kind(vowels, DISTINCT),
    "fading, length 3": Kind(lambda n, r: np.roll(process(n, r, 48, n / 4, True), r.integers(n), 0), OPEN),
    "fading, length 6": Kind(lambda n, r: np.roll(process(n, r, 48, n / 2, True), r.integers(n), 0), OPEN),
    "random walk, 16 dims": Kind(lambda n, r: np.roll(identity(n, r, 16).cumsum(0), r.integers(n), 0), OPEN),
    "smooth, 16 dims": Kind(lambda n, r: np.roll(process(n, r, 16, n / 4), r.integers(n), 0), OPEN),
    "smooth, short, 48 dims": Kind(lambda n, r: np.roll(process(n, r, 48, n / 6), r.integers(n), 0), OPEN),
    "smooth path, 2 dims": Kind(lambda n, r: np.roll(process(n, r, 2, n / 3), r.integers(n), 0), OPEN),
    "smooth path, 3 dims": Kind(lambda n, r: np.roll(process(n, r, 3, n / 3), r.integers(n), 0), OPEN),
}
KINDS = CIRCLES | LOOKALIKES


def _periodic(n: int, rng: Rng) -> ndarray:
    away = np.abs(np.arange(n)[:, None] - np.arange(n))
    chord = n / np.pi * np.sin(np.pi * away / n)
    kernel = np.exp(-chord / (n / 4)) + 1e-6 * np.eye(n)
    return np.linalg.cholesky(kernel) @ rng.standard_normal((n, 48))


def noise(kind: str, shape: tuple[int, int, int], rng: Rng) -> ndarray:
    """Of total variance 1 per value and template (t2: of the same scale, its variance is infinite)."""
    n, _, d = shape
    if kind == "t2":
        return rng.standard_t(2, shape) / np.sqrt(d)
    white = rng.standard_normal(shape) / np.sqrt(d)
    if kind == "massive":
        white[..., :2] *= 0.7 * np.sqrt(d)
        return white / np.sqrt((white**2).sum(-1).mean())
    if kind == "by value":
        return white * np.exp(rng.normal(0, 0.4, (n, 1, 1)))
    if kind == "smooth":  # over neighbouring values, drawn per template
        away = np.abs(np.arange(n)[:, None] - np.arange(n))
        return np.einsum("vw,wtd->vtd", np.linalg.cholesky(np.exp(-away / 2)), white)
    return white


def planted(kind: Kind, n: int, templates: int, d: int, snr: float, noise_kind: str, rng: Rng) -> ndarray:
    """``[value, template, d]``."""
    y = kind.make(n, rng)
    y = y - y.mean(0)
    power = (y**2).sum() / n
    y = y * np.sqrt(kind.power * snr / power) if power > 0 else y
    basis = np.linalg.qr(rng.standard_normal((d, y.shape[1])))[0]
    return (y @ basis.T)[:, None] + noise(noise_kind, (n, templates, d), rng)


def polygon(n: int, corners: int) -> ndarray:
    """Values at equal steps along the sides of a regular polygon."""
    at = around(n) * corners
    corner, part = np.floor(at), at % 1
    return (1 - part)[:, None] * turned(corner / corners) + part[:, None] * turned((corner + 1) / corners)


def bumps(n: int, rng: Rng) -> ndarray:
    """Forty cells, each tuned to a place of the cycle."""
    apart = around(n)[:, None] - rng.random(40)
    return np.exp(2 * np.cos(2 * np.pi * apart))


def hairpin(u: ndarray) -> list[ndarray]:
    """Out along a straight leg, round a bend, and back along another one, two fifths as far apart as it is long."""
    along = np.where(u < 0.4, u, np.where(u > 0.6, 1 - u, 0.4 + 0.1 * np.sin(np.pi * (u - 0.4) / 0.2)))
    return [along, np.clip(u, 0.4, 0.6)]


KINDS |= {
    "square": Kind(lambda n, r: polygon(n, 4), ROUND),
    "place cells": Kind(bumps, ROUND),
    "saddle": Kind(lambda n, r: beside((1, turned(around(n))), (0.5, cosine(n, r, 2))), ROUND, 1.5),
    "ellipse .6, line .5, identity .25": Kind(
        lambda n, r: beside(
            (1, ellipse(n, r, 0.6)), (0.5, listed(n, r)[:, None] * 1.0), (0.25, identity(n, r))
        ),
        ROUND,
        1.75,
    ),
    "radius by value": Kind(lambda n, r: turned(around(n)) * r.uniform(0.6, 1.4, (n, 1)), ROUND),
    "hairpin": Kind(lambda n, r: on_list(n, r, hairpin), OPEN),
    "zigzag": Kind(
        lambda n, r: on_list(n, r, lambda u: [u, 0.3 * np.cos(np.pi * u * (n - 1))]), ("line", *OPEN)
    ),
    "sigmoid and bump": Kind(
        lambda n, r: on_list(n, r, lambda u: [np.tanh(6 * (u - 0.5)), np.exp(-8 * (u - 0.3) ** 2)]), OPEN
    ),
    "golden angle": Kind(lambda n, r: turned(0.381966 * np.arange(n)), PERIOD),
    "arch of four degrees": Kind(
        lambda n, r: on_list(n, r, lambda u: [np.cos(np.pi * k * u) / k for k in (1, 2, 3, 4)]),
        OPEN,
    ),
}


def half_in_order(n: int, rng: Rng) -> ndarray:
    """Half of the values along a line, the others anywhere on it."""
    at = listed(n, rng)
    return np.where(at < n / 2, at / n, rng.random(n))[:, None]


STRANGERS: dict[str, Kind] = {
    "cardioid": Kind(lambda n, r: turned(around(n)) * (1 + 0.5 * cosine(n, r)), ROUND),
    "radius by turns": Kind(lambda n, r: turned(around(n)) * (1 - 0.3 * (np.arange(n) % 2))[:, None], ROUND),
    "S curve": Kind(lambda n, r: on_list(n, r, lambda u: [u, 0.3 * np.sin(2 * np.pi * u)]), OPEN),
    "exponential": Kind(lambda n, r: np.exp(3 * listed(n, r) / n)[:, None], ("line", *OPEN)),
    "half in order": Kind(half_in_order, DISTINCT),
}
"""Kinds that were invented after everything was chosen, and run once."""
KINDS |= STRANGERS
