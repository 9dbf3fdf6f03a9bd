"""A task whose answers are numbers, with all that its model writes into them: what has which period."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from numpy import ndarray
from torch import Tensor

from mechfourier.causal.attribution import AnswerStream
from mechfourier.causal.neuron_ablation import in_plane, period_lead, whole_lead
from mechfourier.causal.neurons import count_neurons, neurons_of
from mechfourier.causal.number_questions import NumberQuestions, number_questions
from mechfourier.causal.period_result import LEVEL
from mechfourier.domains.definition import Domain
from mechfourier.models.interface import Model
from mechfourier.stats.writers import exchanged_p, period_plane, unit_leads

MEMORY = 2**26  # activations of all neurons that are held: 256 MB
LEAST = 100  # prompts that are asked, however many neurons there are


@dataclass(frozen=True, eq=False)
class PeriodCredit:
    """One period of a task: what every prompt and every neuron adds, and the neurons beyond exchanged answers."""

    period: float
    plane: Float[ndarray, "n r"]
    prompts: Float[Tensor, " prompt"]
    leads: Float[ndarray, " unit"]
    p: Float[ndarray, " unit"]

    @property
    def significant(self) -> list[int]:
        """The largest first."""
        return [int(u) for u in np.argsort(-self.leads) if self.p[u] < LEVEL]


class WritingTask:
    """A task whose answers are numbers: its prompts, its stream as a sum of parts, and its neurons."""

    def __init__(self, model: Model, asked: NumberQuestions) -> None:
        self.model, self.asked = model, asked
        self.stream = AnswerStream(model, asked.asked)
        self.neurons = neurons_of(model, asked, self.stream)
        self.logits = self.stream.logits
        self.right = self.logits.argmax(dim=1) == asked.asked.right
        self.whole = whole_lead(asked, self.logits)

    @classmethod
    def of(
        cls, model: Model, domain: Domain, task: str | None, n_prompts: int | None, seed: int
    ) -> "WritingTask":
        most = max(LEAST, MEMORY // count_neurons(model))
        return cls(model, number_questions(model, domain, task, n_prompts, most, seed))

    def plane(self, period: float) -> Float[ndarray, "n r"]:
        """The period's plane; raises ``OutOfRange``."""
        return period_plane(self.asked.numbers, period, line=not self.asked.cyclic)

    def credited(
        self, period: float, plane: Float[ndarray, "n r"], n_permutations: int, seed: int
    ) -> PeriodCredit:
        """What every prompt and every neuron adds to the period's part of the lead."""
        written = self.neurons.rows @ plane.astype(np.float32)
        own = unit_leads(self.neurons.means, written, plane)
        p = exchanged_p(
            self.neurons.means,
            written,
            plane,
            counts=self.asked.counts,
            n_permutations=n_permutations,
            seed=seed,
        )
        return PeriodCredit(period, plane, period_lead(self.asked, self.logits, plane), own.astype(float), p)

    def parts(self, plane: Float[ndarray, "n r"]) -> dict[str, Float[Tensor, " prompt"]]:
        """What every part of the stream adds."""
        columns = self.stream.columns @ torch.from_numpy(plane)
        return {
            name: in_plane(self.asked, value / self.stream.scale[:, None] @ columns, plane)
            for name, value in self.stream.parts.items()
        }

    @property
    def error(self) -> float:
        """By how much the parts miss the logits at most, what is the same in all prompts or choices apart (nats)."""
        together = torch.stack(list(self.stream.parts.values())).sum(0) / self.stream.scale[:, None]
        rest = self.logits - together @ self.stream.columns
        rest = rest - rest.mean(dim=0)
        return float((rest - rest.mean(dim=1, keepdim=True)).abs().max())
