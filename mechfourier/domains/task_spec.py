"""Tasks of a domain: questions with one right answer each, as wordings with placeholders.

A task is asked of every value. ``{value}`` is the value asked about, ``{value-2}`` and ``{value+1}`` its
neighbours on the cycle, ``{offset}`` what is added to it. The right answer of a ``successor`` task is the
next value, of a ``predecessor`` task the one before, of an ``arithmetic`` task value + offset.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

TaskKind = Literal["arithmetic", "successor", "predecessor"]
KINDS: tuple[str, ...] = get_args(TaskKind)
STEP = {"successor": 1, "predecessor": -1}
NATIVE = "arithmetic"
"""The name of the task that an ``[operation]`` table stands for."""

PLACEHOLDER = re.compile(r"\{(value|offset|answer)([+-][1-9])?\}")
Span = tuple[int, int]


@dataclass(frozen=True)
class Operation:
    """value + offset on the cycle. ``templates`` hold ``{value}`` and ``{offset}``; ``answers[c]`` is the
    text (with its leading blank) that follows the prompt when the result is value number c. ``fallback`` are
    wordings for models that can express none of ``templates``: those that the toy models were trained on,
    which put the value first."""

    templates: tuple[str, ...]
    answers: tuple[str, ...]
    fallback: tuple[str, ...] = ()

    @property
    def wordings(self) -> tuple[str, ...]:
        """All wordings, in the order in which a model tries them."""
        return self.templates + self.fallback


@dataclass(frozen=True)
class TaskSpec:
    """One task of a domain. ``answers[c]`` is the whole text that follows the prompt when the result is
    number c (its leading blank included where there is one).

    ``example`` is the wording of one example and ``examples`` how many are put before each question, apart by
    ``separator``; they are drawn ``draws`` times, with a seed, and never hold the pair that is asked.
    ``chat``: the tokenizer's chat template goes round the prompt.
    """

    name: str
    kind: TaskKind
    templates: tuple[str, ...]
    answers: tuple[str, ...]
    example: str | None = None
    examples: int = 0
    separator: str = " "
    draws: int = 1
    chat: bool = False

    @property
    def step(self) -> int:
        """Steps from the value to the answer (0 for arithmetic, whose offset says so)."""
        return STEP.get(self.kind, 0)

    @property
    def plain_answers(self) -> tuple[str, ...]:
        """The answers without their leading blank, as examples name them."""
        return tuple(answer.removeprefix(" ") for answer in self.answers)


def native_task(operation: Operation) -> TaskSpec:
    """An ``[operation]`` as a task."""
    return TaskSpec(NATIVE, "arithmetic", operation.wordings, operation.answers)


def placeholders(template: str) -> list[str]:
    """All that stands in braces, and every single brace."""
    return re.findall(r"\{[^{}]*\}|[{}]", template)


def neighbours(template: str) -> tuple[int, ...]:
    """The steps k of every ``{value+k}`` of a wording."""
    return tuple(int(step) for name, step in PLACEHOLDER.findall(template) if name == "value" and step)


def fill(
    template: str, values: Sequence[str], value: int, *, offset: int | None = None, answer: str | None = None
) -> tuple[str, Span]:
    """A wording with its placeholders filled, and the characters of ``{value}`` in it.

    ``value`` is the number of the value asked about; neighbours run round the cycle.
    """
    text, end, span = "", 0, (0, 0)
    for match in PLACEHOLDER.finditer(template):
        text += template[end : match.start()]
        name, step = match[1], int(match[2] or 0)
        word = {
            "value": values[(value + step) % len(values)],
            "offset": str(offset),
            "answer": str(answer),
        }[name]
        if name == "value" and not step:
            span = (len(text), len(text) + len(word))
        text, end = text + word, match.end()
    return text + template[end:], span
