"""What the calendar model was trained on, as token sequences, and who else can read it."""

import functools
from typing import Any

from mechfourier.models.interface import encode
from mechfourier.sae.rows import IGNORED, Reading, Row, context_of, windows
from mechfourier.toys.calendar.task import operations
from mechfourier.toys.calendar.text import held_out_text, training_text
from mechfourier.toys.calendar.tokens import vocabulary


def reads_the_calendar(model: Any) -> bool:
    """A tokenizer with the calendar's words reads the calendar's sentences."""
    known = getattr(getattr(model, "tokenizer", None), "vocab", None)
    return known is not None and len(known) < 10_000 and _words() <= set(known)


@functools.cache
def _words() -> set[str]:
    return set(vocabulary())


def rows(model: Any, reading: Reading) -> list[Row]:
    """The calendar corpus: operations (a loss on the answer only, as in its training) and running text."""
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
