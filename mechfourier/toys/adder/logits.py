"""The logits an adder writes: how sure it is at every step, and whether they depend on the difference from
the right digit."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mechfourier.fourier.key_freqs import matrix_share
from mechfourier.hooks.run import inference
from mechfourier.toys.adder.draw import draw
from mechfourier.toys.adder.task import PAD, decoder_input


@dataclass(frozen=True)
class LogitShape:
    """Teacher-forced digit logits. ``by_step``: mean margin (nats) of the right character over the next best,
    by step; ``worst``: the smallest margin of all. ``table[r][c]``: mean logit of digit c where r is right,
    rows centred. ``circulant``: share of its variance that depends on (c − r) mod 10 alone; ``by_difference``
    those means; ``shares`` their power at k = 1..5."""

    problems: int
    by_step: tuple[float, ...]
    worst: float
    table: tuple[tuple[float, ...], ...]
    circulant: float
    by_difference: tuple[float, ...]
    shares: tuple[float, ...]


def logit_shape(model: Any, *, digits: int, problems: int = 512, seed: int = 0) -> LogitShape:
    """Measure random problems of two ``digits``-digit numbers."""
    p = draw(problems, torch.Generator().manual_seed(seed), len_a=digits, len_b=digits)
    form = model.cfg.format
    source, target = form.source(p), form.target(p)
    with inference(model):
        logits = model.logits(source, decoder_input(target)).double()
    real = target != PAD
    right = logits.gather(2, target.clamp(max=logits.shape[2] - 1)[..., None])[..., 0]
    others = logits.scatter(2, target.clamp(max=logits.shape[2] - 1)[..., None], -torch.inf).amax(2)
    margin = right - others
    by_step = [
        float(margin[:, i][real[:, i]].mean()) for i in range(target.shape[1]) if bool(real[:, i].any())
    ]
    table = torch.stack([logits[..., :10][target == r].mean(0) for r in range(10)])
    table = table - table.mean(1, keepdim=True)
    turned = torch.stack([row.roll(-r) for r, row in enumerate(table)])
    mean = turned.mean(0)
    whole = float((table - table.mean()).pow(2).sum())
    return LogitShape(
        problems,
        tuple(by_step),
        float(margin[real].min()),
        _rows(table),
        10 * float((mean - mean.mean()).pow(2).sum()) / whole,
        tuple(mean.tolist()),
        tuple(matrix_share(mean[:, None]).tolist()),
    )


def _rows(table: Tensor) -> tuple[tuple[float, ...], ...]:
    return tuple(tuple(row) for row in table.tolist())
