"""What was asked of which arrays, and what comes of it: a request, a view of every site, and a plan of cells."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from torch import Tensor

from mechfourier._arguments import that_domain
from mechfourier.domains.definition import Domain
from mechfourier.domains.definition import domain as find_domain
from mechfourier.errors import UsageError, brief_repr, nearest
from mechfourier.models.folder import brief
from mechfourier.probes.arrays.axes import Axes, named
from mechfourier.probes.arrays.cells import Cells
from mechfourier.probes.arrays.files import Chunks, tensor_of
from mechfourier.probes.arrays.given import Given
from mechfourier.probes.arrays.rows import Assigned
from mechfourier.probes.arrays.values import cycle, numbers

ANGLES = {"degrees": 360.0, "radians": 2 * np.pi, "turns": 1.0}
"""Domains whose values are angles, and their periods."""


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
    """``sites``: the cells of each; ``domain``: the values (of the first factor); ``second``: those of the other; ``offsets``: of an
    operation; ``reason``: why nothing can be tested; ``shape`` and ``layout``: as it was given, in ``source``."""

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
class View:
    """A site before its rows are told apart: ``data`` with the axes left, and the ``shape`` and ``layout`` that it was given in."""

    name: str
    data: Chunks
    axes: Axes
    coords: dict[str, np.ndarray] = field(default_factory=dict)
    shape: tuple[int, ...] = ()
    layout: str = ""

    def length(self, role: str) -> int:
        at = self.axes.of(role)
        assert at is not None
        return sum(len(each) for each in self.data) if at == 0 else self.data[0].shape[at]


def listed(*given: Any) -> list[Any]:
    return [each for one in given for each in (one if isinstance(one, tuple) else (one,))]


def with_coords(held: Given, asked: Request) -> Request:
    """Labels that the object's own axes carry, where none were given."""
    if asked.labels is not None or not held.axes:
        return asked
    roles = named(held.axes, _names_of(asked.domain)).roles if asked.layout is None else ()
    for role, name in zip(roles, held.axes, strict=False):
        if role in ("value", "row") and name in held.coords and "second" not in roles:
            return replace(asked, labels=held.coords[name])
    return asked


def _names_of(domain: Any) -> list[str]:
    parts = (
        domain.split(",")
        if isinstance(domain, str)
        else domain
        if isinstance(domain, list | tuple)
        else [domain]
    )
    given = [that_domain("domain", part) for part in parts if part is not None]
    return [
        str(getattr(part, "name", part) if hasattr(part, "templates") else part).strip() for part in given
    ]


def domains_of(asked: Request, held: Given) -> tuple[list[Domain], float | None]:
    """The values of one factor or of two, and the period where labels are angles (there are no values then)."""
    names = _names_of(asked.domain)
    if len(names) == 1 and names[0] in ANGLES:
        return [], ANGLES[names[0]]
    if len(names) > 2:
        raise UsageError(
            f"{len(names)} domains ({', '.join(names)}) were given; one cycle or two are read at a time"
        )
    if asked.n is not None and (isinstance(asked.n, bool) or not isinstance(asked.n, int | float)):
        raise UsageError(
            f"n is {asked.n!r}; give a whole number of values, or the period of angles as a float"
        )
    if names:
        several = isinstance(asked.domain, list | tuple)
        parts = asked.domain if several else names if isinstance(asked.domain, str) else [asked.domain]
        found = [find_domain(part) for part in parts]
        if asked.n is not None and asked.n != found[0].n:
            raise UsageError(
                f"n is {asked.n:g} (--period), and {found[0].name} has {found[0].n} values; give the domain alone, or n alone"
            )
        return found, None
    if asked.n is not None:
        return _of_number(asked, held, asked.n)
    if _names_an_axis(asked, held):
        return [cycle(len(asked.labels), _axis_labels(asked, len(asked.labels)))], None
    return [], None


def _of_number(asked: Request, held: Given, n: int | float) -> tuple[list[Domain], float | None]:
    """A whole number counts values, unless the labels lie between them; another is a period."""
    first = asked.labels[0] if isinstance(asked.labels, tuple) else asked.labels
    labels = column_of(held, first)
    between = labels is not None and (at := numbers(labels)) is not None and bool((at != at.round()).any())
    if isinstance(n, float) or between:
        return [], float(n)
    return [cycle(n, _axis_labels(asked, n))], None


def _axis_labels(asked: Request, n: int) -> tuple[str, ...]:
    texts = asked.labels if not isinstance(asked.labels, str | None) else ()
    return tuple(map(str, texts)) if len(texts) == n and len(set(map(str, texts))) == n else ()


def _names_an_axis(asked: Request, held: Given) -> bool:
    """Whether the labels are the names of an axis of values, in their order on the cycle."""
    if asked.labels is None or isinstance(asked.labels, str | tuple):
        return False
    own = {str(each) for each in asked.labels}
    return not held.opened.table and len(own) == len(asked.labels) >= 3


def column_of(held: Given, labels: Any) -> np.ndarray | None:
    """Labels by the name of their column, or as they are; raises ``UsageError`` for a column that is not there."""
    if labels is None:
        return None
    if not isinstance(labels, str):
        if isinstance(labels, np.ma.MaskedArray) and np.ma.is_masked(labels):
            raise UsageError(
                f"labels has {np.ma.count_masked(labels)} masked entries; leave out the rows that have no label"
            )
        return _one_column(labels)
    columns = held.opened.columns | {
        name: chunks[0].numpy() for name, chunks in held.opened.arrays.items() if chunks[0].ndim == 1
    }
    if not columns:
        raise UsageError(
            f"{held.name} has no column {labels!r}, nor any other; give the labels themselves (labels=)"
        )
    if labels not in columns:
        raise UsageError(f"{held.name} has no column {labels!r}; closest: {nearest(labels, columns)}")
    return columns[labels]


def _one_column(labels: Any) -> np.ndarray:
    """Labels that were given as they are: numbers or texts, one per row."""
    try:
        plain = (
            tensor_of(labels, "labels").cpu().double().numpy()
            if isinstance(labels, Tensor)
            else np.asarray(labels)
        )
        plain = np.char.decode(plain, "utf-8") if plain.dtype.kind == "S" else plain
    except ValueError as error:  # lists of different lengths, bytes that are no text
        raise UsageError(
            f"the labels cannot be read ({brief(error)}); give one text or number per row"
        ) from error
    if plain.ndim != 1:
        raise UsageError(
            f"labels is {brief_repr(labels)}; give one label per row"
            if plain.ndim == 0
            else f"labels of shape {list(plain.shape)}; give one label per row"
        )
    return plain if plain.dtype.kind in "fiubU" else np.asarray([str(each) for each in plain])


def texts_of(sites: Any) -> list[str]:
    if sites is None:
        return []
    if not isinstance(sites, str | list | tuple) or not len(sites):
        raise UsageError(
            f"sites is {brief_repr(sites)}; give the names of arrays ('a,b', or a list of texts), or None for all"
        )
    return (
        [each.strip() for each in sites.split(",")]
        if isinstance(sites, str)
        else [str(each) for each in sites]
    )


def planned(
    design: str,
    domain: Domain,
    sites: Sequence[Cells],
    held: Given,
    views: Sequence[View],
    notes: Sequence[str],
    reason: str = "",
) -> Plan:
    dtype = str(views[0].data[0].dtype).removeprefix("torch.")
    return Plan(
        design,
        domain,
        tuple(replace(each, from_file=bool(held.source)) for each in sites),
        views[0].layout,
        views[0].shape,
        dtype,
        held.name,
        tuple(notes),
        reason=reason,
        source=held.source or held.name,
    )


def cells_of(view: View, cut: Assigned, names: tuple[str, ...], asked: Request) -> Cells:
    """The cells of a site whose rows were told apart."""
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
