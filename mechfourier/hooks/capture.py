"""Activations of many prompts at many hook points, of which only what was asked for is kept."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mechfourier._arguments import checked
from mechfourier.errors import OutOfRange, UnknownSite, UsageError, nearest
from mechfourier.hooks.passes import run_request
from mechfourier.hooks.run import has_hooks
from mechfourier.hooks.site import Site, select_sites
from mechfourier.models.interface import Encoding, Model, encode

if TYPE_CHECKING:
    from mechfourier.hooks.store import ActivationStore

Prompts = Sequence[str] | Sequence[Encoding] | Int[Tensor, "prompt pos"]
Positions = str | int | Sequence[int] | Int[Tensor, " prompt"] | Int[Tensor, "prompt k"]


@dataclass(frozen=True, eq=False)
class Activations:
    """What ``capture`` read: float32, on the CPU, in the order of the prompts.

    ``values[site]`` is ``[prompt, *rest]``: ``[prompt, d]`` for one position per prompt, ``[prompt, k, d]``
    for k of them, ``[prompt, pos, d]`` for all; heads come after the positions. Attention patterns are read
    at query positions: ``[prompt, head, key]``. ``logits`` are those at the last position, or None where not
    asked for.
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


@checked
def capture(
    model: Model,
    prompts: Prompts,
    sites: str | Site | Sequence[str | Site],
    positions: Positions = "last",
    *,
    logits: bool = False,
    batch_size: int | None = None,
    store: "ActivationStore | None" = None,
) -> Activations:
    """Read activations of ``prompts`` at ``sites`` (what ``select_sites`` takes) and ``positions``.

    ``prompts``: strings, ``Encoding``s, or tokens ``[prompt, pos]``. The pass ends at the last wanted hook
    point unless ``logits`` are wanted too. Causal models run only the tokens up to the last position that is
    read, and beginnings that prompts share once (`mechfourier.hooks.passes`); others run batches of equal
    length. ``positions``: ``"last"`` (the last token that stands for text), ``"all"`` (prompts of equal
    length only), a number for every prompt, or ``[prompt]`` or ``[prompt, k]`` of them; negative ones count
    from the prompt's end. Nothing but the wanted sites and positions is kept. ``store`` is looked up first
    and filled after.

    Raises ``UnknownSite``, ``OutOfRange``, ``HookNeverFired``, and ``MechFourierError`` for NaN or infinite
    activations.
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
    model: Model,
    prompts: Prompts,
    sites: str | Site | Sequence[str | Site],
    positions: Positions,
    logits: bool,
) -> Request:
    if not len(prompts):
        raise UsageError("capture was given no prompts; give at least one")
    ids, last = _tokens(model, prompts)
    chosen = select_sites(model, sites) if sites else ()
    if not chosen and not logits:
        raise UsageError("capture was given no site to read; name one, for example resid_post")
    at = _positions(positions, [len(i) for i in ids], last)
    squeeze = not (isinstance(positions, Tensor) and positions.ndim == 2)
    return Request(ids, chosen, at, last, squeeze, logits)


def _tokens(model: Model, prompts: Prompts) -> tuple[tuple[tuple[int, ...], ...], Int[Tensor, " prompt"]]:
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
            f"prompt {row} has {lengths[row]} tokens; there is no position {int(at[row, place])} to read in "
            f"it"
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
            f"positions='all' needs prompts of equal length; these have {min(lengths)} to {max(lengths)} "
            f"tokens"
        )
    return None


def _run(model: Model, request: Request, batch_size: int | None) -> Activations:
    values, logits = run_request(model, request, batch_size)
    return Activations(request.sites, values, logits)
