"""Edits of activations: where (a site, coordinates, positions, rows) and what (a function of those
coordinates).

Every intervention is the same act: read the coordinates of the chosen part of an activation, put others in
their place. The coordinates are single dimensions (read and written exactly) or those of an orthonormal
basis.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from einops import einsum, rearrange, repeat
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mechfourier.errors import OutOfRange, UsageError
from mechfourier.hooks.site import ATTENTION_KINDS, HEAD_KINDS, Site

Dims = int | Sequence[int] | Int[Tensor, " k"] | Int[Tensor, "prompt k"]
Basis = Float[Tensor, "d r"] | Float[Tensor, "prompt d r"]
Positions = int | Sequence[int] | Int[Tensor, " prompt"]
Rows = Sequence[int] | Int[Tensor, " chosen"]
# Coordinates [row, pos, r] and the prompts that the rows are -> new coordinates of the same shape.
Change = Callable[[Float[Tensor, "row pos r"], Int[Tensor, " row"]], Float[Tensor, "row pos r"]]

ALIKE = frozenset({"zero", "mean", "project_out", "add", "rotate"})
"""Edits that look at one position at a time."""
ORTHONORMAL = 1e-4  # largest entry of BᵀB − I that is taken for rounding


@dataclass(frozen=True, eq=False)
class Where:
    """The part of an activation that an edit changes.

    ``dims``: one dimension, several, or ``[prompt, k]`` (each prompt its own); ``subspace``: an orthonormal
    basis ``[d, r]``, or ``[prompt, d, r]``; neither means the whole vector. ``head`` takes one head of a site
    with heads; without it, heads are laid side by side (head 2 of width 64 begins at dimension 128).
    ``positions``: all (None), one, several, or a tensor with one per prompt; negative ones count from the
    end. ``rows``: the prompts to change. A prompt is a row of the batch, or its place among all prompts when
    ``capture`` runs several batches.
    """

    site: Site
    dims: Dims | None = None
    subspace: Basis | None = None
    head: int | None = None
    positions: Positions | None = None
    rows: Rows | None = None

    def __post_init__(self) -> None:
        if self.dims is not None and self.subspace is not None:
            raise UsageError("give dims or a subspace, not both")
        if self.subspace is not None:
            _check_orthonormal(self.subspace)
        if self.dims is not None and _as_index(self.dims).numel() == 0:
            raise UsageError("dims is empty; name at least one dimension")

    def read(
        self, vectors: Float[Tensor, "row pos d"], rows: Int[Tensor, " row"]
    ) -> Float[Tensor, "row pos r"]:
        """The coordinates of ``vectors`` in this part."""
        if self.subspace is not None:
            return einsum(vectors, self._basis(vectors, rows), "row pos d, row d r -> row pos r")
        if self.dims is not None:
            return vectors.gather(-1, self._index(vectors, rows))
        return vectors

    def write(
        self,
        vectors: Float[Tensor, "row pos d"],
        rows: Int[Tensor, " row"],
        old: Float[Tensor, "row pos r"],
        new: Float[Tensor, "row pos r"],
    ) -> Float[Tensor, "row pos d"]:
        """``vectors`` with the coordinates ``old`` (as read from them) replaced by ``new``."""
        if self.subspace is not None:
            step = einsum(new - old, self._basis(vectors, rows), "row pos r, row d r -> row pos d")
            return vectors + step
        if self.dims is not None:
            return vectors.scatter(-1, self._index(vectors, rows), new)
        return new

    def _basis(self, vectors: Tensor, rows: Tensor) -> Float[Tensor, "row d r"]:
        basis = torch.as_tensor(self.subspace).to(vectors)
        if basis.shape[-2] != vectors.shape[-1]:
            raise OutOfRange(
                f"the subspace lies in {basis.shape[-2]} dimensions, and {self.site} has {vectors.shape[-1]}"
            )
        if basis.ndim == 2:
            return basis.expand(len(rows), *basis.shape)
        return per_prompt(basis, rows, "subspace")

    def _index(self, vectors: Tensor, rows: Tensor) -> Int[Tensor, "row pos k"]:
        index = _as_index(self.dims)
        size = vectors.shape[-1]
        check_range(index, size, f"dimension {{}} of {self.site}")
        index = torch.where(index < 0, index + size, index).to(vectors.device)
        index = per_prompt(index, rows, "dims") if index.ndim == 2 else index.expand(len(rows), -1)
        return repeat(index, "row k -> row pos k", pos=vectors.shape[1])


@dataclass(frozen=True, eq=False)
class Edit:
    """A change of one part of one site; ``name`` stands in messages. See ``interventions`` for the ready-made
    ones."""

    name: str
    where: Where
    change: Change

    @property
    def alike(self) -> bool:
        """Whether it does the same at every position, whatever stands before or behind it."""
        everywhere = self.where.positions is None and self.where.site.kind not in ATTENTION_KINDS
        return everywhere and self.name in ALIKE

    def apply(self, value: Tensor, prompts: Int[Tensor, " row"]) -> Tensor:
        """The activation ``value`` of the site, for these prompts, with the edit made; ``value`` itself
        stays."""
        vectors = as_vectors(self.where.site, value, self.where.head)
        mask = self._mask(vectors, prompts)
        rows = mask.any(1).nonzero()[:, 0]
        if not len(rows):
            return value
        before, asked = vectors[rows], prompts.to(rows.device)[rows]
        # Half precision is too coarse for sums over a basis.
        exact = before if before.dtype.itemsize >= 4 else before.float()
        old = self.where.read(exact, asked)
        after = self.where.write(exact, asked, old, self.change(old, asked).to(old)).to(value.dtype)
        out = vectors.clone()
        out[rows] = torch.where(mask[rows][..., None], after, before)
        return from_vectors(self.where.site, value, out, self.where.head)

    def _mask(
        self, vectors: Float[Tensor, "row pos d"], prompts: Int[Tensor, " row"]
    ) -> Bool[Tensor, "row pos"]:
        """Which positions of which rows are to change."""
        count, length, _ = vectors.shape
        mask = torch.ones(count, length, dtype=torch.bool)
        if self.where.positions is not None:
            at = _positions(self.where.positions, prompts, length, self.where.site)
            mask = torch.zeros_like(mask).scatter(1, at, True)
        if self.where.rows is not None:
            mask &= torch.isin(prompts, torch.as_tensor(self.where.rows))[:, None]
        return mask.to(vectors.device)


def per_prompt(values: Tensor, prompts: Int[Tensor, " row"], what: str) -> Tensor:
    """The entries of ``values`` (one per prompt) that belong to these prompts."""
    if int(prompts.max()) >= len(values):
        raise OutOfRange(
            f"{what} has entries for {len(values)} prompts, and prompt {int(prompts.max())} is run"
        )
    return values[prompts.to(values.device)]


def check_range(index: Tensor, size: int, what: str) -> None:
    """Raise ``OutOfRange`` for an index outside −size … size − 1; ``what`` has ``{}`` where the number
    goes."""
    wrong = index[(index >= size) | (index < -size)]
    if wrong.numel():
        raise OutOfRange(
            f"{what.format(int(wrong.flatten()[0]))} is out of range: it has {size} (0-{size - 1})"
        )


def _positions(positions: Positions, prompts: Tensor, length: int, site: Site) -> Int[Tensor, "row k"]:
    if isinstance(positions, Tensor) and positions.ndim == 1:
        at = per_prompt(positions.cpu(), prompts.cpu(), "positions")[:, None]
    else:
        at = _as_index(positions).expand(len(prompts), -1)
    check_range(at, length, f"position {{}} of {site}")
    return torch.where(at < 0, at + length, at)


def _as_index(numbers: Any) -> Tensor:
    return torch.atleast_1d(torch.as_tensor(numbers, dtype=torch.long))


def _check_orthonormal(basis: Tensor) -> None:
    if basis.ndim not in (2, 3) or basis.shape[-1] > basis.shape[-2]:
        raise UsageError(f"a subspace is [d, r] with r ≤ d, or [prompt, d, r]; got {list(basis.shape)}")
    gram = einsum(basis.double(), basis.double(), "... d r, ... d s -> ... r s")
    if float((gram - torch.eye(basis.shape[-1]).to(gram)).abs().max()) > ORTHONORMAL:
        raise UsageError("the columns of a subspace must be orthonormal; use torch.linalg.qr(basis).Q")


def as_vectors(site: Site, value: Tensor, head: int | None = None) -> Float[Tensor, "row pos d"]:
    """An activation as one vector per position: heads side by side (or one of them), patterns by query
    position."""
    if site.kind in ATTENTION_KINDS:
        value = rearrange(value, "row head query key -> row query head key")
    if head is not None:
        if value.ndim != 4:
            raise UsageError(f"{site} has no heads to choose from; leave head out")
        check_range(torch.tensor([head]), value.shape[2], f"head {{}} of {site}")
        return value[:, :, head]
    if value.ndim == 4:
        return rearrange(value, "row pos head d -> row pos (head d)")
    return rearrange(value, "row d -> row 1 d") if value.ndim == 2 else value


def from_vectors(site: Site, value: Tensor, vectors: Float[Tensor, "row pos d"], head: int | None) -> Tensor:
    """The reverse of ``as_vectors``; ``value`` gives the shape and the other heads."""
    attention = site.kind in ATTENTION_KINDS
    if head is not None:
        out = value.clone()
        out[(slice(None), head) if attention else (slice(None), slice(None), head)] = vectors
        return out
    if attention:
        return rearrange(vectors, "row query (head key) -> row head query key", head=value.shape[1])
    return vectors.reshape(value.shape)


def donor_vectors(site: Site, donors: Tensor, head: int | None = None) -> Float[Tensor, "donor pos d"]:
    """Activations that ``capture`` gave as vectors; those of one position per prompt get a position axis of
    length 1."""
    if donors.ndim == 2:
        return rearrange(donors, "donor d -> donor 1 d")
    if donors.ndim == 3 and site.kind in ATTENTION_KINDS:
        donors = rearrange(donors, "donor head key -> donor head 1 key")
    elif donors.ndim == 3 and site.kind in HEAD_KINDS:
        donors = rearrange(donors, "donor head d -> donor 1 head d")
    if donors.ndim not in (3, 4):
        raise UsageError(
            f"activations of {site} are [prompt, d] or [prompt, pos, d]; got {list(donors.shape)}"
        )
    return as_vectors(site, donors, head)
