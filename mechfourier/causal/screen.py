"""Screening: at which site and token do turns of a circle move the answer?"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mechfourier.causal.outcome import AnswerTask, SimilarityTask
from mechfourier.causal.reading import Reading, read_all
from mechfourier.causal.rotate import chosen_turn, expected_move, moves, turned_scores
from mechfourier.errors import OutOfRange
from mechfourier.hooks.site import Site

NEAR_BEST = 0.8
TURNS = 18  # turns of a screened place, at least
NOISE = 3.0  # standard errors of a pull that count as noise


@dataclass(frozen=True)
class Candidate:
    """A place where a circle may be used: ``power_share`` of the power between classes at harmonics ``ks``, the share of
    a few prompts whose answer moves with a turn by a random δ (``moved``), and by how much such turns raise the score of the
    answer that they should give over the model's own (``pull``, the mean, and its standard error)."""

    site: str
    position: str
    ks: tuple[int, ...]
    power_share: float
    moved: float
    pull: float = 0.0
    pull_error: float = 0.0

    @property
    def pulls(self) -> float:
        """The pull beyond its noise."""
        return self.pull - NOISE * self.pull_error


def candidates_at(
    model: Any,
    task: AnswerTask | SimilarityTask,
    few: Int[Tensor, " screened"],
    sites: Sequence[Site],
    positions: Sequence[str],
    ks: Sequence[int] | None,
    seed: int,
) -> Iterator[Candidate]:
    """Every site and position where the classes lie in a plane, in the order of a forward pass."""
    generator = torch.Generator().manual_seed(seed)
    if task.design.kind == "task":  # a task has few prompts: several turns of each
        few = few.repeat(-(-TURNS // len(few)))
    delta = torch.randint(1, task.design.n, (len(few),), generator=generator)
    before = task.score(model).scores
    listed = [
        (place.site, index, place)
        for index, position in enumerate(positions)
        for place in read_all(model, task, sites, position)
    ]
    for _, _, place in sorted(listed, key=lambda item: item[:2]):
        try:
            turn = chosen_turn(place, None, ks)
        except OutOfRange:
            if len(listed) == 1:
                raise
            continue
        after, own = turned_scores(model, task, place, turn, few, delta), before[few]
        moved = moves(task, place, few, delta, own.argmax(dim=1), after.argmax(dim=1)) == delta
        pull = _pull(task, place, few, delta, own, after)
        power = float(place.shares[[k - 1 for k in turn.ks]].sum())
        error = float(pull.std()) / len(pull) ** 0.5 if len(pull) > 1 else 0.0
        share = float(moved.double().mean())
        yield Candidate(str(place.site), place.position, turn.ks, power, share, float(pull.mean()), error)


def _pull(
    task: AnswerTask | SimilarityTask,
    place: Reading,
    few: Int[Tensor, " row"],
    delta: Int[Tensor, " row"],
    before: Float[Tensor, "row candidate"],
    after: Float[Tensor, "row candidate"],
) -> Float[Tensor, " row"]:
    """By how much each turn raises the answer that it should give over the model's own."""
    start = before.argmax(dim=1)
    aim = (start + expected_move(task, place, few, delta, start)) % task.design.n_answers
    change = (after - before).double()
    return change.gather(1, aim[:, None])[:, 0] - change.gather(1, start[:, None])[:, 0]


def choose(candidates: Sequence[Candidate], n: int) -> Candidate:
    """The earliest place within a fifth of the best; where nothing moves more than twice as often as a guess, the place where
    turns pull most at the answers that they should give, or, where none does beyond noise, the one with the most power."""
    best = max(candidate.moved for candidate in candidates)
    if best <= 2 / n:
        pulled = max(candidates, key=lambda candidate: candidate.pulls)
        if pulled.pulls > 0:
            return pulled
        return max(candidates, key=lambda candidate: candidate.power_share)
    return next(candidate for candidate in candidates if candidate.moved >= NEAR_BEST * best)
