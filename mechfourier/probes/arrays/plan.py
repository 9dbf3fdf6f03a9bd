"""From what was given to cells: which arrays are sites, which axis is what, and which row belongs to which value."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mechfourier.domains.definition import Domain
from mechfourier.domains.definition import domain as find_domain
from mechfourier.errors import UsageError, nearest
from mechfourier.probes.arrays.axes import ONE_BY_ONE, Axes, found, named, parse
from mechfourier.probes.arrays.cells import Cells
from mechfourier.probes.arrays.files import Chunks
from mechfourier.probes.arrays.given import Given, given
from mechfourier.probes.arrays.rows import Assigned, assigned, binned
from mechfourier.probes.arrays.values import cycle, matched, numbers, patterns

ANGLES = {"degrees": 360.0, "radians": 2 * np.pi, "turns": 1.0}
"""Domains whose values are angles, and their periods."""
TEMPLATE_NAMES = ("template", "templates", "template_id", "prompt", "prompt_id", "trial", "session")
LABEL_NAMES = ("label", "labels", "value", "values", "y", "target")


@dataclass(frozen=True)
class Request:
    """What was asked: see ``probe_activations``."""

    domain: Any = None
    labels: Any = None
    n: int | float | None = None
    templates: Any = None
    sites: Any = None
    layout: str | None = None
    design: str = "auto"
    probabilities: bool = False
    position: int = -1


@dataclass(frozen=True, eq=False)
class Plan:
    """``sites``: the cells of each; ``domain``: the values, of one factor; ``second``: those of the other factor or of the offsets
    (their number); ``grids``: the arrays [a, o, d] of an operation."""

    design: str
    domain: Domain
    sites: tuple[Cells, ...]
    layout: str
    shape: tuple[int, ...]
    dtype: str
    name: str
    notes: tuple[str, ...] = ()
    second: Domain | None = None
    offsets: int = 0
    reason: str = ""
    source: str = ""


@dataclass(frozen=True, eq=False)
class _View:
    """A site before its rows are told apart: ``data`` with the axes left."""

    name: str
    data: Chunks
    axes: Axes
    coords: dict[str, np.ndarray] = field(default_factory=dict)

    def length(self, role: str) -> int:
        at = self.axes.of(role)
        assert at is not None
        return sum(len(each) for each in self.data) if at == 0 else self.data[0].shape[at]


def plan(acts: Any, asked: Request) -> Plan:
    """The cells of everything that was asked; nothing large is read. Raises ``UsageError`` in one sentence for what does not fit."""
    aside = tuple(each for each in _listed(asked.labels, asked.templates) if isinstance(each, str))
    held = given(acts, aside)
    asked = _with_coords(held, asked)
    domains, period = _domains(asked, held)
    if domains and (split := _one_by_one(held, domains[0], asked)) is not None:
        return split
    if domains and asked.layout is None and asked.labels is None and not held.opened.table:
        _check_named(held, domains[0])
    views = _views(held, asked, domains, period)
    _check_kinds(views)
    if views[0].axes.of("row") is not None:
        return _of_rows(held, views, asked, domains, period)
    return _of_grids(held, views, asked, domains)


def _check_named(held: Given, domain: Domain) -> None:
    """Raise ``UsageError`` where neither the name nor an axis of any array says the values."""
    arrays = held.opened.arrays
    if len(arrays) > 1 and not any(domain.n in chunks[0].shape for chunks in arrays.values()):
        raise UsageError(
            f"none of the arrays of {held.name} ({', '.join(list(arrays)[:4])}, …) is named after the values of {domain.name} "
            f"({', '.join(domain.values[:3])}, …) or has an axis of {domain.n} values; choose another domain, or say the layout or labels"
        )


def _listed(*given: Any) -> list[Any]:
    return [each for one in given for each in (one if isinstance(one, tuple) else (one,))]


def _with_coords(held: Given, asked: Request) -> Request:
    """Labels that the object's own axes carry, where none were given."""
    if asked.labels is not None or not held.axes:
        return asked
    roles = named(held.axes, _names_of(asked.domain)).roles if asked.layout is None else ()
    for role, name in zip(roles, held.axes, strict=False):
        if role in ("value", "row") and name in held.coords and "second" not in roles:
            return dataclasses.replace(asked, labels=held.coords[name])
    return asked


def _names_of(domain: Any) -> list[str]:
    parts = (
        domain.split(",")
        if isinstance(domain, str)
        else domain
        if isinstance(domain, list | tuple)
        else [domain]
    )
    return [part.strip() if isinstance(part, str) else part.name for part in parts if part is not None]


def _domains(asked: Request, held: Given) -> tuple[list[Domain], float | None]:
    """The values of one factor or of two, and the period where labels are angles (there are no values then)."""
    names = _names_of(asked.domain)
    if len(names) == 1 and names[0] in ANGLES:
        return [], float(asked.n or ANGLES[names[0]])
    if names:
        parts = (
            [asked.domain]
            if isinstance(asked.domain, Domain)
            else list(asked.domain)
            if not isinstance(asked.domain, str)
            else names
        )
        return [find_domain(part) for part in parts], None
    if asked.n is not None:
        labels = _column(held, asked.labels)
        if labels is not None and (found := numbers(labels)) is not None and (found != found.round()).any():
            return [], float(asked.n)
        if asked.n != int(asked.n):
            return [], float(asked.n)
        return [cycle(int(asked.n), _axis_labels(asked, int(asked.n)))], None
    return (
        [cycle(len(asked.labels), _axis_labels(asked, len(asked.labels)))]
        if _names_an_axis(asked, held)
        else []
    ), None


def _axis_labels(asked: Request, n: int) -> tuple[str, ...]:
    texts = asked.labels if not isinstance(asked.labels, str | None) else ()
    return tuple(map(str, texts)) if len(texts) == n and len(set(map(str, texts))) == n else ()


def _names_an_axis(asked: Request, held: Given) -> bool:
    """Whether the labels are the names of an axis of values, in their order on the cycle."""
    if asked.labels is None or isinstance(asked.labels, str | tuple):
        return False
    own = {str(each) for each in asked.labels}
    return not held.opened.table and len(own) == len(asked.labels) >= 3


def _column(held: Given, labels: Any) -> np.ndarray | None:
    """Labels by the name of their column, or as they are; raises ``UsageError`` for a column that is not there."""
    if labels is None:
        return None
    if not isinstance(labels, str):
        plain = labels.detach().cpu().numpy() if isinstance(labels, Tensor) else np.asarray(labels)
        if plain.ndim != 1:
            raise UsageError(f"labels of shape {list(plain.shape)}; give one label per row")
        return plain if plain.dtype.kind in "fiub" else np.asarray([str(each) for each in plain])
    columns = held.opened.columns | {
        name: chunks[0].numpy() for name, chunks in held.opened.arrays.items() if chunks[0].ndim == 1
    }
    if labels not in columns:
        raise UsageError(f"{held.name} has no column {labels!r}; closest: {nearest(labels, columns)}")
    return columns[labels]


# one array per value


def _one_by_one(held: Given, domain: Domain, asked: Request) -> Plan | None:
    """A file whose arrays are named after the values; None where they are not."""
    arrays = held.opened.arrays
    wanted = [each for each in _texts(asked.sites) if "{value}" in each]
    if held.opened.table or (asked.layout or "").replace(",", " ").split()[:1] == ["site"]:
        return None
    ways = [p for text in wanted or [None] for p in patterns(arrays, domain, text)]
    if not ways:
        return None
    notes: list[str] = []
    if not wanted and asked.sites is not None:
        ways = [way for way in ways if way.site in _texts(asked.sites)]
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
    views = [_View(way.site, _rows_of(arrays, way.names), Axes(("row", "d"), ("row", "d"))) for way in ways]
    _check_kinds(views)
    sites = []
    for way, view in zip(ways, views, strict=True):
        ids = np.repeat(np.arange(domain.n), [len(each) for each in view.data])
        cut = assigned(ids, domain.values, None)
        notes += [note for note in cut.notes if note not in notes]
        sites.append(_cells(view, cut, domain.values, asked))
    _one_size(sites)
    shape = tuple(arrays[ways[0].names[0]][0].shape)
    return _plan("value", domain, sites, held, ONE_BY_ONE, shape, views, notes)


def _texts(sites: Any) -> list[str]:
    if sites is None:
        return []
    return (
        [each.strip() for each in sites.split(",")]
        if isinstance(sites, str)
        else [str(each) for each in sites]
    )


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


# sites and their axes


def _views(held: Given, asked: Request, domains: list[Domain], period: float | None) -> list[_View]:
    """Every site as its own array; sites that are an axis of one array are taken apart."""
    arrays = {name: chunks for name, chunks in held.opened.arrays.items() if chunks[0].ndim > 1}
    if not arrays:
        sizes = {name: list(chunks[0].shape) for name, chunks in held.opened.arrays.items()}
        raise UsageError(
            f"{held.name} holds no array of two axes or more{f' ({sizes})' if sizes else ''}; give [value, template, d]"
        )
    wanted = [each for each in _texts(asked.sites) if each in arrays]
    if wanted:
        arrays = {name: arrays[name] for name in wanted}
    if len({chunks[0].ndim for chunks in arrays.values()}) > 1:
        told = ", ".join(f"{name} {list(chunks[0].shape)}" for name, chunks in list(arrays.items())[:6])
        raise UsageError(
            f"{held.name} holds arrays of several kinds ({told}); name those to probe with sites= (--sites)"
        )
    labels = _row_labels(held, asked, domains)
    views = []
    for name, chunks in arrays.items():
        axes = _axes(held, asked, chunks, domains, labels)
        views += _apart(_View(name, chunks, axes, held.coords), asked, alone=len(arrays) == 1)
    return _selected(views, asked, wanted)


def _row_labels(held: Given, asked: Request, domains: list[Domain]) -> np.ndarray | None:
    """Labels that belong to rows: one each, where they do not name the values of an axis."""
    labels = asked.labels[0] if isinstance(asked.labels, tuple) else asked.labels
    column = _column(held, labels)
    if column is None and held.opened.table:
        column = _column(held, _guessed(held, domains[0] if domains else None))
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
    if len(shape) < 2 or (rows is None and n not in shape and labels is None):
        return found(shape, n, None)
    return found(shape, n, rows)


def _of_two(shape: tuple[int, ...], domains: list[Domain]) -> Axes:
    sizes = tuple(each.n for each in domains)
    known = {3: ("value", "value2", "d"), 4: ("value", "value2", "template", "d")}
    if shape[:2] != sizes or len(shape) not in known or sizes in (shape[1:3],):
        raise UsageError(
            f"an array of shape {list(shape)} is no grid of {sizes[0]} and {sizes[1]} values that can be read in one way; say the layout, "
            f"such as '{domains[0].name} {domains[1].name} template d'"
        )
    return named(known[len(shape)])


def _apart(view: _View, asked: Request, alone: bool) -> list[_View]:
    """One view per element of the site axis; one position of the position axis."""
    axes, data = view.axes, view.data
    if (pos := axes.of("pos")) is not None:
        length = data[0].shape[pos]
        if not -length <= asked.position < length:
            raise UsageError(f"position {asked.position} is outside of the {length} positions of {view.name}")
        data, axes = tuple(each.select(pos, asked.position) for each in data), _without(axes, pos)
    if (at := axes.of("site")) is None:
        return [_View(view.name, data, axes)]
    left, what = _without(axes, at), axes.names[at]
    coords = view.coords.get(what)
    names = [f"{what} {i}" if coords is None else f"{coords[i]}" for i in range(data[0].shape[at])]
    given = _texts(asked.sites)
    if alone and len(given) == len(names) and not set(given) <= set(names):
        names = given
    names = names if alone else [f"{view.name} {name}" for name in names]
    return [_View(name, tuple(each.select(at, i) for each in data), left) for i, name in enumerate(names)]


def _without(axes: Axes, at: int) -> Axes:
    return Axes(axes.roles[:at] + axes.roles[at + 1 :], axes.names[:at] + axes.names[at + 1 :])


def _selected(views: list[_View], asked: Request, wanted: list[str]) -> list[_View]:
    """The sites that were named."""
    named = _texts(asked.sites)
    if not named or wanted or [view.name for view in views] == named:
        return views
    kept = [view for view in views if view.name in named]
    missing = [each for each in named if each not in {view.name for view in views}]
    if missing:
        raise UsageError(
            f"no site is called {missing[0]!r}; closest: {nearest(missing[0], [view.name for view in views])}"
        )
    return kept


def _check_kinds(views: Sequence[_View]) -> None:
    for view in views:
        for each in view.data:
            if not each.is_floating_point():
                raise UsageError(
                    f"{view.name} holds {str(each.dtype).removeprefix('torch.')}, and activations are floating-point numbers (token ids? labels?); "
                    f"counts can be given as floats: acts.astype('float32')"
                )
        if not all(each.numel() for each in view.data):
            raise UsageError(f"{view.name} is empty (shape {list(view.data[0].shape)}); give activations")


# rows with labels


def _of_rows(
    held: Given, views: list[_View], asked: Request, domains: list[Domain], period: float | None
) -> Plan:
    columns = [_column(held, each) for each in _listed(asked.labels)]
    labels = [each for each in columns if each is not None] or [_row_labels(held, asked, domains)]
    templates = _templates(held, asked, views[0].length("row"))
    labels = [each for each in labels if each is not None]
    for column in (*labels, *([] if templates is None else [templates])):
        if len(column) != views[0].length("row"):
            raise UsageError(f"{len(column)} labels for {views[0].length('row')} rows; give one per row")
    if not labels:
        raise UsageError(
            f"the {views[0].length('row')} rows have no labels; give them (labels=, --labels COLUMN)"
        )
    if len(domains) == 2:
        return _two_factors(held, views, asked, domains, labels, templates)
    if asked.design == "operation":
        return _operation_rows(held, views, asked, domains[0], labels)
    if not domains or _continuous(labels[0], domains[0]):
        return _angle_rows(
            held,
            views,
            asked,
            period or float(domains[0].n if domains else asked.n or 0),
            labels[0],
            templates,
        )
    cut = assigned(matched(labels[0], domains[0]), domains[0].values, templates)
    return _row_plan("value", domains[0], held, views, asked, cut)


def _templates(held: Given, asked: Request, rows: int) -> np.ndarray | None:
    if asked.templates is not None:
        return _column(held, asked.templates)
    known = [
        name
        for name in held.opened.columns
        if name.lower() in TEMPLATE_NAMES and len(held.opened.columns[name]) == rows
    ]
    return held.opened.columns[known[0]] if len(known) == 1 else None


def _continuous(labels: np.ndarray, domain: Domain) -> bool:
    """Whether labels lie between the values of the cycle."""
    found = numbers(labels)
    return found is not None and bool(np.isfinite(found).all()) and bool((found != found.round()).any())


def _angle_rows(
    held: Given,
    views: list[_View],
    asked: Request,
    period: float,
    labels: np.ndarray,
    templates: np.ndarray | None,
) -> Plan:
    angles = numbers(labels)
    if angles is None or not period:
        raise UsageError(
            f"the labels ({labels[0]!s}, …) have no domain; say what they are of (domain=, n= the period; --domain degrees)"
        )
    bins = binned(angles, period, templates)
    domain = dataclasses.replace(
        cycle(bins.n, bins.values), name=f"angle of period {period:.4g}", unit=bins.unit
    )
    if bins.reason:
        return _plan(
            "value",
            domain,
            (),
            held,
            str(views[0].axes),
            views[0].data[0].shape,
            views,
            bins.notes,
            reason=bins.reason,
        )
    cut = assigned(bins.ids, bins.values, templates, "bin")
    return _row_plan(
        "value", domain, held, views, asked, dataclasses.replace(cut, notes=(*bins.notes, *cut.notes))
    )


def _two_factors(
    held: Given,
    views: list[_View],
    asked: Request,
    domains: list[Domain],
    labels: list[np.ndarray],
    templates: np.ndarray | None,
) -> Plan:
    if len(labels) != 2:
        raise UsageError(
            f"two domains need two labels per row, and {len(labels)} is given; write labels=('day', 'hour') (--labels day,hour)"
        )
    first, second = (matched(column, domain) for column, domain in zip(labels, domains, strict=True))
    names = _products(domains)
    cut = assigned(first * domains[1].n + second, names, templates, "pair")
    made = _row_plan("grid", domains[0], held, views, asked, cut, names)
    return dataclasses.replace(made, second=domains[1])


def _products(domains: list[Domain]) -> tuple[str, ...]:
    return tuple(f"{a} {b}" for a in domains[0].values for b in domains[1].values)


def _operation_rows(
    held: Given, views: list[_View], asked: Request, domain: Domain, labels: list[np.ndarray]
) -> Plan:
    if len(labels) != 2 or (offset := numbers(labels[1])) is None:
        raise UsageError(
            "an operation needs two labels per row, the first operand and a whole number (labels=('a', 'o'); --labels a,o)"
        )
    count = int(offset.max()) + 1
    ids = matched(labels[0], domain) * count + offset.astype(np.int64)
    names = tuple(f"{a} + {o}" for a in domain.values for o in range(count))
    cut = assigned(ids, names, None, "cell")
    made = _row_plan("operation", domain, held, views, asked, cut, names)
    return dataclasses.replace(made, offsets=count)


def _row_plan(
    design: str,
    domain: Domain,
    held: Given,
    views: list[_View],
    asked: Request,
    cut: Assigned,
    names: tuple[str, ...] = (),
) -> Plan:
    sites = [_cells(view, cut, names or domain.values, asked) for view in views]
    return _plan(design, domain, sites, held, str(views[0].axes), views[0].data[0].shape, views, cut.notes)


def _cells(view: _View, cut: Assigned, names: tuple[str, ...], asked: Request) -> Cells:
    data = view.data
    if view.axes.of("row") == 1:
        data = tuple(each.T for each in data)
    return Cells(
        view.name,
        names,
        cut.templates,
        data[0].shape[1],
        chunks=data,
        index=cut.index,
        root=asked.probabilities,
    )


def _one_size(sites: Sequence[Cells]) -> None:
    if len({each.templates for each in sites}) > 1:
        told = ", ".join(f"{each.name} {each.templates}" for each in sites)
        raise UsageError(
            f"the sites have different numbers of templates ({told}); give those of one size (sites=)"
        )


# grids


def _of_grids(held: Given, views: list[_View], asked: Request, domains: list[Domain]) -> Plan:
    domain, axes = domains[0], views[0].axes
    if len({tuple(view.data[0].shape[:-1]) for view in views}) > 1 and axes.of("d") == len(axes.roles) - 1:
        raise UsageError(
            f"the sites have different shapes ({', '.join(f'{v.name} {list(v.data[0].shape)}' for v in views[:4])})"
        )
    _check_length(views[0], "value", domain)
    operation = axes.of("offset") is not None or asked.design == "operation"
    if operation and axes.of("offset") is None:
        axes = Axes(tuple("offset" if role == "template" else role for role in axes.roles), axes.names)
        views = [dataclasses.replace(view, axes=axes) for view in views]
        if axes.of("offset") is None:
            raise UsageError("an operation needs an axis of offsets; write --layout 'a o d'")
    second = next((role for role in ("offset", "second") if role in axes.roles), None)
    sites, names = [], domain.values
    if second == "second" and len(domains) < 2:
        domains = [*domains, cycle(views[0].length("second"))]
    if second == "second":
        _check_length(views[0], "second", domains[1])
        names = _products(domains)
    if second == "offset":
        names = tuple(f"{a} + {o}" for a in domain.values for o in range(views[0].length("offset")))
    order = _orders(asked.labels, domains, views[0].length(second) if second else 1)
    for view in views:
        grid = _ordered(view, second)
        sites.append(
            Cells(
                view.name,
                names,
                grid.shape[1],
                grid.shape[2],
                grid=grid,
                order=order,
                root=asked.probabilities,
            )
        )
    notes = []
    templates = sites[0].templates
    if second is None and asked.layout is None and not held.axes and templates >= domain.n:
        notes.append(
            f"read as {domain.n} values in {templates} templates; where the second axis is offsets, say --layout 'a o d' (layout=)"
        )
    design = {"offset": "operation", "second": "grid", None: "value"}[second]
    made = _plan(design, domain, sites, held, str(axes), views[0].data[0].shape, views, notes)
    if second == "second":
        return dataclasses.replace(made, second=domains[1])
    return dataclasses.replace(made, offsets=views[0].length("offset")) if second else made


def _check_length(view: _View, role: str, domain: Domain) -> None:
    if view.length(role) != domain.n:
        raise UsageError(
            f"the axis of values has {view.length(role)} elements, and {domain.name} has {domain.n} values (layout {str(view.axes)!r})"
        )


def _orders(labels: Any, domains: list[Domain], inner: int) -> Tensor | None:
    """Where each cell stands on axes with these labels (of both factors, as a tuple), the second of length ``inner``."""
    if labels is None:
        return None
    given = labels if isinstance(labels, tuple) and len(labels) == 2 else (labels,)
    first = _order(given[0], domains[0])
    second = _order(given[1], domains[1]) if len(given) == 2 else torch.arange(inner)
    return (first[:, None] * inner + second).flatten()


def _order(labels: Any, domain: Domain) -> Tensor:
    """Where each value of the domain stands on an axis with these labels."""
    plain = np.asarray([str(each) for each in labels])
    ids = matched(plain, domain)
    if len(ids) != domain.n or len(set(ids.tolist())) != domain.n:
        raise UsageError(
            f"the labels of the axis name {len(set(ids.tolist()))} of the {domain.n} values of {domain.name}; name each once"
        )
    return torch.from_numpy(np.argsort(ids))


def _ordered(view: _View, second: str | None) -> Tensor:
    """[value, template, d], a view wherever the memory allows it; pairs of values are one axis."""
    data, axes = view.data[0], view.axes
    lead = [axes.of("value"), *([axes.of(second)] if second else [])]
    rest = [axes.of("template"), axes.of("d")]
    moved = data.permute(*[at for at in (*lead, *rest) if at is not None])
    if axes.of("template") is None:
        moved = moved.unsqueeze(-2)
    return moved.flatten(0, 1) if second else moved


def _plan(
    design: str,
    domain: Domain,
    sites: Sequence[Cells],
    held: Given,
    layout: str,
    shape: Sequence[int],
    views: Sequence[_View],
    notes: Sequence[str],
    reason: str = "",
) -> Plan:
    dtype = str(views[0].data[0].dtype).removeprefix("torch.")
    return Plan(
        design,
        domain,
        tuple(sites),
        layout,
        tuple(shape),
        dtype,
        held.name,
        tuple(notes),
        reason=reason,
        source=held.source or held.name,
    )
