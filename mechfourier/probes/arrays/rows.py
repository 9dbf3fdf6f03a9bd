"""Rows with labels as cells of values and templates; labels that are angles, in bins."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int, Shaped
from numpy import ndarray
from torch import Tensor

from mechfourier.errors import OutOfRange, UsageError

BINS = (24, 18, 12, 9)
MOST_GROUPS = 12
"""Groups that rows without templates are cut into at the most."""
FOLDS = (8, 6, 3)
"""Groups of rows per bin, each of which stands for a template: as many as the rows allow."""


@dataclass(frozen=True, eq=False)
class Assigned:
    """``index[row]``: value · templates + template, −1 where a row is left out; ``notes``: what was done to the rows."""

    index: Int[Tensor, " row"]
    templates: int
    notes: tuple[str, ...] = ()


def assigned(
    ids: Int[ndarray, " row"],
    values: tuple[str, ...],
    named: Shaped[ndarray, " row"] | None,
    what: str = "value",
) -> Assigned:
    """The cell of every row. Without named templates the rows of a value are cut, in their order, into as many groups as every value
    has rows for.

    Raises ``UsageError`` where a value has no row, and where no template has every value.
    """
    counts = np.bincount(ids, minlength=len(values))
    if not counts.all():
        missing = [values[v] for v in np.flatnonzero(counts == 0)]
        raise UsageError(
            f"no row is labelled {', '.join(missing[:5])} ({len(missing)} of {len(values)} {what}s have no row)"
            f"{'; labels that are angles take --domain degrees, or a period (n=360.0)' if values[-1].isdigit() else ''}"
        )
    if named is not None:
        return _by_template(ids, values, named, what)
    templates = int(min(counts.min(), MOST_GROUPS))
    place = _place(ids, counts)
    group = place * templates // counts[ids]
    notes = []
    if templates > 1 and (np.diff(ids) != 0).sum() == len(values) - 1 and len(ids) > 2 * len(values):
        notes.append(
            f"the rows come {what} by {what}: where they were recorded in that order, a drift over time would look like a difference "
            f"between {what}s (name templates to tell them apart)"
        )
    if templates < counts.max():
        notes.append(
            f"no templates were named: the {counts.min()} to {counts.max()} rows of every {what} were averaged, in their order, in "
            f"{templates} groups, which stand for templates"
        )
    return Assigned(torch.from_numpy(ids * templates + group), templates, tuple(notes))


def _place(ids: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """The how-manieth of its value a row is."""
    order = np.argsort(ids, kind="stable")
    starts = np.concatenate([[0], np.cumsum(counts)[:-1]])
    place = np.empty(len(ids), dtype=np.int64)
    place[order] = np.arange(len(ids)) - starts[ids[order]]
    return place


def _by_template(ids: np.ndarray, values: tuple[str, ...], named: np.ndarray, what: str) -> Assigned:
    names, first, of = np.unique(named, return_index=True, return_inverse=True)
    rank = np.argsort(np.argsort(first))[of]  # templates in the order in which they come
    table = np.zeros((len(values), len(names)), dtype=np.int64)
    np.add.at(table, (ids, rank), 1)
    whole = table.all(0)
    if not whole.any():
        v, t = np.argwhere(table == 0)[0]
        raise UsageError(
            f"no template has a row for every {what} (template {named[first[np.argsort(first)[t]]]!s} has none for {values[v]}); leave the "
            f"templates out, and the rows of every {what} are grouped in their order"
        )
    notes = []
    if not whole.all():
        notes.append(f"{int((~whole).sum())} of {len(names)} templates lack a {what} and were left out")
    if table[:, whole].max() > 1:
        notes.append(f"several rows of one {what} and template were averaged (up to {table[:, whole].max()})")
    new = np.where(whole, np.cumsum(whole) - 1, -1)
    count = int(whole.sum())
    index = np.where(new[rank] >= 0, ids * count + new[rank], -1)
    return Assigned(torch.from_numpy(index), count, tuple(notes))


@dataclass(frozen=True, eq=False)
class Binned:
    """Angles in ``n`` bins; ``reason``: why they cannot be tested ("" otherwise)."""

    ids: Int[ndarray, " row"]
    n: int
    values: tuple[str, ...]
    unit: str
    reason: str = ""
    notes: tuple[str, ...] = ()


def binned(
    angles: Float[ndarray, " row"], period: float, named: Shaped[ndarray, " row"] | None = None
) -> Binned:
    """Angles in the finest bins that hold enough rows each (of every named template one).

    Where the angles leave a gap, what lies in it is not known, and nothing closes: that is the ``reason``.
    """
    if not np.isfinite(angles).all():
        raise UsageError(
            f"{int((~np.isfinite(angles)).sum())} of the {len(angles)} angles are no numbers; leave these rows out"
        )
    if not np.isfinite(period) or period <= 0:
        raise OutOfRange(f"a period of {period} does not exist; give that of the labels (360 for degrees)")
    turns = np.remainder(angles / period, 1.0)
    for need in FOLDS:
        for n in BINS:
            ids = np.minimum((turns * n).astype(np.int64), n - 1)
            if _supported(ids, n, named) >= need:
                return Binned(
                    ids,
                    n,
                    _names(n, period),
                    f"bins of {period / n:.3g}",
                    notes=_notes(angles, period, n, ids),
                )
    n = BINS[-1]
    ids = np.minimum((turns * n).astype(np.int64), n - 1)
    return Binned(ids, n, _names(n, period), f"bins of {period / n:.3g}", _gap(turns, period, n, ids))


def _supported(ids: np.ndarray, n: int, named: np.ndarray | None) -> int:
    """How many templates, or rows, every bin has."""
    return int(np.bincount(ids, minlength=n).min()) if named is None else complete(ids, n, named)


def complete(ids: Int[ndarray, " row"], n: int, named: Shaped[ndarray, " row"]) -> int:
    """How many templates have every value."""
    of = np.unique(named, return_inverse=True)[1]
    table = np.zeros((n, of.max() + 1), dtype=np.int64)
    np.add.at(table, (ids, of), 1)
    return int(table.all(0).sum())


def _names(n: int, period: float) -> tuple[str, ...]:
    return tuple(f"{(i + 0.5) * period / n:.3g}" for i in range(n))


def _gap(turns: np.ndarray, period: float, n: int, ids: np.ndarray) -> str:
    ordered = np.sort(turns)
    gaps = np.diff(np.concatenate([ordered, [ordered[0] + 1]]))
    widest = int(gaps.argmax())
    low, high = ordered[widest] * period, np.remainder(ordered[widest] + gaps[widest], 1) * period
    if gaps[widest] > 1 / n:
        reason = f"no label lies between {low:.3g} and {high:.3g} of a period of {period:.4g}: whether the values close there cannot be tested"
        return reason + _in_radians(turns, period)
    few = np.bincount(ids, minlength=n).min()
    return f"{len(turns)} rows are too few: in {n} bins of the angle one holds {few}, and {FOLDS[-1]} are needed in each (of every named template one)"


def _in_radians(turns: np.ndarray, period: float) -> str:
    """What to do where a longer period was named and everything lies within one turn of radians either way."""
    nearest_turn = np.abs(np.remainder(turns + 0.5, 1.0) - 0.5) * period
    if period > 4 * np.pi and nearest_turn.max() <= 2 * np.pi:
        return f"; all lie within {nearest_turn.max():.3g} of 0, as angles in radians do (--domain radians)"
    return ""


def _notes(angles: np.ndarray, period: float, n: int, ids: np.ndarray) -> tuple[str, ...]:
    notes = [f"{len(angles)} angles of a period of {period:.4g} in {n} bins; finer structure is not seen"]
    changes = int((np.diff(ids) != 0).sum())
    if changes < 3 * n:
        notes.append(
            "the rows run through the angle in order, once or twice: a drift over time would look like a function of the angle "
            "(name sessions or sweeps as templates to tell them apart)"
        )
    return tuple(notes)
