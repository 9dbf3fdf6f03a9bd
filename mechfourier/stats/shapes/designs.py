"""The shapes that n values of a cycle can lie in, as linear predictors of the table of value means.

A *design* is one member of a shape: an open curve with its cut and its number of turns, a wave with its
phase. It predicts the table ``m [value d]`` as ``S m``, where S is the projection on a few columns or the
smoother of a Gaussian process. How well it predicts is then linear in the Gram matrix of the values, so that
thousands of designs cost one matrix product (:mod:`mechfourier.stats.shapes.scores`).

A new shape is one function, which yields designs, and one line in :data:`SHAPES`.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from math import gcd

import numpy as np
from jaxtyping import Float, Int, Num
from numpy import ndarray
from scipy import optimize

OPEN_GAP = 3.0
"""Steps between the ends of an open curve, from which on it is a rival of the circle; the gap of a closed curve is one step."""
LINE_GAP = 8.0
"""The same for an open curve beside a line: a helix with a smaller gap predicts the same tables as a circle beside a line."""
OVERLAP = -1.0
"""Gap of a curve of more than one turn, its ends overlapping, from which on it is a rival."""
NEAR_GAP = 2.0
"""Smallest gap of a curve that is called nearly closed."""
COARSE = 0.95
"""A design between grid points counts where its error is below this times that of the grid: else the difference is noise."""
FEWEST_PLACES = 5
"""A harmonic that visits fewer different places than this is a set of classes, not a circle."""


@dataclass(frozen=True)
class Places:
    """The values that take part (``kept``), out of ``n`` on the cycle."""

    n: int
    kept: Int[ndarray, " m"]

    @property
    def without(self) -> int | None:
        """The value that is set aside."""
        return next((v for v in range(self.n) if v not in self.kept), None)

    @property
    def harmonics(self) -> range:
        return range(1, (self.n - 1) // 2 + 1)

    def along(self, cut: int) -> Int[ndarray, " m"]:
        """The position of every value on a list that begins at ``cut``."""
        return (self.kept - cut) % self.n


Columns = list[Num[ndarray, " m"]]


@dataclass(frozen=True)
class Sweep:
    """A parameter on a grid, free between the grid points beside it."""

    name: str
    low: float
    high: float
    columns: Callable[[float], Columns]


@dataclass(frozen=True)
class Design:
    """One predictor. ``kernel`` (with ``nugget``) is the prior covariance over values, for Gaussian
    processes."""

    params: dict[str, float]
    smoother: Float[ndarray, "m m"]
    kernel: Float[ndarray, "m m"] | None = None
    nugget: float = 0.0
    sweep: Sweep | None = None


def waves(turns: float, at: Int[ndarray, " m"], n: int) -> list[Float[ndarray, " m"]]:
    """cos and sin of ``turns`` turns per n values."""
    angle = 2 * np.pi * turns * at / n
    return [np.cos(angle), np.sin(angle)]


def turns_of_gap(gap: float, n: int) -> float:
    """Turns per n values of a curve whose ends are ``gap`` steps apart: n/f = n − 1 + gap."""
    return n / (n - 1 + gap)


def regression(columns: list[Num[ndarray, " m"]], **params: float) -> Iterator[Design]:
    """The least-squares fit on a constant and ``columns``; nothing where fewer than two values are left to
    test it on."""
    x = np.column_stack([np.ones(len(columns[0])), *columns])
    if x.shape[1] >= len(x) - 1:
        return
    u, s, _ = np.linalg.svd(x, full_matrices=False)
    if s[-1] > 1e-8 * s[0]:
        yield Design(params, u @ u.T)


def swept(
    name: str, grid: Float[ndarray, " g"], columns: Callable[[float], Columns], **params: float
) -> Iterator[Design]:
    """A regression for every value of one parameter, which is fitted between grid points later
    (:func:`refined`)."""
    for i, x in enumerate(grid):
        sweep = Sweep(name, float(grid[max(i - 1, 0)]), float(grid[min(i + 1, len(grid) - 1)]), columns)
        for design in regression(columns(float(x)), **params, **{name: float(x)}):
            yield replace(design, sweep=sweep)


def refined(design: Design, gram: Float[ndarray, "m m"]) -> Design:
    """The design with its free parameter where it predicts best. Noise can be far smaller than the steps of a
    grid."""
    sweep = design.sweep
    if "free" in design.params:
        return next(regression([np.linalg.eigh(gram)[1][:, -1]], **design.params), design)
    if sweep is None or sweep.high <= sweep.low:
        return design

    def error(x: float) -> float:
        found = next(regression(sweep.columns(x)), None)
        return float(_weight(found.smoother) @ gram.ravel()) if found is not None else np.inf

    bounds = (sweep.low, sweep.high)
    best = float(optimize.fminbound(error, *bounds, xtol=1e-6))  # pyright: ignore[reportArgumentType]
    if error(best) >= COARSE * error(design.params[sweep.name]):
        return design
    (found,) = regression(sweep.columns(best), **design.params | {sweep.name: best})
    return replace(found, sweep=sweep)


def process(kernel: Float[ndarray, "m m"], nugget: float, **params: float) -> Design:
    """Kriging with an unknown mean: the posterior mean of a Gaussian process of that covariance."""
    inverse = np.linalg.inv(kernel + nugget * np.eye(len(kernel)))
    row = inverse.sum(0)
    projector = inverse - np.outer(row, row) / row.sum()
    return Design(params | {"nugget": nugget}, np.eye(len(kernel)) - nugget * projector, kernel, nugget)


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


LENGTHS = (1.0, 1.5, 2.0, 3.0, 4.5)
NUGGETS = (0.003, 0.03, 0.3)


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
    curve."""
    for nugget in NUGGETS:
        for length in LENGTHS:
            for cut in range(places.n):
                at = places.along(cut)
                away = np.abs(at[:, None] - at)
                yield process(np.exp(-(away**2) / 2 / length**2), nugget, cut=cut, length=length)
                yield process(np.exp(-away / length), nugget, cut=cut, length=length, rough=1)


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


@dataclass(frozen=True)
class Family:
    """All designs of all shapes for one set of values, in the order of :data:`SHAPES`.

    ``weights``: generalised cross-validation as a linear form, score = ⟨weights, G⟩ with G the Gram matrix of
    the value means: ‖(1 − S) m‖² · m / tr(1 − S)², the leave-one-value-out error with the free parameters
    paid for (Golub, Heath & Wahba 1979).
    """

    places: Places
    names: tuple[str, ...]
    designs: tuple[Design, ...]
    starts: Int[ndarray, " shape"]
    weights: Float[ndarray, "design m2"] = field(repr=False)

    def refined(self, indices: Iterable[int], gram: Float[ndarray, "m m"]) -> "Family":
        """The same with these designs fitted to a Gram matrix between the points of their grids."""
        designs, weights = list(self.designs), self.weights.copy()
        for i in indices:
            designs[i] = refined(designs[i], gram)
            weights[i] = _weight(designs[i].smoother)
        return replace(self, designs=tuple(designs), weights=weights)

    @cached_property
    def upper(self) -> tuple[Int[ndarray, " h"], Int[ndarray, " h"]]:
        """Row and column of the upper triangle, which is all of a symmetric matrix."""
        return np.triu_indices(len(self.places.kept))

    @cached_property
    def packed(self) -> Float[ndarray, "design h"]:
        """``weights`` on the upper triangle, in single precision, for simulations."""
        rows, columns = self.upper
        m = len(self.places.kept)
        both = np.where(rows == columns, 1.0, 2.0)
        return (self.weights.reshape(-1, m, m)[:, rows, columns] * both).astype(np.float32)

    def members(self, name: str) -> range:
        """Indices of the designs of one shape."""
        i = self.names.index(name)
        ends = [*self.starts[1:], len(self.designs)]
        return range(int(self.starts[i]), int(ends[i]))

    @property
    def closed(self) -> list[int]:
        """Positions in ``names`` of the closed shapes."""
        return [self.names.index(s.name) for s in SHAPES if s.closed and s.name in self.names]

    @property
    def closed_names(self) -> list[str]:
        return [self.names[i] for i in self.closed]

    @property
    def open_names(self) -> list[str]:
        """Names of the shapes that are no circles."""
        return [s.name for s in SHAPES if not s.closed and s.name in self.names]

    @property
    def rivals(self) -> list[str]:
        """Names of the shapes that have to be rejected."""
        return [s.name for s in SHAPES if s.rival and s.name in self.names]

    @cached_property
    def _likelihoods(self) -> tuple[Float[ndarray, "path m2"], Float[ndarray, " path"]]:
        projectors, constants = [], []
        for i in self.members("smooth path"):
            design = self.designs[i]
            assert design.kernel is not None
            rest = np.eye(len(design.kernel)) - design.smoother
            precision = rest / design.nugget
            row_sum = np.linalg.inv(design.kernel + design.nugget * np.eye(len(rest))).sum()
            logdet = np.linalg.slogdet(design.kernel + design.nugget * np.eye(len(rest)))[1]
            projectors.append(precision.ravel())
            constants.append(logdet + np.log(row_sum))
        return np.stack(projectors), np.array(constants)

    def path_likelihood(self, gram: Float[ndarray, "m m"]) -> Float[ndarray, " path"]:
        """Restricted log likelihood of every smooth path, with its scale profiled out (up to factors that all
        share)."""
        projectors, constants = self._likelihoods
        return -(len(gram) - 1) * np.log(np.maximum(projectors @ gram.ravel(), 1e-300)) - constants


@lru_cache(maxsize=64)
def family(n: int, without: int | None = None) -> Family:
    """Every design for n values on a cycle, one of them set aside or none."""
    places = Places(n, np.array([v for v in range(n) if v != without]))
    groups = {shape.name: tuple(shape.designs(places)) for shape in SHAPES}
    groups = {name: designs for name, designs in groups.items() if designs}
    sizes = [len(designs) for designs in groups.values()]
    designs = tuple(design for group in groups.values() for design in group)
    weights = np.stack([_weight(design.smoother) for design in designs])
    return Family(places, tuple(groups), designs, np.cumsum([0, *sizes[:-1]]), weights)


def _weight(smoother: Float[ndarray, "m m"]) -> Float[ndarray, " m2"]:
    rest = np.eye(len(smoother)) - smoother
    return (rest.T @ rest * len(rest) / np.trace(rest) ** 2).ravel()
