"""Domains: quantities that live on a cycle, with the sentences that make a model think of them.

A domain is a small TOML file (``mechfourier/data/domains``; the format is in docs/domains.md) or ``mod-N``,
which is generated. Reading is three stages: parse (tomllib), check (`_Checker`: every complaint names the
line and the key), build (`Domain`).
"""

import os
import re
import tomllib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NoReturn

from mechfourier.errors import DomainSchemaError, OutOfRange, UnknownDomain, nearest

if TYPE_CHECKING:
    from mechfourier.probes.design import Design

Position = Literal["value", "last"]

MIN_VALUES = 3
MIN_TEMPLATES = 8
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
# Quantities inside an addition, at a significance: digit-sum-mod-10@2 is that of the hundreds.
_ADDITION = re.compile(
    r"(digit-a|digit-b|digit-sum-mod-10|carry-in|carry-out|significance)(?:@([0-9]{1,9}))?"
)
_PLACEHOLDER = re.compile(r"\{[^{}]*\}|[{}]")


@dataclass(frozen=True)
class Operation:
    """``templates`` hold ``{value}`` and ``{offset}``; ``answers[c]`` is the text (with its leading space) that
    follows the prompt when the result is value number c."""

    templates: tuple[str, ...]
    answers: tuple[str, ...]


@dataclass(frozen=True)
class Domain:
    """``n`` values on a cycle, in order: value number v is followed by (v + 1) mod n.

    ``unit`` is the plural name of one step ("days"). ``position`` is where value prompts are read: at the value's
    last token (``"value"``) or at the prompt's last token (``"last"``). ``source`` is ``"packaged"``,
    ``"generated"`` or the path of a file.
    """

    name: str
    title: str
    unit: str
    values: tuple[str, ...]
    templates: tuple[str, ...]
    operation: Operation | None
    position: Position = "value"
    source: str = "packaged"

    @property
    def n(self) -> int:
        """Length of the cycle."""
        return len(self.values)

    def value_design(self, *, position: str | None = None) -> "Design":
        """Every value in every template: see `mechfourier.probes.design.value_design`."""
        from mechfourier.probes.design import value_design

        return value_design(self, position=position)

    def operation_design(self, cycles: int = 4, *, template: int = 0) -> "Design":
        """Every value with offsets 0 to cycles·n − 1: see `mechfourier.probes.design.operation_design`."""
        from mechfourier.probes.design import operation_design

        return operation_design(self, cycles, template=template)


def domain(name_or_path: str | Path) -> Domain:
    """A packaged domain (``"months"``), a generated one (``"mod-23"``; ``"carry-in@2"`` for the adder) or your own (``"mine.toml"``).

    Raises ``UnknownDomain``, ``OutOfRange`` (``mod-N`` with N outside 2..200) or ``DomainSchemaError``.
    """
    text = str(name_or_path)
    key = text.strip().lower().replace("_", "-")
    if key in _packaged():
        return _packaged()[key]
    if found := _MODULUS.fullmatch(text.strip()):
        return modular(int(found[1]))
    if found := _ADDITION.fullmatch(key):
        from mechfourier.probes.adder.domains import adder_domain

        return adder_domain(found[1], place=int(found[2] or 2))
    path = Path(name_or_path).expanduser()
    if os.path.isfile(path):  # noqa: PTH113  (Path's own raises for a name longer than any file's)
        return read_domain(path)
    if path.suffix == ".toml" or "/" in text:
        raise UnknownDomain(f"no domain file {text!r}; give the path of a .toml file, or one of: {_names()}")
    raise UnknownDomain(
        f"no domain {text!r}; closest: {nearest(text, [*_packaged(), 'mod-N'])}. "
        "List them with: mechfourier domains"
    )


def list_domains() -> tuple[Domain, ...]:
    """The packaged domains in the order of their names (``mod-N`` is generated on request, so it is not here)."""
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
    operation = Operation((f"{{value}} + {{offset}} mod {n} =",), tuple(f" {v}" for v in values))
    return Domain(
        f"mod-{n}", f"numbers modulo {n}", "steps", values, NUMBER_TEMPLATES, operation, source="generated"
    )


def read_domain(path: str | Path) -> Domain:
    """A domain from a TOML file of one's own; raises ``DomainSchemaError`` naming the line and the key."""
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise DomainSchemaError(
            f"{path} is not UTF-8 text (byte {error.start}); save it as UTF-8 TOML"
        ) from error
    except OSError as error:
        raise UnknownDomain(f"cannot read the domain file {path}: {error.strerror}") from error
    return parse_domain(text, name=path.stem, where=str(path), source=str(path))


def parse_domain(text: str, *, name: str, where: str, source: str) -> Domain:
    """Parse, check, build. ``where`` is what errors call the file."""
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise DomainSchemaError(f"{where} is not valid TOML: {error}") from error
    except (ValueError, RecursionError) as error:  # a number of thousands of digits, brackets without end
        raise DomainSchemaError(f"{where} holds more than a domain file may: {error}") from error
    return _Checker(text, where).domain(table, name, source)


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


class _Checker:
    """Checks one parsed file. tomllib keeps no positions, so the line of a complaint is looked up in the text."""

    TOP = ("title", "unit", "n", "position", "values", "templates", "operation")
    OPERATION = ("templates", "answers")

    def __init__(self, text: str, where: str) -> None:
        self.lines, self.where = text.splitlines(), where

    def domain(self, table: dict[str, Any], name: str, source: str) -> Domain:
        self.known_keys(table, self.TOP, "")
        title, unit = self.string(table, "title"), self.string(table, "unit")
        values = self.strings(table, "values", "", least=MIN_VALUES)
        self.cycle(table, len(values))
        for value in values:
            if _PLACEHOLDER.search(value):
                self.fail("values", f"value {value!r} holds a brace", item=value)
        position = table.get("position", "value")
        if position not in ("value", "last"):
            self.fail("position", f"position is {position!r}; it must be 'value' or 'last'")
        templates = self.templates(table, "", ("value",), least=MIN_TEMPLATES)
        if position == "value":
            self.distinct_prefixes(templates)
        operation = self.operation(table, values)
        return Domain(name, title, unit, values, templates, operation, position, source)

    def operation(self, table: dict[str, Any], values: tuple[str, ...]) -> Operation | None:
        if "operation" not in table:
            return None
        inner = table["operation"]
        if not isinstance(inner, dict):
            self.fail("operation", "operation must be a table: [operation] with templates = [...]")
        self.known_keys(inner, self.OPERATION, "operation")
        templates = self.templates(inner, "operation", ("value", "offset"), least=1)
        answers = values
        if "answers" in inner:
            answers = self.strings(inner, "answers", "operation", least=1)
            if len(answers) != len(values):
                self.fail("answers", f"{len(answers)} answers for {len(values)} values", "operation")
        return Operation(templates, tuple(f" {answer}" for answer in answers))

    def known_keys(self, table: dict[str, Any], known: tuple[str, ...], section: str) -> None:
        for key in table:
            if key not in known:
                self.fail(key, f"unknown key {key!r}; closest: {nearest(key, known)}", section)

    def cycle(self, table: dict[str, Any], count: int) -> None:
        n = table.get("n", count)
        if not isinstance(n, int) or isinstance(n, bool) or n != count:
            self.fail("n", f"n is {n!r}, and there are {count} values; n is the number of values")

    def string(self, table: dict[str, Any], key: str) -> str:
        value = table.get(key)
        if not isinstance(value, str) or not value.strip():
            self.fail(key, "must be a text that is not empty" if key in table else "is missing (a text)")
        return value

    def strings(self, table: dict[str, Any], key: str, section: str, *, least: int) -> tuple[str, ...]:
        """A list of different texts without blanks at their ends."""
        if key not in table:
            self.fail(key, f"is missing (a list of at least {least} texts)", section)
        items = table[key]
        if not isinstance(items, list) or not all(isinstance(item, str) for item in items):
            self.fail(key, "must be a list of texts in quotes", section)
        for item in items:
            if not item or item != item.strip():
                self.fail(key, f"{item!r} is empty or has blanks at its ends", section, item)
            if items.count(item) > 1:
                self.fail(key, f"{item!r} is there {items.count(item)} times", section, item)
        if len(items) < least:
            self.fail(key, f"{len(items)} given, at least {least} needed", section)
        return tuple(items)

    def templates(
        self, table: dict[str, Any], section: str, holders: tuple[str, ...], *, least: int
    ) -> tuple[str, ...]:
        """Texts in which every placeholder of ``holders`` stands exactly once, and nothing else in braces."""
        templates = self.strings(table, "templates", section, least=least)
        wanted = sorted(f"{{{holder}}}" for holder in holders)
        for template in templates:
            if (found := sorted(_PLACEHOLDER.findall(template))) != wanted:
                message = f"{template!r} must hold {' and '.join(wanted)} once each and no other brace"
                self.fail("templates", f"{message}; it holds {', '.join(found) or 'none'}", section, template)
        return templates

    def distinct_prefixes(self, templates: tuple[str, ...]) -> None:
        """A causal model sees only the text before the value: the same text twice is one template, not two."""
        seen: dict[str, str] = {}
        for template in templates:
            prefix = template.partition("{value}")[0]
            if prefix in seen:
                message = f"{template!r} and {seen[prefix]!r} have the same text before {{value}}"
                self.fail("templates", f"{message}: a causal model reads them as one", item=template)
            seen[prefix] = template

    def fail(self, key: str, message: str, section: str = "", item: str | None = None) -> NoReturn:
        line = self.line_of(key, section, item)
        full = f"{section}.{key}" if section else key
        raise DomainSchemaError(f"{self.where}, line {line}, key {full}: {message}")

    def line_of(self, key: str, section: str, item: str | None) -> int:
        """Line of ``item`` within ``key``, else of the key, else of its section, else 1."""
        start = self.find(rf"\[\s*{section}\s*\]", 0) if section else 0
        if start is None:
            start = 0
        line = self.find(
            rf"""(["']?{re.escape(key)}["']?\s*(=|\.)|\[\s*["']?{re.escape(key)}["']?\s*\])""", start
        )
        if line is None:
            return start + 1
        inside = None if item is None else self.find(f".*{re.escape(item)}", line)
        return (line if inside is None else inside) + 1

    def find(self, pattern: str, start: int) -> int | None:
        compiled = re.compile(rf"\s*{pattern}")
        return next((i for i in range(start, len(self.lines)) if compiled.match(self.lines[i])), None)
