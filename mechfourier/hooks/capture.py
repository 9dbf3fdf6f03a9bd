"""Activations of many prompts at many hook points, in one pass that keeps only what was asked for."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor

from mechfourier.errors import MechFourierError, OutOfRange, UnknownSite, UsageError, nearest
from mechfourier.hooks.prefix import SharedPrefix, can_share, run_prefix, shared_prefix
from mechfourier.hooks.run import (
    Batch,
    StopForward,
    batches,
    forward,
    has_hooks,
    hooked,
    inference,
    last_logits,
    never_fired,
    serving,
)
from mechfourier.hooks.site import ATTENTION_KINDS, FUSED_KINDS, Site, select_sites
from mechfourier.models.interface import Encoding, encode
from mechfourier.progress import progress

if TYPE_CHECKING:
    from mechfourier.hooks.store import ActivationStore

Prompts = Sequence[str] | Sequence[Encoding] | Int[Tensor, "prompt pos"]
Positions = str | int | Sequence[int] | Int[Tensor, " prompt"] | Int[Tensor, "prompt k"]


@dataclass(frozen=True, eq=False)
class Activations:
    """What ``capture`` read: float32, on the CPU, in the order of the prompts.

    ``values[site]`` is ``[prompt, *rest]``: ``[prompt, d]`` for one position per prompt, ``[prompt, k, d]`` for k of
    them, ``[prompt, pos, d]`` for all; heads come after the positions. Attention patterns are read at query
    positions: ``[prompt, head, key]``. ``logits`` are those at the last position, or None where not asked for.
    """

    sites: tuple[Site, ...]
    values: Mapping[Site, Tensor]
    logits: Float[Tensor, "prompt vocab"] | None = None

    def __getitem__(self, site: Site | str) -> Tensor:
        wanted = Site.parse(site) if isinstance(site, str) else site
        if wanted not in self.values:
            raise UnknownSite(
                f"{wanted} was not captured; closest: {nearest(str(wanted), map(str, self.sites))}. "
                "Name it in the sites of capture()"
            )
        return self.values[wanted]

    def __len__(self) -> int:
        """The number of prompts."""
        held = self.logits if self.logits is not None else self.values[self.sites[0]]
        return len(held)

    def stack(self) -> Float[Tensor, "site prompt *rest"]:
        """All sites as one array; raises ``UsageError`` where their shapes differ."""
        shapes = {site: tuple(self.values[site].shape) for site in self.sites}
        if len(set(shapes.values())) != 1:
            listed = ", ".join(f"{site} {list(shape)}" for site, shape in list(shapes.items())[:4])
            raise UsageError(f"sites of different shapes do not stack: {listed or 'none was captured'}")
        return torch.stack([self.values[site] for site in self.sites])


def capture(
    model: Any,
    prompts: Prompts,
    sites: str | Site | Sequence[str | Site],
    positions: Positions = "last",
    *,
    logits: bool = False,
    batch_size: int | None = None,
    store: "ActivationStore | None" = None,
) -> Activations:
    """Read activations of ``prompts`` at ``sites`` (what ``select_sites`` takes) and ``positions``.

    ``prompts``: strings, ``Encoding``s, or tokens ``[prompt, pos]``; they run in batches of equal length, without
    padding, and the pass ends at the last wanted hook point unless ``logits`` are wanted too. ``positions``:
    ``"last"`` (the last token that stands for text), ``"all"`` (prompts of equal length only), a number for every
    prompt, or ``[prompt]`` or ``[prompt, k]`` of them; negative ones count from the prompt's end. Nothing but the
    wanted sites and positions is kept. ``store`` is looked up first and filled after.

    Raises ``UnknownSite``, ``OutOfRange``, ``HookNeverFired``, and ``MechFourierError`` for NaN or infinite activations.
    """
    request = _request(model, prompts, sites, positions, logits)
    # Hooks of others change the activations, and the store's key does not know of them.
    if store is not None and not has_hooks(model):
        return store.through(model, request, lambda missing: _run(model, missing, batch_size))
    return _run(model, request, batch_size)


@dataclass(frozen=True)
class Request:
    """A capture with everything looked up: token ids, sites, and positions as numbers (None for all)."""

    ids: tuple[tuple[int, ...], ...]
    sites: tuple[Site, ...]
    positions: Int[Tensor, "prompt k"] | None
    last: Int[Tensor, " prompt"]
    squeeze: bool
    logits: bool


def _request(
    model: Any,
    prompts: Prompts,
    sites: str | Site | Sequence[str | Site],
    positions: Positions,
    logits: bool,
) -> Request:
    ids, last = _tokens(model, prompts)
    chosen = select_sites(model, sites) if sites else ()
    if not chosen and not logits:
        raise UsageError("capture was given no site to read; name one, for example resid_post")
    at = _positions(positions, [len(i) for i in ids], last)
    squeeze = not (isinstance(positions, Tensor) and positions.ndim == 2)
    return Request(ids, chosen, at, last, squeeze, logits)


def _tokens(model: Any, prompts: Prompts) -> tuple[tuple[tuple[int, ...], ...], Int[Tensor, " prompt"]]:
    """Token ids of every prompt, and the place of its last token with text."""
    if isinstance(prompts, Tensor):
        if prompts.ndim != 2 or prompts.is_floating_point():
            raise UsageError(
                f"tokens must be whole numbers [prompt, pos]; got {prompts.dtype} {list(prompts.shape)}"
            )
        ids = tuple(tuple(row) for row in prompts.tolist())
        return ids, torch.full((len(ids),), prompts.shape[1] - 1)
    if isinstance(prompts, str):
        raise UsageError("capture takes a list of prompts; put the text in brackets")
    encodings = encode(model, [p for p in prompts if isinstance(p, str)]) if _texts(prompts) else prompts
    return (
        tuple(tuple(e.ids) for e in encodings),  # type: ignore[union-attr]
        torch.tensor([e.last for e in encodings], dtype=torch.long),  # type: ignore[union-attr]
    )


def _texts(prompts: Sequence[str] | Sequence[Encoding]) -> bool:
    kinds = {type(p) for p in prompts}
    if kinds - {str} and kinds - {Encoding}:
        raise UsageError("prompts must be all texts, all Encodings, or a tensor of tokens")
    return kinds == {str}


def _positions(
    positions: Positions, lengths: Sequence[int], last: Int[Tensor, " prompt"]
) -> Int[Tensor, "prompt k"] | None:
    if isinstance(positions, str):
        return _named_positions(positions, lengths, last)
    if isinstance(positions, int):
        positions = torch.full((len(lengths),), positions)
    at = torch.as_tensor(positions)
    at = at[:, None] if at.ndim == 1 else at
    if at.ndim != 2 or len(at) != len(lengths) or at.is_floating_point():
        raise UsageError(
            f"positions must be whole numbers [prompt] or [prompt, k] for {len(lengths)} prompts; "
            f"got {list(at.shape)}"
        )
    size = torch.tensor(lengths)[:, None]
    wrong = ((at < -size) | (at >= size)).nonzero()
    if len(wrong):
        row, place = wrong[0].tolist()
        raise OutOfRange(
            f"prompt {row} has {lengths[row]} tokens; there is no position {int(at[row, place])} to read in it"
        )
    return torch.where(at < 0, at + size, at).long()


def _named_positions(
    name: str, lengths: Sequence[int], last: Int[Tensor, " prompt"]
) -> Int[Tensor, "prompt 1"] | None:
    if name == "last":
        return last[:, None]
    if name != "all":
        raise UsageError(f"unknown positions {name!r}; choose last, all, or numbers")
    if len(set(lengths)) > 1:
        raise UsageError(
            f"positions='all' needs prompts of equal length; these have {min(lengths)} to {max(lengths)} tokens"
        )
    return None


def _run(model: Any, request: Request, batch_size: int | None) -> Activations:
    work = batches(model, request.ids, batch_size=batch_size)
    sharing = can_share(model) and _layers_needed(request) != 0
    collector = _Collector(request)
    logits: list[Tensor] = []
    with (
        inference(model),
        hooked(model, collector.hooks()),
        progress("capture", total=len(request.ids)) as bar,
    ):
        for batch in work:
            shared = shared_prefix(batch.tokens, _first_read(request, batch)) if sharing else None
            logits += _one_batch(model, request, batch, collector, shared)
            collector.finish(model)
            bar.advance(len(batch.rows))
    held = None
    if request.logits:
        held = torch.empty_like(torch.cat(logits))
        held[torch.cat([batch.rows for batch in work])] = torch.cat(logits)
    return Activations(request.sites, collector.values, held)


def _one_batch(
    model: Any, request: Request, batch: Batch, collector: "_Collector", shared: SharedPrefix | None
) -> list[Tensor]:
    """Run one batch through the collector's hooks; its logits, where they are wanted."""
    tokens, start, options = batch.tokens, 0, {}
    if shared is not None:
        options = run_prefix(model, shared, n_layers=_layers_needed(request))
        start = shared.length
        tokens = tokens[:, start:]
        options["attention_mask"] = torch.ones_like(tokens)

    def run() -> Any:
        return forward(model, tokens, logits=request.logits, **options)

    collector.start(batch, start)
    with serving(batch.rows):
        if request.logits:
            slim = not any(site.path.startswith("unembed") for site in request.sites)
            return [last_logits(model, run, request.last[batch.rows] - start, slim_unembed=slim)]
        run()
    return []


def _layers_needed(request: Request) -> int | None:
    """How many layers the wanted sites need: 0 for embeddings, None for all of them and what follows."""
    after = any(site.layer is None and "embed" not in site.path.removeprefix("un") for site in request.sites)
    if request.logits or after or any("unembed" in site.path for site in request.sites):
        return None
    return max((site.layer + 1 for site in request.sites if site.layer is not None), default=0)


def _first_read(request: Request, batch: Batch) -> int:
    """The first position that any prompt of the batch is read at."""
    if request.positions is None:
        return 0
    first = int(request.positions[batch.rows].min())
    return min(first, int(request.last[batch.rows].min())) if request.logits else first


class _Collector:
    """Slices every wanted activation as it passes and ends the pass once all have passed."""

    def __init__(self, request: Request) -> None:
        self.request = request
        self.values: dict[Site, Tensor] = {}
        self.pending: set[Site] = set()
        self.rows = torch.empty(0, dtype=torch.long)
        self.length = self.offset = 0
        self.active = False

    def hooks(self) -> list[tuple[Site, Callable[[Tensor], None]]]:
        def collect(site: Site) -> Callable[[Tensor], None]:
            return lambda value: self.take(site, value)

        return [(site, collect(site)) for site in self.request.sites]

    def start(self, batch: Batch, offset: int) -> None:
        """Collect from the next pass, whose tokens are the batch's from position ``offset`` on."""
        self.rows, self.length, self.offset = batch.rows, batch.tokens.shape[1], offset
        self.pending, self.active = set(self.request.sites), True

    def take(self, site: Site, value: Tensor) -> None:
        if not self.active:
            return
        # A hook point that runs again in the same pass (shared blocks) keeps its first value.
        if site in self.pending:
            self.pending.discard(site)
            self.keep(site, self.read(site, value).to("cpu", torch.float32))
        if not self.pending and not self.request.logits:
            raise StopForward

    def read(self, site: Site, value: Tensor) -> Tensor:
        if site.kind in FUSED_KINDS and value.ndim == 2:
            # TransformerLens norms queries and keys with all axes but the last laid out as one.
            value = rearrange(
                value,
                "(prompt pos head) d -> prompt pos head d",
                prompt=len(self.rows),
                pos=self.length - self.offset,
            )
        value = _with_prompt_axis(site, value, len(self.rows))
        if self.request.positions is None or value.ndim < 3:
            return value.clone()
        at = self.request.positions[self.rows].to(value.device)
        if site.kind in ATTENTION_KINDS:
            value = rearrange(value, "prompt head query key -> prompt query head key")
        if value.shape[1] == self.length - self.offset:
            at = at - self.offset
        elif value.shape[1] != self.length:
            at = _other_axis(site, at, self.request.last[self.rows, None], value.shape[1])
        chosen = value[torch.arange(len(value), device=value.device)[:, None], at]
        return chosen[:, 0] if self.request.squeeze else chosen

    def keep(self, site: Site, value: Tensor) -> None:
        if site not in self.values:
            # Batches come longest first: later attention patterns have fewer keys, and none beyond them.
            empty = -torch.inf if "scores" in site.kind else 0.0
            self.values[site] = torch.full((len(self.request.ids), *value.shape[1:]), empty)
        kept = self.values[site]
        if value.shape[1:] == kept.shape[1:]:
            kept[self.rows] = value
        elif site.kind in ATTENTION_KINDS:
            kept[..., : value.shape[-1]].index_copy_(0, self.rows, value)
        else:
            raise MechFourierError(
                f"{site} has other shapes for prompts of other lengths; read one length at a time"
            )

    def finish(self, model: Any) -> None:
        self.active = False
        if self.pending:
            raise never_fired(model, sorted(self.pending))
        for site in self.request.sites:
            _check_finite(site, self.values[site][self.rows])


def _with_prompt_axis(site: Site, value: Tensor, count: int) -> Tensor:
    """``value`` with one entry per prompt; positional embeddings may come once for all of them."""
    if value.ndim and value.shape[0] == 1:
        return value.expand(count, *value.shape[1:])
    if not value.ndim or value.shape[0] != count:
        raise MechFourierError(
            f"{site} has shape {list(value.shape)}, whose first axis is not the {count} prompts; it cannot be captured"
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
