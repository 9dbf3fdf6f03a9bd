"""Family-wise permutation nulls: what the best of everything that was searched is worth.

The labels of the values are permuted, the same way at every site, dimension and template; all selection
(site, harmonic, dimension) is run again, and the maximum kept. p = (1 + #{T_b ≥ T}) / (B + 1) for B random
permutations; up to n = 7 all n! orders are enumerated, the true one among them, and p = #{T_b ≥ T} / n!.

The smallest p is not 1/n!: a circle at some k stays one when the labels are shifted, reversed or multiplied
by a unit of Z_n, so n·φ(n) orders score the same (:func:`smallest_p`). With 5 values that is 20 of 120, p ≥
.17: five values cannot show a circle at a k that was searched for.
"""

import itertools
import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from einops import einsum, rearrange
from jaxtyping import Float, Int
from torch import Tensor

from mechfourier.errors import OutOfRange
from mechfourier.stats.permutation import permutation_p
from mechfourier.stats.spectrum import harmonic_planes, plane_axes

EXACT_UP_TO = 7
MOST_PERMUTATIONS = 10_000_000
CHUNK_BYTES = 256 * 2**20
ALIKE = 3.5
SHARED = 0.25


@dataclass(frozen=True, eq=False)
class LabelPermutations:
    """Label permutations [b, value]. ``exact``: every order, the identity among them."""

    index: Int[Tensor, "b value"]
    exact: bool

    def __len__(self) -> int:
        return len(self.index)

    def p_value(self, observed: Tensor, null: Float[Tensor, " b"]) -> Tensor:
        """p of every ``observed`` statistic against the null maxima; ties count against it."""
        return torch.as_tensor(permutation_p(observed, null, exact=self.exact), dtype=torch.float64)


def smallest_p(n: int) -> float:
    """The least p a search over all k can give on n values: n·φ(n)/n! (Burnside orbit of the affine group of
    Z_n).
    """
    units = sum(math.gcd(u, n) == 1 for u in range(1, n + 1))
    return n * units / math.factorial(n)


def check_permutations(permutations: int) -> None:
    """Raise ``OutOfRange`` for a number of permutations that is none, or that no machine gets through."""
    if not 1 <= permutations <= MOST_PERMUTATIONS:
        raise OutOfRange(
            f"permutations is {permutations}; it must be 1 to {MOST_PERMUTATIONS:,} (1000 gives p down to "
            f".001)"
        )


def label_orders(n: int, *, permutations: int = 1000, seed: int = 0) -> LabelPermutations:
    """All n! orders up to n = 7, else ``permutations`` random ones from ``seed``."""
    check_permutations(permutations)
    if n <= EXACT_UP_TO:
        return LabelPermutations(torch.tensor(list(itertools.permutations(range(n)))), exact=True)
    generator = torch.Generator().manual_seed(seed)
    return LabelPermutations(torch.rand(permutations, n, generator=generator).argsort(1), exact=False)


def circle_statistic(axes: Float[Tensor, "*lead two"], scale: Tensor) -> Tensor:
    """√(λ₁λ₂)·√2/‖G‖: geometric mean of the power along the two axes of a harmonic's ellipse, against the
    norm of the Gram matrix.

    1 for a circle and nothing else; 0 for anything along one direction, whatever its R²; negative where the
    weaker axis has no power above the template noise.
    """
    product = axes[..., 0] * axes[..., 1]
    return torch.where(axes[..., 1] > 0, 1.0, -1.0) * product.abs().sqrt() * math.sqrt(2) / scale


def gram_norm(gram: Float[Tensor, "*lead value value2"]) -> Float[Tensor, "*lead"]:
    """Frobenius norm, never 0: the one scale that no permutation of labels changes."""
    return torch.linalg.matrix_norm(gram).clamp_min(torch.finfo(gram.dtype).tiny)


def circle_scores(gram: Float[Tensor, "site value value2"]) -> Float[Tensor, "site k"]:
    """:func:`circle_statistic` of every site and every harmonic with two quadratures."""
    return circle_statistic(plane_axes(harmonic_planes(gram.shape[-1]), gram), gram_norm(gram)[..., None])


def circle_null(
    gram: Float[Tensor, "site value value2"], orders: LabelPermutations
) -> tuple[Float[Tensor, "b site"], Int[Tensor, "b site"]]:
    """Maximum over k of :func:`circle_scores` for every order and site, and the k that reached it.

    The family-wise null is the maximum over sites of the first.
    """
    planes = harmonic_planes(gram.shape[-1])
    scale = gram_norm(gram)[..., None, None]
    bytes_per_order = planes.numel() * len(gram) * 8
    best = [
        circle_statistic(plane_axes(_permuted(planes, index), gram), scale).max(-1)
        for index in orders.index.split(max(1, CHUNK_BYTES // (4 * bytes_per_order)))
    ]
    score, k = torch.cat([b.values for b in best], 1), torch.cat([b.indices for b in best], 1) + 1
    return rearrange(score, "site b -> b site"), rearrange(k, "site b -> b site")


def _permuted(planes: Float[Tensor, "k pair value"], index: Int[Tensor, "b value"]) -> Tensor:
    return rearrange(planes[:, :, index], "k pair b value -> b k pair value")


def dimension_r2(acts: Float[Tensor, "site value d"]) -> Float[Tensor, "site k d"]:
    """R² of the harmonic k = 1..⌈n/2⌉−1 fit to every dimension of the template mean: the number usually
    published.
    """
    y = _unit_columns(acts)
    rows = einsum(harmonic_planes(acts.shape[1]), y, "k pair value, site value d -> site k pair d")
    return (rows**2).sum(2)


def dimension_null(acts: Float[Tensor, "site value d"], orders: LabelPermutations) -> Float[Tensor, "b site"]:
    """Largest :func:`dimension_r2` over dimensions and k for every order and site, in float32 matrix products
    by chunks."""
    n, d = acts.shape[1:]
    planes = harmonic_planes(n).float()
    columns = rearrange(_unit_columns(acts).float(), "site value d -> value (site d)")
    size = max(1, CHUNK_BYTES // (2 * planes.shape[0] * 4 * min(columns.shape[1], 8192)))
    step = max(1, 8192 // d) * d
    out = []
    for index in orders.index.split(size):
        rows = rearrange(planes[:, :, index], "k pair b value -> (pair b k) value")
        best = [_best_r2(rows, part, d, len(index)) for part in columns.split(step, 1)]
        out.append(torch.cat(best, 1))
    return torch.cat(out)


def _best_r2(rows: Tensor, columns: Tensor, d: int, orders: int) -> Float[Tensor, "b site"]:
    fitted = (rows @ columns).square_()
    half = len(fitted) // 2
    power = fitted[:half].add_(fitted[half:])
    return power.reshape(orders, -1, columns.shape[1] // d, d).amax((1, 3))


def _unit_columns(acts: Float[Tensor, "site value d"]) -> Float[Tensor, "site value d"]:
    """Centred over values and scaled to length 1; a constant dimension becomes 0 and never wins."""
    y = acts.double()
    centred = y - y.mean(1, keepdim=True)
    length = torch.linalg.norm(centred, dim=1, keepdim=True)
    floor = 1e-6 * y.abs().amax(1, keepdim=True).clamp_min(torch.finfo(torch.float64).tiny)
    return torch.where(length > floor, centred / length.clamp_min(torch.finfo(torch.float64).tiny), 0.0)


def sign_flips(templates: int, *, limit: int = 4096, seed: int = 0) -> Float[Tensor, "b template"]:
    """Sign patterns of the templates, the first held at +1: all 2^(T−1) where they are few, else ``limit``
    random ones.
    """
    if 2 ** (templates - 1) <= limit:
        patterns = list(itertools.product([1.0, -1.0], repeat=templates - 1))
        signs = torch.tensor(patterns, dtype=torch.float64).reshape(len(patterns), templates - 1)
    else:
        generator = torch.Generator().manual_seed(seed)
        signs = torch.randint(0, 2, (limit, templates - 1), generator=generator).double() * 2 - 1
        signs[0] = 1.0
    return torch.cat([torch.ones(len(signs), 1, dtype=torch.float64), signs], 1)


def alike(inner: Float[Tensor, "site t u"]) -> Int[Tensor, " t"]:
    """Groups of templates that are more alike than the others, whose noise is not their own (paraphrases,
    shared words).

    ``inner``: of two templates, over all values. Tables are alike by their correlation r over values, in the mean over sites; m being the median pair's, a
    pair stands out from ``ALIKE`` robust standard deviations above m on, if it shares more than ``SHARED`` of
    what the median pair does not: (r − m)/(1 − m). Templates belong together where a chain of such pairs
    leads from one to the other.
    """
    scale = inner.diagonal(dim1=1, dim2=2).clamp_min(torch.finfo(inner.dtype).tiny).sqrt()
    likeness = (inner / scale[:, :, None] / scale[:, None]).mean(0)
    rows, columns = torch.triu_indices(len(likeness), len(likeness), 1)
    pairs = likeness[rows, columns]
    middle = pairs.median()
    spread = 1.4826 * (pairs - middle).abs().median()
    linked = likeness > middle + torch.maximum(ALIKE * spread, SHARED * (1 - middle))
    linked.fill_diagonal_(True)
    for _ in range(len(likeness).bit_length()):
        linked = (linked.double() @ linked.double()) > 0
    return linked.to(torch.uint8).argmax(1)


def reliability_p(pairs: Float[Tensor, "*lead t u"], signs: Float[Tensor, "b t"]) -> float:
    """Do different templates agree? p of the largest shared power under sign flips of whole templates.

    ``pairs[..., t, u]`` is a power computed between templates t and u. Without a shared signal the sign of
    every template is arbitrary, however the noise is correlated over values or dimensions, so this is exact
    for noise that is drawn per template (a random walk drawn per sentence, say), where permuting the values
    is not.
    """
    off = _between(pairs)
    off = off / torch.linalg.matrix_norm(off)[..., None, None].clamp_min(torch.finfo(pairs.dtype).tiny)
    scores = einsum(signs, off, signs, "b t, ... t u, b u -> b ...").reshape(len(signs), -1).amax(1)
    return _reached(scores)


def circle_reliability_p(
    cross: Iterable[Float[Tensor, "t u value value2"]], signs: Float[Tensor, "b t"]
) -> float:
    """Do different templates share a circle? The same for √(λ₁λ₂) of the plane of a harmonic, the largest
    over sites (``cross``: one after the other) and harmonics.

    Sites and harmonics are chosen again in every flip, as they were in the data: a p of the harmonic found
    there would be small in noise.
    """
    product = rearrange(signs[:, :, None] * signs[:, None], "b t u -> (t u) b")
    best = torch.full((len(signs),), -torch.inf, dtype=signs.dtype)
    for site in cross:
        best = torch.maximum(best, _circle_under_flips(site, product))
    return _reached(best)


def _circle_under_flips(
    cross: Float[Tensor, "t u value value2"], product: Float[Tensor, "pair b"]
) -> Float[Tensor, " b"]:
    """√(λ₁λ₂) of the best harmonic of one site."""
    planes = harmonic_planes(cross.shape[-1])
    at_k = _between(einsum(planes, cross, planes, "k i v, t u v w, k j w -> k i j t u"))
    at_k = at_k / torch.linalg.vector_norm(at_k).clamp_min(torch.finfo(cross.dtype).tiny)
    gram = rearrange(at_k, "... t u -> ... (t u)") @ product
    first, second, cross_term = gram[:, 0, 0], gram[:, 1, 1], (gram[:, 0, 1] + gram[:, 1, 0]) / 2
    smaller = (first + second) / 2 - torch.hypot((first - second) / 2, cross_term)
    scores = torch.where(smaller > 0, (first * second - cross_term**2).clamp_min(0).sqrt(), smaller)
    return scores.amax(0)


def _between(pairs: Float[Tensor, "*lead t u"]) -> Float[Tensor, "*lead t u"]:
    return pairs * (1 - torch.eye(pairs.shape[-1], dtype=pairs.dtype))


def _reached(scores: Float[Tensor, " b"]) -> float:
    """Share of flips that reach the first, which is the data."""
    return permutation_p(float(scores[0]), scores, exact=True)
