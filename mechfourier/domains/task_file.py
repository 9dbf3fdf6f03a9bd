"""The ``[[task]]`` tables of a domain file: what they may hold, and what each complaint says."""

from typing import TYPE_CHECKING, Any, NoReturn

from mechfourier.domains.task_spec import (
    KINDS,
    STEP,
    TaskKind,
    TaskSpec,
    neighbours,
    placeholders,
)
from mechfourier.errors import nearest

if TYPE_CHECKING:
    from mechfourier.domains.file import _Checker

KEYS = (
    "name",
    "kind",
    "templates",
    "answers",
    "blank",
    "example",
    "examples",
    "separator",
    "draws",
    "chat",
)
MOST_DRAWS = 100
OPENERS = ("\n", '"', "'", "“", "‘", "«", "(", "[")  # after these an answer starts without a blank


class TaskChecker:
    """Checks one table; ``checker`` has the text, and its ``fail`` names the line and the key."""

    def __init__(
        self,
        checker: "_Checker",
        section: str,
        table: dict[str, Any],
        values: tuple[str, ...],
        cyclic: bool,
    ) -> None:
        self.checker, self.section, self.table = checker, section, table
        self.values, self.cyclic = values, cyclic

    def task(self) -> TaskSpec:
        """The table as a task."""
        self.checker.known_keys(self.table, KEYS, self.section)
        name = self.checker.string(self.table, "name", self.section)
        kind = self.kind()
        templates = self.checker.strings(self.table, "templates", self.section, least=1, newline=True)
        for template in templates:
            self.wording("templates", template, kind)
        chat = self.checker.flag(self.table, "chat", self.section, default=False)
        blank = " " if self.blank(templates, chat) else ""
        example, examples = self.example(kind)
        return TaskSpec(
            name=name,
            kind=kind,
            templates=templates,
            answers=tuple(f"{blank}{answer}" for answer in self.answers(kind)),
            example=example,
            examples=examples,
            separator=self.separator(),
            draws=self.draws(examples),
            chat=chat,
        )

    def kind(self) -> TaskKind:
        kind = self.checker.string(self.table, "kind", self.section)
        if kind not in KINDS:
            self.fail("kind", f"kind is {kind!r}; closest: {nearest(kind, KINDS)}")
        if kind == "predecessor" and not self.cyclic:
            self.fail("kind", "with cyclic = false the first value has no predecessor; use successor")
        return kind  # type: ignore[return-value]

    def wording(self, key: str, template: str, kind: TaskKind) -> None:
        """``{value}`` once; ``{offset}`` once in arithmetic; neighbours elsewhere, but never the answer."""
        found = placeholders(template)
        allowed = {"{value}"} | ({"{offset}"} if kind == "arithmetic" else set())
        allowed |= {"{answer}"} if key == "example" else set()
        for holder in sorted(allowed):
            if found.count(holder) != 1:
                self.fail(
                    key,
                    f"{template!r} must hold {holder} once; it holds {', '.join(found) or 'none'}",
                    template,
                )
        steps = neighbours(template)
        strange = [f for f in found if f not in allowed and f not in {f"{{value{k:+d}}}" for k in steps}]
        if strange:
            self.fail(key, f"{template!r} holds {strange[0]}, which means nothing here", template)
        if not steps:
            return
        if kind == "arithmetic" or not self.cyclic or key == "example":
            self.fail(
                key,
                f"{template!r} holds {{value{steps[0]:+d}}}; neighbours are for templates of "
                "successor and predecessor tasks of a cycle",
                template,
            )
        for k in steps:
            if (k - STEP[kind]) % len(self.values) == 0:
                self.fail(key, f"{template!r} holds {{value{k:+d}}}, which is the answer", template)

    def answers(self, kind: TaskKind) -> tuple[str, ...]:
        """What follows the prompts, without blanks. Results of a domain that is no cycle may run past its
        values."""
        needed = len(self.values)
        if not self.cyclic:
            needed += 1
        if "answers" not in self.table:
            if not self.cyclic:
                self.fail(
                    "answers",
                    f"is missing: with cyclic = false results run past the values (at least {needed} texts)",
                )
            return self.values
        found = self.checker.strings(self.table, "answers", self.section, least=1)
        if self.cyclic and len(found) != needed:
            self.fail("answers", f"{len(found)} answers for {needed} values")
        if not self.cyclic and (len(found) < needed or (kind == "successor" and len(found) != needed)):
            wanted = f"{needed}" if kind == "successor" else f"at least {needed}"
            self.fail(
                "answers", f"{len(found)} answers; results 0, 1, … of {len(self.values)} values need {wanted}"
            )
        return found

    def blank(self, templates: tuple[str, ...], chat: bool) -> bool:
        """Whether a blank stands before the answers: as the file says, else by what the templates end in."""
        if "blank" in self.table:
            return self.checker.flag(self.table, "blank", self.section, default=True)
        without = {chat or template.endswith(OPENERS) for template in templates}
        if len(without) > 1:
            self.fail(
                "templates",
                "some end in a newline, a quote or a bracket and some do not: say blank = true or "
                "false, or make two tasks",
            )
        return not without.pop()

    def example(self, kind: TaskKind) -> tuple[str | None, int]:
        """The wording of an example and how many there are before each question."""
        if "example" not in self.table:
            if "examples" in self.table:
                self.fail("example", "is missing: how one example is written, with {value} and {answer}")
            return None, 0
        example = self.checker.string(self.table, "example", self.section)
        self.wording("example", example, kind)
        most = len(self.values) - 1
        count: Any = self.table.get("examples", 2)
        if count == "all" and kind != "arithmetic":
            return example, most
        if not isinstance(count, int) or isinstance(count, bool) or not 1 <= count <= most:
            every = "" if kind == "arithmetic" else ' or "all"'
            self.fail("examples", f"examples is {count!r}; it must be 1 to {most}{every}")
        return example, int(count)

    def separator(self) -> str:
        found: Any = self.table.get("separator", " ")
        if not isinstance(found, str) or not found or found.strip():
            self.fail("separator", f"separator is {found!r}; it must be blanks or newlines")
        return found

    def draws(self, examples: int) -> int:
        found: Any = self.table.get("draws", 3 if 0 < examples < len(self.values) - 1 else 1)
        if not isinstance(found, int) or isinstance(found, bool) or not 1 <= found <= MOST_DRAWS:
            self.fail("draws", f"draws is {found!r}; it must be 1 to {MOST_DRAWS}")
        if found > 1 and not 0 < examples < len(self.values) - 1:
            self.fail("draws", "there is nothing to draw: draws needs examples, fewer than all others")
        return found

    def fail(self, key: str, message: str, item: str | None = None) -> NoReturn:
        self.checker.fail(key, message, self.section, item)
