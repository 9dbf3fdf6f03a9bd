"""Is a 2-D feature irreducible? Separability and ε-mixture indices.

Source: Engels, Michaud, Liao, Gurnee & Tegmark 2024, "Not All Language Model Features Are One-Dimensionally Linear",
arXiv 2405.14860, section 3 and appendix B. A feature is *reducible* when some rotation makes its two coordinates
independent (separable) or when it is a mixture that sits on a line most of the time. A circle is neither.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float
from numpy import ndarray

from mechfourier.errors import OutOfRange
from mechfourier.result import Result

ANGLES = 45  # rotations tried in [0, π/2): two degrees apart
OFFSETS = 101  # offsets of the slab tried for the mixture index
MIXTURE_AT = 0.5  # more than half of the points on one line: a mixture


@dataclass(frozen=True)
class Reducibility(Result):
    """Both indices of one 2-D feature, each beside what a reducible feature would show.

    ``separability``: the smallest mutual information of the two coordinates over rotations, bits (histogram estimate).
    ``separability_null``: its mean when the coordinates at the best rotation are paired anew, that is for a *separable* feature with the
    same marginals and as many points (a finite sample has information by chance); ``p_separability``: share of those with at least
    as much. ``mixture``: largest share of points within ε rms of one line, in [0, 1]; a Gaussian cloud and an even circle of as many points
    stand beside it.
    """

    points: int
    epsilon: float
    separability: float
    separability_null: float
    p_separability: float
    mixture: float
    mixture_gaussian: float
    mixture_circle: float

    @property
    def irreducible(self) -> bool:
        """Not separable (p < 0.05), and no line holds half of the points."""
        return self.p_separability < 0.05 and self.mixture < MIXTURE_AT

    def __str__(self) -> str:
        word = "irreducible" if self.irreducible else "not shown to be irreducible"
        return (
            f"{word}: separability {self.separability:.2f} bits (a separable feature {self.separability_null:.2f}, "
            f"p = {self.p_separability:.3g}), {self.epsilon:g}-mixture {self.mixture:.2f} (Gaussian "
            f"{self.mixture_gaussian:.2f}, circle {self.mixture_circle:.2f}); {self.points} points"
        )

    def frame(self) -> pd.DataFrame:
        rows = [
            ("separability (bits)", self.separability),
            ("separability of a separable feature (bits)", self.separability_null),
            (f"{self.epsilon:g}-mixture (share)", self.mixture),
            (f"{self.epsilon:g}-mixture of a Gaussian cloud (share)", self.mixture_gaussian),
            (f"{self.epsilon:g}-mixture of a circle (share)", self.mixture_circle),
        ]
        return pd.DataFrame(rows, columns=["index", "value"])


def reducibility(
    points: Float[ndarray, "point 2"], *, epsilon: float = 0.1, draws: int = 200, seed: int = 0
) -> Reducibility:
    """Separability and ε-mixture index of a 2-D feature.

    ``points``: the feature's coordinates in its plane, one row per prompt. Raises ``OutOfRange`` for fewer than
    20 points, for points that are not finite, and for a plane that holds a line only.
    """
    points = np.asarray(points, dtype=np.float64)
    if len(points) < 20:
        raise OutOfRange(
            f"{len(points)} points are too few for a histogram; give at least 20 (more templates)"
        )
    if not np.isfinite(points).all():
        raise OutOfRange("the points hold NaN or infinity; look at the site's activations first")
    white = _whitened(points)
    rng = np.random.default_rng(seed)
    separability, angle = separability_index(white)
    best = white @ _turn(angle)
    paired = (np.stack([best[:, 0], rng.permutation(best[:, 1])], -1) for _ in range(draws))
    null = np.array([separability_index(_whitened(p))[0] for p in paired])
    around = np.linspace(0, 2 * np.pi, len(points), endpoint=False)
    return Reducibility(
        points=len(points),
        epsilon=epsilon,
        separability=separability,
        separability_null=float(null.mean()),
        p_separability=float((1 + (null >= separability).sum()) / (draws + 1)),
        mixture=mixture_index(white, epsilon=epsilon),
        mixture_gaussian=mixture_index(_whitened(rng.standard_normal(points.shape)), epsilon=epsilon),
        mixture_circle=mixture_index(
            _whitened(np.stack([np.cos(around), np.sin(around)], -1)), epsilon=epsilon
        ),
    )


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
    """Bins a side so that a cell holds about two points on average (Engels et al. use 40 for many thousands)."""
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
    """min over rotations of the mutual information of the two coordinates (bits), and the rotation (radians) that has it."""
    theta = np.arange(ANGLES) * (np.pi / 2 / ANGLES)
    x = np.outer(np.cos(theta), white[:, 0]) + np.outer(np.sin(theta), white[:, 1])
    y = np.outer(-np.sin(theta), white[:, 0]) + np.outer(np.cos(theta), white[:, 1])
    information = _information(_joint(x, y, _bins(len(white))))
    return float(information.min()), float(theta[information.argmin()])


def mixture_index(white: Float[ndarray, "point 2"], *, epsilon: float = 0.1) -> float:
    """max over directions v and offsets c of P(|v·f + c| < ε √E[(v·f + c)²]) (their eq. 5), by search over a grid."""
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
