"""What the weights of an adder show by themselves: Fourier structure of the digits' embeddings, spectra of
the matrices."""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from mechfourier.fourier.key_freqs import matrix_share

DRAWS = 2000


@dataclass(frozen=True)
class EmbeddingSpectrum:
    """``shares[k−1]``: share of the power of the ten digits' vectors (their mean taken off) at k = 1..5
    cycles per ten digits. ``null``: the largest share that 95 % of shuffled digit orders stay under, ``p``
    the rank of the largest one among them. ``line_p``: the same for the power of a straight line in the
    digit. ``points``: the digits in the plane of k, see ``held_out_points``."""

    matrix: str
    shares: tuple[float, ...]
    k: int
    null: float
    p: float
    line: float
    line_p: float
    points: tuple[tuple[float, float], ...] = ()


def embedding_spectrum(vectors: Float[Tensor, "ten d"], name: str, *, seed: int = 0) -> EmbeddingSpectrum:
    """The spectrum of ten vectors against the same vectors in random orders, which keeps everything but which
    digit is which."""
    generator = torch.Generator().manual_seed(seed)
    y = vectors.detach().double().cpu()
    orders = torch.rand(DRAWS, len(y), generator=generator).argsort(1)
    shares = matrix_share(y)
    best, drawn = float(shares.max()), shares_of(y[orders]).amax(1)
    line, lines = _line(y[None])[0], _line(y[orders])
    return EmbeddingSpectrum(
        name,
        tuple(shares.tolist()),
        int(shares.argmax()) + 1,
        float(drawn.quantile(0.95)),
        _p(best, drawn),
        float(line),
        _p(float(line), lines),
        held_out_points(y, int(shares.argmax()) + 1),
    )


def held_out_points(y: Float[Tensor, "ten d"], k: int) -> tuple[tuple[float, float], ...]:
    """Every digit's vector on the cosine and sine direction of k that *the other nine* draw, in units of
    their radius.

    Ten vectors in more than ten dimensions lie on a perfect circle in the plane that is fitted to all of
    them, noise included; left out of the fit, a vector of noise falls anywhere around 0.
    """
    n = len(y)
    angle = 2 * torch.pi * k * torch.arange(n, dtype=y.dtype) / n
    waves = torch.stack([angle.cos(), angle.sin()], 1)
    if 2 * k == n:
        waves = waves[:, :1]  # at the Nyquist frequency there is no sine
    found = []
    for v in range(n):
        rest = torch.arange(n) != v
        design = torch.cat([torch.ones(n - 1, 1, dtype=y.dtype), waves[rest]], 1)
        mean, *directions = torch.linalg.lstsq(design, y[rest]).solution
        plane = torch.stack(directions, 1)
        at = torch.linalg.lstsq(plane, (y[v] - mean)[:, None]).solution[:, 0]
        found.append((float(at[0]), float(at[1]) if len(at) > 1 else 0.0))
    return tuple(found)


def shares_of(y: Float[Tensor, "draw ten d"]) -> Float[Tensor, "draw k"]:
    """``matrix_share`` of many draws at once: shares of the power above frequency 0 at k = 1..5 (Nyquist, k =
    5, counts once)."""
    power = torch.fft.rfft(y, dim=1).abs().pow(2).sum(2)[:, 1:]
    power = power * torch.tensor([2.0, 2.0, 2.0, 2.0, 1.0], dtype=power.dtype)
    return power / power.sum(1, keepdim=True).clamp_min(torch.finfo(power.dtype).tiny)


def _line(y: Float[Tensor, "draw ten d"]) -> Float[Tensor, " draw"]:
    """Share of the power along a straight line in the digit."""
    centred = y - y.mean(1, keepdim=True)
    ramp = torch.arange(y.shape[1], dtype=y.dtype)
    ramp = (ramp - ramp.mean()) / (ramp - ramp.mean()).norm()
    return torch.einsum("v,bvd->bd", ramp, centred).pow(2).sum(1) / centred.pow(2).sum((1, 2))


def _p(observed: float, drawn: Tensor) -> float:
    return (1 + int((drawn >= observed - 1e-12).sum())) / (1 + len(drawn))


def embedding_spectra(model: Any, *, seed: int = 0) -> tuple[EmbeddingSpectrum, ...]:
    """Digits as they are read (W_E) and written (W_U)."""
    return (
        embedding_spectrum(model.W_E[:10], "W_E", seed=seed),
        embedding_spectrum(model.W_U.T[:10], "W_U", seed=seed),
    )


@dataclass(frozen=True)
class MatrixSpectrum:
    """Singular values of one matrix (heads side by side), largest first. ``rank``: (Σσ²)²/Σσ⁴, the
    participation ratio."""

    matrix: str
    rows: int
    columns: int
    singular_values: tuple[float, ...]
    rank: float


def matrix_spectra(model: Any) -> tuple[MatrixSpectrum, ...]:
    """Every weight matrix."""
    found = []
    for name, value in model.weights().items():
        if not name.rsplit(".", 1)[-1].startswith("W_"):
            continue
        w = value.detach().double().cpu()
        if w.ndim == 3:  # [head, d, e], or W_O's [head, e, d]
            w = w.flatten(0, 1) if name.endswith("W_O") else w.permute(1, 0, 2).flatten(1)
        s = torch.linalg.svdvals(w)
        rank = float(s.pow(2).sum() ** 2 / s.pow(4).sum())
        found.append(MatrixSpectrum(name, w.shape[0], w.shape[1], tuple(s.tolist()), rank))
    return tuple(found)
