"""Least-squares fits of harmonics, on a full cycle or on any set of values.

On a full cycle (every value once) the R² of a harmonic equals its share of the power above frequency 0. An R²
is worth what :func:`r2_bound` leaves of it: the best of many fits to few values is always good.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from mechfourier.errors import OutOfRange
from mechfourier.fourier.bases import n_frequencies
from mechfourier.fourier.waves import waves


def harmonic_design(
    values: Float[Tensor, " value"], period: float, *, harmonics: tuple[int, ...] = (1,)
) -> Float[Tensor, "value columns"]:
    """Columns cos(2πkv/period), sin(2πkv/period) for every k in ``harmonics``; ``values`` are float64."""
    if period <= 0:
        raise OutOfRange(f"a period of {period} values does not exist; it must be positive")
    turns = torch.outer(values / period, torch.tensor(harmonics, dtype=values.dtype, device=values.device))
    return waves(turns).flatten(1)


def orthonormal_columns(columns: Float[Tensor, "value c"]) -> Float[Tensor, "value r"]:
    """An orthonormal basis of the span of ``columns``, of its numerical rank (relative tolerance 1e-10)."""
    u, s, _ = torch.linalg.svd(columns, full_matrices=False)
    return u[:, s > 1e-10 * s.max().clamp_min(torch.finfo(s.dtype).tiny)]


def residual(y: Float[Tensor, "value d"], columns: Float[Tensor, "value c"]) -> Float[Tensor, "value d"]:
    """``y`` with its least-squares fit on ``columns`` taken away (no intercept is added)."""
    q = orthonormal_columns(columns)
    return y - q @ (q.T @ y)


def partial_r2(
    y: Float[Tensor, "value d"], columns: Float[Tensor, "value c"], confounds: Float[Tensor, "value z"]
) -> Float[Tensor, " d"]:
    """Share of the variance of ``y`` left by ``confounds`` and a constant that ``columns`` explain; 0 where
    none is left."""
    ones = torch.ones(len(y), 1, dtype=y.dtype, device=y.device)
    nuisance = torch.cat([ones, confounds.to(y.dtype)], 1)
    left = residual(y, nuisance)
    fresh = residual(columns.to(y.dtype), nuisance)
    # a column that the confounds already span leaves rounding only, and must not count as a direction of its
    # own
    scale = torch.linalg.norm(columns.to(y.dtype), dim=0)
    fresh = fresh[:, torch.linalg.norm(fresh, dim=0) > 1e-9 * scale]
    if fresh.shape[1] == 0:
        return torch.zeros(y.shape[1], dtype=y.dtype, device=y.device)
    explained = ((orthonormal_columns(fresh).T @ left) ** 2).sum(0)
    return _ratio(explained, (left**2).sum(0), (y**2).sum(0))


def _ratio(part: Tensor, whole: Tensor, raw: Tensor) -> Tensor:
    """part / whole, 0 where ``whole`` is only the rounding of ``raw``."""
    floor = (torch.finfo(raw.dtype).eps * 32) ** 2 * raw
    safe = torch.where(whole > floor, whole, torch.ones_like(whole))
    return torch.where(whole > floor, part / safe, torch.zeros_like(part)).clamp(0.0, 1.0)


def harmonic_r2(
    y: Float[Tensor, "value d"], *, values: Float[Tensor, " points"] | None = None, n: int | None = None
) -> Float[Tensor, "freq d"]:
    """R² of the fit of a constant, cos(2πkv/n) and sin(2πkv/n), for every k = 1..⌊n/2⌋ (row 0 is k = 1) and
    dimension.

    ``values`` (default 0..n−1) may repeat or leave out values; ``n`` is the length of the cycle (default:
    len(y)). At Nyquist the sine is nought and the fit has one term. Exact in float64; ``y`` is taken to
    float64.
    """
    n = len(y) if n is None else n
    y = y.double()
    points = torch.arange(len(y), dtype=torch.float64) if values is None else values.double()
    points = points.to(y.device)
    if len(points) != len(y):
        raise OutOfRange(f"{len(points)} values for {len(y)} rows; give one value per row")
    centred = y - y.mean(0)
    q = _harmonic_planes(points, n)
    explained = ((q.mT @ centred) ** 2).sum(1)
    return _ratio(explained, (centred**2).sum(0).expand_as(explained), (y**2).sum(0).expand_as(explained))


def _harmonic_planes(points: Tensor, n: int) -> Tensor:
    """Orthonormal bases of the centred planes of every harmonic, [freq, value, 2]; a missing direction is a
    zero column."""
    ks = tuple(range(1, n_frequencies(n) + 1))
    columns = harmonic_design(points, float(n), harmonics=ks).reshape(len(points), len(ks), 2)
    columns = (columns - columns.mean(0)).permute(1, 0, 2)
    u, s, _ = torch.linalg.svd(columns, full_matrices=False)
    return u * (s > 1e-9 * math.sqrt(len(points)))[:, None, :]


@dataclass(frozen=True)
class HarmonicFit:
    """y ≈ intercept + amplitude · cos(2πk(v − peak)/n), per dimension; ``peak`` in values, 0 ≤ peak < n/k."""

    k: int
    n: int
    intercept: Tensor
    amplitude: Tensor
    peak: Tensor
    r2: Tensor

    def predict(self, values: Float[Tensor, " value"]) -> Float[Tensor, "value d"]:
        """The fitted curve at ``values`` (which need not be whole)."""
        cosine = waves(self.k / self.n * (values.double()[:, None] - self.peak))[..., 0]
        return self.intercept + self.amplitude * cosine


def fit_harmonic(
    y: Float[Tensor, "value d"],
    k: int,
    *,
    n: int | None = None,
    values: Float[Tensor, " value"] | None = None,
) -> HarmonicFit:
    """The least-squares harmonic ``k`` of every dimension of ``y``, in float64. Raises ``OutOfRange`` for a k
    outside 1..⌊n/2⌋."""
    n = len(y) if n is None else n
    if not 1 <= k <= n_frequencies(n):
        raise OutOfRange(f"harmonic {k} is outside 1..{n_frequencies(n)} of a cycle of {n} values")
    y = y.double()
    points = torch.arange(len(y)).double() if values is None else values.double()
    columns = torch.cat(
        [torch.ones(len(y), 1, dtype=y.dtype), harmonic_design(points, float(n), harmonics=(k,))], 1
    )
    solution = torch.linalg.pinv(columns, rtol=1e-10) @ y
    intercept, cosine, sine = solution
    left, centred = y - columns @ solution, y - y.mean(0)
    explained = (centred**2).sum(0) - (left**2).sum(0)
    peak = torch.remainder(torch.atan2(sine, cosine) / (2 * math.pi), 1.0) * n / k
    r2 = _ratio(explained, (centred**2).sum(0), (y**2).sum(0))
    return HarmonicFit(k, n, intercept, torch.hypot(cosine, sine), peak, r2)


def r2_bound(n: int, n_fits: int, *, level: float = 0.95, nyquist: bool = False) -> float:
    """The R² that the best of ``n_fits`` independent fits of one harmonic to white noise on n values stays
    under.

    One fit has R² ~ Beta(1, (n−3)/2), or Beta(1/2, (n−2)/2) at Nyquist; the bound is its quantile at
    level^(1/n_fits).
    1.0 where the fit has no freedom left (n ≤ 3). Raises ``OutOfRange`` for n_fits < 1 or a level outside (0,
    1).
    """
    from scipy.stats import beta

    if n_fits < 1 or not 0 < level < 1:
        raise OutOfRange(
            f"{n_fits} fits at level {level} have no bound; use at least 1 fit and 0 < level < 1"
        )
    free = n - 2 if nyquist else n - 3
    if free <= 0:
        return 1.0
    tail = -math.expm1(math.log(level) / n_fits)
    return float(beta.isf(tail, 0.5 if nyquist else 1.0, free / 2))
