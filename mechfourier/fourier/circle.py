"""The plane in which a table of values turns k times: projection on the cosine and sine directions of one
frequency.

PCA finds the directions of largest variance, and a network that computes with several frequencies spreads its
variance over several planes, so that the first two components mix two circles and show neither. The plane
here is the one the values themselves span at frequency k.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from mechfourier.errors import OutOfRange
from mechfourier.fourier.bases import n_frequencies
from mechfourier.fourier.waves import harmonic_waves


@dataclass(frozen=True)
class CircleProjection:
    """``points[v] = (x, y)``: value v (its mean over values taken off) in the plane of frequency ``k``, x
    along the cosine and y along the sine direction. ``circularity``: share of the points' variance that is
    one even circle walked k times (1: a perfect circle; (1+r)²/2(1+r²) of it for an ellipse with axes 1 : r).
    """

    k: int
    points: Float[Tensor, "n 2"]
    circularity: float


def project_circle(y: Float[Tensor, "n d"], k: int) -> CircleProjection:
    """``y`` (one row per value) in the plane of its coefficients at frequency ``k``, in float64.

    The axes are the orthonormal pair nearest to the cosine and the sine coefficient (their polar factor), so
    that the picture does not turn between two checkpoints. Raises ``OutOfRange`` for a k outside 1..⌊n/2⌋ or
    fewer than two columns.
    """
    n, d = y.shape
    if not 1 <= k <= n_frequencies(n):
        raise OutOfRange(f"frequency {k} is outside 1..{n_frequencies(n)} of a cycle of {n} values")
    if d < 2:
        raise OutOfRange(f"{d} dimension holds no plane; give at least 2")
    centred = y.double() - y.double().mean(0)
    u, _, vh = torch.linalg.svd(harmonic_waves(n, k).T @ centred, full_matrices=False)
    points = centred @ (u @ vh).T
    return CircleProjection(k, points, _circularity(points, k))


def _circularity(points: Float[Tensor, "n 2"], k: int) -> float:
    n, total = len(points), float((points**2).sum())
    cosine, sine = harmonic_waves(n, k).T
    along = float(points[:, 0] @ cosine + points[:, 1] @ sine) / n  # Re and Im of mean(z · exp(−iθ))
    across = float(points[:, 1] @ cosine - points[:, 0] @ sine) / n
    return n * (along**2 + across**2) / total if total > 0 else 0.0


def circularity_by_chance(n: int, d: int, *, draws: int = 20, seed: int = 0) -> float:
    """Mean circularity of untrained tables [n, d] with independent normal entries: about d / (n + d), not 0,
    since the plane is chosen by the very coefficients that it then shows."""
    generator = torch.Generator().manual_seed(seed)
    made = [
        project_circle(torch.randn(n, d, generator=generator, dtype=torch.float64), 1).circularity
        for _ in range(draws)
    ]
    return sum(made) / draws
