"""Packages whose public names are loaded on first use (PEP 562), so that importing them stays cheap.

A package writes its names once, as imports under ``if TYPE_CHECKING:`` that type checkers read, and so does
:func:`lazy`.
"""

import ast
import importlib
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any


class _Package(ModuleType):
    """A package in which a public name is never hidden by the submodule of the same name
    (``causal.ablate``)."""

    def __setattr__(self, name: str, value: Any) -> None:
        if isinstance(value, ModuleType) and vars(self)["_names"].get(name):
            return  # what the import system does after it has loaded the submodule
        super().__setattr__(name, value)


def lazy(
    package: str, names: Mapping[str, str] | None = None
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """``__getattr__`` and ``__dir__`` of ``package``: ``names`` maps a public name to the module that defines
    it.

    Without ``names`` they are those that the package imports under ``if TYPE_CHECKING:``. A module is written
    in full or from the package on (``".value"``); an empty one means that the name is a submodule. An unknown
    name raises ``AttributeError`` with the nearest known one; ``__all__`` lists all of them.
    """
    module = sys.modules[package]
    known = dict(written(module) if names is None else names)
    vars(module)["_names"] = known
    module.__class__ = _Package

    def load(name: str) -> Any:
        if name == "__all__":
            return list(known)
        if name not in known:
            from mechfourier.errors import nearest

            raise AttributeError(f"module {package!r} has no name {name!r}; closest: {nearest(name, known)}")
        place = known[name]
        if place:
            value = getattr(importlib.import_module(place, package), name)
        else:
            value = importlib.import_module(f"{package}.{name}")
        vars(module)[name] = value
        return value

    return load, lambda: sorted(known)


def written(module: ModuleType) -> dict[str, str]:
    """Public name -> module, of the imports under ``if TYPE_CHECKING:`` in a package's own file."""
    tree = ast.parse(Path(str(module.__file__)).read_text(encoding="utf-8"))
    blocks = (n.body for n in tree.body if isinstance(n, ast.If) and ast.unparse(n.test) == "TYPE_CHECKING")
    imports = [n for block in blocks for n in block if isinstance(n, ast.ImportFrom)]
    return {
        alias.name: "" if n.module == module.__name__ else str(n.module) for n in imports for alias in n.names
    }
