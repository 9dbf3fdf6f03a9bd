"""The values of a domain in one plane, layer by layer: for a slider in which nothing jumps."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from mechfourier.probes.probe import Captured, class_positions
from mechfourier.probes.result import ProbeResult
from mechfourier.stats.spectrum import cross_gram
from mechfourier.stats.subspace import circle_positions

DIGITS = 4


@dataclass(frozen=True)
class LayerCircle:
    """Held-out positions of the values at one hook point in the plane of harmonic ``k``, in radii of the
    fitted circle: ``points[value] = (x, y)``. ``spread``: standard deviations along x and y and their
    correlation, over templates (operations: over two halves of the first operands)."""

    site: str
    k: int
    points: tuple[tuple[float, float], ...]
    spread: tuple[tuple[float, float, float], ...]


def layer_circles(read: Captured, result: ProbeResult) -> tuple[LayerCircle, ...]:
    """The plane of the result's harmonic at every hook point, each turned onto that of the best one
    (orthogonal Procrustes: no scaling, so that a circle that fades is seen to shrink)."""
    if result.best is None or read.acts.shape[1] < 3:
        return ()
    k, value = result.best.k, result.value is not None
    placed = [_positions(acts, k, value) for acts in read.acts]
    reference = placed[read.sites.index(result.best.site)][0]
    found = []
    for site, (place, each) in zip(read.sites, placed, strict=True):
        turn = _turn_onto(place, reference)
        found.append(LayerCircle(site, k, _pairs(place @ turn), _spread(each @ turn)))
    return tuple(found)


def _positions(
    acts: Float[Tensor, "row column d"], k: int, value: bool
) -> tuple[Float[Tensor, "n two"], Float[Tensor, "t n two"]]:
    if value:
        return circle_positions(cross_gram(acts[None])[0], k)
    place, each = class_positions(acts, k)
    radius = place.norm(dim=1).square().mean().sqrt().clamp_min(1e-300)
    return place / radius, each / radius


def _turn_onto(place: Float[Tensor, "n two"], reference: Float[Tensor, "n two"]) -> Float[Tensor, "two two"]:
    """The rotation or reflection of ``place`` that brings it nearest to ``reference``."""
    u, _, vh = torch.linalg.svd(place.T @ reference)
    return u @ vh


def _pairs(place: Float[Tensor, "n two"]) -> tuple[tuple[float, float], ...]:
    return tuple((round(float(x), DIGITS), round(float(y), DIGITS)) for x, y in place)


def _spread(each: Float[Tensor, "t n two"]) -> tuple[tuple[float, float, float], ...]:
    deviation = each - each.mean(0)
    covariance = torch.einsum("tni,tnj->nij", deviation, deviation) / max(len(each) - 1, 1)
    sx, sy = covariance[:, 0, 0].sqrt(), covariance[:, 1, 1].sqrt()
    correlation = (covariance[:, 0, 1] / (sx * sy).clamp_min(1e-300)).clamp(-1, 1)
    return tuple(
        (round(float(a), DIGITS), round(float(b), DIGITS), round(float(c), DIGITS))
        for a, b, c in zip(sx, sy, correlation, strict=True)
    )
