"""What the contest sees of one site: Gram matrices of templates × values, in a frame that does not depend on
labels or order.

Every statistic of the contest is a function of inner products, so it does not change under rotations of the
activations. The rest of the invariances come from the frame: templates that repeat another are dropped, the
others sorted by a property of their own, the scale is divided out, and the first value and the direction of
the cycle are chosen by the data, before anything random happens.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy import ndarray

from mechfourier.stats import spectrum
from mechfourier.stats.copies import template_groups

GROUPS = 4
"""Templates are averaged in this many groups; directions come from half of them, the rest is predicted."""

OUTLYING, ROUNDS = 1.5, 4
"""Distance of a prompt from the mean of its value, in units of the median, from which on it is drawn in; and how often both
are found again. Gaussian noise in 64 dimensions has no such prompts, Student's t with 2 degrees of freedom one in seven."""


@dataclass(frozen=True)
class Frame:
    """How the values of the caller lie in the frame: ``order[i]`` is the caller's value at place i."""

    order: Int[ndarray, " n"]

    @property
    def reversed(self) -> bool:
        """Whether the frame runs against the caller's direction."""
        return (self.order[1] - self.order[0]) % len(self.order) != 1


@dataclass(frozen=True)
class Noise:
    """Noise of single templates. ``total``: variance over all dimensions, the mean over values. ``dims``:
    effective number of dimensions, (tr Σ)² / tr Σ². ``root``: square root of its covariance over values, in
    units of ``total``."""

    total: float
    dims: float
    root: Float[ndarray, "m m"]


@dataclass(frozen=True)
class Table:
    """Inner products of one site: ``gram[t, u, v, w]`` = ⟨x_tv, x_uw⟩, every template less its mean over the
    values.

    ``groups [g g m m]``: the same for the means of groups of ``sizes`` templates. ``mean``: unbiased for the
    Gram matrix of the noise-free means (products of different templates only).
    """

    frame: Frame
    kept: Int[ndarray, " m"]
    gram: Float[ndarray, "t t m m"]
    groups: Float[ndarray, "g g m m"]
    sizes: Int[ndarray, " g"]
    mean: Float[ndarray, "m m"]
    noise: Noise

    @property
    def group_sizes(self) -> tuple[int, ...]:
        return tuple(int(size) for size in self.sizes)

    @property
    def templates(self) -> int:
        return len(self.gram)


def cross_gram(acts: Float[ndarray, "value template d"]) -> Float[ndarray, "t t n n"]:
    """⟨x_tv, x_uw⟩ with every template less its mean over the values, at a scale of the data's own."""
    return scaled(spectrum.cross_gram(torch.from_numpy(np.asarray(acts, np.float64))[None])[0].numpy())


def scaled(gram: Float[ndarray, "t t n n"]) -> Float[ndarray, "t t n n"]:
    """Inner products divided by the power of a template."""
    total = np.einsum("ttvv->", gram) / len(gram)
    return gram / total if total > 0 else gram


def among(cross: Float[ndarray, "t t n n"], kept: Int[ndarray, " m"]) -> Float[ndarray, "t t m m"]:
    """The inner products of some of the values, with every template less its mean over those."""
    gram = cross[:, :, kept][:, :, :, kept]
    gram = gram - gram.mean(2, keepdims=True)
    return scaled(gram - gram.mean(3, keepdims=True))


def distinct_templates(gram: Float[ndarray, "t t n n"]) -> list[int]:
    """One template of every group of copies, in an order of their own: by how much they vary over the
    values."""
    first = template_groups(torch.from_numpy(gram)).tolist()
    kept = [t for t in range(len(gram)) if first[t] == t]
    power = np.einsum("ttvv->t", gram)
    return sorted(kept, key=lambda t: -power[t])


def canonical_frame(mean: Float[ndarray, "n n"]) -> Frame:
    """The cyclic shift and direction in which a fixed generic functional of the Gram matrix is largest."""
    n = len(mean)
    generic = np.random.default_rng(1827).standard_normal((n, n))
    around = (np.arange(n)[:, None] + np.arange(n)) % n
    orders = np.concatenate([around, around[:, ::-1]])
    values = [np.sum(generic * mean[np.ix_(order, order)]) for order in orders]
    return Frame(orders[int(np.argmax(values))])


def table(gram: Float[ndarray, "t t n n"], frame: Frame, without: int | None = None) -> Table:
    """The table of a site, in its frame; ``without``: the place of a value that is set aside."""
    kept = np.array([i for i in range(len(frame.order)) if i != without])
    g = gram[:, :, frame.order[kept]][:, :, :, frame.order[kept]]
    g = g - g.mean(2, keepdims=True)
    g = g - g.mean(3, keepdims=True)
    weights = _grouping(len(g))
    return Table(
        frame=frame,
        kept=kept,
        gram=g,
        groups=np.einsum("gt,hu,tuvw->ghvw", weights, weights, g),
        sizes=(weights > 0).sum(1),
        mean=unbiased_mean(g),
        noise=_noise(g),
    )


def tempered(gram: Float[ndarray, "t t n n"]) -> Float[ndarray, "t t n n"]:
    """The same with outlying prompts drawn in: what lies further from the mean of its value than ``OUTLYING`` times the
    median of all prompts is moved to that distance (Huber's weights, over whole vectors, so rotations change nothing).
    """
    t, n = len(gram), gram.shape[2]
    rows = gram.transpose(0, 2, 1, 3).reshape(t * n, t * n)
    same = np.equal.outer(np.tile(np.arange(n), t), np.tile(np.arange(n), t))
    weights, apart = np.ones(t * n), np.eye(t * n)
    for _ in range(ROUNDS):
        apart = np.eye(t * n) - same * weights / (same @ weights)[:, None]
        norms = np.sqrt(np.maximum(np.sum((apart @ rows) * apart, 1), 0.0))
        weights = np.minimum(1.0, OUTLYING * np.median(norms) / np.maximum(norms, 1e-300))
    if weights.min() >= 1:
        return gram
    moved = np.eye(t * n) - (1 - weights)[:, None] * apart
    out = (moved @ rows @ moved.T).reshape(t, n, t, n).transpose(0, 2, 1, 3)
    out = out - out.mean(2, keepdims=True)
    return scaled(out - out.mean(3, keepdims=True))


def unbiased_mean(gram: Float[ndarray, "t t m m"]) -> Float[ndarray, "m m"]:
    """The mean over pairs of different templates: free of noise in expectation."""
    t = len(gram)
    whole = gram.sum((0, 1)) - np.einsum("ttvw->vw", gram)
    return (whole + whole.T) / (2 * t * (t - 1))


def _grouping(templates: int) -> Float[ndarray, "g t"]:
    """Averages over groups, dealt to and fro so that strong and weak templates mix."""
    groups = min(GROUPS, templates)
    deal = np.arange(templates) % (2 * groups)
    member = np.minimum(deal, 2 * groups - 1 - deal)[None] == np.arange(groups)[:, None]
    return member / member.sum(1, keepdims=True)


def residual_gram(gram: Float[ndarray, "t t m m"]) -> Float[ndarray, "r r"]:
    """Inner products of what is left of single templates without the mean over templates, rows (template,
    value)."""
    e = gram - gram.mean(0, keepdims=True)
    e = e - e.mean(1, keepdims=True)
    t, m = len(e), e.shape[2]
    return e.transpose(0, 2, 1, 3).reshape(t * m, t * m)


def _noise(gram: Float[ndarray, "t t m m"]) -> Noise:
    t, m = len(gram), gram.shape[2]
    rest = residual_gram(gram)
    freedom = (t - 1) * (m - 1)
    total = np.trace(rest) / freedom
    centring = np.eye(m) - 1 / m
    if total <= 0:
        return Noise(0.0, 1.0, centring)
    observed = np.einsum("tvtw->vw", rest.reshape(t, m, t, m)) / ((t - 1) * total)
    dims, root = noise_dims(rest, freedom), centring
    for _ in range(2):
        covariance = _shrunk(observed, 1 / (dims * (t - 1)))
        values, vectors = np.linalg.eigh(covariance)
        values = np.maximum(values, 1e-3)
        whitener = np.kron(np.eye(t), (vectors / np.sqrt(values)) @ vectors.T @ centring)
        dims = noise_dims(whitener @ rest @ whitener.T, freedom)
        root = (vectors * np.sqrt(values)) @ vectors.T @ centring
    return Noise(float(total), dims, root * np.sqrt((m - 1) / np.sum(root**2)))


def noise_dims(rest: Float[ndarray, "r r"], freedom: int) -> float:
    """Effective dimensions of independent rows with that Gram matrix."""
    return effective_dims(float(np.trace(rest)), float(np.sum(rest**2)), freedom)


def effective_dims(trace: float, squares: float, freedom: int) -> float:
    """The same from the trace and the sum of squares of the Gram matrix of ``freedom`` rows."""
    squared = (squares - trace**2 / freedom) / (freedom * (freedom + 1) - 2)
    return float(np.clip((trace / freedom) ** 2 / max(squared, 1e-300), 1.0, 1e6))


def _shrunk(observed: Float[ndarray, "m m"], chance: float) -> Float[ndarray, "m m"]:
    """The covariance over values as far as it is more than chance: towards values that are independent and
    alike."""
    m = len(observed)
    target = np.eye(m) - 1 / m
    apart = observed - target
    trust = max(0.0, 1 - chance * m * (m + 1) / max(float(np.sum(apart**2)), 1e-300))
    return target + trust * apart
