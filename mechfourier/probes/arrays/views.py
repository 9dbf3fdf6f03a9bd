"""Which arrays are sites, and which axis of them is what."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from mechfourier.domains.definition import Domain
from mechfourier.errors import UsageError, nearest
from mechfourier.probes.arrays.asked import Request, View, column_of, texts_of
from mechfourier.probes.arrays.axes import Axes, found, named, parse
from mechfourier.probes.arrays.files import Chunks
from mechfourier.probes.arrays.given import Given
from mechfourier.probes.arrays.values import matched

LABEL_NAMES = ("label", "labels", "value", "values", "y", "target")


def views_of(held: Given, asked: Request, domains: list[Domain], period: float | None) -> list[View]:
    """Every site as its own array; sites that are an axis of one array are taken apart."""
    arrays = {name: chunks for name, chunks in held.opened.arrays.items() if chunks[0].ndim > 1}
    if not arrays and held.opened.table:
        raise UsageError(
            f"{held.name} has no columns of activations (its columns: {', '.join(list(held.opened.columns)[:6]) or 'none'}); they are two "
            f"floating-point columns or more, or lists of such numbers; whole numbers are labels (counts: astype('float32'))"
        )
    if not arrays:
        sizes = {name: list(chunks[0].shape) for name, chunks in held.opened.arrays.items()}
        raise UsageError(
            f"{held.name} holds no array of two axes or more{f' ({sizes})' if sizes else ''}; give [value, template, d]"
        )
    wanted = [each for each in texts_of(asked.sites) if each in arrays]
    if wanted:
        arrays = {name: arrays[name] for name in wanted}
    if len({chunks[0].ndim for chunks in arrays.values()}) > 1:
        told = ", ".join(f"{name} {list(chunks[0].shape)}" for name, chunks in list(arrays.items())[:6])
        raise UsageError(
            f"{held.name} holds arrays of several kinds ({told}); name those to probe with sites= (--sites)"
        )
    labels = row_labels(held, asked, domains)
    views = []
    for name, chunks in arrays.items():
        axes = _axes(held, asked, chunks, domains, labels)
        shape = (sum(len(each) for each in chunks), *chunks[0].shape[1:])
        view = View(name, chunks, axes, held.coords, shape, str(axes))
        views += _apart(view, asked, alone=len(arrays) == 1)
    return _selected(views, asked, wanted)


def row_labels(held: Given, asked: Request, domains: list[Domain]) -> np.ndarray | None:
    """Labels that belong to rows: one each, where they do not name the values of an axis."""
    labels = asked.labels[0] if isinstance(asked.labels, tuple) else asked.labels
    column = column_of(held, labels)
    if column is None and held.opened.table:
        column = column_of(held, _guessed(held, domains[0] if domains else None))
    return column


def _guessed(held: Given, domain: Domain | None) -> str:
    """The one column that can be the labels."""
    columns = held.opened.columns
    fits = [
        name
        for name, column in columns.items()
        if column.dtype.kind not in "fiub" and domain is not None and _fits(column, domain)
    ]
    known = [
        name
        for name in columns
        if name.lower() in (*LABEL_NAMES, *((domain.name, domain.name.rstrip("s")) if domain else ()))
    ]
    found = fits if len(fits) == 1 else known
    if len(found) != 1:
        listed = ", ".join(list(columns)[:8]) or "none"
        raise UsageError(
            f"{held.name} has no column that must be the labels; name it with labels= (--labels); its columns: {listed}"
        )
    return found[0]


def _fits(column: np.ndarray, domain: Domain) -> bool:
    try:
        matched(column, domain)
    except UsageError:
        return False
    return True


def _axes(
    held: Given, asked: Request, chunks: Chunks, domains: list[Domain], labels: np.ndarray | None
) -> Axes:
    shape = (sum(len(each) for each in chunks), *chunks[0].shape[1:])
    names = [each.name for each in domains]
    if asked.layout is not None:
        return parse(asked.layout, names, len(shape))
    if held.axes:
        return named(held.axes, names)
    if held.opened.table:
        return Axes(("row", "d"), ("row", "d"))
    if len(domains) == 2 and labels is None:
        return _of_two(shape, domains)
    n = domains[0].n if domains else None
    rows = len(labels) if labels is not None and (n is None or len(labels) != n) else None
    if n is None and rows is None:
        raise UsageError(
            f"an array of shape {list(shape)} and no values: say what it is of (domain=, n= or labels=; --domain days|months|mod-N|mine.toml)"
        )
    return found(shape, n, rows, operation=asked.design == "operation")


def _of_two(shape: tuple[int, ...], domains: list[Domain]) -> Axes:
    sizes = tuple(each.n for each in domains)
    known = {3: ("value", "value2", "d"), 4: ("value", "value2", "template", "d")}
    if shape[:2] != sizes or len(shape) not in known or sizes in (shape[1:3],):
        raise UsageError(
            f"an array of shape {list(shape)} is no grid of {sizes[0]} and {sizes[1]} values that can be read in one way; say the layout, "
            f"such as '{domains[0].name} {domains[1].name} template d'"
        )
    return named(known[len(shape)])


def _apart(view: View, asked: Request, alone: bool) -> list[View]:
    """One view per element of the site axis; one position of the position axis."""
    axes, data = view.axes, view.data
    if (pos := axes.of("pos")) is not None:
        length = data[0].shape[pos]
        if not -length <= asked.position < length:
            raise UsageError(f"position {asked.position} is outside of the {length} positions of {view.name}")
        data, axes = tuple(each.select(pos, asked.position) for each in data), _without(axes, pos)
    elif asked.position != -1:
        raise UsageError(
            f"position is {asked.position}, and {view.name} has no axis of positions; leave it out"
        )
    if (at := axes.of("site")) is None:
        return [replace(view, data=data, axes=axes)]
    left, what = _without(axes, at), axes.names[at]
    coords = view.coords.get(what)
    names = [f"{what} {i}" for i in range(data[0].shape[at])]
    if coords is not None:
        names = [f"{what} {each}" if coords.dtype.kind in "fiu" else f"{each}" for each in coords]
    given = texts_of(asked.sites)
    if alone and len(given) == len(names) and not set(given) <= set(names):
        names = given
    names = names if alone else [f"{view.name} {name}" for name in names]
    return [
        replace(view, name=name, data=tuple(each.select(at, i) for each in data), axes=left)
        for i, name in enumerate(names)
    ]


def _without(axes: Axes, at: int) -> Axes:
    return Axes(axes.roles[:at] + axes.roles[at + 1 :], axes.names[:at] + axes.names[at + 1 :])


def _selected(views: list[View], asked: Request, wanted: list[str]) -> list[View]:
    """The sites that were named."""
    named = texts_of(asked.sites)
    if not named or wanted or [view.name for view in views] == named:
        return views
    kept = [view for view in views if view.name in named]
    missing = [each for each in named if each not in {view.name for view in views}]
    if missing:
        raise UsageError(
            f"no site is called {missing[0]!r}; closest: {nearest(missing[0], [view.name for view in views])}"
        )
    return kept


def check_kinds(views: Sequence[View]) -> None:
    for view in views:
        for each in view.data:
            if not each.is_floating_point():
                raise UsageError(
                    f"{view.name} holds {str(each.dtype).removeprefix('torch.')}, and activations are floating-point numbers (token ids? labels?); "
                    f"counts can be given as floats: acts.astype('float32')"
                )
        if not all(each.numel() for each in view.data):
            raise UsageError(f"{view.name} is empty (shape {list(view.data[0].shape)}); give activations")
