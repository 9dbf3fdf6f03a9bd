"""Kinds of results: what a class says of itself where it is defined, and which class a kind's name belongs
to."""

import importlib
import importlib.metadata
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from mechfourier.errors import MechFourierError

GROUP = "mechfourier.results"
PLAIN_PART = "mechfourier.figures.sections:plain_part"
_STATEMENT = re.compile(r'^class \w+\(\s*\w+,\s*kind="([^"]+)"', re.MULTILINE)
_CLASSES: dict[str, type] = {}


@dataclass(frozen=True)
class Kind:
    """What a saved result carries, and who draws it.

    ``name`` never changes, ``schema`` grows with every change of the fields that old files do not fit;
    ``renamed`` maps field names of older schemas to today's. ``figure`` and ``part`` are ``module:function``
    (result → Plotly figure, result → chapter of a page), imported when they draw. ``command`` is the command
    that makes such a result, where that is not ``name``.
    """

    name: str
    schema: int = 1
    figure: str = ""
    part: str = PLAIN_PART
    command: str = ""
    renamed: Mapping[str, str] = field(default_factory=dict)


def register(kind: Kind, of: type) -> None:
    """Note the class of a kind; raises ``MechFourierError`` where another class has that name."""
    other = _CLASSES.setdefault(kind.name, of)
    if (other.__module__, other.__qualname__) != (of.__module__, of.__qualname__):
        raise MechFourierError(f"two classes of results call themselves {kind.name!r}: {other} and {of}")
    _CLASSES[kind.name] = of


def class_of(name: str) -> Any:
    """The class of results of that kind, imported if need be; None where nobody defines it.

    Another package says which of its modules define results with the entry point group
    ``mechfourier.results`` (kind = "module:Class").
    """
    if name not in _CLASSES and (module := modules().get(name)):
        importlib.import_module(module)
    if name not in _CLASSES:
        for point in importlib.metadata.entry_points(group=GROUP, name=name):
            point.load()
    return _CLASSES.get(name)


@cache
def modules() -> dict[str, str]:
    """The kinds of this package and the modules that define them, read off the class statements: there is no
    list to keep."""
    root = Path(__file__).parents[1]
    found = {}
    for path in sorted(root.rglob("*.py")):
        module = ".".join((root.name, *path.relative_to(root).with_suffix("").parts))
        found |= dict.fromkeys(_STATEMENT.findall(path.read_text(encoding="utf-8")), module)
    return found


def load(name: str) -> Any:
    """The function that ``module:function`` names."""
    module, _, function = name.partition(":")
    return getattr(importlib.import_module(module), function)
