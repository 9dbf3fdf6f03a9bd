"""One capture for all domains: their prompts run together, which shares beginnings and fills passes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from mechfourier.domains.definition import Domain
from mechfourier.domains.design import Design, read_positions
from mechfourier.errors import NotExpressible, OutOfRange
from mechfourier.hooks.capture import capture
from mechfourier.hooks.site import Site
from mechfourier.models.interface import Encoding, Model
from mechfourier.models.untrained import untrained
from mechfourier.probes.probe import Captured, captured, grid_of, planned

Stacked = dict[Site, Float[Tensor, "prompt d"]]


@dataclass(frozen=True, eq=False)
class Asked:
    """A domain with its design and prompts; ``reason`` says why there are none."""

    domain: Domain
    design: Design | None
    encodings: tuple[Encoding, ...] = ()
    notes: tuple[str, ...] = ()
    reason: str | None = None


def asked_of(model: Model, domain: Domain) -> Asked:
    """The design that ``probe`` would run, or why the model cannot be asked."""
    try:
        design, encodings, notes = planned(model, domain)
    except (NotExpressible, OutOfRange) as error:
        return Asked(domain, None, reason=str(error))
    return Asked(domain, design, tuple(encodings), tuple(notes))


def capture_together(
    model: Model, asked: Sequence[Asked], sites: Sequence[Site], seed: int
) -> tuple[Stacked, Stacked]:
    """All prompts of all domains, in their order: one capture of the model, one of the untrained model."""
    encodings = [encoding for each in asked for encoding in each.encodings]
    read = torch.cat([read_positions(a.design, list(a.encodings)) for a in asked if a.design is not None])
    acts = capture(model, encodings, list(sites), read)
    with untrained(model, seed) as blank:
        control = capture(blank, encodings, list(sites), read)
    return _flat(acts, sites), _flat(control, sites)


def _flat(acts: Any, sites: Sequence[Site]) -> Stacked:
    return {site: acts[site].flatten(1) for site in sites}


def split(
    model: Model, asked: Sequence[Asked], sites: Sequence[Site], acts: Stacked, control: Stacked
) -> dict[str, Captured]:
    """What each domain's analysis needs, by the domain's name."""
    found, start = {}, 0
    for each in asked:
        if each.design is None:
            continue
        rows = slice(start, start := start + len(each.encodings))
        grids = [grid_of([held[site][rows] for site in sites], each.design) for held in (acts, control)]
        found[each.domain.name] = captured(
            model, each.design, list(each.encodings), sites, grids[0], grids[1], notes=each.notes
        )
    return found
