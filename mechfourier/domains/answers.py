"""How a model answers: the log-probability of every candidate answer, over all of its tokens.

Models without logits (sentence encoders) are scored by similarity instead; `AnswerScores.outcome` says which.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mechfourier.domains.answer_plan import MAX_ROWS, AnswerPlan, Bucket
from mechfourier.domains.continuations import can_continue, continued, continues_exactly
from mechfourier.domains.design import Design
from mechfourier.errors import MechFourierError, NotExpressible, UsageError
from mechfourier.hooks.run import UNEMBED, forward, hooked, inference, logits_of, serving
from mechfourier.hooks.site import model_name
from mechfourier.models.interface import Encoding, Model, Readable, encode
from mechfourier.progress import progress

Outcome = Literal["log-probability", "similarity"]

LOGIT_BUDGET = 2**26
"""Numbers in the logits of one batch (256 MB in float32)."""
STREAM_BUDGET = 2**22
"""Numbers in the residual stream of one batch."""


@dataclass(frozen=True, eq=False)
class AnswerScores:
    """``scores[prompt, candidate]``: log-probabilities in nats, or cosines (see ``outcome``).

    ``greedy[prompt, candidate]``: greedy decoding over the whole vocabulary gives exactly this candidate
    (False throughout for similarities, which have no vocabulary). ``label`` is the number of the right
    candidate.
    """

    scores: Float[Tensor, "prompt candidate"]
    greedy: Bool[Tensor, "prompt candidate"]
    label: Int[Tensor, " prompt"]
    outcome: Outcome = "log-probability"

    @property
    def right(self) -> Bool[Tensor, " prompt"]:
        """The right candidate scores highest among the candidates."""
        return self.scores.argmax(dim=1) == self.label

    @property
    def margin(self) -> Float[Tensor, " prompt"]:
        """Score of the right candidate minus the mean score of the other n − 1 (nats, or cosine)."""
        right = self.scores.gather(1, self.label[:, None])[:, 0]
        return right - (self.scores.sum(dim=1) - right) / (self.scores.shape[1] - 1)

    @property
    def accuracy(self) -> float:
        """Share of prompts whose right answer is the best of the candidates; chance is 1/n."""
        return float(self.right.double().mean())

    @property
    def greedy_accuracy(self) -> float | None:
        """Share of prompts answered rightly by greedy decoding over the whole vocabulary; None for
        similarities."""
        if self.outcome == "similarity":
            return None
        return float(self.greedy.gather(1, self.label[:, None]).double().mean())

    @property
    def logit_diff(self) -> float:
        """Mean of ``margin`` over the prompts."""
        return float(self.margin.double().mean())


def plan_answers(model: Readable, prompts: Sequence[str], candidates: Sequence[str]) -> AnswerPlan:
    """Tokens of the prompts and of the candidates after them; raises ``NotExpressible`` or ``UsageError``."""
    if not prompts:
        raise UsageError("no prompts to score; choose at least one sample")
    encodings = [e.up_to_text for e in encode(model, prompts)]
    answers = answer_tokens(model, prompts, candidates, encodings=encodings)
    return AnswerPlan(encodings, answers, _digit_tokens(model, prompts[0], candidates, answers))


def answer_tokens(
    model: Readable,
    prompts: Sequence[str],
    candidates: Sequence[str],
    *,
    encodings: Sequence[Encoding] | None = None,
) -> tuple[tuple[int, ...], ...]:
    """Tokens of every candidate as they follow the prompts.

    Checked on one prompt per different last token, which is all a byte-pair tokenizer looks at. Raises
    ``NotExpressible`` where the answer merges into the prompt, or is cut differently after different prompts.
    """
    own: Any = getattr(model, "answer_ids", None)
    if callable(own):
        tokens: Any = own(list(candidates))
        return tuple((token,) for token in tokens)
    if encodings is None:
        encodings = [e.up_to_text for e in encode(model, prompts)]
    examples = {encoding.ids[-1]: i for i, encoding in reversed(list(enumerate(encodings)))}
    found: list[tuple[int, ...]] | None = None
    for i in examples.values():
        tokens = _continuations(model, prompts[i], encodings[i].ids, candidates)
        if found is not None and tokens != found:
            raise NotExpressible(f"the answers are cut into other tokens after {prompts[i]!r} than elsewhere")
        found = tokens
    return tuple(found or ())


def _continuations(
    model: Readable, prompt: str, ids: tuple[int, ...], candidates: Sequence[str]
) -> list[tuple[int, ...]]:
    whole = [e.up_to_text.ids for e in encode(model, [prompt + c for c in candidates])]
    for candidate, tokens in zip(candidates, whole, strict=True):
        if tokens[: len(ids)] != ids or len(tokens) == len(ids):
            raise NotExpressible(
                f"the answer {candidate!r} does not start a new token after {prompt!r}; end the template "
                f"without a blank"
            )
    return [tokens[len(ids) :] for tokens in whole]


def _digit_tokens(
    model: Readable, prompt: str, candidates: Sequence[str], answers: Sequence[tuple[int, ...]]
) -> list[int]:
    """The tokens that would make a number longer; none where numbers are single tokens."""
    numeric = [i for i, c in enumerate(candidates) if c[-1:].isdecimal()]
    if len({len(answers[i]) for i in numeric}) < 2:
        return []
    shortest = min(numeric, key=lambda i: len(answers[i]))
    extended = [candidates[shortest] + str(digit) for digit in range(10)]
    head = answers[shortest]
    longer = answer_tokens(model, [prompt], extended)
    return sorted({t[len(head)] for t in longer if t[: len(head)] == head and len(t) > len(head)})


def last_logits(model: Model, bucket: Bucket) -> Float[Tensor, "row keep vocab"]:
    """Logits at the last ``bucket.keep`` positions of its sequences, unembedding no others where that can be
    avoided."""
    slim = str(UNEMBED) in model.hook_dict
    narrow = [(UNEMBED, lambda value: value[:, -bucket.keep :])] if slim else []
    with inference(model), serving(bucket.prompt), hooked(model, narrow):
        output = logits_of(model, forward(model, bucket.tokens))
    return (output if output.ndim == 3 else output[:, None])[:, -bucket.keep :].float()


def batch_rows(model: Model, plan: AnswerPlan) -> int:
    """Rows per batch such that the logits and the activations of a batch stay small."""
    length = max(len(e.ids) for e in plan.encodings) + plan.deepest
    kept = plan.deepest + 1 if str(UNEMBED) in model.hook_dict else length
    vocab = int(getattr(model.cfg, "d_vocab", 0) or 1)
    width = int(getattr(model.cfg, "d_model", 0) or 1)
    return max(1, min(MAX_ROWS, LOGIT_BUDGET // (vocab * kept), STREAM_BUDGET // (width * length)))


def stream_rows(model: Model, plan: AnswerPlan) -> int:
    """Rows per batch where no logits of the whole vocabulary are made."""
    length = max(len(e.ids) for e in plan.encodings) + plan.deepest
    width = int(getattr(model.cfg, "d_model", 0) or 1)
    return max(1, min(MAX_ROWS, STREAM_BUDGET // (width * length)))


def score_plan(
    model: Model, plan: AnswerPlan
) -> tuple[Float[Tensor, "prompt candidate"], Bool[Tensor, "prompt candidate"]]:
    """Run the plan's sequences through the model, as it is hooked now: (log-probabilities, greedy flags)."""
    return _telling(model, *plan.collect(_parts(model, plan)))


def edge_scores(model: Model, plan: AnswerPlan) -> Float[Tensor, "prompt edge"]:
    """The log-probability of every step of the plan."""
    return plan.by_edge(_parts(model, plan))[0]


def _parts(model: Model, plan: AnswerPlan) -> list[tuple[Bucket, tuple[Tensor, Tensor, Tensor]]]:
    rows, found = batch_rows(model, plan), []
    if len(plan.paths) > 1 and can_continue(model):
        parts = _continued(model, plan, rows)
    else:
        parts = ((bucket, plan.read(bucket, last_logits(model, bucket))) for bucket in plan.buckets(rows))
    with progress("answers", total=len(plan.encodings) * len(plan.paths)) as bar:
        for bucket, read in parts:
            found.append((bucket, read))
            bar.advance(len(bucket.prompt))
    return found


def _telling(model: Model, scores: Tensor, greedy: Tensor) -> tuple[Tensor, Tensor]:
    """Scores that differ between answers or prompts; a model of zeros gives none, and nothing can be asked of
    it."""
    if scores.numel() > 1 and bool((scores == scores.flatten()[0]).all()):
        raise MechFourierError(
            f"{model_name(model)} gives every answer the same score in every prompt; are its weights zero, or "
            f"its logits scaled away?"
        )
    return scores, greedy


def _continued(
    model: Model, plan: AnswerPlan, rows: int
) -> Iterator[tuple[Bucket, tuple[Tensor, Tensor, Tensor]]]:
    """What ``plan.read`` gives for every bucket, with each prompt run once; by whole passes where that is not
    the same."""
    for first in plan.buckets(rows):
        if first.path != plan.paths[0]:
            return  # all prompts of all lengths have been seen, each with all its paths
        buckets = [plan.bucket(path, first.prompt) for path in plan.paths]
        tokens = first.tokens[:, : first.last + 1]
        with inference(model), serving(first.prompt):
            if continues_exactly(model, tokens, plan.paths):
                for bucket, logits in zip(buckets, continued(model, tokens, plan.paths), strict=True):
                    yield bucket, plan.read(bucket, logits[:, -bucket.keep :])
                continue
        yield from ((bucket, plan.read(bucket, last_logits(model, bucket))) for bucket in buckets)


def score_answers(
    model: Model, prompts: Sequence[str], candidates: Sequence[str], label: Int[Tensor, " prompt"]
) -> AnswerScores:
    """Scores of every candidate after every prompt (teacher-forced log-probabilities in nats)."""
    scores, greedy = score_plan(model, plan_answers(model, prompts, candidates))
    return AnswerScores(scores, greedy, label)


def score_candidates(
    model: Model, design: Design, *, rows: Int[Tensor, " row"] | None = None
) -> Float[Tensor, "prompt candidate"]:
    """Log-probability of every candidate answer of an operation design, summed over its tokens.

    ``rows`` chooses some of the design's prompts. Raises ``NotExpressible`` where the model has no such
    tokens.
    """
    if design.answers is None:
        raise UsageError("a value design has no answers; use domain.operation_design()")
    chosen = range(len(design)) if rows is None else rows.tolist()
    plan = plan_answers(model, [design.prompts[i] for i in chosen], design.candidates)
    return score_plan(model, plan)[0]


def accuracy(scores: Float[Tensor, "prompt candidate"], label: Int[Tensor, " prompt"]) -> float:
    """Share of prompts whose right candidate scores highest."""
    return AnswerScores(scores, torch.zeros_like(scores, dtype=torch.bool), label).accuracy


def logit_diff(scores: Float[Tensor, "prompt candidate"], label: Int[Tensor, " prompt"]) -> float:
    """Mean score of the right candidate minus the mean of the others."""
    return AnswerScores(scores, torch.zeros_like(scores, dtype=torch.bool), label).logit_diff
