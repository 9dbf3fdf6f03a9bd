"""Numbers scored by their own digits: where no other answer goes on, that no digit follows is not asked of every edit."""

from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor

from mechfourier.domains.answer_plan import TERMINATE, AnswerPlan
from mechfourier.domains.answers import edge_scores
from mechfourier.models.interface import Model


@dataclass(frozen=True)
class Ends:
    """``closed``: answers that only a digit more would turn into another number, which is no answer. ``most`` and ``mean``: the
    probability of such a digit after the right answer of intact prompts (None where no right answer is among them)."""

    closed: frozenset[tuple[int, ...]] = frozenset()
    most: float | None = None
    mean: float | None = None

    @property
    def note(self) -> str | None:
        """What a result has to say of it."""
        if not self.closed:
            return None
        told = "numbers are scored by their own digits: that no digit follows was only asked where another answer goes on"
        if self.most is None:
            return told
        return (
            f"{told} (on intact prompts one follows the right answer with a probability of {self.mean:.2g} in the mean, {self.most:.2g} "
            f"at most)"
        )


def ends_of(model: Model, plan: AnswerPlan, label: Int[Tensor, " prompt"]) -> Ends:
    """The answers whose end is not looked at, and what follows them in the intact model where they are right.

    "7" is another number where a digit follows. To ask so takes a continuation of every prompt and edit for every first digit:
    nine times the passes on a clock of twelve hours, where only "1" is also the beginning of another answer.
    """
    ends = {edge.node: i for i, edge in enumerate(plan.edges) if edge.token == TERMINATE}
    closed = frozenset(node for node in ends if not plan.begins_another(node))
    if not closed:
        return Ends()
    right = [plan.answers[i] for i in label.tolist()]
    prompts = [i for i, answer in enumerate(right) if answer in closed]
    if not prompts:
        return Ends(closed)
    log_ends = edge_scores(model, plan.subset(torch.tensor(prompts))).double()
    follows = [-float(torch.expm1(log_ends[i, ends[right[prompt]]])) for i, prompt in enumerate(prompts)]
    return Ends(closed, max(follows), sum(follows) / len(follows))
