"""What an intervention is judged by: the task a model does, and paired comparisons before and after."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Bool, Float, Int
from scipy.stats import binomtest
from torch import Tensor

from mechfourier.domains.answers import AnswerPlan, AnswerScores, plan_answers, score_plan
from mechfourier.domains.definition import Domain
from mechfourier.domains.design import Design
from mechfourier.domains.sampling import balanced_sample
from mechfourier.domains.task_choice import Choice, choose_task
from mechfourier.domains.task_spec import NATIVE
from mechfourier.domains.tasks import design_of
from mechfourier.errors import UsageError
from mechfourier.hooks.run import Batch, batches, forward, inference, serving
from mechfourier.hooks.site import model_name
from mechfourier.models.interface import encode

RESAMPLES = 2000


class Task(Protocol):
    """Questions with one right candidate each. ``score`` runs the model as it is hooked at that moment."""

    design: Design
    rows: Int[Tensor, " prompt"]
    notes: tuple[str, ...]

    @property
    def label(self) -> Int[Tensor, " prompt"]: ...

    @property
    def last(self) -> Int[Tensor, " prompt"]: ...

    def score(self, model: Any) -> AnswerScores: ...


@dataclass(frozen=True, eq=False)
class AnswerTask:
    """Prompts of a task (``name``); the outcome is the log-probability of every candidate answer, over all its tokens."""

    design: Design
    rows: Int[Tensor, " prompt"]
    plan: AnswerPlan
    notes: tuple[str, ...] = ()
    name: str = NATIVE

    @property
    def label(self) -> Int[Tensor, " prompt"]:
        return self.design.label[self.rows]

    @property
    def last(self) -> Int[Tensor, " prompt"]:
        """The last position of every prompt."""
        return torch.tensor([len(encoding.ids) - 1 for encoding in self.plan.encodings])

    def subset(self, prompts: Int[Tensor, " chosen"]) -> "AnswerTask":
        """The same task on some of its prompts (numbers among them)."""
        return AnswerTask(self.design, self.rows[prompts], self.plan.subset(prompts), self.notes, self.name)

    def score(self, model: Any) -> AnswerScores:
        scores, greedy = score_plan(model, self.plan)
        return AnswerScores(scores, greedy, self.label)


@dataclass(frozen=True, eq=False)
class SimilarityTask:
    """Value sentences of a model without logits: which value is it? The outcome is the cosine of a sentence's
    embedding with the mean embedding that the intact model gives to each value's *other* sentences."""

    design: Design
    rows: Int[Tensor, " prompt"]
    batches: tuple[Batch, ...]
    references: Float[Tensor, "template candidate d"]
    notes: tuple[str, ...] = ()

    @property
    def label(self) -> Int[Tensor, " prompt"]:
        return self.design.label[self.rows]

    @property
    def last(self) -> Int[Tensor, " prompt"]:
        """The last position of every prompt."""
        last = torch.zeros(len(self.rows), dtype=torch.long)
        for part in self.batches:
            last[part.rows] = part.tokens.shape[1] - 1
        return last

    def score(self, model: Any) -> AnswerScores:
        return self.scores_of(embeddings(model, self.batches, len(self.rows)))

    def scores_of(self, embedding: Float[Tensor, "prompt d"]) -> AnswerScores:
        """Scores from the prompts' embeddings."""
        template = _template_of(self.design)[self.rows]
        scores = torch.einsum("pd,pcd->pc", F.normalize(embedding, dim=-1), self.references[template])
        return AnswerScores(scores, torch.zeros_like(scores, dtype=torch.bool), self.label, "similarity")


def _template_of(design: Design) -> Int[Tensor, " prompt"]:
    if design.template is None:
        raise UsageError("similarity is scored on value sentences; this is an operation design")
    return design.template


def has_logits(model: Any) -> bool:
    """False for sentence encoders, which have no unembedding."""
    bidirectional = getattr(model.cfg, "attention_dir", "causal") == "bidirectional"
    return not (bidirectional and not hasattr(model, "unembed"))


def task_of(
    model: Any,
    domain: Domain,
    *,
    task: str | Choice | None = None,
    cycles: int = 1,
    samples: int | None = None,
    seed: int = 0,
) -> AnswerTask | SimilarityTask:
    """What ``model`` is asked in ``domain``: the task named ``task`` (None: the best one that it answers above chance, or the
    first that it can be asked; see `choose_task`); or, without logits, similarity.

    ``samples`` draws that many prompts, balanced over the right answers. Raises ``NotExpressible``, ``OutOfRange`` and
    ``UsageError`` (no such task).
    """
    if not has_logits(model):
        if task is not None:
            raise UsageError(f"{model_name(model)} has no logits, so it is asked no task; leave task out")
        return _similarity_task(model, domain, samples, seed)
    choice = task if isinstance(task, Choice) else choose_task(model, domain, task)
    design, notes = design_of(model, domain, choice.spec, cycles=cycles, seed=seed)
    rows = balanced_sample(design.label, samples, seed=seed)
    plan = plan_answers(model, [design.prompts[i] for i in rows.tolist()], design.candidates)
    said = (choice.reason, *notes, _first_token_note(model, design, plan, rows))
    return AnswerTask(design, rows, plan, tuple(note for note in said if note), choice.spec.name)


def task_name(task: "AnswerTask | SimilarityTask") -> str:
    """The name of what is asked, for a result: that of the domain's task, or ``"similarity"``."""
    return task.name if isinstance(task, AnswerTask) else "similarity"


def _first_token_note(
    model: Any, design: Design, plan: AnswerPlan, rows: Int[Tensor, " prompt"]
) -> str | None:
    """A warning where a language model without a beginning-of-sequence token is asked of its very first token."""
    fallback = design.domain.operation.fallback if design.domain.operation else ()
    if (
        design.operand is None
        or getattr(model, "tokenizer", None) is None
        or set(design.wordings) <= set(fallback)
    ):
        return None
    spans = [design.operand[row] for row in rows.tolist()]
    first = sum(e.last_token_of(*span) == 0 for e, span in zip(plan.encodings, spans, strict=True))
    if not first:
        return None
    return (
        f"in {first} of {len(rows)} prompts the value is the first token, which models without a beginning-of-sequence "
        "token use as their attention sink; put words before {value} in the template"
    )


def _similarity_task(model: Any, domain: Domain, samples: int | None, seed: int) -> SimilarityTask:
    design = domain.value_design()
    everything = tuple(batches(model, [e.ids for e in encode(model, design.prompts)]))
    grid = rearrange(
        F.normalize(embeddings(model, everything, len(design)), dim=-1), "(v t) d -> t v d", v=domain.n
    )
    references = F.normalize(grid.sum(dim=0, keepdim=True) - grid, dim=-1)
    rows = balanced_sample(design.label, samples, seed=seed)
    chosen = tuple(batches(model, [e.ids for e in encode(model, [design.prompts[i] for i in rows.tolist()])]))
    note = "this model has no logits: the outcome is the cosine of a sentence's embedding with each value's other sentences"
    return SimilarityTask(design, rows, chosen, references, (note,))


def embeddings(model: Any, parts: Sequence[Batch], count: int) -> Float[Tensor, "prompt d"]:
    """The sentence embeddings of a model without logits, in the order of the prompts."""
    found: list[Tensor | None] = [None] * count
    with inference(model):
        for part in parts:
            with serving(part.rows):
                output = forward(model, part.tokens)
            for row, vector in zip(part.rows.tolist(), output.float().cpu(), strict=True):
                found[row] = vector
    return torch.stack([vector for vector in found if vector is not None])


def mcnemar(before: Bool[Tensor, " prompt"], after: Bool[Tensor, " prompt"]) -> tuple[float, int, int]:
    """McNemar's exact two-sided p on the discordant prompts, with how many became wrong and how many right.

    Under the null a discordant prompt goes either way with probability ½; without any, p = 1.
    """
    lost, gained = int((before & ~after).sum()), int((~before & after).sum())
    if lost + gained == 0:
        return 1.0, 0, 0
    return float(binomtest(lost, lost + gained, 0.5).pvalue), lost, gained


def bootstrap_mean(
    values: Float[Tensor, " unit"] | np.ndarray, *, seed: int, resamples: int = RESAMPLES
) -> tuple[float, float]:
    """95 % percentile bootstrap interval of the mean, resampling units (prompts, or sentences) with replacement.

    For paired comparisons ``values`` are the differences. Prompts that share an operand are not independent, so the
    interval speaks of this grid of prompts and not of other values.
    """
    flat = np.asarray(values, dtype=np.float64)
    return bootstrap_means(flat[:, None], seed=seed, resamples=resamples)[0]


def bootstrap_means(
    values: Float[Tensor, "unit column"] | np.ndarray, *, seed: int, resamples: int = RESAMPLES
) -> list[tuple[float, float]]:
    """``bootstrap_mean`` of every column, with the same resampled units for all."""
    table = np.asarray(values, dtype=np.float64)
    rng, even = np.random.default_rng(seed), np.full(len(table), 1 / len(table))
    sizes = [min(200, resamples - start) for start in range(0, resamples, 200)]  # 200 at a time: memory
    means = np.concatenate([rng.multinomial(len(table), even, size=size) @ table for size in sizes])
    low, high = np.quantile(means / len(table), [0.025, 0.975], axis=0)
    return list(zip(low.tolist(), high.tolist(), strict=True))


def standardised(change: Float[Tensor, " unit"], base: Float[Tensor, " unit"]) -> float:
    """Mean change in units of the standard deviation of ``base`` over its units; 0 where nothing changed."""
    mean = float(change.double().mean())
    spread = float(base.double().std()) if len(base) > 1 else 0.0
    return 0.0 if mean == 0.0 else mean / max(spread, 1e-12)


def chance_note(scores: AnswerScores, n: int) -> str | None:
    """A sentence where the model's accuracy is not above 1/n (one-sided binomial test at 5 %)."""
    right, count = int(scores.right.sum()), len(scores.right)
    p = float(binomtest(right, count, 1 / n, alternative="greater").pvalue)
    if p < 0.05:
        return None
    return (
        f"the model answers at chance ({right} of {count} right, 1 in {n} expected, p = {p:.2g}): "
        "an ablation of a task that it cannot do means nothing"
    )
