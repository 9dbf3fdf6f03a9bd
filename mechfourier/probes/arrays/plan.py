"""From what was given to cells: which row, or which element of an axis, belongs to which value."""

import dataclasses
from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mechfourier.domains.definition import Domain
from mechfourier.errors import CONTROL, UsageError
from mechfourier.probes.arrays.asked import (
    Plan,
    Request,
    View,
    cells_of,
    column_of,
    domains_of,
    listed,
    planned,
    with_coords,
)
from mechfourier.probes.arrays.axes import Axes
from mechfourier.probes.arrays.by_value import one_by_one
from mechfourier.probes.arrays.cells import Cells
from mechfourier.probes.arrays.given import Given, given
from mechfourier.probes.arrays.recording import (
    LASTS,
    SAMPLE,
    STRETCHES,
    follow,
    lasting,
    possible,
    stretches,
    told,
    too_short,
)
from mechfourier.probes.arrays.rows import MOST_GROUPS, Assigned, Binned, assigned, binned, complete
from mechfourier.probes.arrays.values import cycle, matched, numbers
from mechfourier.probes.arrays.views import check_kinds, row_labels, views_of

NAMELESS = ("nan", "None", "<NA>", "NaT")
TEMPLATE_NAMES = ("template", "templates", "template_id", "prompt", "prompt_id", "trial", "session")


def plan(acts: Any, asked: Request) -> Plan:
    """The cells of everything that was asked; nothing large is read. Raises ``UsageError`` in one sentence for what does not fit."""
    aside = tuple(each for each in listed(asked.labels, asked.templates) if isinstance(each, str))
    held = given(acts, aside)
    _refuse_control([*held.opened.arrays, *held.opened.columns])
    asked = with_coords(held, asked)
    domains, period = domains_of(asked, held)
    if domains and (split := one_by_one(held, domains[0], asked)) is not None:
        return split
    if domains and asked.layout is None and asked.labels is None and not held.opened.table:
        _check_named(held, domains[0])
    views = views_of(held, asked, domains, period)
    check_kinds(views)
    if views[0].axes.of("row") is not None:
        return _of_rows(held, views, asked, domains, period)
    return _of_grids(held, views, asked, domains)


def _refuse_control(names: Iterable[str]) -> None:
    """Raise ``UsageError`` for a name that would move the cursor of a terminal."""
    if strange := next((name for name in names if CONTROL.search(name)), None):
        raise UsageError(f"the name {strange!r} holds a control character; rename it")


def _check_named(held: Given, domain: Domain) -> None:
    """Raise ``UsageError`` where neither the name nor an axis of any array says the values."""
    arrays = held.opened.arrays
    if len(arrays) > 1 and not any(domain.n in chunks[0].shape for chunks in arrays.values()):
        raise UsageError(
            f"none of the arrays of {held.name} ({', '.join(list(arrays)[:4])}, …) is named after the values of {domain.name} "
            f"({', '.join(domain.values[:3])}, …) or has an axis of {domain.n} values; choose another domain, or say the layout or labels"
        )


# rows with labels


def _of_rows(
    held: Given, views: list[View], asked: Request, domains: list[Domain], period: float | None
) -> Plan:
    columns = [column_of(held, each) for each in listed(asked.labels)]
    labels = [each for each in columns if each is not None] or [row_labels(held, asked, domains)]
    templates = _templates(held, asked, views[0].length("row"))
    if templates is not None:
        _refuse_nameless(templates)
    labels = [each for each in labels if each is not None]
    if len(labels) == 2 and len(domains) < 2 and asked.design != "operation":
        raise UsageError(
            "two labels per row, and values of one cycle; give two domains (days,hours-24), one label, or design='operation' for a value "
            "and an offset"
        )
    for column, what in (
        *((each, "labels") for each in labels),
        *([] if templates is None else [(templates, "templates")]),
    ):
        if len(column) != views[0].length("row"):
            raise UsageError(f"{len(column)} {what} for {views[0].length('row')} rows; give one per row")
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
    ids = matched(labels[0], domains[0])
    if templates is None and np.bincount(ids).max() > MOST_GROUPS and follow(ids / domains[0].n):
        return _recorded(held, views, asked, domains[0], ids / domains[0].n, float(domains[0].n))
    return _row_plan("value", domains[0], held, views, asked, assigned(ids, domains[0].values, templates))


def _refuse_nameless(templates: np.ndarray) -> None:
    """Raise where a row has no template: a missing name would be a template of its own."""
    names, counts = np.unique(templates.astype(str), return_counts=True)
    if missing := int(counts[np.isin(names, NAMELESS)].sum()):
        raise UsageError(
            f"rows without a template: {missing} of {len(templates)}; give every row one, or leave such rows out"
        )


def _templates(held: Given, asked: Request, rows: int) -> np.ndarray | None:
    if asked.templates is not None:
        return column_of(held, asked.templates)
    known = [
        name
        for name in held.opened.columns
        if name.lower() in TEMPLATE_NAMES and len(held.opened.columns[name]) == rows
    ]
    return held.opened.columns[known[0]] if len(known) == 1 else None


def _continuous(labels: np.ndarray, domain: Domain) -> bool:
    """Whether labels lie between the values of the cycle."""
    found, own = numbers(labels), numbers(np.asarray(domain.values))
    if found is None or not np.isfinite(found).all() or (own is not None and np.isin(found, own).all()):
        return False
    return bool((found != found.round()).any())


def _angle_rows(
    held: Given,
    views: list[View],
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
    turns = np.remainder(angles / period, 1.0)
    if templates is None and not bins.reason and follow(turns):
        return _recorded(held, views, asked, None, turns, period)
    return _binned_plan(held, views, asked, bins, period, templates)


def _binned_plan(
    held: Given, views: list[View], asked: Request, bins: Binned, period: float, templates: np.ndarray | None
) -> Plan:
    domain = dataclasses.replace(
        cycle(bins.n, bins.values), name=f"angle of period {period:.4g}", unit=bins.unit
    )
    if bins.reason:
        return planned("value", domain, (), held, views, bins.notes, reason=bins.reason)
    cut = assigned(bins.ids, bins.values, templates, "bin")
    return _row_plan(
        "value", domain, held, views, asked, dataclasses.replace(cut, notes=(*bins.notes, *cut.notes))
    )


def _recorded(
    held: Given, views: list[View], asked: Request, domain: Domain | None, turns: np.ndarray, period: float
) -> Plan:
    """Rows that follow each other in time: in stretches that stand for templates, or the reason why there are too few. Values
    of a ``domain``, or (None) angles."""
    rows, lasts = len(turns), max(lasting(_sample(view), turns[: SAMPLE[0]]) for view in views)
    if lasts < LASTS:
        if domain is None:
            return _binned_plan(held, views, asked, binned(turns * period, period), period, None)
        ids = np.rint(turns * domain.n).astype(np.int64)
        return _row_plan("value", domain, held, views, asked, assigned(ids, domain.values, None))
    for count in possible(rows, lasts):
        cut = stretches(rows, count)
        if domain is None:
            bins = binned(turns * period, period, cut)
            if not bins.reason and complete(bins.ids, bins.n, cut) >= STRETCHES[-1]:
                made = dataclasses.replace(bins, notes=(*bins.notes, told(count, lasts)))
                return _binned_plan(held, views, asked, made, period, cut)
        elif complete(ids := np.rint(turns * domain.n).astype(np.int64), domain.n, cut) >= STRETCHES[-1]:
            found = assigned(ids, domain.values, cut)
            found = dataclasses.replace(found, notes=(*found.notes, told(count, lasts)))
            return _row_plan("value", domain, held, views, asked, found)
    reason = too_short(rows, lasts)
    if domain is not None:
        return planned("value", domain, (), held, views, (), reason=reason)
    none = dataclasses.replace(binned(turns * period, period), reason=reason)
    return _binned_plan(held, views, asked, none, period, None)


def _sample(view: View) -> np.ndarray:
    """Some rows and dimensions, in float64."""
    data = tuple(each.T for each in view.data) if view.axes.of("row") == 1 else view.data
    step = max(1, data[0].shape[1] // SAMPLE[1])
    parts, seen = [], 0
    for each in data:
        if seen < SAMPLE[0]:
            parts.append(each[: SAMPLE[0] - seen, ::step].double().numpy())
            seen += len(each)
    return np.concatenate(parts)


def _two_factors(
    held: Given,
    views: list[View],
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
    held: Given, views: list[View], asked: Request, domain: Domain, labels: list[np.ndarray]
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
    views: list[View],
    asked: Request,
    cut: Assigned,
    names: tuple[str, ...] = (),
) -> Plan:
    sites = [cells_of(view, cut, names or domain.values, asked) for view in views]
    return planned(design, domain, sites, held, views, cut.notes)


# grids


def _of_grids(held: Given, views: list[View], asked: Request, domains: list[Domain]) -> Plan:
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
    made = planned(design, domain, sites, held, views, notes)
    if second == "second":
        return dataclasses.replace(made, second=domains[1])
    return dataclasses.replace(made, offsets=views[0].length("offset")) if second else made


def _check_length(view: View, role: str, domain: Domain) -> None:
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


def _ordered(view: View, second: str | None) -> Tensor:
    """[value, template, d], a view wherever the memory allows it; pairs of values are one axis."""
    data, axes = view.data[0], view.axes
    lead = [axes.of("value"), *([axes.of(second)] if second else [])]
    rest = [axes.of("template"), axes.of("d")]
    moved = data.permute(*[at for at in (*lead, *rest) if at is not None])
    if axes.of("template") is None:
        moved = moved.unsqueeze(-2)
    return moved.flatten(0, 1) if second else moved
