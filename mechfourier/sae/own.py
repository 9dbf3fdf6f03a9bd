"""What a model's own architecture says it was trained on: its task as token sequences."""

import random
from collections.abc import Iterable, Iterator
from typing import Any

from mechfourier.errors import UsageError
from mechfourier.hooks.site import model_name
from mechfourier.models.architectures import architecture_of
from mechfourier.models.interface import Encoding
from mechfourier.sae.rows import IGNORED, Reading, Row


def own_rows(model: Any, reading: Reading) -> Iterator[Row]:
    """All that the model's own task consists of, in an order drawn from the seed; raises ``UsageError`` where
    it has none."""
    record = architecture_of(model)
    if record is None or not record.rows:
        raise UsageError(
            f"{model_name(model)} has no task of its own here to take text from; give a file or a data set: "
            f"--text corpus.txt"
        )
    found = record.part("rows")(model, reading)
    if isinstance(found, list):
        random.Random(reading.seed).shuffle(found)
    yield from found


def answered(
    questions: list[list[int]], answers: list[int], numbers: Iterable[int], reading: Reading
) -> Iterator[Row]:
    """Questions of one length with a token wanted after their last position and nowhere else."""
    width = len(questions[0])
    spans = tuple((i, i + 1) for i in range(width))
    keep = reading.kept(Encoding((0,) * width, spans), last=True)
    head = (IGNORED,) * (width - 1)
    for ids, answer, number in zip(questions, answers, numbers, strict=True):
        yield Row(tuple(ids), keep, (*head, answer), number)
