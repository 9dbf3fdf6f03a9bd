"""The plane of a harmonic as arrays, as a hook of TransformerLens, and as rows of a decoder."""

import contextlib
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from mechfourier.errors import OutOfRange, UsageError
from mechfourier.fourier.waves import harmonic_waves
from mechfourier.stats.planes import harmonic_plane
from mechfourier.stats.value import SiteEvidence

Hook = Callable[..., Tensor]


@dataclass(frozen=True, eq=False)
class HarmonicPlane:
    """The plane at ``site`` in which n values turn ``k`` times, fitted to their means over templates.

    ``basis``: orthonormal columns. ``shape``: the coordinates in it of the cosine and the sine of harmonic k, whose image is an
    ellipse. ``center``: the mean over values.
    """

    site: str
    k: int
    n: int
    basis: Float[Tensor, "d 2"]
    shape: Float[Tensor, "2 2"]
    center: Float[Tensor, " d"]

    def __repr__(self) -> str:
        return f"HarmonicPlane(site={self.site!r}, k={self.k}, n={self.n}, d={len(self.basis)})"

    @property
    def array(self) -> Any:
        """The basis as a numpy array [d, 2]."""
        return self.basis.numpy()

    def rotate_hook(self, steps: float, *, position: int | None = None) -> tuple[str, Hook]:
        """A hook for TransformerLens's ``run_with_hooks(tokens, fwd_hooks=[…])``: every vector [..., d] is moved along the ellipse
        by ``steps`` values, at one ``position`` or at all. What lies outside of the plane stays."""
        change = self._change(steps)

        def turn(value: Tensor, hook: Any = None) -> Tensor:
            del hook
            if value.shape[-1] != len(self.basis):
                raise UsageError(
                    f"{self.site} has {value.shape[-1]} dimensions here, and the plane {len(self.basis)}"
                )
            basis, middle = self.basis.to(value), self.center.to(value)
            moved = value + (value - middle) @ basis @ change.to(value).T @ basis.T
            if position is None:
                return moved
            out = value.clone()
            out[:, position] = moved[:, position]
            return out

        return self.site, turn

    def _change(self, steps: float) -> Float[Tensor, "2 2"]:
        """What turning adds to coordinates."""
        angle = 2 * math.pi * self.k * steps / self.n
        turned = torch.tensor(
            [[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]], dtype=torch.float64
        )
        shape = self.shape.double()
        return torch.linalg.solve(shape, shape @ turned, left=False) - torch.eye(2, dtype=torch.float64)

    @property
    def W_dec(self) -> Float[Tensor, "2 d"]:
        """Directions as SAELens keeps them: rows of unit length, along the ellipse's own axes (orthogonal)."""
        return self.basis.T.contiguous()

    def value_directions(self) -> Float[Tensor, "n d"]:
        """A row of unit length per value: where it lies in the plane, as seen from the center."""
        rows = harmonic_waves(self.n, self.k) @ self.shape.double().T @ self.basis.double().T
        return (rows / torch.linalg.norm(rows, dim=1, keepdim=True)).float()


def planes_of(
    means: Iterable[Float[Tensor, "n d"]], rows: Sequence[SiteEvidence]
) -> tuple[HarmonicPlane, ...]:
    """The plane of every site at the k of its circle (of its strongest harmonic where it shows none), where it has one; ``means``
    of the values at each site."""
    found = []
    for table, row in zip(means if rows else (), rows, strict=True):  # no rows: nothing could be tested
        with contextlib.suppress(OutOfRange):
            found.append(plane_of(table, turns_of(row), row.site))
    return tuple(found)


def turns_of(row: SiteEvidence) -> int:
    """The harmonic of a site's circle, or its strongest one."""
    return (row.contest and row.contest.k) or row.k


def plane_of(means: Float[Tensor, "n d"], k: int, site: str) -> HarmonicPlane:
    """The plane of harmonic ``k`` of the means of n values. Raises ``OutOfRange`` where the harmonic has none (k = n/2, or a
    line)."""
    n = len(means)
    means = means.double()
    basis = torch.from_numpy(harmonic_plane(means.numpy(), k).copy())
    shape = 2 / n * basis.T @ (means - means.mean(0)).T @ harmonic_waves(n, k)
    if float(torch.linalg.svdvals(shape)[-1]) <= 0:
        raise OutOfRange(f"harmonic k = {k} lies on a line at {site}, not in a plane")
    return HarmonicPlane(site, k, n, basis.float(), shape.float(), means.mean(0).float())
