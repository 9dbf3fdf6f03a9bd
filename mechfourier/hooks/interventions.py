"""Interventions: context managers that change activations while they last, and always restore.

>>> with zero(model, Site("resid_post", 7), dims=8):        # doctest: +SKIP
...     logits = model(tokens)

On leaving they raise ``HookNeverFired`` when the hook point did not run, and ``InterventionChangedNothing``
when every activation stayed as it was: an ablation that silently does nothing reads like a result. Each is
one ``Edit`` (``edit_zero`` …); ``intervene`` makes several at once.
"""

import contextlib
from collections.abc import Iterator, Sequence
from typing import TypedDict, Unpack

import torch
from einops import reduce, repeat
from jaxtyping import Float, Int
from torch import Tensor

from mechfourier.errors import InterventionChangedNothing, UsageError
from mechfourier.hooks.edit import Basis, Dims, Edit, Positions, Rows, Where, donor_vectors, per_prompt
from mechfourier.hooks.run import HookFunction, counted_alike, hooked, never_fired, served_rows
from mechfourier.hooks.site import Site, find_site, model_name
from mechfourier.models.interface import Model

Angle = float | Float[Tensor, ""] | Float[Tensor, " prompt"]
Vector = Float[Tensor, " d"] | Float[Tensor, "prompt d"]


class Place(TypedDict, total=False):
    """Where in the activations, as in ``Where``."""

    head: int | None
    positions: Positions | None
    rows: Rows | None


class Part(Place, total=False):
    """Which coordinates and where, as in ``Where``."""

    dims: Dims | None
    subspace: Basis | None


def edit_zero(site: Site, **part: Unpack[Part]) -> Edit:
    """Set the coordinates to 0."""
    return Edit("zero", Where(site, **part), lambda old, rows: torch.zeros_like(old))


def edit_mean(site: Site, values: Float[Tensor, "*sample d"], **part: Unpack[Part]) -> Edit:
    """Set the coordinates to their mean over ``values``: activations of the site, or the mean ``[d]``
    itself."""
    where = Where(site, **part)
    if values.ndim > 1:
        values = reduce(donor_vectors(site, values, where.head).float(), "donor pos d -> d", "mean")

    def change(old: Tensor, rows: Tensor) -> Tensor:
        return where.read(_everywhere(values, old), rows)

    return Edit("mean", where, change)


def edit_resample(
    site: Site, *, seed: int = 0, donors: Float[Tensor, "donor *rest"] | None = None, **part: Unpack[Part]
) -> Edit:
    """Set the coordinates to those of another prompt (resample ablation; Chan et al. 2022, causal scrubbing).

    ``donors``: activations of the site to draw from, with replacement; without them each batch is permuted,
    in one cycle, so that no prompt keeps its own. ``seed`` fixes the draw; the same positions of all prompts
    move together.
    """
    where, generator = Where(site, **part), torch.Generator().manual_seed(seed)
    pool = None if donors is None else donor_vectors(site, donors, where.head)

    def change(old: Tensor, rows: Tensor) -> Tensor:
        if pool is None:
            order = torch.randperm(len(old), generator=generator)
            return old[torch.empty_like(order).scatter_(0, order, order.roll(1)).to(old.device)]
        drawn = torch.randint(len(pool), (len(old),), generator=generator)
        return _coordinates(where, pool[drawn.to(pool.device)], old, rows)

    return Edit("resample", where, change)


def edit_project_out(site: Site, subspace: Basis, **place: Unpack[Place]) -> Edit:
    """Remove the component in the orthonormal ``subspace``."""
    where = Where(site, subspace=subspace, **place)
    return Edit("project_out", where, lambda old, rows: torch.zeros_like(old))


def edit_patch(site: Site, donors: Float[Tensor, "prompt *rest"], **part: Unpack[Part]) -> Edit:
    """Set the coordinates to those of ``donors``, an activation per prompt: at one position (``[prompt, d]``,
    what ``capture`` gives; put at every chosen position) or at each (``[prompt, pos, d]``). Activation
    patching, Vig et al. 2020."""
    where = Where(site, **part)
    pool = donor_vectors(site, donors, where.head)

    def change(old: Tensor, rows: Tensor) -> Tensor:
        return _coordinates(where, per_prompt(pool, rows, "donors"), old, rows)

    return Edit("patch", where, change)


def edit_add(site: Site, vector: Vector, *, scale: float = 1.0, **part: Unpack[Part]) -> Edit:
    """Add ``scale · vector`` (``[d]``, or one per prompt) to the coordinates."""
    where = Where(site, **part)

    def change(old: Tensor, rows: Tensor) -> Tensor:
        step = vector if vector.ndim == 1 else per_prompt(vector, rows, "vector")[:, None]
        return old + scale * where.read(_everywhere(step, old), rows)

    return Edit("add", where, change)


def edit_rotate(
    site: Site,
    plane: Basis,
    angle: Angle,
    *,
    center: Float[Tensor, " d"] | None = None,
    **place: Unpack[Place],
) -> Edit:
    """Turn the component in ``plane`` (orthonormal ``[d, 2]``, or one per prompt) by ``angle`` radians, from
    the first column towards the second; ``angle`` may be one per prompt. ``center`` ``[d]`` is what it turns
    around (the origin)."""
    where = Where(site, subspace=plane, **place)
    if plane.shape[-1] != 2:
        raise UsageError(f"a plane has two columns; got {list(plane.shape)}")
    turns = torch.as_tensor(angle)

    def change(old: Tensor, rows: Tensor) -> Tensor:
        by = (turns if turns.ndim == 0 else per_prompt(turns, rows, "angle")).to(old).reshape(-1, 1)
        middle = torch.zeros_like(old) if center is None else where.read(_everywhere(center, old), rows)
        x, y = (old - middle).unbind(-1)
        turned = torch.stack([x * by.cos() - y * by.sin(), x * by.sin() + y * by.cos()], dim=-1)
        return middle + turned

    return Edit("rotate", where, change)


def _everywhere(vector: Tensor, old: Float[Tensor, "row pos r"]) -> Float[Tensor, "row pos d"]:
    """``[d]`` or ``[row, 1, d]`` at every row and position."""
    return vector.to(old).expand(*old.shape[:2], vector.shape[-1])


def _coordinates(
    where: Where,
    donors: Float[Tensor, "row pos d"],
    old: Float[Tensor, "row pos2 r"],
    rows: Int[Tensor, " row"],
) -> Float[Tensor, "row pos2 r"]:
    donors = donors.to(old)
    if donors.shape[1] == 1:
        donors = repeat(donors, "row 1 d -> row pos d", pos=old.shape[1])
    if donors.shape[1] != old.shape[1]:
        raise UsageError(
            f"the donors have {donors.shape[1]} positions and {where.site} has {old.shape[1]}; "
            "capture them from prompts of the same length"
        )
    return where.read(donors, rows)


@contextlib.contextmanager
def intervene(model: Model, edits: Sequence[Edit], *, must_change: bool = True) -> Iterator[None]:
    """Make these edits in every forward pass of ``model`` within the block; edits of one site apply in their
    order.

    Raises ``HookNeverFired`` and, unless ``must_change=False``, ``InterventionChangedNothing`` on leaving
    without an error. Hooks are removed in every case.
    """
    watches = [_Watch(edit) for edit in edits]
    for watch in watches:
        refuse_read_only(model, watch.edit.where.site)
    places = [(find_site(model, w.edit.where.site), w.hook) for w in watches]
    with hooked(model, places), counted_alike(model, sum(edit.alike for edit in edits)):
        yield
    silent = [w.edit.where.site for w in watches if not w.fired]
    if silent:
        raise never_fired(model, silent)
    idle = next((w.edit for w in watches if not w.changed), None)
    if idle is not None and must_change:
        raise InterventionChangedNothing(
            f"{idle.name} at {idle.where.site} in {model_name(model)} left every activation as it was; "
            "choose other dimensions, positions or values"
        )


def refuse_read_only(model: Model, site: Site) -> None:
    """Some engines have hook points that show an activation and do not carry a change of it on
    (``models.pretrained``)."""
    if site.kind in getattr(model, "mechfourier_read_only", ()):
        raise UsageError(
            f"a change at {site} of {model_name(model)} would not reach the residual stream in "
            f"TransformerBridge; "
            "change attn_out or resid_post, or load the model with engine='hooked'"
        )


class _Watch:
    """An edit as a hook that remembers whether it ran and whether it changed anything."""

    def __init__(self, edit: Edit) -> None:
        self.edit, self.fired, self.changed = edit, False, False

    @property
    def hook(self) -> HookFunction:
        return self._run

    def _run(self, value: Tensor) -> Tensor:
        edited = self.edit.apply(value, served_rows(len(value)))
        self.fired = True
        self.changed = self.changed or not (edited is value or torch.equal(edited, value))
        return edited


def zero(model: Model, site: Site, **part: Unpack[Part]) -> contextlib.AbstractContextManager[None]:
    """Zero ablation: see ``edit_zero`` and ``Where``."""
    return intervene(model, [edit_zero(site, **part)])


def mean(
    model: Model, site: Site, values: Float[Tensor, "*sample d"], **part: Unpack[Part]
) -> contextlib.AbstractContextManager[None]:
    """Mean ablation: see ``edit_mean`` and ``Where``."""
    return intervene(model, [edit_mean(site, values, **part)])


def resample(
    model: Model,
    site: Site,
    *,
    seed: int = 0,
    donors: Float[Tensor, "donor *rest"] | None = None,
    **part: Unpack[Part],
) -> contextlib.AbstractContextManager[None]:
    """Resample ablation: see ``edit_resample`` and ``Where``."""
    return intervene(model, [edit_resample(site, seed=seed, donors=donors, **part)])


def project_out(
    model: Model, site: Site, subspace: Basis, **place: Unpack[Place]
) -> contextlib.AbstractContextManager[None]:
    """Remove a subspace: see ``edit_project_out`` and ``Where``."""
    return intervene(model, [edit_project_out(site, subspace, **place)])


def patch(
    model: Model, site: Site, donors: Float[Tensor, "prompt *rest"], **part: Unpack[Part]
) -> contextlib.AbstractContextManager[None]:
    """Activation patching: see ``edit_patch`` and ``Where``."""
    return intervene(model, [edit_patch(site, donors, **part)])


def add(
    model: Model, site: Site, vector: Vector, *, scale: float = 1.0, **part: Unpack[Part]
) -> contextlib.AbstractContextManager[None]:
    """Add a direction: see ``edit_add`` and ``Where``."""
    return intervene(model, [edit_add(site, vector, scale=scale, **part)])


def rotate(
    model: Model,
    site: Site,
    plane: Basis,
    angle: Angle,
    *,
    center: Float[Tensor, " d"] | None = None,
    **place: Unpack[Place],
) -> contextlib.AbstractContextManager[None]:
    """Rotate in a plane: see ``edit_rotate`` and ``Where``."""
    return intervene(model, [edit_rotate(site, plane, angle, center=center, **place)])
