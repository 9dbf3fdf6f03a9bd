"""The prompts of a task: every value in every wording, with few-shot examples and the chat template where
asked for."""

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from mechfourier.domains.answers import answer_tokens
from mechfourier.domains.definition import Domain
from mechfourier.domains.design import Design
from mechfourier.domains.task_spec import Span, TaskSpec, fill
from mechfourier.errors import MechFourierError, NotExpressible, OutOfRange, UsageError
from mechfourier.hooks.site import model_name
from mechfourier.models.interface import encode

_MARK = "\ue000question\ue001"  # stands for the question while the chat template is looked at

Wrap = Callable[[str], tuple[str, int]]
"""The prompt that a question becomes, and where in it the question starts."""


@dataclass(frozen=True)
class _Column:
    """One way to ask of every value: a template, a draw of examples, an offset (arithmetic)."""

    template: int
    draw: int
    offset: int | None


def task_design(
    domain: Domain, spec: TaskSpec, *, cycles: int = 1, seed: int = 0, wrap: Wrap | None = None
) -> Design:
    """Every value in every wording of ``spec``, read at the prompt's last token.

    ``cycles`` of offsets (arithmetic on a cycle only); ``seed`` draws the examples; ``wrap`` puts the chat
    template round a question. Raises ``OutOfRange`` for bad ``cycles``.
    """
    if cycles < 1:
        raise OutOfRange(f"cycles is {cycles}; it must be 1 or more")
    columns = list(_columns(domain, spec, cycles))
    cells = [(value, column) for value in range(domain.n) for column in columns]
    asked = [_prompt(domain, spec, value, column, seed, wrap) for value, column in cells]
    label = [_label(domain, spec, value, column.offset) for value, column in cells]
    arithmetic = spec.kind == "arithmetic"
    return Design(
        kind="task",
        domain=domain,
        prompts=tuple(text for text, _ in asked),
        shape=(domain.n, len(columns)),
        spans=None,
        answers=tuple(spec.answers[right] for right in label),
        candidates=spec.answers,
        value=torch.tensor([value for value, _ in cells]),
        template=torch.tensor([column.template for _, column in cells]),
        offset=torch.tensor([column.offset or 0 for _, column in cells]) if arithmetic else None,
        label=torch.tensor(label),
        operand=tuple(span for _, span in asked),
        task=spec,
        wordings=spec.templates,
    )


def _columns(domain: Domain, spec: TaskSpec, cycles: int) -> Iterator[_Column]:
    for template in range(len(spec.templates)):
        for draw in range(spec.draws):
            for offset in _offsets(domain, spec, cycles):
                yield _Column(template, draw, offset)


def _offsets(domain: Domain, spec: TaskSpec, cycles: int) -> Sequence[int | None]:
    """Whole cycles of offsets; without a cycle, those whose results all have an answer."""
    if spec.kind != "arithmetic":
        return [None]
    return range(cycles * domain.n if domain.cyclic else len(spec.answers) - domain.n + 1)


def _label(domain: Domain, spec: TaskSpec, value: int, offset: int | None) -> int:
    result = value + (spec.step if offset is None else offset)
    return result % domain.n if domain.cyclic else result


def _prompt(
    domain: Domain, spec: TaskSpec, value: int, column: _Column, seed: int, wrap: Wrap | None
) -> tuple[str, Span]:
    """One prompt, and the characters of the value that it asks about (in the question, not in its
    examples)."""
    question, (start, stop) = fill(
        spec.templates[column.template], domain.values, value, offset=column.offset
    )
    shown = [
        fill(
            spec.example or "",
            domain.values,
            v,
            offset=o,
            answer=spec.plain_answers[_label(domain, spec, v, o)],
        )[0]
        for v, o in shown_pairs(domain, spec, value, column, seed)
    ]
    before = "".join(f"{example}{spec.separator}" for example in shown)
    text, at = (before + question, 0) if wrap is None else wrap(before + question)
    at += len(before)
    return text, (at + start, at + stop)


def shown_pairs(
    domain: Domain, spec: TaskSpec, value: int, column: _Column, seed: int
) -> list[tuple[int, int | None]]:
    """The (value, offset) pairs of the examples before a question: one random order for all values of a
    column, from which the pair that is asked is left out.

    Pairs that name the right answer or the value asked about come last: they are shown only where there are
    no others. All other pairs are shown in the order of the values.
    """
    if not spec.examples:
        return []
    draw = random.Random(f"{seed}/{domain.name}/{spec.name}/{column.draw}")
    if spec.kind == "arithmetic":
        offsets = _offsets(domain, spec, 1)
        pairs = [(v, draw.choice(offsets)) for v in draw.sample(range(domain.n), domain.n)]
        return [(v, o) for v, o in pairs if v != value][: spec.examples]
    everything = spec.examples >= domain.n - 1
    order = list(range(domain.n)) if everything else draw.sample(range(domain.n), domain.n)
    others = [v for v in order if v != value]
    if not everything:
        others.sort(key=lambda v: (v - value) % domain.n in (1, domain.n - 1))  # stable: neighbours last
    return [(v, None) for v in others[: spec.examples]]


def chat_wrap(model: Any) -> Wrap:
    """What puts the tokenizer's own chat template round a question, up to where the answer begins.

    Raises ``NotExpressible`` where there is none.
    """
    tokenizer = getattr(model, "tokenizer", None)
    if tokenizer is None or not getattr(tokenizer, "chat_template", None):
        raise NotExpressible(f"the tokenizer of {model_name(model)} has no chat template")
    try:
        text = tokenizer.apply_chat_template(
            [{"role": "user", "content": _MARK}], tokenize=False, add_generation_prompt=True
        )
    except Exception as error:  # templates are programs of their own
        raise NotExpressible(f"the chat template of {model_name(model)} fails: {error}") from error
    if text.count(_MARK) != 1:
        raise NotExpressible(f"the chat template of {model_name(model)} does not repeat what is asked")
    begin = getattr(tokenizer, "bos_token", None)
    if begin and text.startswith(begin) and _puts_first(tokenizer):
        text = text[len(begin) :]  # the tokenizer puts it there itself
    head, tail = text.split(_MARK)
    return lambda question: (f"{head}{question}{tail}", len(head))


def _puts_first(tokenizer: Any) -> bool:
    """Whether the tokenizer begins every text with its beginning-of-sequence token."""
    ids = tokenizer("a")["input_ids"]
    return bool(ids) and ids[0] == getattr(tokenizer, "bos_token_id", None)


def _check_length(model: Any, tokens: int) -> None:
    context = getattr(model.cfg, "n_ctx", None)
    if context and tokens > context:
        raise NotExpressible(
            f"a prompt has {tokens} tokens with its answer, and {model_name(model)} reads at most {context}"
        )


def expressible(
    model: Any, domain: Domain, spec: TaskSpec, *, cycles: int = 1, seed: int = 0
) -> tuple[Design, tuple[str, ...]]:
    """The design of ``spec`` over the templates that ``model`` can express, with a note on those that it
    cannot.

    Kept are templates whose prompts have tokens and after which the answers are cut into the same tokens as
    after the first one kept. Raises ``NotExpressible`` where none is left.
    """
    wrap = chat_wrap(model) if spec.chat else None
    kept: list[str] = []
    tokens: tuple[tuple[int, ...], ...] | None = None
    refused: MechFourierError | None = None
    for template in spec.templates:
        design = task_design(
            domain, replace(spec, templates=(template,)), cycles=cycles, seed=seed, wrap=wrap
        )
        try:
            # a model with tokens of its own for answers does not look at prompts for them
            longest = max(len(encoding.ids) for encoding in encode(model, design.prompts))
            found = answer_tokens(model, design.prompts, design.candidates)
            _check_length(model, longest + max(map(len, found)))
        except (NotExpressible, UsageError) as error:
            refused = error
            continue
        if tokens is not None and found != tokens:
            refused = NotExpressible(
                f"after {template!r} the answers are other tokens than after {kept[0]!r}"
            )
            continue
        tokens = found
        kept.append(template)
    if not kept:
        raise NotExpressible(str(refused))
    design = task_design(domain, replace(spec, templates=tuple(kept)), cycles=cycles, seed=seed, wrap=wrap)
    if refused is None:
        return design, ()
    count = len(spec.templates)
    return design, (f"{len(kept)} of the {count} templates of task {spec.name!r} were used ({refused})",)
