"""Screening: at which site and token do turns of a circle move the answer?"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor

from mechfourier.causal.effects import effects_of
from mechfourier.causal.experiment import Experiment
from mechfourier.causal.rotate import turned_scores
from mechfourier.causal.subspaces import chosen_subspace
from mechfourier.errors import OutOfRange
from mechfourier.hooks.site import Site

NEAR_BEST = 0.8
TURNS = 18  # turns of a screened place, at least
NOISE = 3.0  # standard errors of a pull that count as noise


@dataclass(frozen=True)
class Candidate:
    """A place where a circle may be used: ``power_share`` of the power between classes at harmonics ``ks``,
    the share of a few prompts whose answer moves with a turn by a random δ (``moved``), and by how much such
    turns raise the score of the answer that they should give over the model's own (``pull``, the mean, and
    its standard error)."""

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
    asked: Experiment,
    few: Int[Tensor, " screened"],
    sites: Sequence[Site],
    positions: Sequence[str],
    ks: Sequence[int] | None,
) -> Iterator[Candidate]:
    """Every site and position where the classes lie in a plane, in the order of a forward pass."""
    generator = torch.Generator().manual_seed(asked.seed)
    if asked.design.kind == "task":  # a task has few prompts: several turns of each
        few = few.repeat(-(-TURNS // len(few)))
    delta = torch.randint(1, asked.design.n, (len(few),), generator=generator)
    listed = asked.at_all(sorted(sites), positions)
    for place in listed:
        try:
            turn = chosen_subspace(place.means, place.site, ks)
        except OutOfRange:
            if len(listed) == 1:
                raise
            continue
        found = effects_of(asked, place, few, delta, turned_scores(asked, place, turn, few, delta))
        pull = found.raised
        yield Candidate(
            str(place.site),
            place.position,
            turn.ks,
            place.power(turn.ks),
            float(found.moved.double().mean()),
            float(pull.mean()),
            float(pull.std()) / len(pull) ** 0.5 if len(pull) > 1 else 0.0,
        )


def _turns(candidate: Candidate, n: int) -> bool:
    return candidate.moved > 2 / n or candidate.pulls > 0


def choose(candidates: Sequence[Candidate], n: int) -> Candidate:
    """The earliest place within a fifth of the best, among those at the value's token where anything turns
    there; where nothing moves more than twice as often as a guess, the place where turns pull most at the
    answers that they should give, or, where none does beyond noise, the one with the most power."""
    turning = [each for each in candidates if each.position == "value" and _turns(each, n)]
    candidates = turning or candidates
    best = max(candidate.moved for candidate in candidates)
    if best <= 2 / n:
        pulled = max(candidates, key=lambda candidate: candidate.pulls)
        if pulled.pulls > 0:
            return pulled
        return max(candidates, key=lambda candidate: candidate.power_share)
    return next(candidate for candidate in candidates if candidate.moved >= NEAR_BEST * best)
