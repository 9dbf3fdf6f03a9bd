"""What the one-layer transformer was trained on, as token sequences."""

from typing import Any

from mechfourier.sae.own import answered
from mechfourier.sae.rows import Reading, Row
from mechfourier.toys.one_layer.task import all_pairs


def rows(model: Any, reading: Reading) -> list[Row]:
    """Every question of a modular task; its answer is read, and only then trained, at the last position."""
    p = model.cfg.p
    tokens = model.cfg.question.tokens(all_pairs(p))
    answers = model.cfg.answers.flatten().tolist()
    return list(answered(tokens.tolist(), answers, range(len(answers)), reading))
