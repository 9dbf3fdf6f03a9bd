"""Files with one array per value: ``acts_Monday``, ``acts_Tuesday``, …"""

from collections.abc import Sequence

import numpy as np

from mechfourier.domains.definition import Domain
from mechfourier.errors import UsageError
from mechfourier.probes.arrays.asked import Plan, Request, View, cells_of, planned, texts_of
from mechfourier.probes.arrays.axes import ONE_BY_ONE, Axes
from mechfourier.probes.arrays.cells import Cells
from mechfourier.probes.arrays.files import Chunks
from mechfourier.probes.arrays.given import Given
from mechfourier.probes.arrays.rows import assigned
from mechfourier.probes.arrays.values import patterns
from mechfourier.probes.arrays.views import check_kinds


def one_by_one(held: Given, domain: Domain, asked: Request) -> Plan | None:
    """A file whose arrays are named after the values; None where they are not."""
    arrays = held.opened.arrays
    wanted = [each for each in texts_of(asked.sites) if "{value}" in each]
    if held.opened.table or (asked.layout or "").replace(",", " ").split()[:1] == ["site"]:
        return None
    ways = [p for text in wanted or [None] for p in patterns(arrays, domain, text)]
    if not ways:
        return None
    notes: list[str] = []
    if not wanted and asked.sites is not None:
        ways = [way for way in ways if way.site in texts_of(asked.sites)]
        if not ways:
            raise UsageError(
                f"no arrays of the values belong to {asked.sites!r}; write a pattern such as 'acts_{{value}}'"
            )
    elif not wanted and len(ways) > 1:
        kept = [way for way in ways if _is_distribution(arrays[way.names[0]]) == asked.probabilities]
        left = [way.text for way in ways if way not in kept]
        ways = kept or ways
        if kept and left:
            notes.append(f"the arrays {', '.join(left)} were left out (sites= or --sites takes a pattern)")
    if len({name for way in ways for name in way.names}) < sum(len(way.names) for way in ways):
        told = " or ".join(repr(way.text) for way in (ways[0], ways[-1]))
        raise UsageError(
            f"the names of the arrays say the value in several places ({told}); say which with sites= (--sites)"
        )
    rows = Axes(("row", "d"), ("row", "d"))
    views = [
        View(
            way.site, (own := _rows_of(arrays, way.names)), rows, shape=tuple(own[0].shape), layout=ONE_BY_ONE
        )
        for way in ways
    ]
    check_kinds(views)
    sites = []
    for view in views:
        ids = np.repeat(np.arange(domain.n), [len(each) for each in view.data])
        cut = assigned(ids, domain.values, None)
        notes += [note for note in cut.notes if note not in notes and not note.startswith("the rows come")]
        sites.append(cells_of(view, cut, domain.values, asked))
    _one_size(sites)
    return planned("value", domain, sites, held, views, notes)


def _rows_of(arrays: dict[str, Chunks], names: Sequence[str]) -> Chunks:
    """One [template, d] per value; a single vector is one template."""
    out = [arrays[name][0][None] if arrays[name][0].ndim == 1 else arrays[name][0] for name in names]
    wrong = next(
        (name for name, each in zip(names, out, strict=True) if each.ndim != 2 or not each.numel()), None
    )
    widths = {each.shape[-1] for each in out}
    if wrong is not None or len(widths) > 1:
        told = (
            f"{wrong} has shape {list(arrays[wrong][0].shape)}"
            if wrong
            else f"they have {min(widths)} to {max(widths)} dimensions"
        )
        raise UsageError(f"with one array per value each is [template, d], of as many dimensions; {told}")
    return tuple(out)


def _is_distribution(chunks: Chunks) -> bool:
    sample = chunks[0].double()
    return bool((sample >= 0).all()) and bool(((sample.sum(-1) - 1).abs() < 0.02).all())


def _one_size(sites: Sequence[Cells]) -> None:
    if len({each.templates for each in sites}) > 1:
        told = ", ".join(f"{each.name} {each.templates}" for each in sites)
        raise UsageError(
            f"the sites have different numbers of templates ({told}); give those of one size (sites=)"
        )
