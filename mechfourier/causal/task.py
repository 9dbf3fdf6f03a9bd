"""What an intervention is judged by: questions that a model is asked, and how its answers are scored."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor

from mechfourier.domains.answer_ends import ends_of
from mechfourier.domains.answer_plan import AnswerPlan
from mechfourier.domains.answers import AnswerScores, plan_answers, score_plan
from mechfourier.domains.definition import Domain
from mechfourier.domains.design import Design
from mechfourier.domains.sampling import balanced_sample
from mechfourier.domains.task_choice import Choice, choose_task
from mechfourier.domains.task_spec import NATIVE
from mechfourier.domains.tasks import design_of
from mechfourier.errors import UsageError
from mechfourier.hooks.run import Batch, batches, forward, inference, serving
from mechfourier.hooks.site import model_name
from mechfourier.models.interface import Encoding, Model, encode

ENDS_OF = 36
"""Prompts on which it is looked at whether right answers end by themselves."""


@runtime_checkable
class Task(Protocol):
    """Questions with one right candidate each: some ``rows`` of a design."""

    @property
    def design(self) -> Design: ...
    @property
    def rows(self) -> Int[Tensor, " prompt"]: ...
    @property
    def notes(self) -> tuple[str, ...]: ...
    @property
    def name(self) -> str: ...
    @property
    def encodings(self) -> Sequence[Encoding]: ...
    @property
    def label(self) -> Int[Tensor, " prompt"]: ...
    @property
    def last(self) -> Int[Tensor, " prompt"]: ...
    @property
    def n_sequences(self) -> int: ...

    def subset(self, prompts: Int[Tensor, " chosen"]) -> "Task":
        """The same task on some of its prompts (numbers among them)."""
        ...

    def on(self, model: Model, rows: Int[Tensor, " prompt"]) -> "Task":
        """The same task on other rows of its design."""
        ...

    def score(self, model: Model) -> AnswerScores:
        """The scores of all prompts, with the hooks that are on the model at that moment."""
        ...


@dataclass(frozen=True, eq=False)
class AnswerTask:
    """Prompts of a task (``name``); what is judged is the log-probability of every candidate answer, over all
    its tokens."""

    design: Design
    rows: Int[Tensor, " prompt"]
    plan: AnswerPlan
    notes: tuple[str, ...] = ()
    name: str = NATIVE

    @property
    def encodings(self) -> Sequence[Encoding]:
        """The prompts as tokens."""
        return self.plan.encodings

    @property
    def label(self) -> Int[Tensor, " prompt"]:
        """The number of the right candidate."""
        return self.design.label[self.rows]

    @property
    def last(self) -> Int[Tensor, " prompt"]:
        """The last position of every prompt."""
        return torch.tensor([len(encoding.ids) - 1 for encoding in self.plan.encodings])

    @property
    def n_sequences(self) -> int:
        """Sequences of one pass over all prompts."""
        return self.plan.n_sequences

    def subset(self, prompts: Int[Tensor, " chosen"]) -> "AnswerTask":
        """The same task on some of its prompts (numbers among them)."""
        return replace(self, rows=self.rows[prompts], plan=self.plan.subset(prompts))

    def on(self, model: Model, rows: Int[Tensor, " prompt"]) -> "AnswerTask":
        """The same task on other rows of its design."""
        prompts = [self.design.prompts[i] for i in rows.tolist()]
        plan = plan_answers(model, prompts, self.design.candidates).closing(self.plan.closed)
        return replace(self, rows=rows, plan=plan)

    def score(self, model: Model) -> AnswerScores:
        """Log-probabilities with the hooks that are on the model now."""
        return AnswerScores(*score_plan(model, self.plan), self.label)


@dataclass(frozen=True, eq=False)
class SimilarityTask:
    """Value sentences of a model without logits: which value is it? What is judged is the cosine of a
    sentence's embedding with the mean embedding that the intact model gives to each value's *other*
    sentences."""

    design: Design
    rows: Int[Tensor, " prompt"]
    encodings: tuple[Encoding, ...]
    batches: tuple[Batch, ...]
    references: Float[Tensor, "template candidate d"]
    notes: tuple[str, ...] = ()
    name: str = "similarity"

    @property
    def label(self) -> Int[Tensor, " prompt"]:
        """The number of the right value."""
        return self.design.label[self.rows]

    @property
    def last(self) -> Int[Tensor, " prompt"]:
        """The last position of every prompt."""
        return torch.tensor([len(encoding.ids) - 1 for encoding in self.encodings])

    @property
    def n_sequences(self) -> int:
        """Sequences of one pass over all prompts."""
        return len(self.rows)

    def subset(self, prompts: Int[Tensor, " chosen"]) -> "SimilarityTask":
        """The same task on some of its prompts (numbers among them)."""
        encodings = tuple(self.encodings[i] for i in prompts.tolist())
        place = torch.full((len(self.rows),), -1)
        place[prompts] = torch.arange(len(prompts))
        kept = [(place[part.rows], part.tokens) for part in self.batches]
        parts = tuple(Batch(at[at >= 0], tokens[at >= 0]) for at, tokens in kept if bool((at >= 0).any()))
        return replace(self, rows=self.rows[prompts], encodings=encodings, batches=parts)

    def on(self, model: Model, rows: Int[Tensor, " prompt"]) -> "SimilarityTask":
        """The same task on other rows of its design."""
        encodings = tuple(encode(model, [self.design.prompts[i] for i in rows.tolist()]))
        parts = tuple(batches(model, [e.ids for e in encodings]))
        return replace(self, rows=rows, encodings=encodings, batches=parts)

    def score(self, model: Model) -> AnswerScores:
        """Cosines with the hooks that are on the model now."""
        return self.scores_of(_embeddings(model, self.batches, len(self.rows)), self.rows)

    def scores_of(self, embedding: Float[Tensor, "prompt d"], rows: Int[Tensor, " prompt"]) -> AnswerScores:
        """Scores from the embeddings of these rows of the design."""
        if self.design.template is None:
            raise UsageError("similarity is scored on value sentences; this is an operation design")
        references = self.references[self.design.template[rows]]
        scores = torch.einsum("pd,pcd->pc", F.normalize(embedding, dim=-1), references)
        flags = torch.zeros_like(scores, dtype=torch.bool)
        return AnswerScores(scores, flags, self.design.label[rows], "similarity")


def has_logits(model: Model) -> bool:
    """False for sentence encoders, which have no unembedding."""
    bidirectional = getattr(model.cfg, "attention_dir", "causal") == "bidirectional"
    return not (bidirectional and not hasattr(model, "unembed"))


def task_of(
    model: Model,
    domain: Domain,
    *,
    task: str | Choice | None = None,
    cycles: int = 1,
    n_prompts: int | None = None,
    seed: int = 0,
) -> AnswerTask | SimilarityTask:
    """What ``model`` is asked in ``domain``: the task named ``task`` (None: the best one that it answers
    above chance, or the first that it can be asked; see `choose_task`); or, without logits, similarity.

    ``n_prompts`` draws that many prompts, balanced over the right answers. Raises ``NotExpressible``,
    ``OutOfRange`` and ``UsageError`` (no such task).
    """
    if not has_logits(model):
        if task is not None:
            raise UsageError(f"{model_name(model)} has no logits, so it is asked no task; leave task out")
        return _similarity_task(model, domain, n_prompts, seed)
    choice = task if isinstance(task, Choice) else choose_task(model, domain, task)
    design, notes = design_of(model, domain, choice.spec, cycles=cycles, seed=seed)
    rows = balanced_sample(design.label, n_prompts, seed=seed)
    plan = plan_answers(model, [design.prompts[i] for i in rows.tolist()], design.candidates)
    looked = balanced_sample(design.label[rows], min(ENDS_OF, len(rows)), seed=seed)
    ends = ends_of(model, plan.subset(looked), design.label[rows][looked])
    said = (choice.reason, *notes, _first_token_note(model, design, plan, rows), ends.note)
    told = tuple(note for note in said if note)
    return AnswerTask(design, rows, plan.closing(ends.closed), told, choice.spec.name)


def _first_token_note(
    model: Model, design: Design, plan: AnswerPlan, rows: Int[Tensor, " prompt"]
) -> str | None:
    """A warning where a language model without a beginning-of-sequence token is asked of its very first
    token."""
    fallback = design.domain.operation.fallback if design.domain.operation else ()
    text = getattr(model, "tokenizer", None) is not None
    if design.operand is None or not text or set(design.wordings) <= set(fallback):
        return None
    spans = [design.operand[row] for row in rows.tolist()]
    first = sum(e.last_token_of(*span) == 0 for e, span in zip(plan.encodings, spans, strict=True))
    if not first:
        return None
    return (
        f"in {first} of {len(rows)} prompts the value is the first token, which models without a "
        "beginning-of-sequence "
        "token use as their attention sink; put words before {value} in the template"
    )


def _similarity_task(model: Model, domain: Domain, n_prompts: int | None, seed: int) -> SimilarityTask:
    design = domain.value_design()
    encodings = tuple(encode(model, design.prompts))
    everything = tuple(batches(model, [e.ids for e in encodings]))
    unit = F.normalize(_embeddings(model, everything, len(design)), dim=-1)
    grid = rearrange(unit, "(v t) d -> t v d", v=domain.n)
    references = F.normalize(grid.sum(dim=0, keepdim=True) - grid, dim=-1)
    note = (
        "this model has no logits: the outcome is the cosine of a sentence's embedding with each value's "
        "other sentences"
    )
    whole = SimilarityTask(design, torch.arange(len(design)), encodings, everything, references, (note,))
    return whole.subset(balanced_sample(design.label, n_prompts, seed=seed))


def _embeddings(model: Model, parts: Sequence[Batch], count: int) -> Float[Tensor, "prompt d"]:
    """The sentence embeddings of a model without logits, in the order of the prompts."""
    with inference(model):
        found = []
        for part in parts:
            with serving(part.rows):
                found.append(forward(model, part.tokens).float().cpu())
    order = torch.cat([part.rows for part in parts])
    return torch.cat(found)[order.argsort()]
