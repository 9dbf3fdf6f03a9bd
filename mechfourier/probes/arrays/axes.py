"""Which axis is what: a layout as people write it ("site value template d"), or the only one that the sizes allow."""

from collections.abc import Sequence
from dataclasses import dataclass

from mechfourier.errors import UsageError, nearest

NAMES = {
    "site": ("site", "sites", "layer", "layers", "block", "hook", "head", "heads"),
    "value": ("value", "values", "label", "class", "a"),
    "second": ("value2", "second", "b"),
    "offset": ("offset", "offsets", "o"),
    "template": ("template", "templates", "trial", "trials", "repeat", "repeats", "prompt", "prompts", "session"),
    "row": ("row", "rows", "sample", "samples", "batch", "time"),
    "pos": ("pos", "position", "token", "seq"),
    "d": ("d", "dim", "dims", "d_model", "hidden", "neuron", "neurons", "unit", "units", "feature", "features", "channel"),
}  # fmt: skip
"""What an axis can be, and the names that people give it."""
ROLES = {name: role for role, names in NAMES.items() for name in names}
ONE_BY_ONE = "one array per value"


@dataclass(frozen=True)
class Axes:
    """``roles[axis]``: what each axis of an array is; ``names``: what it was called."""

    roles: tuple[str, ...]
    names: tuple[str, ...]

    def of(self, role: str) -> int | None:
        """The axis of a role, or None."""
        return self.roles.index(role) if role in self.roles else None

    def __str__(self) -> str:
        return " ".join(self.names)


def named(names: Sequence[str], domains: Sequence[str] = ()) -> Axes:
    """Axes by their names; those of ``domains`` are the values of the first and of the second factor.

    Raises ``UsageError`` for a name of nothing, for one that stands twice, and where no axis is the dimensions.
    """
    own = {
        name: role
        for domain, role in zip(domains, ("value", "second"), strict=False)
        for name in (domain, domain.split("-")[0], domain.split("-")[0].removesuffix("s"))
    }
    roles = []
    for name in names:
        role = own.get(name) or ROLES.get(name.lower())
        if role is None:
            raise UsageError(
                f"no axis is called {name!r}; closest: {nearest(name, [*own, *ROLES])} (a layout is written like 'site value template d')"
            )
        roles.append(role)
    if "offset" in roles and "value" not in roles and "row" not in roles:
        raise UsageError(f"the layout {' '.join(names)!r} has offsets and no first operand; write 'a o d'")
    double = next((role for role in roles if roles.count(role) > 1), None)
    if double is not None:
        raise UsageError(
            f"the layout {' '.join(names)!r} has two axes of the kind {double!r}; name one of each"
        )
    if "d" not in roles or not {"value", "row"} & set(roles):
        raise UsageError(
            f"the layout {' '.join(names)!r} needs an axis 'd' (dimensions) and an axis 'value' (or 'row', with a label for each)"
        )
    return Axes(tuple(roles), tuple(names))


def parse(layout: str, domains: Sequence[str], ndim: int) -> Axes:
    """``"site value template d"``; commas and brackets pass. Raises ``UsageError`` where the array has other axes."""
    names = layout.replace(",", " ").strip().strip("[]()").split()
    axes = named(names, domains)
    if len(names) != ndim:
        raise UsageError(f"the layout {layout!r} names {len(names)} axes, and the array has {ndim}")
    return axes


def found(shape: tuple[int, ...], n: int | None, rows: int | None, *, operation: bool = False) -> Axes:
    """The one layout that the sizes allow: an axis of ``n`` values (``operation``: and one of offsets), or of ``rows`` rows
    with a label each.

    Raises ``UsageError`` where there is none, or where there are several.
    """
    told = f"an array of shape {list(shape)}"
    if len(shape) < 2:
        raise UsageError(
            f"{told} has no axis of dimensions beside that of the values; give [value, template, d]"
        )
    wanted, size = ("row", rows) if rows is not None else ("value", n)
    at = [axis for axis, length in enumerate(shape) if length == size]
    told += f" with {size} {'labels' if wanted == 'row' else 'values'}"
    if not at:
        raise UsageError(
            f"{told} has no axis of that length; say the layout (--layout 'site value template d') or the labels"
        )
    kind = "operation" if operation and wanted == "value" else wanted
    readings = [reading for axis in at for reading in _readings(len(shape), axis, kind)]
    if len(readings) != 1:
        others = _readings(len(shape), at[0], "operation") if kind == "value" else []
        ways = " or ".join(repr(" ".join(each)) for each in readings + others) or "none that is known"
        raise UsageError(
            f"{told} can be read in several ways or none ({ways}); say which with --layout (layout=)"
        )
    return named(readings[0])


def _readings(ndim: int, axis: int, role: str) -> list[tuple[str, ...]]:
    """The layouts of so many axes with the values (or rows) at ``axis``."""
    if role == "row":
        known: dict[tuple[int, int], list[tuple[str, ...]]] = {
            (2, 0): [("row", "d")],
            (2, 1): [("d", "row")],
            (3, 0): [("row", "site", "d"), ("row", "pos", "d")],
            (3, 1): [("site", "row", "d")],
            (3, 2): [("site", "d", "row")],
        }
    elif role == "operation":
        known = {(3, 0): [("a", "o", "d")], (4, 1): [("site", "a", "o", "d")]}
    else:
        known = {
            (2, 0): [("value", "d")],
            (2, 1): [("d", "value")],
            (3, 0): [("value", "template", "d")],
            (3, 1): [("site", "value", "d"), ("template", "value", "d")],
            (3, 2): [("site", "d", "value")],
            (4, 1): [("site", "value", "template", "d")],
        }
    return known.get((ndim, axis), [])
