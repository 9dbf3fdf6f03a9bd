"""Domains: quantities that live on a cycle, with the sentences that make a model think of them.

A domain is a small TOML file (``mechfourier/data/domains``; the format is in docs/domains.md, the reader in
`mechfourier.domains.file`) or ``mod-N``, which is generated.
"""

import os
import re
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

from mechfourier._arguments import checked
from mechfourier.domains.file import parse
from mechfourier.domains.quantity import Quantity
from mechfourier.domains.task_spec import Operation, native_task
from mechfourier.errors import DomainSchemaError, OutOfRange, UnknownDomain, nearest
from mechfourier.files import own_path, read_text
from mechfourier.models.architectures import with_part

if TYPE_CHECKING:
    from mechfourier.domains.design import Design
    from mechfourier.models.interface import Readable

MODULI = (2, 200)
NUMBER_TEMPLATES = (
    "The number {value}",
    "The number is {value}",
    "The answer is {value}",
    "The result is {value}",
    "There are {value} books",
    "Open the book at page {value}",
    "She counts to {value}",
    "Room {value}",
    "We live in house {value}",
    "Take the bus {value}",
)
_MODULUS = re.compile(r"mod[-_ ]?([0-9]{1,9})", re.IGNORECASE)


@dataclass(frozen=True)
class Domain(Quantity):
    """A quantity that lives on a cycle, and the designs that ask a model about it."""

    def value_design(self, *, position: str | None = None) -> "Design":
        """Every value in every template: see `mechfourier.domains.design.value_design`."""
        from mechfourier.domains.design import value_design

        return value_design(self, position=position)

    def operation_design(
        self, cycles: int = 4, *, template: int = 0, model: "Readable | None" = None
    ) -> "Design":
        """Every value with offsets 0 to cycles·n − 1: see `mechfourier.domains.design.operation_design`. With
        a ``model``: in the first wording that it can express, and over as many cycles."""
        from mechfourier.domains.design import max_cycles, operation_design

        if model is None:
            return operation_design(self, cycles, template=template)
        possible = max_cycles(self, model, cycles)
        return operation_design(self, possible.cycles, template=possible.template)


@checked
def domain(name_or_path: Domain | str | Path) -> Domain:
    """A packaged domain (``"months"``), a generated one (``"mod-23"``; ``"carry-in@2"`` for the adder) or
    your own (``"mine.toml"``).

    A ``Domain`` is returned as it is: every function that takes one takes its name too.

    Raises ``UnknownDomain``, ``OutOfRange`` (``mod-N`` with N outside 2..200) or ``DomainSchemaError``.
    """
    if isinstance(name_or_path, Domain):
        return name_or_path
    text = str(name_or_path)
    key = text.strip().lower().replace("_", "-")
    if key in _packaged():
        return _packaged()[key]
    if found := _MODULUS.fullmatch(text.strip()):
        return modular(int(found[1]))
    if (found := _of_a_network(key)) is not None:
        return found
    path = own_path(name_or_path)
    if os.path.isfile(path):  # noqa: PTH113  (Path's own raises for a name longer than any file's)
        return read_domain(path)
    if path.suffix == ".toml" or "/" in text:
        raise UnknownDomain(f"no domain file {text!r}; give the path of a .toml file, or one of: {_names()}")
    raise UnknownDomain(
        f"no domain {text!r}; closest: {nearest(text, [*_packaged(), 'mod-N'])}. "
        "List them with: mechfourier domains"
    )


def parse_domain(text: str, *, name: str, where: str, source: str) -> Domain:
    """A domain from the text of its file; ``where`` is what errors call it. Raises ``DomainSchemaError``."""
    return Domain(**parse(text, name=name, where=where, source=source))


def _of_a_network(name: str) -> Domain | None:
    """A domain that only a network's own architecture knows (``carry-in@2``); None where none knows it."""
    for record in with_part("domains"):
        for pattern in record.domains:
            if re.fullmatch(pattern, name):
                return record.part("domains", pattern)(name)
    return None


def list_domains() -> tuple[Domain, ...]:
    """The packaged domains in the order of their names (``mod-N`` is generated on request, so it is not
    here)."""
    return tuple(_packaged().values())


@cache
def modular(n: int) -> Domain:
    """Numbers 0 to n − 1 with "a + b mod n ="; raises ``OutOfRange`` unless 2 ≤ n ≤ 200."""
    low, high = MODULI
    if not low <= n <= high:
        raise OutOfRange(
            f"mod-{n} is out of range; N runs from {low} to {high} (closest: mod-{min(max(n, low), high)})"
        )
    values = tuple(str(v) for v in range(n))
    question = f"{{value}} + {{offset}} mod {n} ="
    operation = Operation((f"Compute {question}",), tuple(f" {v}" for v in values), (question,))
    return Domain(
        f"mod-{n}",
        f"numbers modulo {n}",
        "steps",
        values,
        NUMBER_TEMPLATES,
        operation,
        source="generated",
        tasks=(native_task(operation),),
    )


def read_domain(path: str | Path) -> Domain:
    """A domain from a TOML file of one's own; raises ``DomainSchemaError`` naming the line and the key."""
    path = Path(path)
    try:
        text = read_text(path)
    except UnicodeDecodeError as error:
        raise DomainSchemaError(
            f"{path} is not UTF-8 text (byte {error.start}); save it as UTF-8 TOML"
        ) from error
    except OSError as error:
        raise UnknownDomain(f"cannot read the domain file {path}: {error.strerror}") from error
    return parse_domain(text, name=path.stem, where=str(path), source=str(path))


@cache
def _packaged() -> dict[str, Domain]:
    folder = files("mechfourier") / "data" / "domains"
    found = sorted((f for f in folder.iterdir() if f.name.endswith(".toml")), key=lambda f: f.name)
    return {
        (name := f.name.removesuffix(".toml")): parse_domain(
            f.read_text(encoding="utf-8"), name=name, where=f.name, source="packaged"
        )
        for f in found
    }


def _names() -> str:
    return ", ".join([*_packaged(), "mod-N"])
