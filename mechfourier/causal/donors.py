"""Donor prompts: for every prompt of a task another one that differs in the value asked about, and nothing else."""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mechfourier.causal.outcome import AnswerTask, SimilarityTask
from mechfourier.causal.reading import Reading, vectors_of
from mechfourier.domains.answers import AnswerScores, plan_answers, score_plan
from mechfourier.domains.design import Design
from mechfourier.hooks.run import batches
from mechfourier.models.interface import encode


@dataclass(frozen=True, eq=False)
class Pairs:
    """Every prompt of a task with a donor that differs in the first operand: its activation and its right answer."""

    donors: Float[Tensor, "prompt d"]
    answer: Int[Tensor, " prompt"]
    before: AnswerScores
    donor_scores: Float[Tensor, "prompt candidate"]

    def difference(self, scores: Float[Tensor, "prompt candidate"]) -> Float[Tensor, " prompt"]:
        """Score of the donor's answer minus that of the recipient's."""
        own = scores.gather(1, self.before.label[:, None])[:, 0]
        return scores.gather(1, self.answer[:, None])[:, 0] - own

    def success(self, scores: Float[Tensor, "prompt candidate"]) -> Bool[Tensor, " prompt"]:
        """Whether the donor's answer is the best candidate."""
        return scores.argmax(dim=1) == self.answer


def pairs_of(model: Any, task: AnswerTask | SimilarityTask, place: Reading, *, seed: int) -> Pairs:
    """Draw a donor for every prompt and run the donors as they are."""
    design = task.design
    rows = donor_rows(design, task.rows, seed=seed)
    donors = vectors_of(model, design, rows, place.site, place.position)
    before = task.score(model)
    return Pairs(donors, design.label[rows], before, _donor_scores(model, task, rows))


def donor_rows(design: Design, rows: Int[Tensor, " prompt"], *, seed: int) -> Int[Tensor, " prompt"]:
    """The design's cell with another value (uniform among the n − 1) and the same offset or template."""
    n, columns = design.shape
    step = torch.randint(1, n, (len(rows),), generator=torch.Generator().manual_seed(seed))
    return (rows + step * columns) % (n * columns)


def _donor_scores(
    model: Any, task: AnswerTask | SimilarityTask, rows: Int[Tensor, " prompt"]
) -> Float[Tensor, "prompt candidate"]:
    """What the model answers to the donor prompts themselves."""
    texts = [task.design.prompts[i] for i in rows.tolist()]
    if isinstance(task, AnswerTask):
        return score_plan(model, plan_answers(model, texts, task.design.candidates))[0]
    parts = tuple(batches(model, [e.ids for e in encode(model, texts)]))
    return SimilarityTask(task.design, rows, parts, task.references).score(model).scores
