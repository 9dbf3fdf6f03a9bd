"""Edited prompts as values: which prompts of a task, with which edit each, and where."""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Unpack

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor

from mechfourier.errors import OutOfRange, UsageError, brief_repr, nearest
from mechfourier.hooks.edit import Edit, Positions, Where
from mechfourier.hooks.interventions import Part, edit_mean, edit_zero
from mechfourier.hooks.site import HEAD_KINDS, Site
from mechfourier.models.interface import Model

Mode = Literal["zero", "mean", "resample", "project-out"]
Dims = int | Sequence[int]

# The numbers of some rows -> an edit whose "prompt" i is the i-th of them.
EditOf = Callable[[Int[Tensor, " row"]], Edit]


@dataclass(frozen=True, eq=False)
class EditedRows:
    """Row r is the task's prompt ``prompt[r]`` with an edit of its own at ``site``.

    ``at``: the one position that each row's edit changes; None: all of them, and then rows of one ``number``
    have the same edit. ``width``: numbers in one row's edit, which bound a batch. ``together``: the rows of
    one number run in one batch.
    """

    site: Site
    prompt: Int[Tensor, " row"]
    edit_of: EditOf
    at: Int[Tensor, " row"] | None = None
    number: Int[Tensor, " row"] | None = None
    width: int = 1
    together: bool = False

    def __len__(self) -> int:
        return len(self.prompt)


@dataclass(frozen=True, eq=False)
class Ablations:
    """Ablations of one kind at one site: ``dims[control, k]`` or ``bases[control, d, r]`` (orthonormal
    columns)."""

    site: Site
    mode: Mode
    mean: Float[Tensor, " d"]
    dims: Int[Tensor, "control k"] | None = None
    bases: Float[Tensor, "control d r"] | None = None
    seed: int = 0

    def __len__(self) -> int:
        return len(self.parts)

    @property
    def parts(self) -> Tensor:
        """What is ablated, one entry per ablation."""
        found = self.dims if self.dims is not None else self.bases
        if found is None:
            raise UsageError("an ablation needs dims or bases")
        return found

    @property
    def width(self) -> int:
        """Numbers that one row's ablation takes."""
        return self.parts[0].numel()

    def single(self, positions: Positions | None = None) -> Edit:
        """The first ablation, for every prompt."""
        if self.dims is not None:
            return self._edit(1, dims=self.dims[0], positions=positions)
        return self._edit(1, subspace=self.parts[0], positions=positions)

    def chosen(self, which: Int[Tensor, " row"], positions: Positions | None = None) -> Edit:
        """Ablation ``which[i]`` for "prompt" i; rows of one ablation stand together, all ablations with the
        same prompts."""
        copies = len(which.unique())
        if self.dims is not None:
            return self._edit(copies, dims=self.dims[which], positions=positions)
        return self._edit(copies, subspace=self.parts[which], positions=positions)

    def rows(self, count: int, at: Int[Tensor, " prompt"] | None = None) -> EditedRows:
        """Every ablation of each of ``count`` prompts, ablation-major; ``at``: of one token of each, not of
        all."""
        number = torch.arange(len(self)).repeat_interleave(count)
        prompt = torch.arange(count).repeat(len(self))
        where = None if at is None else at[prompt]

        def edit_of(rows: Int[Tensor, " row"]) -> Edit:
            return self.chosen(number[rows], None if where is None else where[rows])

        return EditedRows(self.site, prompt, edit_of, where, number, self.width, self.mode == "resample")

    def _edit(self, copies: int, **part: Unpack[Part]) -> Edit:
        if self.mode == "mean":
            return edit_mean(self.site, self.mean, **part)
        if self.mode == "resample":
            return Edit("resample", Where(self.site, **part), lambda old, rows: self._others(old, copies))
        return edit_zero(self.site, **part)

    def _others(self, old: Float[Tensor, "row pos r"], copies: int) -> Float[Tensor, "row pos r"]:
        """Coordinates of another row of the same ablation: one random cycle, so that no row keeps its own."""
        blocks = rearrange(old, "(c row) pos r -> c row pos r", c=copies)
        order = torch.randperm(blocks.shape[1], generator=torch.Generator().manual_seed(self.seed))
        donor = torch.empty_like(order).scatter_(0, order, order.roll(1)).to(old.device)
        return rearrange(blocks[:, donor], "c row pos r -> (c row) pos r")


def one_hot(dims: Int[Tensor, "*set k"], d: int) -> Float[Tensor, "*set d k"]:
    """The basis of a set of dimensions."""
    return rearrange(torch.nn.functional.one_hot(dims, d).float(), "... k d -> ... d k")


def orthonormal(plane: Any, site: Site, d: int) -> Float[Tensor, "d r"]:
    """A basis of the span of a plane's columns (a tensor, an array or lists); raises ``OutOfRange`` where they are no vectors of
    ``site``, ``UsageError`` for zeros and for what holds no real, finite numbers."""
    from scipy.linalg import orth

    try:
        if isinstance(plane, Tensor):
            plane = plane.detach().cpu()
            plane = plane.float() if plane.dtype == torch.bfloat16 else plane  # NumPy has no bfloat16
        given = np.asarray(plane)
    except (ValueError, RuntimeError, TypeError) as error:
        raise UsageError(f"the plane cannot be read as an array ({error}); give [{d}, r]") from error
    if given.dtype.kind not in "fiu" or not np.isfinite(given).all():
        raise UsageError(f"the plane is {brief_repr(plane)}, and not real, finite numbers; give [{d}, r]")
    columns = torch.from_numpy(given.astype(np.float64))
    columns = columns[:, None] if columns.ndim == 1 else columns
    if columns.ndim != 2 or len(columns) != d:
        turned = "; transpose it" if columns.ndim == 2 and columns.shape[1] == d else ""
        raise OutOfRange(
            f"the plane is {list(columns.shape)}, and {site} has {d} dimensions: it must be [{d}, r]{turned}"
        )
    basis = orth(columns.numpy(), rcond=1e-6)
    if basis.shape[1] == 0:
        raise UsageError("the plane is zero; give at least one direction")
    return torch.from_numpy(basis).float()


def listed_dims(dims: Dims, site: Site, d: int) -> Int[Tensor, " k"]:
    """The dimensions named; raises ``OutOfRange`` and ``UsageError``."""
    return torch.tensor(_listed(dims, d, "dimension", site))


def head_dims(model: Model, site: Site, head: Dims, d: int) -> Int[Tensor, " k"]:
    """The dimensions of one head or of several, where heads lie side by side."""
    if site.kind not in HEAD_KINDS:
        raise UsageError(f"{site} has no heads; choose a site with heads, for example blocks.0.attn.hook_z")
    width = head_width(model, site)
    return torch.cat(
        [torch.arange(h * width, (h + 1) * width) for h in _listed(head, d // width, "head", site)]
    )


def head_width(model: Model, site: Site) -> int:
    """The dimensions of one head of ``site``."""
    return int(model.cfg.d_model if site.kind in ("result", "attn_in") else model.cfg.d_head)


def _listed(numbers: Dims, size: int, what: str, site: Site) -> list[int]:
    listed = [numbers] if isinstance(numbers, int) else [int(i) for i in numbers]
    if not listed:
        raise UsageError(f"{what}s is empty; name at least one {what} of {site}")
    for i in listed:
        if not 0 <= i < size:
            raise OutOfRange(f"{what} {i} of {site}; it has {size} (0 to {size - 1})")
    if len(set(listed)) < len(listed):
        raise UsageError(f"{what}s {listed} name one twice")
    return listed


def position_of(position: str, choices: Sequence[str]) -> str:
    """``position`` by its name of today; raises ``UsageError`` where it is none of the choices."""
    if position == "operand":
        warnings.warn("position 'operand' is called 'value' now", DeprecationWarning, stacklevel=3)
        return "value"
    return known("position", position, choices)


def known(option: str, value: str, choices: Sequence[str]) -> str:
    """``value``, where it is one of the choices; raises ``UsageError`` with the nearest of them."""
    if value not in choices:
        raise UsageError(f"{option} {value!r} is not known; closest: {nearest(value, choices)}")
    return value
