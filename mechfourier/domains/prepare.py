"""An operation design made ready for a model: the cycles it can express, a sample of cells, tokens up to
where answers differ."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor

from mechfourier.domains.answers import answer_tokens
from mechfourier.domains.definition import Domain
from mechfourier.domains.design import Design, refuse_alike
from mechfourier.domains.task_choice import Choice, choose_task
from mechfourier.domains.task_spec import NATIVE
from mechfourier.domains.tasks import design_of
from mechfourier.errors import NotExpressible, OutOfRange
from mechfourier.models.interface import Encoding, Model, encode


@dataclass(frozen=True, eq=False)
class Questions:
    """Prompts of a task, each followed by the tokens that all answers share (a space, say), so that the next
    token decides. ``choices`` are the different next tokens; ``choice_of[c]`` is the one that candidate c
    begins with (digits make candidates share one). ``right`` is the right choice of every prompt, ``rows``
    the cells of the design asked."""

    design: Design
    rows: Int[Tensor, " prompt"]
    encodings: tuple[Encoding, ...]
    choices: tuple[int, ...]
    choice_of: tuple[int, ...]
    right: Int[Tensor, " prompt"]
    notes: tuple[str, ...]
    task: str = NATIVE


def questions(
    model: Model,
    domain: Domain,
    *,
    task: str | Choice | None = None,
    cycles: int = 1,
    samples: int | None = None,
    seed: int = 0,
) -> Questions:
    """Ask a task of ``domain`` (``task``: its name, or None for the best one that is answered above chance):
    every prompt (``cycles`` cycles of offsets of an arithmetic task), or ``samples`` of them drawn at random.

    Raises ``NotExpressible`` where the answers begin alike to the end, ``OutOfRange`` for fewer than 2
    samples.
    """
    choice = task if isinstance(task, Choice) else choose_task(model, domain, task)
    design, said = design_of(model, domain, choice.spec, cycles=cycles, seed=seed)
    rows = _sample(len(design), samples, seed)
    prompts = [design.prompts[i] for i in rows.tolist()]
    encodings = [e.up_to_text for e in encode(model, prompts)]
    refuse_alike(design, rows, encodings)
    answers = answer_tokens(model, prompts, design.candidates, encodings=encodings)
    shared = _common_prefix(answers)
    nexts = [answer[len(shared)] if len(answer) > len(shared) else -1 for answer in answers]
    choices = tuple(dict.fromkeys(nexts))
    if len(choices) < 2 or -1 in choices:
        raise NotExpressible(f"the answers of {domain.name} do not differ in their next token for this model")
    choice_of = tuple(choices.index(token) for token in nexts)
    return Questions(
        design=design,
        rows=rows,
        encodings=tuple(_extended(e, shared) for e in encodings),
        choices=choices,
        choice_of=choice_of,
        right=torch.tensor(choice_of)[design.label[rows]],
        task=choice.spec.name,
        notes=tuple(filter(None, (choice.reason, *said, _digits_note(domain, choices, design.candidates)))),
    )


def _common_prefix(answers: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
    """The tokens that all answers begin with."""
    columns = itertools.takewhile(lambda column: len(set(column)) == 1, zip(*answers, strict=False))
    return tuple(column[0] for column in columns)


def _sample(cells: int, samples: int | None, seed: int) -> Int[Tensor, " prompt"]:
    if samples is None or samples >= cells:
        return torch.arange(cells)
    if samples < 2:
        raise OutOfRange(f"{samples} samples are too few; ask at least 2 (or all, without --samples)")
    return torch.randperm(cells, generator=torch.Generator().manual_seed(seed))[:samples].sort().values


def _extended(encoding: Encoding, shared: Sequence[int]) -> Encoding:
    """``encoding`` followed by tokens that stand for no character of the prompt."""
    end = encoding.spans[-1][1]
    return Encoding((*encoding.ids, *shared), (*encoding.spans, *[(end, end)] * len(shared)))


def _digits_note(domain: Domain, choices: Sequence[int], candidates: Sequence[str]) -> str | None:
    if len(choices) == len(candidates):
        return None
    return (
        f"the tokenizer splits answers of {domain.name}: only their first differing token is ranked "
        f"({len(choices)} choices for {len(candidates)} answers)"
    )
