"""The hooks of a capture: every wanted activation is sliced as it passes, and the pass ends once all have
passed."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from einops import rearrange
from jaxtyping import Bool, Int
from torch import Tensor

from mechfourier.errors import MechFourierError, OutOfRange
from mechfourier.hooks.packing import Pack
from mechfourier.hooks.run import Batch, StopForward, never_fired
from mechfourier.hooks.site import ATTENTION_KINDS, FUSED_KINDS, Site
from mechfourier.models.interface import Model

if TYPE_CHECKING:
    from mechfourier.hooks.capture import Request


@dataclass(frozen=True)
class View:
    """Where the prompts of a pass are found in its activations.

    ``rows`` are prompts; prompt i is line ``line[i]`` of the pass and is read at ``at[i]`` of the pass's own
    positions (None: at all of them). ``keys`` says which key position of the pass holds each position of the
    prompt, where that differs.
    """

    rows: Int[Tensor, " row"]
    line: Int[Tensor, " row"]
    at: Int[Tensor, "row k"] | None
    lines: int
    length: int
    keys: tuple[Int[Tensor, "row pos"], Bool[Tensor, "row pos"]] | None = None


class NotPacked(Exception):
    """An activation of a packed pass is not laid out as [line, position, …]; never leaves this layer."""


def whole(request: "Request", batch: Batch) -> View:
    """Prompts of one length, each a line of its own."""
    at = None if request.positions is None else request.positions[batch.rows]
    count, length = batch.tokens.shape
    return View(batch.rows, torch.arange(count), at, count, length)


def packed(request: "Request", pack: Pack) -> View:
    """Prompts that read the lines of a pack."""
    assert request.positions is not None  # whoever packs has looked
    lines, length = pack.tokens.shape
    start = pack.start[pack.line][:, None]
    before = 0 if pack.beginnings is None else pack.beginnings.tokens.shape[1]
    place = torch.arange(max(map(len, request.ids))).expand(len(pack.rows), -1)
    keys = torch.where(place < start, place, place - start + before)
    known = place < start + pack.mask.sum(1)[pack.line][:, None]
    keys = keys.clamp_max(before + length - 1)
    return View(pack.rows, pack.line, request.positions[pack.rows] - start, lines, length, keys=(keys, known))


class Collector:
    """The wanted activations of every prompt, in ``values``."""

    def __init__(self, request: "Request") -> None:
        self.request = request
        self.values: dict[Site, Tensor] = {}
        self.pending: set[Site] = set()
        self.view: View | None = None

    def hooks(self) -> list[tuple[Site, Callable[[Tensor], None]]]:
        def collect(site: Site) -> Callable[[Tensor], None]:
            return lambda value: self.take(site, value)

        return [(site, collect(site)) for site in self.request.sites]

    def start(self, view: View) -> None:
        """Collect from the next pass."""
        self.view, self.pending = view, set(self.request.sites)

    def take(self, site: Site, value: Tensor) -> None:
        if self.view is None:
            return
        # A hook point that runs again in the same pass (shared blocks) keeps its first value.
        if site in self.pending:
            self.pending.discard(site)
            self.keep(site, self.read(site, value, self.view).to("cpu", torch.float32), self.view)
        if not self.pending and not self.request.logits:
            raise StopForward

    def read(self, site: Site, value: Tensor, view: View) -> Tensor:
        """The activation of every prompt of the pass, at its positions."""
        if site.kind in FUSED_KINDS and value.ndim == 2:
            # TransformerLens norms queries and keys with all axes but the last laid out as one.
            value = rearrange(value, "(line pos head) d -> line pos head d", line=view.lines, pos=view.length)
        value = _with_line_axis(site, value, view.lines)
        if view.at is None or value.ndim < 3:
            if view.keys is not None:
                raise NotPacked(f"{site} has shape {list(value.shape)}")
            return value[view.line.to(value.device)]
        at = view.at.to(value.device)
        if site.kind in ATTENTION_KINDS:
            value = rearrange(value, "line head query key -> line query head key")
        if value.shape[1] != view.length:
            if view.keys is not None:
                raise NotPacked(f"{site} has {value.shape[1]} positions, the pass {view.length}")
            at = _other_axis(site, at, self.request.last[view.rows, None], value.shape[1])
        chosen = value[view.line.to(value.device)[:, None], at]
        if site.kind in ATTENTION_KINDS and view.keys is not None:
            chosen = _prompt_keys(chosen, *view.keys)
        return chosen[:, 0] if self.request.squeeze else chosen

    def keep(self, site: Site, value: Tensor, view: View) -> None:
        if site not in self.values:
            # Batches come longest first: later attention patterns have fewer keys, and none beyond them.
            empty = -torch.inf if "scores" in site.kind else 0.0
            self.values[site] = torch.full((len(self.request.ids), *value.shape[1:]), empty)
        kept = self.values[site]
        if value.shape[1:] == kept.shape[1:]:
            kept[view.rows] = value
        elif site.kind in ATTENTION_KINDS:
            kept[..., : value.shape[-1]].index_copy_(0, view.rows, value)
        else:
            raise MechFourierError(
                f"{site} has other shapes for prompts of other lengths; read one length at a time"
            )

    def finish(self, model: Model) -> None:
        view, self.view = self.view, None
        if self.pending:
            raise never_fired(model, sorted(self.pending))
        for site in self.request.sites:
            _check_finite(site, self.values[site][view.rows if view is not None else slice(None)])


def _prompt_keys(pattern: Tensor, keys: Int[Tensor, "row pos"], known: Bool[Tensor, "row pos"]) -> Tensor:
    """``[row, k, head, key of the pass]`` by the positions of the prompt; no attention goes beyond a line's
    end."""
    where = keys.to(pattern.device)[:, None, None].expand(*pattern.shape[:3], -1)
    return pattern.gather(-1, where) * known.to(pattern.device)[:, None, None]


def _with_line_axis(site: Site, value: Tensor, count: int) -> Tensor:
    """``value`` with one entry per line; positional embeddings may come once for all of them."""
    if value.ndim and value.shape[0] == 1:
        return value.expand(count, *value.shape[1:])
    if not value.ndim or value.shape[0] != count:
        raise MechFourierError(
            f"{site} has shape {list(value.shape)}, whose first axis is not the {count} prompts; it cannot "
            f"be captured"
        )
    return value


def _other_axis(site: Site, at: Tensor, last: Tensor, size: int) -> Tensor:
    """Positions on an axis that is not the prompt's (a decoder's): the last is its last, numbers must fit."""
    if torch.equal(at.cpu(), last):
        return torch.full_like(at, size - 1)
    if bool((at >= size).any()):
        raise OutOfRange(f"{site} has {size} positions; there is no position {int(at.max())} to read in it")
    return at


def _check_finite(site: Site, value: Tensor) -> None:
    """Masked attention scores are −inf by design; anything else that is not finite is damage."""
    damaged = value.isnan() if "scores" in site.kind else ~value.isfinite()
    if bool(damaged.any()):
        raise MechFourierError(
            f"{site} holds NaN or infinite activations; try dtype=torch.float32, or check the checkpoint"
        )
