"""Where a value is read in a task's prompts, and the planes in which its activations turn there."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import torch
from einops import einsum, rearrange
from jaxtyping import Float, Int
from torch import Tensor

from mechfourier.causal.ablate import orthonormal
from mechfourier.causal.controls import Moments
from mechfourier.causal.outcome import AnswerTask, SimilarityTask, balanced_sample, task_of
from mechfourier.domains.definition import Domain
from mechfourier.domains.design import Design
from mechfourier.errors import OutOfRange, UsageError, nearest
from mechfourier.fourier.key_freqs import gaussian_null, matrix_share, null_threshold, significant
from mechfourier.hooks.capture import capture
from mechfourier.hooks.site import Site, find_site
from mechfourier.models.interface import Encoding, encode
from mechfourier.stats.planes import harmonic_plane

Position = Literal["operand", "last"]
POSITIONS: tuple[str, ...] = get_args(Position)
FIT_PROMPTS = 2048  # prompts whose activations give the class means
SAME = 1e-5  # spread of the class means, relative to their size, that is taken for rounding
NULL_WIDTH = 256  # dimensions of the untrained draws; fewer than a wide model has make the rule stricter


@dataclass(frozen=True, eq=False)
class Reading:
    """The activations of a site at one token of every prompt. ``position``: ``"operand"`` (the last token of the first
    operand; classes are the operand's values) or ``"last"`` (the prompt's last token; classes are the answers).

    ``at``: that token in each of the task's prompts. ``label``: their classes. ``means``: the mean activation of every
    class over the prompts of the fit; ``moments``: the mean of the class means, and the covariance over those prompts.
    """

    site: Site
    position: str
    at: Int[Tensor, " prompt"]
    label: Int[Tensor, " prompt"]
    means: Float[Tensor, "n d"]
    moments: Moments

    @property
    def centre(self) -> Float[Tensor, " d"]:
        """What planes turn about."""
        return self.moments.mean

    @property
    def shares(self) -> Float[Tensor, " freq"]:
        """Share of the power between classes at k = 1..⌊n/2⌋."""
        return matrix_share(self.means)


def read(model: Any, task: AnswerTask | SimilarityTask, site: Site | str, position: str) -> Reading:
    """Class means at ``site`` and ``position`` over the design of ``task`` (a balanced part of a large one).

    Raises ``UnknownSite``, ``OutOfRange``, ``UsageError`` and ``HookNeverFired``.
    """
    return next(read_all(model, task, [find_site(model, site)], position))


def read_all(
    model: Any, task: AnswerTask | SimilarityTask, sites: Sequence[Site], position: str
) -> Iterator[Reading]:
    """``read`` at several sites, from one captured pass."""
    if position not in POSITIONS:
        raise UsageError(f"position {position!r} is not known; closest: {nearest(position, POSITIONS)}")
    design = task.design
    classes = design.value if position == "operand" else design.label
    rows = balanced_sample(classes, min(FIT_PROMPTS, len(design)), seed=0)
    encodings = encode(model, [design.prompts[i] for i in rows.tolist()])
    found = capture(model, encodings, list(sites), places(design, encodings, rows, position))
    at = places(design, _encodings(model, task), task.rows, position)
    for site in sites:
        vectors = rearrange(found[site], "row ... -> row (...)")
        means = class_means(vectors, classes[rows], n_classes(design, position))
        moments = Moments(means.mean(0), torch.cov(vectors.T.double(), correction=0).float())
        yield Reading(site, position, at, classes[task.rows], means, moments)


def vectors_of(
    model: Any, design: Design, rows: Int[Tensor, " row"], site: Site, position: str
) -> Float[Tensor, "row d"]:
    """The activations of some of a design's prompts at one site and position, heads side by side."""
    encodings = encode(model, [design.prompts[i] for i in rows.tolist()])
    found = capture(model, encodings, [site], places(design, encodings, rows, position))
    return rearrange(found[site], "row ... -> row (...)")


def _encodings(model: Any, task: AnswerTask | SimilarityTask) -> list[Encoding]:
    if isinstance(task, AnswerTask):
        return task.plan.encodings
    return encode(model, [task.design.prompts[i] for i in task.rows.tolist()])


def places(
    design: Design, encodings: list[Encoding], rows: Int[Tensor, " row"], position: str
) -> Int[Tensor, " row"]:
    """The token to read in each of these prompts of a design."""
    if position == "last":
        return torch.tensor([encoding.last for encoding in encodings])
    spans = [operand_span(design, row) for row in rows.tolist()]
    return torch.tensor([e.last_token_of(*span) for e, span in zip(encodings, spans, strict=True)])


def operand_span(design: Design, row: int) -> tuple[int, int]:
    """The characters of the value that a prompt asks about (in the question, not in the examples before it)."""
    if design.operand is not None:
        return design.operand[row]
    domain, value = design.domain, design.domain.values[int(design.value[row])]
    template = domain.templates[0 if design.template is None else int(design.template[row])]
    start = template.index("{value}")
    return start, start + len(value)


def n_classes(design: Design, position: str) -> int:
    """How many classes are turned: the values at the operand, the answers at the last token."""
    return design.n if position == "operand" or design.answers is None else design.n_answers


def class_means(vectors: Float[Tensor, "row d"], label: Int[Tensor, " row"], n: int) -> Float[Tensor, "n d"]:
    """Mean of the vectors of every class."""
    sums = torch.zeros(n, vectors.shape[1], dtype=torch.float64).index_add_(0, label, vectors.double())
    return (sums / torch.bincount(label, minlength=n)[:, None]).float()


def check_spread(means: Float[Tensor, "n d"]) -> None:
    """Raise ``OutOfRange`` where the class means are one point up to rounding, or too few to turn."""
    if len(means) < 3:
        raise OutOfRange(f"{len(means)} values turn in no plane; choose a domain of 3 values or more")
    if float((means - means.mean(0)).norm()) <= SAME * float(means.norm()):
        raise OutOfRange(
            "all classes have the same mean activation here: nothing turns; choose another site or position"
        )


def key_harmonics(means: Float[Tensor, "n d"]) -> tuple[int, ...]:
    """The harmonics that hold more of the power between classes than chance (`fourier.key_freqs`); else the strongest.

    Harmonics without a plane (k = n/2) are left out. Strongest first.
    """
    n = len(means)
    check_spread(means)
    shares = matrix_share(means)[: (n - 1) // 2]
    threshold = null_threshold(gaussian_null(n, min(means.shape[1], NULL_WIDTH)))
    return significant(shares, threshold) or (int(shares.argmax()) + 1,)


@dataclass(frozen=True, eq=False)
class Turn:
    """Planes that turn together: an orthonormal ``basis`` of all of them, and ``shape``, the coordinates in it of the
    cosine and sine of each harmonic in ``ks`` (the identity for planes that stand for no harmonic).

    A harmonic's image is an ellipse; turning it by an angle moves every point to where the ellipse is at that angle.
    """

    basis: Float[Tensor, "d r"]
    shape: Float[Tensor, "r r"]
    ks: tuple[int, ...]

    def maps(self, n: int) -> Float[Tensor, "n r r"]:
        """What turning by δ = 0..n−1 steps does to coordinates."""
        turned = self.shape.double() @ rotations(self.ks, n)
        return torch.linalg.solve(self.shape.double(), turned, left=False).float()


def rotations(ks: tuple[int, ...], n: int) -> Float[Tensor, "n r r"]:
    """Block-diagonal rotations by 2πkδ/n, δ = 0..n−1, one block per harmonic."""
    angle = 2 * math.pi / n * torch.outer(torch.arange(n), torch.tensor(ks)).double()
    cos, sin = angle.cos(), angle.sin()
    blocks = torch.stack([torch.stack([cos, -sin], -1), torch.stack([sin, cos], -1)], -2)
    eye = torch.eye(len(ks), dtype=torch.float64)
    return rearrange(einsum(blocks, eye, "n k i j, k l -> n k i l j"), "n k i l j -> n (k i) (l j)")


def waves(means: Float[Tensor, "n d"], ks: tuple[int, ...]) -> Float[Tensor, "d r"]:
    """The images of cos(2πkv/n) and sin(2πkv/n), in pairs: Σ_v wave(v) · (means[v] − centre)."""
    n = len(means)
    angle = 2 * math.pi / n * torch.outer(torch.arange(n), torch.tensor(ks)).double()
    columns = torch.stack([angle.cos(), angle.sin()], -1).flatten(1)
    return (means.double() - means.double().mean(0)).T @ columns


def harmonic_turn(means: Float[Tensor, "n d"], ks: tuple[int, ...]) -> Turn:
    """The planes of these harmonics of the class means; raises ``OutOfRange`` where one has none or they overlap."""
    if not ks or len(set(ks)) < len(ks):
        raise UsageError(f"harmonics {list(ks)} must be different, and at least one")
    check_spread(means)
    for k in ks:
        harmonic_plane(means.numpy(), k)  # says which harmonic has no plane, and why
    images = waves(means, ks)
    scaled = images / torch.linalg.norm(images, dim=0)
    left, singular, _ = torch.linalg.svd(scaled, full_matrices=False)
    if images.shape[1] > images.shape[0] or float(singular[-1]) < 1e-3:
        raise OutOfRange(f"the planes of harmonics {list(ks)} overlap at this site; turn fewer of them")
    return Turn(left.float(), (left.T @ images).float(), ks)


def harmonic_basis(
    model: Any,
    domain: Domain,
    site: Site | str,
    ks: tuple[int, ...],
    *,
    position: str = "operand",
    task: str | None = None,
) -> Float[Tensor, "d r"]:
    """An orthonormal basis of the planes of these harmonics at a site, for ``ablate(subspace=…)``."""
    place = read(model, task_of(model, domain, task=task), site, position)
    return harmonic_turn(place.means, ks).basis


def given_turn(means: Float[Tensor, "n d"], plane: Tensor | np.ndarray, k: int, site: Site) -> Turn:
    """A plane of the caller's, turned as ``harmonic_turn`` would: in the direction in which harmonic ``k`` runs there."""
    basis = orthonormal(torch.as_tensor(np.asarray(plane), dtype=torch.float32), site, means.shape[1])
    if basis.shape[1] != 2:
        raise UsageError(f"a plane has two columns; this one has rank {basis.shape[1]}")
    if torch.linalg.det(basis.T.double() @ waves(means, (k,))) < 0:
        basis = basis * torch.tensor([1.0, -1.0])
    return Turn(basis, torch.eye(2), (k,))
