"""Write docs/api.md: every public name with its signature, from the package itself.

Run: python tools/api_page.py (--check: only say whether the page is as the package). The page freezes the
public API: a test compares it with the package, so a change of a name or a signature shows as a change of the
page.
"""

import argparse
import dataclasses
import importlib
import inspect
import re
import sys
import typing
from pathlib import Path
from types import ModuleType
from typing import Any

PAGE = Path(__file__).resolve().parents[1] / "docs" / "api.md"
MODULES = (
    "mechfourier",
    "mechfourier.hooks",
    "mechfourier.fourier",
    "mechfourier.domains",
    "mechfourier.stats",
    "mechfourier.probes",
    "mechfourier.causal",
    "mechfourier.sae",
    "mechfourier.harvest",
)
HEAD = """# The public API

Written by `python tools/api_page.py`; a test compares it with the package. What is listed here keeps its name and its signature within a
major version: it can get further keyword options, and what leaves is announced in the change log one minor version before. Everything
else can change at any time. Docstrings (`help(mechfourier.probe)`, and the [reference](reference.md)) say what the names do.
"""


def page() -> str:
    """The whole page."""
    return "\n".join([HEAD, *(section(importlib.import_module(name)) for name in MODULES)])


def section(module: ModuleType) -> str:
    """One module: its summary and every name of its ``__all__``, in that order."""
    about = (inspect.getdoc(module) or "").split("\n")[0]
    entries = "\n".join(entry(module, name) for name in module.__all__)
    return f"## `{module.__name__}`\n\n{about}\n\n```text\n{entries}\n```\n"


def entry(module: ModuleType, name: str) -> str:
    """A function with its signature, a class with its fields or arguments and its public methods, a module as
    such."""
    value = getattr(module, name)
    if isinstance(value, ModuleType):
        return f"module {name}"
    if inspect.isclass(value):
        return _class(name, value)
    if callable(value):
        return f"{name}{signature(value)}"
    return f"{name}: {type(value).__name__}"


def _class(name: str, kind: type) -> str:
    bases = ", ".join(base.__name__ for base in kind.__bases__ if base is not object)
    head = f"class {name}({bases})" if bases else f"class {name}"
    return "\n".join([head, *(f"    {line}" for line in (*_made_with(kind), *_members(kind)))])


def _made_with(kind: type) -> list[str]:
    if dataclasses.is_dataclass(kind):
        return [f"{f.name}: {annotation(f.type)}" for f in dataclasses.fields(kind)]
    if "__init__" in vars(kind):
        return [f"__init__{signature(vars(kind)['__init__'])}"]
    return []


def _members(kind: type) -> list[str]:
    public = {name: value for name, value in vars(kind).items() if not name.startswith("_")}
    fields = {f.name for f in dataclasses.fields(kind)} if dataclasses.is_dataclass(kind) else set()
    return [
        _member(name, value) for name, value in public.items() if _is_method(value) and name not in fields
    ]


def _is_method(value: Any) -> bool:
    return inspect.isfunction(value) or isinstance(value, (property, classmethod, staticmethod))


def _member(name: str, value: Any) -> str:
    if isinstance(value, property):
        return f"{name} (property)"
    plain = value.__func__ if isinstance(value, (classmethod, staticmethod)) else value
    return f"{name}{signature(plain)}"


def signature(function: Any) -> str:
    """The parameters and the result, annotations as they are written in the source."""
    # a decorator of the tests' shape checking or of contextlib must not change what is promised
    shape = inspect.signature(inspect.unwrap(function))
    parameters = [
        p.replace(annotation=_Written(annotation(p.annotation))) if p.annotation is not p.empty else p
        for p in shape.parameters.values()
    ]
    back = shape.return_annotation
    back = back if back is shape.empty else _Written(annotation(back))
    return tidy(str(shape.replace(parameters=parameters, return_annotation=back)))


class _Written:
    """An annotation that prints as the text it was written as."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __repr__(self) -> str:
        return self.text


def annotation(kind: Any) -> str:
    """An annotation as text, free of module paths, the same under every Python."""
    if typing.get_origin(kind) is typing.Unpack:
        return f"Unpack[{annotation(typing.get_args(kind)[0])}]"
    return tidy(kind if isinstance(kind, str) else inspect.formatannotation(kind))


def tidy(text: str) -> str:
    """No module paths (``torch.Tensor``), no memory addresses, no quotes round annotations."""
    text = re.sub(r"<(function|class|object) ?'?([\w.]+)'?[^>]*>", r"\2", text)
    return re.sub(r"\b(?:[a-z_]+\w*\.)+(?=[A-Za-z_])", "", text)


def main(arguments: list[str] | None = None) -> int:
    """Write the page, or with --check compare it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing; exit 1 where the page is old")
    check = parser.parse_args(arguments).check
    now = page()
    if not check:
        PAGE.write_text(now, encoding="utf-8")
        print(f"wrote {PAGE}")
        return 0
    same = PAGE.is_file() and PAGE.read_text(encoding="utf-8") == now
    print("docs/api.md is as the package" if same else "docs/api.md is old; run: python tools/api_page.py")
    return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main())
