"""How the scores of edited prompts are read off passes."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mechfourier.causal.task import SimilarityTask
from mechfourier.domains.answer_plan import AnswerPlan, Bucket
from mechfourier.domains.answers import batch_rows, stream_rows
from mechfourier.hooks.run import UNEMBED, HookFunction, finite, hooked, logits_of
from mechfourier.hooks.site import Site, model_name
from mechfourier.hooks.unembed import Unembedding, before_unembedding
from mechfourier.models.interface import Model

SIMILARITY_ROWS = 512


class AnswerReader:
    """Log-probabilities of the answers, up to a number per row where each is one token (then nothing else is
    computed)."""

    def __init__(self, model: Model, plan: AnswerPlan, choice: Unembedding | None) -> None:
        self.model, self.plan, self.choice = model, plan, choice
        self.columns = len(plan.edges)
        self.batch = batch_rows(model, plan) if self.choice is None else stream_rows(model, plan)

    def sequences(self, prompts: Int[Tensor, " prompt"]) -> list[Bucket]:
        """Every sequence that the scores of these prompts need."""
        whole = len(prompts) == len(self.plan.encodings)
        plan = self.plan if whole else self.plan.subset(prompts)
        # those of whole passes: a resampled prompt takes from one of its bucket
        buckets = plan.buckets(batch_rows(self.model, self.plan))
        return [replace(bucket, prompt=prompts[bucket.prompt]) for bucket in buckets]

    def logits(self, run: Callable[[], Any], keep: int) -> Float[Tensor, "row keep word"]:
        """Logits at the last ``keep`` positions of the pass ``run``: of the whole vocabulary, or of the
        answers."""
        if self.choice is not None:
            logits = self.choice(before_unembedding(self.model, run, keep))
            return finite(logits, f"the logits of {model_name(self.model)}", self.model)
        narrow: list[tuple[Site, HookFunction]] = [(UNEMBED, lambda value: value[:, -keep:])]
        with hooked(self.model, narrow if str(UNEMBED) in self.model.hook_dict else []):
            output = logits_of(self.model, run())
        return (output if output.ndim == 3 else output[:, None])[:, -keep:].float()

    def edges(self, bucket: Bucket, logits: Float[Tensor, "row keep word"]) -> tuple[Tensor, Tensor]:
        """The columns that a bucket fills, and their numbers."""
        if self.choice is not None:
            return torch.arange(self.columns), logits[:, -1]
        return self.plan.read(bucket, logits)[:2]

    def read(self, bucket: Bucket, run: Callable[[], Any]) -> tuple[Tensor, Tensor]:
        """``edges`` of a whole pass."""
        return self.edges(bucket, self.logits(run, bucket.keep))

    def scores(self, table: Tensor, prompt: Tensor) -> Float[Tensor, "row candidate"]:
        """Scores of the candidates from those of their tokens."""
        return table @ self.plan.incidence


class SimilarityReader:
    """Cosines of sentence embeddings with those of every value's other sentences."""

    def __init__(self, task: SimilarityTask) -> None:
        self.task, self.columns, self.batch = task, task.references.shape[-1], SIMILARITY_ROWS

    def sequences(self, prompts: Int[Tensor, " prompt"]) -> list[Bucket]:
        """These sentences by length."""
        batches = self.task.subset(prompts).batches
        return [Bucket(part.tokens, prompts[part.rows], (), 1) for part in batches]

    def read(self, bucket: Bucket, run: Callable[[], Any]) -> tuple[Tensor, Tensor]:
        """The embeddings."""
        return torch.arange(self.columns), finite(run().float(), "the sentence embeddings")

    def scores(self, table: Tensor, prompt: Tensor) -> Float[Tensor, "row candidate"]:
        """Their cosines."""
        return self.task.scores_of(table, self.task.rows[prompt]).scores


Reader = AnswerReader | SimilarityReader
"""Each has ``columns`` numbers per row, which ``read`` gives by bucket; ``scores`` makes them scores."""
