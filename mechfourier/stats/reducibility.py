"""Is a 2-D feature irreducible? Separability and ε-mixture indices.

Source: Engels, Michaud, Liao, Gurnee & Tegmark 2024, "Not All Language Model Features Are One-Dimensionally
Linear", arXiv 2405.14860, section 3 and appendix B. A feature is *reducible* when some rotation makes its two
coordinates independent (separable) or when it is a mixture that sits on a line most of the time. A circle is
neither.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from numpy import ndarray

from mechfourier.errors import OutOfRange
from mechfourier.fourier.waves import waves
from mechfourier.results.base import Result
from mechfourier.stats.permutation import permutation_p

ANGLES = 45  # rotations tried in [0, π/2): two degrees apart
OFFSETS = 101  # offsets of the slab tried for the mixture index
MIXTURE_AT = 0.5  # more than half of the points on one line: a mixture
REFERENCES = 60  # draws of each reference
SHAPES = ("lines", "gaussian", "circle")


@dataclass(frozen=True)
class Reducibility(Result, kind="reducibility"):
    """Both indices of one 2-D feature, each beside references of as many points in as many classes.

    ``separability``: the smallest mutual information of the two coordinates over rotations, bits (histogram
    estimate). ``separability_null``: its mean when the coordinates at the best rotation are paired anew, that
    is for a *separable* feature with the same marginals (a finite sample has information by chance),
    ``separability_bar`` what 95 of 100 of those stay under, ``p_separability`` the share of them with at
    least as much. Points of one class stay together: twelve months in five templates are twelve places and
    not sixty, and pairing single points anew would call almost every cloud inseparable.
    ``separability_circle``: mean of even circles. ``mixture``: largest share of points within ε rms of one
    line, in [0, 1]. A reducible feature of two lines, a Gaussian cloud and an even circle stand beside it:
    means over draws, with the range that 95 of 100 lie in.
    """

    points: int
    classes: int
    epsilon: float
    separability: float
    separability_null: float
    separability_bar: float
    separability_circle: float
    p_separability: float
    mixture: float
    mixture_lines: float
    mixture_lines_range: tuple[float, float]
    mixture_gaussian: float
    mixture_gaussian_range: tuple[float, float]
    mixture_circle: float
    mixture_circle_range: tuple[float, float]

    @property
    def irreducible(self) -> bool:
        """Not separable (p < 0.05), and no line holds half of the points, nor as many as in a mixture of two
        lines with this spread."""
        return self.p_separability < 0.05 and self.mixture < min(MIXTURE_AT, self.mixture_lines_range[0])

    @property
    def decidable(self) -> bool:
        """Whether an even circle of as many classes and points would be told from a separable feature, on
        average."""
        return self.separability_circle > self.separability_bar

    @property
    def word(self) -> str:
        """``irreducible``, or why not."""
        if self.irreducible:
            return "irreducible"
        if not self.decidable:
            return (
                f"cannot be decided ({self.classes} values are too few: not even an even circle of them "
                f"would be called inseparable)"
            )
        return "not shown to be irreducible"

    def __str__(self) -> str:
        return (
            f"{self.word}\n    separability {self.separability:.2f} bits (values paired anew "
            f"{self.separability_null:.2f}, 95 % under "
            f"{self.separability_bar:.2f}, p = {self.p_separability:.3g}; a circle "
            f"{self.separability_circle:.2f})\n    "
            f"{self.epsilon:g}-mixture {self.mixture:.2f} (two lines "
            f"{_ranged(self.mixture_lines, self.mixture_lines_range)}, Gaussian "
            f"cloud {_ranged(self.mixture_gaussian, self.mixture_gaussian_range)}, circle "
            f"{_ranged(self.mixture_circle, self.mixture_circle_range)}); {self.points} points of "
            f"{self.classes} values"
        )

    def frame(self) -> pd.DataFrame:
        rows = [
            ("separability (bits)", self.separability),
            ("separability of a separable feature (bits)", self.separability_null),
            ("separability of a circle (bits)", self.separability_circle),
            (f"{self.epsilon:g}-mixture (share)", self.mixture),
            (f"{self.epsilon:g}-mixture of two lines (share)", self.mixture_lines),
            (f"{self.epsilon:g}-mixture of a Gaussian cloud (share)", self.mixture_gaussian),
            (f"{self.epsilon:g}-mixture of a circle (share)", self.mixture_circle),
        ]
        return pd.DataFrame(rows, columns=["index", "value"])


def _ranged(mean: float, around: tuple[float, float]) -> str:
    return f"{mean:.2f} [{around[0]:.2f}, {around[1]:.2f}]"


def reducibility(
    points: Float[ndarray, "point 2"],
    *,
    classes: int | None = None,
    epsilon: float = 0.1,
    draws: int = 200,
    seed: int = 0,
) -> Reducibility:
    """Separability and ε-mixture index of a 2-D feature.

    ``points``: the feature's coordinates in its plane, one row per prompt. ``classes``: the points are those
    of so many values, value by value, equally many each (None: every point is a value of its own). Raises
    ``OutOfRange`` for fewer than 20 points, for points that are not finite or do not divide into the classes,
    and for a plane that holds a line only.
    """
    points = np.asarray(points, dtype=np.float64)
    n = len(points) if classes is None else classes
    if len(points) < 20:
        raise OutOfRange(
            f"{len(points)} points are too few for a histogram; give at least 20 (more templates)"
        )
    if n < 3 or len(points) % n:
        raise OutOfRange(f"{len(points)} points are not equally many of {n} classes (3 or more)")
    if not np.isfinite(points).all():
        raise OutOfRange("the points hold NaN or infinity; look at the site's activations first")
    white = _whitened(points)
    rng = np.random.default_rng(seed)
    separability, angle = separability_index(white)
    null = _paired_anew(white @ _turn(angle), n, draws=draws, rng=rng)
    shapes = {
        name: [_whitened(_like(white, n, name, rng)) for _ in range(min(draws, REFERENCES))]
        for name in SHAPES
    }
    mixtures = {name: np.array([mixture_index(p, epsilon=epsilon) for p in shapes[name]]) for name in SHAPES}
    ranges = {name: tuple(np.quantile(m, [0.025, 0.975]).tolist()) for name, m in mixtures.items()}
    return Reducibility(
        points=len(points),
        classes=n,
        epsilon=epsilon,
        separability=separability,
        separability_null=float(null.mean()),
        separability_bar=float(np.quantile(null, 0.95)),
        separability_circle=float(np.mean([separability_index(p)[0] for p in shapes["circle"]])),
        p_separability=permutation_p(separability, null),
        mixture=mixture_index(white, epsilon=epsilon),
        mixture_lines=float(mixtures["lines"].mean()),
        mixture_lines_range=ranges["lines"],
        mixture_gaussian=float(mixtures["gaussian"].mean()),
        mixture_gaussian_range=ranges["gaussian"],
        mixture_circle=float(mixtures["circle"].mean()),
        mixture_circle_range=ranges["circle"],
    )


def _paired_anew(
    best: Float[ndarray, "point 2"], classes: int, *, draws: int, rng: np.random.Generator
) -> Float[ndarray, " draw"]:
    """Separability of features whose second coordinates are another class's, class by class."""
    grid = best.reshape(classes, -1, 2)
    orders = (rng.permutation(classes) for _ in range(draws))
    paired = (np.stack([grid[..., 0], grid[order][..., 1]], -1).reshape(-1, 2) for order in orders)
    return np.array([separability_index(_whitened(p))[0] for p in paired])


def _like(
    white: Float[ndarray, "point 2"], classes: int, shape: str, rng: np.random.Generator
) -> Float[ndarray, "point 2"]:
    """Points with class centres of another shape and the spread around their centres that the points have."""
    grid = white.reshape(classes, -1, 2)
    centres = grid.mean(1)
    around = (grid - centres[:, None]).reshape(-1, 2)
    rms = np.sqrt((centres**2).sum(1).mean() / 2)
    drawn = rng.standard_normal((classes, 2))
    if shape == "circle":
        turns = np.arange(classes) / classes + rng.uniform()
        drawn = np.sqrt(2) * waves(torch.from_numpy(turns)).numpy()
    elif shape == "lines":
        drawn[np.arange(classes), rng.permutation(np.arange(classes) % 2)] = 0.0
        drawn *= np.sqrt(2)
    noise = around[rng.integers(len(around), size=len(around))].reshape(grid.shape)
    return (rms * drawn[:, None] + noise).reshape(-1, 2)


def _turn(angle: float) -> Float[ndarray, "2 2"]:
    """Columns: the axes turned by ``angle`` radians."""
    return np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])


def _whitened(points: Float[ndarray, "point 2"]) -> Float[ndarray, "point 2"]:
    """Centred, with unit covariance: both indices are to see the shape, not how elongated it is."""
    centred = points - points.mean(0)
    u, s, _ = np.linalg.svd(centred, full_matrices=False)
    if s[-1] <= 1e-9 * s[0]:
        raise OutOfRange("the points lie on a line: a one-dimensional feature has no separability index")
    return u * np.sqrt(len(points))


def _bins(points: int) -> int:
    """Bins a side so that a cell holds about two points on average (Engels et al. use 40 for many
    thousands)."""
    return int(np.clip(np.sqrt(points / 2), 4, 40))


def _information(joint: Float[ndarray, "... a b"]) -> Float[ndarray, "..."]:
    """Mutual information in bits of joint distributions (each sums to 1)."""
    independent = joint.sum(-1, keepdims=True) * joint.sum(-2, keepdims=True)
    ratio = np.divide(joint, independent, out=np.ones_like(joint), where=joint > 0)
    return (joint * np.log2(ratio)).sum((-1, -2))


def _joint(
    x: Float[ndarray, "angle point"], y: Float[ndarray, "angle point"], bins: int
) -> Float[ndarray, "angle a b"]:
    """Histograms on equal-width bins, one per angle."""

    def cell(z: ndarray) -> ndarray:
        low, high = z.min(-1, keepdims=True), z.max(-1, keepdims=True)
        return np.minimum(((z - low) / (high - low) * bins).astype(int), bins - 1)

    angles, points = x.shape
    flat = (np.arange(angles)[:, None] * bins + cell(x)) * bins + cell(y)
    counts = np.bincount(flat.ravel(), minlength=angles * bins * bins)
    return counts.reshape(angles, bins, bins) / points


def separability_index(white: Float[ndarray, "point 2"]) -> tuple[float, float]:
    """min over rotations of the mutual information of the two coordinates (bits), and the rotation (radians)
    that has it."""
    theta = np.arange(ANGLES) * (np.pi / 2 / ANGLES)
    x = np.outer(np.cos(theta), white[:, 0]) + np.outer(np.sin(theta), white[:, 1])
    y = np.outer(-np.sin(theta), white[:, 0]) + np.outer(np.cos(theta), white[:, 1])
    information = _information(_joint(x, y, _bins(len(white))))
    return float(information.min()), float(theta[information.argmin()])


def mixture_index(white: Float[ndarray, "point 2"], *, epsilon: float = 0.1) -> float:
    """max over directions v and offsets c of P(|v·f + c| < ε √E[(v·f + c)²]) (their eq. 5), by search over a
    grid."""
    theta = np.arange(2 * ANGLES) * (np.pi / 2 / ANGLES)
    x = np.outer(np.cos(theta), white[:, 0]) + np.outer(np.sin(theta), white[:, 1])
    offsets = np.linspace(-2.0, 2.0, OFFSETS)
    width = epsilon * np.sqrt(1.0 + offsets**2)  # the variance along every direction is 1
    ordered = np.sort(x, axis=-1)
    inside = [
        np.searchsorted(row, -offsets + width, "left") - np.searchsorted(row, -offsets - width, "right")
        for row in ordered
    ]
    return float(np.max(inside) / len(white))
