"""The named shapes. A new one is one function, which yields designs, and one line in :data:`SHAPES`."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from math import gcd

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray

from mechfourier.stats.shapes.designs import (
    Columns,
    Design,
    Places,
    process,
    regression,
    swept,
    turns_of_gap,
    waves,
)

OPEN_GAP = 3.0
"""Steps between the ends of an open curve, from which on it is a rival of the circle; the gap of a closed curve is one step."""
LINE_GAP = 8.0
"""The same for an open curve beside a line: a helix with a smaller gap predicts the same tables as a circle beside a line."""
OVERLAP = -1.0
"""Gap of a curve of more than one turn, its ends overlapping, from which on it is a rival."""
NEAR_GAP = 2.0
"""Smallest gap of a curve that is called nearly closed."""
FEWEST_PLACES = 5
"""A harmonic that visits fewer different places than this is a set of classes, not a circle."""


def circle(places: Places) -> Iterator[Design]:
    """cos and sin of one harmonic with enough different places."""
    for k in _round(places):
        yield from regression(waves(k, places.kept, places.n), k=k)


def _round(places: Places) -> Iterator[int]:
    for k in places.harmonics:
        if places.n // gcd(k, places.n) >= FEWEST_PLACES:
            yield k


def circle_and_harmonics(places: Places) -> Iterator[Design]:
    """A closed curve of two harmonics, k and 2k or 3k."""
    n = places.n
    for k in _round(places):
        for times in (2, 3):
            if times * k < n / 2:
                yield from regression(
                    waves(k, places.kept, n) + waves(times * k, places.kept, n), k=k, also=times * k
                )


def circle_beside_line(places: Places) -> Iterator[Design]:
    """The first harmonic, and a straight line in another direction that begins at any value."""
    for cut in range(places.n):
        yield from regression([places.along(cut), *waves(1, places.kept, places.n)], k=1, cut=cut)


LENGTHS = (1.0, 1.5, 2.0, 3.0, 4.5, 9.0)
NUGGETS = (0.003, 0.03, 0.3)
SHORTEST_PIECE = 2.0
"""Length of similarity, in steps, from which on a list in pieces is more than one in blocks or without order."""


def closed_curve(places: Places) -> Iterator[Design]:
    """Similarity that decays with circular distance: any smooth closed curve."""
    away = np.abs(places.kept[:, None] - places.kept)
    chord = places.n / np.pi * np.sin(np.pi * away / places.n)
    for nugget in NUGGETS:
        for length in LENGTHS:
            yield process(np.exp(-(chord**2) / 2 / length**2), nugget, k=1, length=length)
            yield process(np.exp(-chord / length), nugget, k=1, length=length, rough=1)


def smooth_path(places: Places) -> Iterator[Design]:
    """Similarity that decays with linear distance from any first value on: any smooth, or fading, open
    curve; and the same of a list in two halves, each a curve by itself."""
    for nugget in NUGGETS:
        for length in LENGTHS:
            for cut in range(places.n):
                at = places.along(cut)
                away = np.abs(at[:, None] - at)
                yield process(np.exp(-(away**2) / 2 / length**2), nugget, cut=cut, length=length)
                yield process(np.exp(-away / length), nugget, cut=cut, length=length, rough=1)
                for piece in _pieces(at, places.n) if length >= SHORTEST_PIECE else ():
                    near = np.exp(-(away**2) / 2 / length**2) * np.equal.outer(piece, piece)
                    yield process(near, nugget, cut=cut, length=length, pieces=int(piece.max()) + 1)


def _pieces(at: Int[ndarray, " m"], n: int) -> Iterator[Int[ndarray, " m"]]:
    """Which piece every place of a list belongs to: two halves, a third and the rest, three thirds."""
    yield at * 2 // n
    yield (at * 3 // n > 0) * 1
    yield at * 3 // n


def line(places: Places) -> Iterator[Design]:
    """Equal steps in one direction."""
    for cut in range(places.n):
        yield from regression([places.along(cut)], cut=cut)


def polynomial(places: Places) -> Iterator[Design]:
    """Parabolas and cubics: bends, and curves that turn by different amounts along their way."""
    for cut in range(places.n):
        u = 2 * places.along(cut) / (places.n - 1) - 1
        yield from regression([u, u**2], cut=cut, degree=2)
        yield from regression([u, u**2, u**3], cut=cut, degree=3)


def arc(places: Places) -> Iterator[Design]:
    """Less than a turn, with a gap of at least three steps."""
    yield from _arcs(places, np.linspace(0.2, turns_of_gap(OPEN_GAP, places.n), 15))


def arc_beside_line(places: Places) -> Iterator[Design]:
    """An arc with a larger gap, beside a straight line."""
    yield from _arcs(places, np.linspace(0.2, turns_of_gap(LINE_GAP, places.n), 15), line=True)


def _arcs(places: Places, grid: Float[ndarray, " g"], line: bool = False) -> Iterator[Design]:
    """Arcs of a number of turns per n values, cut anywhere, with or without a straight line."""
    n = places.n
    grid = grid[grid < n / 2 - 0.3]
    for cut in range(n):
        at = places.along(cut)

        def columns(turns: float, at: Int[ndarray, " m"] = at) -> Columns:
            return [at, *waves(turns, at, n)] if line else waves(turns, at, n)

        yield from swept("turns", grid, columns, cut=cut)


def nearly_closed(places: Places) -> Iterator[Design]:
    """Arcs with a gap of two to three steps."""
    n = places.n
    yield from _arcs(places, np.linspace(turns_of_gap(OPEN_GAP, n), turns_of_gap(NEAR_GAP, n), 4)[1:])


def wave(places: Places) -> Iterator[Design]:
    """One harmonic along one direction: a single quadrature, at any phase."""
    for k in places.harmonics:

        def columns(phase: float, k: int = k) -> Columns:
            return [np.cos(2 * np.pi * k * places.kept / places.n + phase)]

        yield from swept("phase", np.linspace(-0.1, np.pi + 0.1, 52), columns, k=k)


def one_direction(places: Places) -> Iterator[Design]:
    """Any function of the value along one direction. It is fitted to a table whole (:meth:`Family.refined`);
    here the first harmonic stands for it."""
    yield from regression([np.cos(2 * np.pi * places.kept / places.n)], free=1)


def clusters(places: Places) -> Iterator[Design]:
    """Neighbouring values in blocks of nearly equal size, anywhere."""
    n = places.n
    for groups in range(2, n // 2 + 1):
        label = np.arange(n) * groups // n
        for offset in range(-(-n // groups)):
            yield from _classes(label[(places.kept - offset) % n], groups=groups, offset=offset)


def _classes(label: Int[ndarray, " m"], **params: float) -> Iterator[Design]:
    _, index = np.unique(label, return_inverse=True)
    member = np.eye(index.max() + 1)[index]
    if member.shape[1] < len(label) - 1:
        yield Design(params, member @ (member / member.sum(0)).T)


def classes(places: Places) -> Iterator[Design]:
    """A point anywhere for every class of the value modulo a small number."""
    for modulus in range(2, places.n // 2 + 1):
        label = places.kept % modulus
        for design in _classes(label, period=modulus):
            yield replace(design, kernel=np.equal.outer(label, label) * 1.0, nugget=1.0)


def other_period(places: Places) -> Iterator[Design]:
    """Circles whose period is not n/k."""
    n = places.n
    for k in places.harmonics:
        low, high = turns_of_gap(OVERLAP, n) if k == 1 else k * n / (n - 1), (k + 1) * n / (n + 1)
        yield from _arcs(places, np.unique(np.r_[np.arange(low, high, 0.05), high]))


def near_period(places: Places) -> Iterator[Design]:
    """One turn and up to two steps more: the ends overlap."""
    n = places.n
    yield from _arcs(places, np.linspace(turns_of_gap(0, n), turns_of_gap(OVERLAP, n), 4)[:3])


def other_helix(places: Places) -> Iterator[Design]:
    """Another period, beside a straight line."""
    for k in places.harmonics:
        yield from _arcs(places, np.arange(k + 0.2, k + 0.81, 0.1), line=True)


def distinct_values(places: Places) -> Iterator[Design]:
    """No order at all: nothing is predicted but the mean."""
    m = len(places.kept)
    yield Design({}, np.full((m, m), 1 / m))


@dataclass(frozen=True)
class Shape:
    """A named family of designs; ``closed`` ones are circles. ``rival``: has to be rejected before a circle
    is called one."""

    name: str
    designs: Callable[[Places], Iterator[Design]]
    closed: bool = False
    rival: bool = True


SHAPES: tuple[Shape, ...] = (
    Shape("circle", circle, closed=True, rival=False),
    Shape("circle and harmonics", circle_and_harmonics, closed=True, rival=False),
    Shape("circle beside a line", circle_beside_line, closed=True, rival=False),
    Shape("closed curve", closed_curve, closed=True, rival=False),
    Shape("nearly closed", nearly_closed, rival=False),
    Shape("arc", arc),
    Shape("arc beside a line", arc_beside_line),
    Shape("polynomial", polynomial),
    Shape("smooth path", smooth_path),
    Shape("line", line),
    Shape("wave", wave),
    Shape("one direction", one_direction),
    Shape("clusters", clusters),
    Shape("nearly one turn", near_period, rival=False),
    Shape("other period", other_period),
    Shape("other period beside a line", other_helix),
    Shape("classes", classes),
    Shape("distinct values", distinct_values),
)
