"""Designs: the prompts of a domain as a grid, with labels, spans to read and the confounds of every cell."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor

from mechfourier.domains.quantity import Quantity
from mechfourier.domains.task_spec import Operation, Span, TaskSpec, fill
from mechfourier.errors import NotExpressible, OutOfRange, UsageError
from mechfourier.models.interface import Encoding, Readable, encode

MOST_CELLS = 2_000_000
"""Prompts of an operation grid: more would take gigabytes before the first pass."""

MIN_TESTABLE = 5
"""With fewer values a circle and a constant use up all degrees of freedom: the verdict is ``not testable``."""


@dataclass(frozen=True, eq=False)
class Design:
    """Prompts in row-major order over a grid of ``shape``.

    ``kind="value"``: shape (n, T), value × template; ``template`` is set, ``offset`` is None, ``label`` is
    ``value``. ``kind="operation"``: shape (n, n_offsets), a × offset; ``value`` (also called ``a``) and
    ``offset`` are set, and ``label`` is (a + offset) mod n. ``kind="task"``: shape (n, columns), value asked
    about × wording (template, drawn examples, and offset in arithmetic: ``offset`` is None for successors);
    ``template`` is set; ``label`` is the number of the right candidate. ``spans[i]`` are the characters of
    prompt i to read (half open), or None for the prompt's last token. ``answers[i]`` is the right
    continuation of prompt i (None for value designs); ``candidates`` are the answers in the order of the
    values. ``operand[i]`` are the characters of the value that prompt i asks about, ``task`` what is asked,
    ``wordings`` the templates.
    """

    kind: Literal["value", "operation", "task"]
    domain: Quantity
    prompts: tuple[str, ...]
    shape: tuple[int, int]
    spans: tuple[tuple[int, int], ...] | None
    answers: tuple[str, ...] | None
    candidates: tuple[str, ...]
    value: Int[Tensor, " prompt"]
    template: Int[Tensor, " prompt"] | None
    offset: Int[Tensor, " prompt"] | None
    label: Int[Tensor, " prompt"]
    operand: tuple[Span, ...] | None = None
    task: TaskSpec | None = None
    wordings: tuple[str, ...] = ()

    @property
    def n(self) -> int:
        """Length of the cycle."""
        return self.domain.n

    @property
    def n_answers(self) -> int:
        """Number of candidate answers: n, or more where results run past the values of a domain that is no
        cycle."""
        return len(self.candidates)

    @property
    def wraps_at(self) -> int | None:
        """The number after which answers start again: n on a cycle, None for a domain that is none."""
        return self.domain.n if self.domain.cyclic else None

    def moved(self, rows: Int[Tensor, " row"], delta: Int[Tensor, " row"]) -> Int[Tensor, " row"]:
        """By how much the right answer of these prompts moves when the value asked about is another by
        ``delta`` steps round the values: ``delta`` on a cycle; less by n where a row of values starts again.
        """
        columns = self.shape[1]
        value, column = rows // columns, rows % columns
        other = ((value + delta) % self.n) * columns + column
        return self.shift(self.label[other] - self.label[rows])

    def shift(self, steps: Int[Tensor, " row"]) -> Int[Tensor, " row"]:
        """A difference of two answers' numbers: modulo n on a cycle."""
        return steps if self.wraps_at is None else steps % self.wraps_at

    @property
    def a(self) -> Int[Tensor, " prompt"]:
        """The first operand as the number of a value, 0 to n − 1."""
        return self.value

    @property
    def cycles(self) -> int:
        """How often the offsets run round the cycle (operation designs)."""
        if self.offset is None:
            return 0
        return int(self.offset.max()) // self.n + 1

    @property
    def wraps(self) -> Tensor:
        """Bool [prompt]: the answer lies beyond the last value (or before the first), so that it needs the
        cycle. For a domain that is no cycle: the result is none of the values. False in value designs."""
        step = 0 if self.task is None else self.task.step
        reached = self.value + (step if self.offset is None else self.offset)
        return (reached >= self.n) | (reached < 0)

    def __len__(self) -> int:
        return len(self.prompts)


def value_design(domain: Quantity, *, position: str | None = None) -> Design:
    """Every value in every template, read at ``position`` (None: what the domain says)."""
    where = position or domain.position
    if where not in ("value", "last"):
        raise OutOfRange(f"position {where!r} is neither 'value' nor 'last'")
    cells = [(value, template) for value in domain.values for template in domain.templates]
    starts = [template.index("{value}") for _, template in cells]
    spans = tuple((start, start + len(value)) for start, (value, _) in zip(starts, cells, strict=True))
    value, template = _grid(domain.n, len(domain.templates))
    return Design(
        kind="value",
        domain=domain,
        prompts=tuple(template.replace("{value}", value) for value, template in cells),
        shape=(domain.n, len(domain.templates)),
        spans=spans if where == "value" else None,
        answers=None,
        candidates=_candidates(domain),
        value=value,
        template=template,
        offset=None,
        label=value,
    )


def operation_design(domain: Quantity, cycles: int = 4, *, template: int = 0) -> Design:
    """Every value a with offsets 0 to cycles·n − 1, read at the prompt's last token ("=").

    One cycle is the classical n × n grid, on which a k = 1 circle cannot be told from a smooth function of
    the raw sum; four can. Raises ``UsageError`` for a domain without an operation, ``OutOfRange`` for bad
    ``cycles`` or ``template``.
    """
    operation = _operation(domain)
    if cycles < 1:
        raise OutOfRange(f"cycles is {cycles}; it must be 1 or more (4 tells a circle from a smooth sum)")
    if not 0 <= template < (count := len(operation.wordings)):
        raise OutOfRange(f"operation template {template} of {domain.name}; it has 0 to {count - 1}")
    n_offsets = cycles * domain.n
    if domain.n * n_offsets > MOST_CELLS:
        raise OutOfRange(
            f"{domain.n} values of {domain.name} and {n_offsets} offsets are {domain.n * n_offsets:,} prompts, and at most "
            f"{MOST_CELLS:,} are made; take fewer cycles, or a domain of fewer values"
        )
    a, offset = _grid(domain.n, n_offsets)
    label = (a + offset) % domain.n
    filled = [
        fill(operation.wordings[template], domain.values, v, offset=o)
        for v in range(domain.n)
        for o in range(n_offsets)
    ]
    return Design(
        kind="operation",
        domain=domain,
        prompts=tuple(text for text, _ in filled),
        shape=(domain.n, n_offsets),
        spans=None,
        answers=tuple(operation.answers[c] for c in label.tolist()),
        candidates=_candidates(domain),
        value=a,
        template=None,
        offset=offset,
        label=label,
        operand=tuple(span for _, span in filled),
        wordings=(operation.wordings[template],),
    )


def _operation(domain: Quantity) -> Operation:
    if domain.operation is None:
        raise UsageError(
            f"domain {domain.name!r} has no operation; add an [operation] table to {domain.source}"
        )
    return domain.operation


def _operation_prompt(domain: Quantity, value: int, offset: int, template: int = 0) -> str:
    return fill(_operation(domain).wordings[template], domain.values, value, offset=offset)[0]


def _candidates(domain: Quantity) -> tuple[str, ...]:
    return domain.operation.answers if domain.operation else tuple(f" {value}" for value in domain.values)


def _grid(rows: int, columns: int) -> tuple[Int[Tensor, " cell"], Int[Tensor, " cell"]]:
    row, column = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
    return rearrange(row, "r c -> (r c)"), rearrange(column, "r c -> (r c)")


def read_positions(design: Design, encodings: Sequence[Encoding]) -> Int[Tensor, " prompt"]:
    """Token index to read in every prompt: the last token that overlaps its span, or its last token with
    text. Raises ``NotExpressible`` where the tokens are the same for two values."""
    if len(encodings) != len(design.prompts):
        raise UsageError(
            f"{len(encodings)} encodings for {len(design.prompts)} prompts; encode design.prompts"
        )
    refuse_alike(design, torch.arange(len(design)), encodings)
    if design.spans is None:
        return torch.tensor([encoding.last for encoding in encodings])
    return torch.tensor([e.last_token_of(*span) for e, span in zip(encodings, design.spans, strict=True)])


def refuse_alike(design: Design, rows: Int[Tensor, " row"], encodings: Sequence[Encoding]) -> None:
    """Raise ``NotExpressible`` where prompts (``rows`` of the design) of two values in one template are the same tokens, as where a
    tokenizer drops case or accents: no model can tell such values apart."""
    values = design.domain.values
    places = [None if each is None else each[rows].tolist() for each in (design.template, design.offset)]
    seen: dict[tuple[Any, ...], int] = {}
    for i, (encoding, value) in enumerate(zip(encodings, design.value[rows].tolist(), strict=True)):
        other = seen.setdefault(
            (encoding.ids, *(None if each is None else each[i] for each in places)), value
        )
        if other != value:
            raise NotExpressible(
                f"the tokenizer reads {values[other]!r} and {values[value]!r} of {design.domain.name} as the same "
                f"tokens, so the model cannot tell them apart; leave one of them out"
            )


@dataclass(frozen=True)
class Cycles:
    """``cycles`` of the ``wanted`` ones that a model can express, with the first wording (``template``) that
    it has all words of; ``note`` is a sentence when they are fewer."""

    cycles: int
    wanted: int
    note: str | None = None
    template: int = 0


def max_cycles(domain: Quantity, model: Readable, wanted: int = 4) -> Cycles:
    """The largest number of cycles of offsets, up to ``wanted``, whose prompts ``model`` can express.

    A word-level tokenizer ends at some number, and a token model mod p knows b < p only (one cycle). Raises
    ``NotExpressible`` where not even one cycle can be expressed.
    """
    if wanted < 1:
        raise OutOfRange(f"cycles is {wanted}; it must be 1 or more")
    refused: NotExpressible | None = None
    for template in range(len(_operation(domain).wordings)):
        try:
            return _cycles(domain, model, wanted, template)
        except NotExpressible as error:
            refused = error
    raise refused or NotExpressible(f"{domain.name} has no operation template")


def _cycles(domain: Quantity, model: Readable, wanted: int, template: int) -> Cycles:
    """``max_cycles`` in one wording."""
    values = _can_express(model, [_operation_prompt(domain, v, 0, template) for v in range(domain.n)])
    if values is not None:
        raise values
    whole, refused = 0, None
    for cycle in range(wanted):
        offsets = range(cycle * domain.n, (cycle + 1) * domain.n)
        refused = _can_express(model, [_operation_prompt(domain, domain.n - 1, o, template) for o in offsets])
        if refused is not None:
            break
        whole += 1
    if whole == 0 and refused is not None:
        raise refused
    note = None if whole == wanted else _fewer(domain, whole, wanted, refused)
    return Cycles(whole, wanted, note, template)


def _can_express(model: Readable, prompts: list[str]) -> NotExpressible | None:
    try:
        encode(model, prompts)
    except NotExpressible as error:
        return error
    return None


def _fewer(domain: Quantity, whole: int, wanted: int, refused: NotExpressible | None) -> str:
    weak = "; with one cycle a k = 1 circle cannot be told from a smooth function of the raw sum"
    return (
        f"offsets run over {whole} of the {wanted} cycles wanted for {domain.name} ({refused})"
        f"{weak if whole == 1 else ''}"
    )


@dataclass(frozen=True, eq=False)
class Confounds:
    """What a cell of an operation design looks like on the surface: ``values[cell, feature]``, constant
    columns left out. They are regressed out before anything is called a circle."""

    names: tuple[str, ...]
    values: Float[Tensor, "cell feature"]


def confounds(design: Design, encodings: Sequence[Encoding] | None = None) -> Confounds:
    """Digit and token-length features of every cell of an operation design.

    ``a_two_digits``, ``a_tens``, ``offset_two_digits``, ``offset_tens``, and, where the values are numbers,
    ``both_two_digits``, ``carry`` (the units add up to 10 or more), ``sum_two_digits``, ``sum_tens`` of the
    raw sum; ``tokens`` is the length of the prompt where ``encodings`` are given. Features of names
    ("Monday") have no digits.
    """
    if design.offset is None:
        raise UsageError("confounds are those of an operation design; use domain.operation_design()")
    o = design.offset
    columns: dict[str, Tensor] = {"offset_two_digits": o >= 10, "offset_tens": o // 10}
    if all(value.isdecimal() for value in design.domain.values):
        a = torch.tensor([int(value) for value in design.domain.values])[design.a]
        columns |= {
            "a_two_digits": a >= 10,
            "a_tens": a // 10,
            "both_two_digits": (a >= 10) & (o >= 10),
            "carry": a % 10 + o % 10 >= 10,
            "sum_two_digits": a + o >= 10,
            "sum_tens": (a + o) // 10,
        }
    if encodings is not None:
        columns["tokens"] = torch.tensor([len(encoding.ids) for encoding in encodings])
    kept = {name: column.double() for name, column in columns.items() if column.unique().numel() > 1}
    values = (
        torch.stack(list(kept.values()), dim=1) if kept else torch.zeros(len(design), 0, dtype=torch.float64)
    )
    return Confounds(tuple(kept), values)
