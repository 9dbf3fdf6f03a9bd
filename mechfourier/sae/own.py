"""What this project knows the models of the package to have been trained on: their own tasks as token sequences."""

import functools
import random
from collections.abc import Iterable, Iterator
from typing import Any

import torch

from mechfourier.errors import UsageError
from mechfourier.hooks.site import model_name
from mechfourier.models.interface import Encoding, encode
from mechfourier.sae.rows import IGNORED, Reading, Row, context_of, windows

MOST_MODULI = 120  # the packaged models of every modulus were trained up to here
AT_ONCE = 4096


def _own_grid(model: Any) -> bool:
    from mechfourier.toys.one_layer.model import OneLayerTransformer

    return isinstance(model, OneLayerTransformer)


def _own_calendar(model: Any) -> bool:
    """A tokenizer with the calendar's words reads the calendar's sentences."""
    vocabulary = getattr(getattr(model, "tokenizer", None), "vocab", None)
    return vocabulary is not None and len(vocabulary) < 10_000 and _calendar_vocabulary() <= set(vocabulary)


@functools.cache
def _calendar_vocabulary() -> set[str]:
    from mechfourier.toys.calendar.tokens import vocabulary

    return set(vocabulary())


def _own_moduli(model: Any) -> bool:
    from mechfourier.toys.universal.model import ExtrapolatingTransformer, UniversalModulusTransformer

    return isinstance(model, ExtrapolatingTransformer | UniversalModulusTransformer)


def own_rows(model: Any, reading: Reading) -> Iterator[Row]:
    """All that the model's own task consists of, in an order drawn from the seed; raises ``UsageError`` where it has none."""
    if _own_moduli(model):
        yield from _moduli_rows(model, reading)
        return
    if _own_grid(model):
        found = _grid_rows(model, reading)
    elif _own_calendar(model):
        found = _calendar_rows(model, reading)
    else:
        raise UsageError(
            f"{model_name(model)} has no task of its own here to take text from; give a file or a data set: --text corpus.txt"
        )
    random.Random(reading.seed).shuffle(found)
    yield from found


def _grid_rows(model: Any, reading: Reading) -> list[Row]:
    """Every question of a modular task; its answer is read, and only then trained, at the last position."""
    from mechfourier.toys.one_layer.task import all_pairs, task, tokens_of

    p = model.cfg.p
    tokens = tokens_of(all_pairs(p), p)[:, : model.cfg.n_ctx]
    answers = task(model.cfg.task).table(p).flatten().tolist()
    return list(_answered(tokens.tolist(), answers, range(len(answers)), reading))


def _answered(
    questions: list[list[int]], answers: list[int], numbers: Iterable[int], reading: Reading
) -> Iterator[Row]:
    """Questions of one length with a token wanted after their last position and nowhere else."""
    width = len(questions[0])
    spans = tuple((i, i + 1) for i in range(width))
    keep = reading.kept(Encoding((0,) * width, spans), last=True)
    head = (IGNORED,) * (width - 1)
    for ids, answer, number in zip(questions, answers, numbers, strict=True):
        yield Row(tuple(ids), keep, (*head, answer), number)


def _moduli_rows(model: Any, reading: Reading) -> Iterator[Row]:
    """Every question of every modulus 2..``MOST_MODULI``, made as it is asked for; read and answered at ``=``."""
    from mechfourier.toys.universal.task import SMALLEST, answers

    squares = torch.arange(SMALLEST, min(MOST_MODULI, model.cfg.largest_modulus) + 1).square()
    ends = squares.cumsum(0)
    order = torch.randperm(int(ends[-1]), generator=torch.Generator().manual_seed(reading.seed))
    for part in order.split(AT_ONCE):
        which = torch.searchsorted(ends, part, right=True)
        m = which + SMALLEST
        cell = part - (ends - squares)[which]
        questions = torch.stack([m, cell // m, cell % m], dim=1)
        yield from _answered(
            model.tokens(questions).tolist(), answers(questions).tolist(), part.tolist(), reading
        )


def _calendar_rows(model: Any, reading: Reading) -> list[Row]:
    """The calendar corpus: operations (a loss on the answer only, as in its training) and running text."""
    from mechfourier.toys.calendar.task import operations
    from mechfourier.toys.calendar.text import held_out_text, training_text

    sentences = [s for operation in operations() for s in operation.sentences]
    prompts = encode(model, [s.prompt for s in sentences])
    answers = encode(model, [s.answer for s in sentences])
    asked = [
        Row(e.ids, reading.kept(e, last=False), (*[IGNORED] * (len(e.ids) - 1), answer.ids[0]), number)
        for number, (e, answer) in enumerate(zip(prompts, answers, strict=True))
    ]
    texts = [*training_text(), *held_out_text()]
    context = context_of(model, reading)
    running = [
        row
        for number, e in enumerate(encode(model, texts), len(asked))
        for row in windows(e, reading, context, number)
    ]
    return [row for row in (*asked, *running) if row.keep]
