"""What the models of every modulus were trained on, as token sequences."""

from collections.abc import Iterator
from typing import Any

import torch

from mechfourier.sae.own import answered
from mechfourier.sae.rows import Reading, Row
from mechfourier.toys.universal.task import SMALLEST, answers

MOST_MODULI = 120  # the packaged models were trained up to here
AT_ONCE = 4096


def rows(model: Any, reading: Reading) -> Iterator[Row]:
    """Every question of every modulus 2..``MOST_MODULI``, made as it is asked for; read and answered at
    ``=``."""
    squares = torch.arange(SMALLEST, min(MOST_MODULI, model.cfg.largest_modulus) + 1).square()
    ends = squares.cumsum(0)
    order = torch.randperm(int(ends[-1]), generator=torch.Generator().manual_seed(reading.seed))
    for part in order.split(AT_ONCE):
        which = torch.searchsorted(ends, part, right=True)
        m = which + SMALLEST
        cell = part - (ends - squares)[which]
        questions = torch.stack([m, cell // m, cell % m], dim=1)
        yield from answered(
            model.tokens(questions).tolist(), answers(questions).tolist(), part.tolist(), reading
        )
