"""Packages whose public names are loaded on first use (PEP 562), so that importing them stays cheap."""

import importlib
import sys
from collections.abc import Callable, Mapping
from typing import Any


def lazy(package: str, names: Mapping[str, str]) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """``__getattr__`` and ``__dir__`` of ``package``: ``names`` maps a public name to the module that defines it.

    A module is written in full or from the package on (``".value"``); an empty one means that the name is a submodule.
    An unknown name raises ``AttributeError`` with the nearest known one.
    """

    def load(name: str) -> Any:
        if name not in names:
            from mechfourier.errors import nearest

            raise AttributeError(f"module {package!r} has no name {name!r}; closest: {nearest(name, names)}")
        module = names[name]
        if module:
            value = getattr(importlib.import_module(module, package), name)
        else:
            value = importlib.import_module(f"{package}.{name}")
        vars(sys.modules[package])[name] = value
        return value

    return load, lambda: sorted(names)
