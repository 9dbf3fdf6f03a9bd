"""Harmonic planes of class means, and turning in them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from einops import einsum, rearrange
from jaxtyping import Float, Int
from torch import Tensor

from mechfourier.causal.edits import orthonormal
from mechfourier.errors import OutOfRange, UsageError
from mechfourier.fourier.key_freqs import gaussian_null, matrix_share, null_threshold, significant
from mechfourier.hooks.site import Site
from mechfourier.stats.planes import harmonic_plane

SAME = 1e-5  # spread of the class means, relative to their size, that is taken for rounding
NULL_WIDTH = 256  # dimensions of the untrained draws; fewer than a wide model has make the rule stricter


@dataclass(frozen=True, eq=False)
class HarmonicSubspace:
    """Planes that turn together: an orthonormal ``basis`` of all of them, and ``shape``, the coordinates in
    it of the cosine and sine of each harmonic in ``ks`` (the identity for planes that stand for no harmonic).

    A harmonic's image is an ellipse; turning it by an angle moves every point to where the ellipse is at that
    angle.
    """

    basis: Float[Tensor, "d r"]
    shape: Float[Tensor, "r r"]
    ks: tuple[int, ...]

    @property
    def words(self) -> str:
        """Which harmonics, as text."""
        return f"k = {', '.join(map(str, self.ks))}"

    def maps(self, n: int) -> Float[Tensor, "n r r"]:
        """What turning by δ = 0..n−1 steps does to coordinates."""
        return self._maps(rotations(self.ks, n))

    def map(self, delta: float, n: int) -> Float[Tensor, "r r"]:
        """What turning by ``delta`` of n steps does to coordinates."""
        angle = 2 * math.pi / n * delta * torch.tensor(self.ks).double()
        return self._maps(_blocks(angle[None]))[0]

    def _maps(self, turns: Float[Tensor, "turn r r"]) -> Float[Tensor, "turn r r"]:
        return torch.linalg.solve(self.shape.double(), self.shape.double() @ turns, left=False).float()


def class_means(vectors: Float[Tensor, "row d"], label: Int[Tensor, " row"], n: int) -> Float[Tensor, "n d"]:
    """Mean of the vectors of every class."""
    sums = torch.zeros(n, vectors.shape[1], dtype=torch.float64).index_add_(0, label, vectors.double())
    return (sums / torch.bincount(label, minlength=n)[:, None]).float()


def rotations(ks: tuple[int, ...], n: int) -> Float[Tensor, "n r r"]:
    """Block-diagonal rotations by 2πkδ/n, δ = 0..n−1, one block per harmonic."""
    return _blocks(_angles(ks, n))


def _blocks(angle: Float[Tensor, "turn k"]) -> Float[Tensor, "turn r r"]:
    """Rotations by these angles, block-diagonal over k."""
    cos, sin = angle.cos(), angle.sin()
    blocks = torch.stack([torch.stack([cos, -sin], -1), torch.stack([sin, cos], -1)], -2)
    eye = torch.eye(angle.shape[1], dtype=torch.float64)
    return rearrange(einsum(blocks, eye, "n k i j, k l -> n k i l j"), "n k i l j -> n (k i) (l j)")


def waves(means: Float[Tensor, "n d"], ks: tuple[int, ...]) -> Float[Tensor, "d r"]:
    """The images of cos(2πkv/n) and sin(2πkv/n), in pairs: Σ_v wave(v) · (means[v] − centre)."""
    angle = _angles(ks, len(means))
    columns = torch.stack([angle.cos(), angle.sin()], -1).flatten(1)
    return (means.double() - means.double().mean(0)).T @ columns


def _angles(ks: tuple[int, ...], n: int) -> Float[Tensor, "n k"]:
    return 2 * math.pi / n * torch.outer(torch.arange(n), torch.tensor(ks)).double()


def check_spread(means: Float[Tensor, "n d"]) -> None:
    """Raise ``OutOfRange`` where the class means are one point up to rounding, too few to turn, or where a
    class has no prompt."""
    if len(means) < 3:
        raise OutOfRange(f"{len(means)} values turn in no plane; choose a domain of 3 values or more")
    if empty := (~means.isfinite().all(dim=1)).nonzero()[:, 0].tolist():
        raise OutOfRange(
            f"no prompt is of class {empty[0]} here (no question has that answer), so the classes do not turn; "
            "use position='value'"
        )
    if float((means - means.mean(0)).norm()) <= SAME * float(means.norm()):
        raise OutOfRange(
            "all classes have the same mean activation here: nothing turns; choose another site or position"
        )


def key_harmonics(means: Float[Tensor, "n d"]) -> tuple[int, ...]:
    """The harmonics that hold more of the power between classes than chance (`fourier.key_freqs`); else the
    strongest.

    Harmonics without a plane (k = n/2) are left out. Strongest first.
    """
    n = len(means)
    check_spread(means)
    shares = matrix_share(means)[: (n - 1) // 2]
    threshold = null_threshold(gaussian_null(n, min(means.shape[1], NULL_WIDTH)))
    return significant(shares, threshold) or (int(shares.argmax()) + 1,)


def harmonic_subspace(means: Float[Tensor, "n d"], ks: tuple[int, ...]) -> HarmonicSubspace:
    """The planes of these harmonics of the class means; raises ``OutOfRange`` where one has none or they
    overlap."""
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
    return HarmonicSubspace(left.float(), (left.T @ images).float(), ks)


def given_subspace(
    means: Float[Tensor, "n d"], plane: Tensor | np.ndarray, k: int, site: Site
) -> HarmonicSubspace:
    """A plane of the caller's, turned as ``harmonic_subspace`` would: in the direction in which harmonic
    ``k`` runs there."""
    basis = orthonormal(plane, site, means.shape[1])
    if basis.shape[1] != 2:
        raise UsageError(f"a plane has two columns; this one has rank {basis.shape[1]}")
    if torch.linalg.det(basis.T.double() @ waves(means, (k,))) < 0:
        basis = basis * torch.tensor([1.0, -1.0])
    return HarmonicSubspace(basis, torch.eye(2), (k,))


def chosen_subspace(
    means: Float[Tensor, "n d"],
    site: Site,
    ks: int | Sequence[int] | None,
    plane: Tensor | np.ndarray | None = None,
) -> HarmonicSubspace:
    """The planes that a call asked for; without any, those of the harmonics that stand out."""
    n, wanted = len(means), harmonics(ks)
    for each in wanted or ():
        if not 1 <= each < n / 2:
            raise OutOfRange(
                f"harmonic k = {each} of {n} values has no plane; k runs from 1 to {(n - 1) // 2}"
            )
    if plane is not None:
        return given_subspace(means, plane, (wanted or (1,))[0], site)
    return harmonic_subspace(means, wanted or key_harmonics(means))


def harmonics(ks: int | Sequence[int] | None) -> tuple[int, ...] | None:
    """One harmonic or several as a tuple; None where none were named."""
    return None if ks is None else (ks,) if isinstance(ks, int) else tuple(ks)
