"""What speaks against reading activations as they are: attention sinks and massive dimensions, measured on a
model."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mechfourier.hooks.capture import capture
from mechfourier.hooks.site import Site, layer_ranges, select_sites
from mechfourier.models.interface import Encoding, Model
from mechfourier.stats.sinks import (
    LARGE,
    MOST_VARIANCE,
    SINK,
    Massive,
    SinkSite,
    by_class,
    massive_dimensions,
    sink_site,
)

if TYPE_CHECKING:
    from mechfourier.hooks.store import ActivationStore

SAMPLES = 4
"""Prompts read at all positions, for the median norm of tokens that are not read."""
RESIDUAL = ("resid_pre", "resid_mid", "resid_post")
MOST_DIMENSIONS = 3


@dataclass(frozen=True)
class Caveats:
    """Norms at the position read (one ``SinkSite`` per site of the residual stream) and ``massive``
    dimensions of all sites."""

    sinks: tuple[SinkSite, ...]
    massive: tuple[Massive, ...]

    def sink_at(self, site: str) -> SinkSite | None:
        """The norms at one site, where they were measured."""
        return next((row for row in self.sinks if row.site == site and row.ratio == row.ratio), None)

    def reason(self, site: str) -> str | None:
        """The sentence that a verdict on ``site`` must carry: every prompt is read at a sink there."""
        row = self.sink_at(site)
        if row is None or row.share < 1:
            return None
        return (
            f"every prompt is read at an attention sink: its norm at {site} is {row.ratio:.0f} times the "
            f"median of other tokens "
            f"({SINK:.0f} or more is a sink), and such a position hardly depends on the value; put words "
            f"before {{value}}"
        )

    def notes(self) -> tuple[str, ...]:
        """Sentences on sinks at some sites and on massive dimensions, with their layers."""
        return (*self._sink_notes(), *self._variance_notes(), *self._magnitude_notes())

    def _sink_notes(self) -> list[str]:
        read = [row for row in self.sinks if row.share > 0]
        if not read:
            return []
        return [
            f"{_span([100 * row.share for row in read])} % of the prompts are read at an attention sink at "
            f"{where([row.site for row in read])} ({SINK:.0f} or more times the median norm of other "
            f"tokens; the median prompt has "
            f"{_span([row.ratio for row in read])} times), which hardly depends on the value"
        ]

    def _variance_notes(self) -> list[str]:
        held: dict[int, list[Massive]] = {}
        for item in self.massive:
            if item.share > MOST_VARIANCE:
                held.setdefault(item.dim, []).append(item)
        largest = sorted(held.items(), key=lambda pair: -max(item.share for item in pair[1]))
        notes = [
            f"dimension {dim} holds {_span([100 * item.share for item in rows])} % of the between-value "
            f"variance at "
            f"{where([item.site for item in rows])}"
            for dim, rows in largest[:MOST_DIMENSIONS]
        ]
        if (more := len(largest) - MOST_DIMENSIONS) > 0:
            hold = "dimensions hold" if more > 1 else "dimension holds"
            notes.append(f"{more} more {hold} over 10 % of it at some site (caveats in the JSON)")
        return notes

    def _magnitude_notes(self) -> list[str]:
        loud = [item for item in self.massive if item.magnitude > LARGE]
        if not loud:
            return []
        dims = sorted({item.dim for item in loud})
        top = max(loud, key=lambda item: item.magnitude)
        many = f"{len(dims)} dimensions have" if len(dims) > 1 else f"dimension {dims[0]} has"
        return [
            f"{many} at least {LARGE:.0f} times the median dimension's mean magnitude at "
            f"{where([i.site for i in loud])} "
            f"(largest: {top.dim}, {top.magnitude:.0f} times at {where([top.site])})"
        ]


def caveats(
    model: Model,
    encodings: Sequence[Encoding],
    read: Int[Tensor, " prompt"],
    sites: Sequence[Site],
    acts: Float[Tensor, "site value template d"],
    *,
    modulus: int | None = None,
    store: "ActivationStore | None" = None,
) -> Caveats:
    """Sinks and massive dimensions of captured activations ``acts``, whose cells are the prompts in row-major
    order.

    A few prompts are read again at all positions, for the norms of the tokens that were not. ``modulus``: the
    grid is a × offset, and values are the answers (a + offset) mod ``modulus``.
    """
    names = [str(site) for site in sites]
    massive: tuple[Massive, ...] = ()
    for i, name in enumerate(names):  # one site at a time: the answers together are a copy of the grid
        site = acts[i : i + 1]
        massive += massive_dimensions(site if modulus is None else by_class(site, modulus), [name])
    return Caveats(_sinks(model, encodings, read, sites, acts, store), massive)


def _sinks(
    model: Model,
    encodings: Sequence[Encoding],
    read: Int[Tensor, " prompt"],
    sites: Sequence[Site],
    acts: Float[Tensor, "site value template d"],
    store: "ActivationStore | None",
) -> tuple[SinkSite, ...]:
    wanted = [i for i, site in enumerate(sites) if site.kind in RESIDUAL and site.stack == "blocks"]
    rows = sample_rows(encodings)
    if not wanted or not rows:
        return ()
    length = min(len(encodings[i].ids) for i in rows)
    whole = torch.arange(length).expand(len(rows), length).clone()
    held = capture(model, [encodings[i] for i in rows], [sites[i] for i in wanted], whole, store=store)
    apart = whole.gt(0) & whole.ne(read[rows, None])
    apart = apart if bool(apart.any()) else whole.ne(read[rows, None])
    found = []
    for i in wanted:
        norms = torch.linalg.vector_norm(held[sites[i]], dim=-1, dtype=torch.float64)
        at_read = torch.linalg.vector_norm(acts[i].flatten(0, 1), dim=-1, dtype=torch.float64)
        found.append(sink_site(str(sites[i]), at_read, norms[:, 0], norms[apart]))
    return tuple(found)


def first_ratio(model: Model, encodings: Sequence[Encoding]) -> float:
    """Norm of the first token over the median of the others, at the site of the residual stream where it is
    largest; NaN where there is none, or where prompts are single tokens."""
    sites, rows = select_sites(model, "resid_post") if _has_residual(model) else (), sample_rows(encodings)
    if not sites or not rows:
        return math.nan
    length = min(len(encodings[i].ids) for i in rows)
    whole = torch.arange(length).expand(len(rows), length).clone()
    norms = capture(model, [encodings[i] for i in rows], list(sites), whole).stack().norm(dim=-1)
    first, others = norms[..., 0].flatten(1), norms[..., 1:].flatten(1)
    return float((first.median(1).values / others.median(1).values.clamp_min(1e-30)).max())


def _has_residual(model: Model) -> bool:
    return any(name.startswith("blocks.") and name.endswith("hook_resid_post") for name in model.hook_dict)


def sample_rows(encodings: Sequence[Encoding], most: int = SAMPLES) -> list[int]:
    """A few prompts from all over the grid, of the length that is most common: one batch, no padding."""
    lengths = torch.tensor([len(e.ids) for e in encodings])
    sizes, counts = lengths.unique(return_counts=True)
    usable = sizes > 1
    if not bool(usable.any()):
        return []
    length = sizes[usable][counts[usable].argmax()]
    rows = (lengths == length).nonzero()[:, 0]
    return rows[torch.linspace(0, len(rows) - 1, min(most, len(rows))).round().long()].unique().tolist()


def where(names: Sequence[str]) -> str:
    """Hook points as people say them: ``layers 0-3``, ``mlp_post of layer 7``."""
    sites = [Site.parse(name) for name in dict.fromkeys(names)]
    kinds = dict.fromkeys(site.kind for site in sites)
    parts = []
    for kind in kinds:
        layers = [site.layer for site in sites if site.kind == kind and site.layer is not None]
        if not layers:
            parts.append(kind)
            continue
        text = f"layer{'s' * (len(layers) > 1)} {layer_ranges(layers)}"
        parts.append(text if kind == "resid_post" else f"{kind} of {text}")
    return " and ".join(parts)


def _span(values: Sequence[float]) -> str:
    low, high = f"{min(values):.0f}", f"{max(values):.0f}"
    return low if low == high else f"{low}–{high}"
