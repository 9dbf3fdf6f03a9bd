"""Domain files: TOML to `Domain`, in three stages: parse (tomllib), check (`_Checker`: every complaint names
the line and the key), build.

tomllib keeps no positions, so the line of a complaint is looked up in the text.
"""

import re
import tomllib
from collections import Counter
from typing import Any, NoReturn

from mechfourier.domains.task_file import TaskChecker
from mechfourier.domains.task_spec import Operation, TaskSpec, native_task, placeholders
from mechfourier.errors import CONTROL, DomainSchemaError, nearest

MIN_VALUES = 3
MIN_TEMPLATES = 8


def parse(text: str, *, name: str, where: str, source: str) -> dict[str, Any]:
    """The fields of a domain, parsed and checked. ``where`` is what errors call the file; raises
    ``DomainSchemaError``."""
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise DomainSchemaError(f"{where} is not valid TOML: {error}") from error
    except (ValueError, RecursionError) as error:  # a number of thousands of digits, brackets without end
        raise DomainSchemaError(f"{where} holds more than a domain file may: {error}") from error
    if CONTROL.search(name):
        raise DomainSchemaError(f"the file name of the domain {name!r} holds a control character; rename it")
    return _Checker(text, where).domain(table, name, source)


class _Checker:
    """Checks one parsed file. A ``section`` is ``"operation"`` or ``"task[1]"`` (the second ``[[task]]``)."""

    TOP = ("title", "unit", "n", "position", "cyclic", "values", "templates", "operation", "task")
    OPERATION = ("templates", "fallback", "answers")

    def __init__(self, text: str, where: str) -> None:
        self.lines, self.where = text.splitlines(), where

    def domain(self, table: dict[str, Any], name: str, source: str) -> dict[str, Any]:
        self.known_keys(table, self.TOP, "")
        title, unit = self.string(table, "title"), self.string(table, "unit")
        values = self.strings(table, "values", "", least=MIN_VALUES)
        self.cycle(table, len(values))
        for value in values:
            if placeholders(value):
                self.fail("values", f"value {value!r} holds a brace", item=value)
        position = table.get("position", "value")
        if position not in ("value", "last"):
            self.fail("position", f"position is {position!r}; it must be 'value' or 'last'")
        cyclic = self.flag(table, "cyclic", "", default=True)
        templates = self.templates(table, "templates", "", ("value",), least=MIN_TEMPLATES)
        if position == "value":
            self.distinct_prefixes(templates)
        operation = self.operation(table, values, cyclic)
        tasks = self.tasks(table, values, operation, cyclic)
        return dict(
            name=name,
            title=title,
            unit=unit,
            values=values,
            templates=templates,
            operation=operation,
            position=position,
            source=source,
            tasks=tasks,
            cyclic=cyclic,
        )

    def operation(self, table: dict[str, Any], values: tuple[str, ...], cyclic: bool) -> Operation | None:
        if "operation" not in table:
            return None
        inner = table["operation"]
        if not isinstance(inner, dict):
            self.fail("operation", "operation must be a table: [operation] with templates = [...]")
        if not cyclic:
            self.fail("operation", "operation runs round a cycle; with cyclic = false write a [[task]]")
        self.known_keys(inner, self.OPERATION, "operation")
        templates = self.templates(inner, "templates", "operation", ("value", "offset"), least=1)
        fallback: tuple[str, ...] = ()
        if "fallback" in inner:
            fallback = self.templates(inner, "fallback", "operation", ("value", "offset"), least=1)
        answers = values
        if "answers" in inner:
            answers = self.strings(inner, "answers", "operation", least=1)
            if len(answers) != len(values):
                self.fail("answers", f"{len(answers)} answers for {len(values)} values", "operation")
        return Operation(templates, tuple(f" {answer}" for answer in answers), fallback)

    def tasks(
        self, table: dict[str, Any], values: tuple[str, ...], operation: Operation | None, cyclic: bool
    ) -> tuple[TaskSpec, ...]:
        """The operation as a task, then the ``[[task]]`` tables in their order."""
        found = [] if operation is None else [native_task(operation)]
        listed = table.get("task", [])
        if not isinstance(listed, list) or not all(isinstance(item, dict) for item in listed):
            self.fail("task", "task must be a list of tables, each under [[task]]")
        for index, inner in enumerate(listed):
            spec = TaskChecker(self, f"task[{index}]", inner, values, cyclic).task()
            if spec.name in [other.name for other in found]:
                self.fail("name", f"two tasks are called {spec.name!r}", f"task[{index}]")
            found.append(spec)
        return tuple(found)

    def known_keys(self, table: dict[str, Any], known: tuple[str, ...], section: str) -> None:
        for key in table:
            if key not in known:
                self.fail(key, f"unknown key {key!r}; closest: {nearest(key, known)}", section)

    def cycle(self, table: dict[str, Any], count: int) -> None:
        n = table.get("n", count)
        if not isinstance(n, int) or isinstance(n, bool) or n != count:
            self.fail("n", f"n is {n!r}, and there are {count} values; n is the number of values")

    def flag(self, table: dict[str, Any], key: str, section: str, *, default: bool) -> bool:
        value = table.get(key, default)
        if not isinstance(value, bool):
            self.fail(key, f"{key} is {value!r}; it must be true or false", section)
        return value

    def string(self, table: dict[str, Any], key: str, section: str = "") -> str:
        value = table.get(key)
        if not isinstance(value, str) or not value.strip():
            message = "must be a text that is not empty" if key in table else "is missing (a text)"
            self.fail(key, message, section)
        if CONTROL.search(value):
            self.fail(key, f"{value!r} holds a control character", section)
        return value

    def strings(
        self, table: dict[str, Any], key: str, section: str, *, least: int, newline: bool = False
    ) -> tuple[str, ...]:
        """A list of different texts without blanks at their ends (``newline``: they may end in one)."""
        if key not in table:
            self.fail(key, f"is missing (a list of at least {least} texts)", section)
        items = table[key]
        if not isinstance(items, list) or not all(isinstance(item, str) for item in items):
            self.fail(key, "must be a list of texts in quotes", section)
        times = Counter(items)
        for item in items:
            bare = item.rstrip("\n") if newline else item
            if not bare or bare != bare.strip():
                self.fail(key, f"{item!r} is empty or has blanks at its ends", section, item)
            if CONTROL.search(re.sub(r"[\n\t]", "", item)):
                self.fail(key, f"{item!r} holds a control character", section, item)
            if times[item] > 1:
                self.fail(key, f"{item!r} is there {times[item]} times", section, item)
        if len(items) < least:
            self.fail(key, f"{len(items)} given, at least {least} needed", section)
        return tuple(items)

    def templates(
        self, table: dict[str, Any], key: str, section: str, holders: tuple[str, ...], *, least: int
    ) -> tuple[str, ...]:
        """Texts in which every placeholder of ``holders`` stands exactly once, and nothing else in braces."""
        templates = self.strings(table, key, section, least=least)
        wanted = sorted(f"{{{holder}}}" for holder in holders)
        for template in templates:
            if (found := sorted(placeholders(template))) != wanted:
                message = f"{template!r} must hold {' and '.join(wanted)} once each and no other brace"
                self.fail(key, f"{message}; it holds {', '.join(found) or 'none'}", section, template)
        return templates

    def distinct_prefixes(self, templates: tuple[str, ...]) -> None:
        """A causal model sees only the text before the value: the same text twice is one template, not
        two."""
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
        start = self.start_of(section)
        line = self.find(
            rf"""(["']?{re.escape(key)}["']?\s*(=|\.)|\[+\s*["']?{re.escape(key)}["']?\s*\])""", start
        )
        if line is None:
            return start + 1
        # TOML may write a character in another way than Python's text has it (an escaped newline or quote)
        plain = None if item is None else re.escape(item.split("\n")[0].split('"')[0])
        inside = None if not plain else self.find(f".*{plain}", line)
        return (line if inside is None else inside) + 1

    def start_of(self, section: str) -> int:
        """The line (from 0) of a section's header; 0 for the top and for a header written in another way."""
        if not section:
            return 0
        name, _, index = section.partition("[")
        line: int | None = -1
        for _ in range(int(index.rstrip("]")) + 1 if index else 1):
            line = None if line is None else self.find(rf"\[+\s*{name}\s*\]", line + 1)
        return line or 0

    def find(self, pattern: str, start: int) -> int | None:
        compiled = re.compile(rf"\s*{pattern}")
        return next((i for i in range(start, len(self.lines)) if compiled.match(self.lines[i])), None)
