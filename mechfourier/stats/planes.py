"""Planes in activation space: fitting one to a harmonic, and asking whether two domains share theirs."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from einops import rearrange
from jaxtyping import Float
from numpy import ndarray
from scipy.linalg import subspace_angles

from mechfourier.errors import OutOfRange
from mechfourier.fourier.waves import harmonic_waves
from mechfourier.results.base import Result
from mechfourier.stats.permutation import permutation_p

POWERS = (0.0, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0)


def harmonic_plane(means: Float[ndarray, "value d"], k: int) -> Float[ndarray, "d 2"]:
    """Orthonormal basis of the plane in which n evenly spaced values turn k times: the span of Σ_v
    cos(2πkv/n) y_v and its sine.

    Raises ``OutOfRange`` unless 1 ≤ k < n/2 (at k = n/2 the sine vanishes and there is no plane), or where
    the harmonic has no two-dimensional image.
    """
    n = len(means)
    if not 1 <= k < n / 2:
        raise OutOfRange(f"harmonic k = {k} of {n} values has no plane; k runs from 1 to {(n - 1) // 2}")
    directions = (np.asarray(means, np.float64) - means.mean(0)).T @ harmonic_waves(n, k).numpy()
    u, s, _ = np.linalg.svd(directions, full_matrices=False)
    if s[-1] <= 1e-9 * max(s[0], 1e-300):
        raise OutOfRange(f"harmonic k = {k} lies on a line here, not in a plane")
    return u


def principal_angles(a: Float[ndarray, "d r"], b: Float[ndarray, "d s"]) -> Float[ndarray, " angle"]:
    """Angles between two subspaces, degrees, smallest first (Björck & Golub 1973)."""
    return np.degrees(subspace_angles(a, b))[::-1]


def overlap(a: Float[ndarray, "... d r"], b: Float[ndarray, "... d s"]) -> Float[ndarray, "..."]:
    """Mean squared cosine of the principal angles, in [0, 1]: 1 for the same plane, about r/d for random
    ones."""
    product = np.swapaxes(a, -1, -2) @ b
    return np.asarray((product**2).sum((-1, -2)) / min(product.shape[-2:]))


@dataclass(frozen=True)
class SharedPlane(Result, kind="shared-plane"):
    """How close two domains' planes lie, beside random planes that hold as much of the same activations'
    variance.

    ``angles``: principal angles in degrees. ``overlap``: mean squared cosine, in [0, 1]. ``variance``: the
    share of each domain's between-value variance in its plane, in [0, 1]; ``null_variance`` the same for the
    random planes, to show that they match.
    """

    first: str
    second: str
    site: str
    angles: tuple[float, ...]
    overlap: float
    null_mean: float
    null_upper: float
    p_value: float
    variance: tuple[float, float]
    null_variance: tuple[float, float]

    def __str__(self) -> str:
        angles = ", ".join(f"{a:.0f}°" for a in self.angles)
        return (
            f"{self.first} and {self.second} at {self.site}: principal angles {angles}; overlap "
            f"{self.overlap:.3f} (random planes of "
            f"the same variance {self.null_mean:.3f}, 95 % below {self.null_upper:.3f}), p = "
            f"{self.p_value:.3g}"
        )

    def frame(self) -> pd.DataFrame:
        return pd.DataFrame([{k: v for k, v in self.to_dict().items() if not isinstance(v, list)}])


def shared_plane(
    first: Float[ndarray, "value_a d"],
    second: Float[ndarray, "value_b d"],
    *,
    k: tuple[int, int] = (1, 1),
    names: tuple[str, str] = ("first", "second"),
    site: str = "",
    draws: int = 1000,
    seed: int = 0,
) -> SharedPlane:
    """Do two domains (mean activations, values in cyclic order) turn in the same plane?

    Planes of high variance overlap whatever they stand for, since all prompts share a few large components.
    So the null draws planes from the rest of the same activations (the tested harmonics taken out), weighted
    towards the large components until they hold as much of the values' variance as the fitted planes do, or
    as near to it as the rest allows (``null_variance`` says).
    """
    planes = harmonic_plane(first, k[0]), harmonic_plane(second, k[1])
    rng = np.random.default_rng(seed)
    values = tuple(np.asarray(m, np.float64) - m.mean(0) for m in (first, second))
    shares = tuple(_share(v, p) for v, p in zip(values, planes, strict=True))
    rest = np.concatenate(
        [_without_harmonic(v, h) / np.linalg.norm(v) for v, h in zip(values, k, strict=True)]
    )
    random = [matched_planes(rest, v, s, draws, rng) for v, s in zip(values, shares, strict=True)]
    null = overlap(random[0], random[1])
    observed = float(overlap(*planes))
    matched = [float(np.mean([_share(v, p) for p in r[:100]])) for v, r in zip(values, random, strict=True)]
    return SharedPlane(
        first=names[0],
        second=names[1],
        site=site,
        angles=tuple(principal_angles(*planes).tolist()),
        overlap=observed,
        null_mean=float(null.mean()),
        null_upper=float(np.quantile(null, 0.95)),
        p_value=permutation_p(observed, null),
        variance=(shares[0], shares[1]),
        null_variance=(matched[0], matched[1]),
    )


def _without_harmonic(values: Float[ndarray, "value d"], k: int) -> Float[ndarray, "value d"]:
    """Residual of the centred values after harmonic k is regressed out."""
    waves = harmonic_waves(len(values), k).numpy() * np.sqrt(2 / len(values))
    return values - waves @ (waves.T @ values)


def _share(values: Float[ndarray, "value d"], plane: Float[ndarray, "d r"]) -> float:
    return float(((values @ plane) ** 2).sum() / (values**2).sum())


def matched_planes(
    rest: Float[ndarray, "row d"],
    values: Float[ndarray, "value d"],
    share: float,
    draws: int,
    rng: np.random.Generator,
    *,
    rank: int = 2,
) -> Float[ndarray, "draw d r"]:
    """``draws`` random planes (or subspaces of ``rank``) whose share of ``values``'s variance is nearest to
    ``share``.

    Directions are Gaussian with covariance Σ^power (Σ of ``rest``); the powers go from isotropic to the
    leading components, so that some reach any share.
    """
    _, s, vt = np.linalg.svd(rest, full_matrices=False)
    scales = np.concatenate([(s / s[0]) ** p for p in POWERS]).reshape(len(POWERS), -1)
    pool = rng.standard_normal((len(POWERS), 2 * draws, len(s), rank)) * scales[:, None, :, None]
    directions, _ = np.linalg.qr(rearrange(pool, "power draw c r -> (power draw) c r"))
    planes = np.swapaxes(vt, 0, 1) @ directions
    shares = ((values @ planes) ** 2).sum((-1, -2)) / (values**2).sum()
    return planes[np.argsort(np.abs(shares - share), kind="stable")[:draws]][rng.permutation(draws)]
