"""How a model answers: the log-probability of every candidate answer, over all of its tokens.

Candidates whose tokens begin alike ("1", "10", "11" with a digit tokenizer; "C", "C#") are scored on one
tree. A candidate that is the beginning of another counts only where it is not continued, by a token of the
other or, for a number shorter than the longest one, by any digit: without that, " 1" could never lose against
" 12".

Models without logits (sentence encoders) are scored by similarity instead; `AnswerScores.outcome` says which.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mechfourier.domains.continuations import can_continue, continued, continues_exactly
from mechfourier.domains.design import Design
from mechfourier.errors import MechFourierError, NotExpressible, UsageError
from mechfourier.hooks.run import UNEMBED, forward, hooked, inference, logits_of, serving
from mechfourier.hooks.site import model_name
from mechfourier.models.interface import Encoding, Model, Readable, encode

Outcome = Literal["log-probability", "similarity"]

LOGIT_BUDGET = 2**26
"""Numbers in the logits of one batch (256 MB in float32)."""
STREAM_BUDGET = 2**22
"""Numbers in the residual stream of one batch."""
MAX_ROWS = 512
_TERMINATE = -1  # an edge that stands for "not continued"


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


@dataclass(frozen=True, eq=False)
class Bucket:
    """Rows of equal length that go through the model together: each is a prompt followed by ``path``. Logits
    are needed at the last ``keep`` positions."""

    tokens: Int[Tensor, "row pos"]
    prompt: Int[Tensor, " row"]
    path: tuple[int, ...]
    keep: int

    @property
    def last(self) -> int:
        """The prompt's last position."""
        return self.tokens.shape[1] - len(self.path) - 1


@dataclass(frozen=True)
class Edge:
    """The step from the tokens ``node`` to ``token`` (or to no continuation, ``_TERMINATE``)."""

    node: tuple[int, ...]
    token: int


class AnswerPlan:
    """Which sequences to run, and how their logits add up to scores; made once, used for every
    intervention."""

    def __init__(
        self, encodings: Sequence[Encoding], answers: Sequence[tuple[int, ...]], digits: Sequence[int] = ()
    ) -> None:
        if any(not answer for answer in answers):
            raise NotExpressible("a candidate answer has no token of its own in this tokenizer")
        self.encodings, self.answers, self.digits = list(encodings), list(answers), list(digits)
        self.continuing = {answer: self._continuing(answer) for answer in self.answers}
        steps = [
            [Edge(a[:i], token) for i, token in enumerate(a)]
            + [Edge(a, _TERMINATE)] * bool(self.continuing[a])
            for a in self.answers
        ]
        self.edges = list(dict.fromkeys(edge for path in steps for edge in path))
        index = {edge: i for i, edge in enumerate(self.edges)}
        self.incidence = torch.zeros(len(self.edges), len(answers))
        for candidate, path in enumerate(steps):
            self.incidence[[index[edge] for edge in path], candidate] = 1.0
        nodes = {edge.node for edge in self.edges}
        self.paths = [p for p in sorted(nodes) if not any(q != p and q[: len(p)] == p for q in nodes)]
        owner = {node: next(p for p in self.paths if p[: len(node)] == node) for node in nodes}
        self._read_at = {
            path: [i for i, edge in enumerate(self.edges) if owner[edge.node] == path] for path in self.paths
        }

    def _continuing(self, answer: tuple[int, ...]) -> list[int]:
        """The tokens that would turn ``answer`` into another answer."""
        size = len(answer)
        others = {a[size] for a in self.answers if len(a) > size and a[:size] == answer}
        number = answer[-1] in self.digits and size < max(len(a) for a in self.answers)
        return sorted(others.union(self.digits if number else ()))

    @property
    def deepest(self) -> int:
        """Tokens of the longest path."""
        return max(len(path) for path in self.paths)

    @property
    def of_one_token(self) -> bool:
        """Whether every answer is one token that nothing continues; then margins need the logits of the
        answers only."""
        return self.deepest == 0 and not any(self.continuing[answer] for answer in self.answers)

    @property
    def n_sequences(self) -> int:
        """Sequences that one pass runs: 1 per prompt where every answer is one token."""
        return len(self.encodings) * len(self.paths)

    def subset(self, prompts: Int[Tensor, " chosen"]) -> "AnswerPlan":
        """The same plan for some of the prompts, in this order."""
        return AnswerPlan([self.encodings[i] for i in prompts.tolist()], self.answers, self.digits)

    def buckets(self, rows: int = MAX_ROWS) -> Iterator[Bucket]:
        """The sequences by path and length, at most ``rows`` at a time."""
        lengths: dict[int, list[int]] = {}
        for i, encoding in enumerate(self.encodings):
            lengths.setdefault(len(encoding.ids), []).append(i)
        for path in self.paths:
            for members in lengths.values():
                for start in range(0, len(members), rows):
                    yield self.bucket(path, torch.tensor(members[start : start + rows]))

    def bucket(self, path: tuple[int, ...], prompts: Int[Tensor, " row"]) -> Bucket:
        """These prompts, of one length, each followed by ``path``."""
        # Nodes that an earlier path shares are read there, so the later path needs its last ones only.
        keep = len(path) + 1 - min(len(self.edges[i].node) for i in self._read_at[path])
        tokens = torch.tensor([[*self.encodings[i].ids, *path] for i in prompts.tolist()])
        return Bucket(tokens, prompts, path, keep)

    def read(
        self, bucket: Bucket, logits: Float[Tensor, "row keep vocab"]
    ) -> tuple[Int[Tensor, " edge"], Float[Tensor, "row edge"], Bool[Tensor, "row edge"]]:
        """The edges that ``bucket`` answers for: their numbers, log-probabilities, and whether they are
        greedy."""
        chosen = self._read_at[bucket.path]
        first = len(bucket.path) + 1 - bucket.keep
        log_probs, greedy = [], []
        normaliser, best = logits.logsumexp(dim=-1), logits.argmax(dim=-1)
        for edge in (self.edges[i] for i in chosen):
            depth = len(edge.node) - first
            if edge.token == _TERMINATE:
                more = torch.tensor(self.continuing[edge.node], device=logits.device)
                log_probs.append(_ends(logits[:, depth], normaliser[:, depth], more))
                greedy.append(~torch.isin(best[:, depth], more))
            else:
                log_probs.append(logits[:, depth, edge.token] - normaliser[:, depth])
                greedy.append(best[:, depth] == edge.token)
        return torch.tensor(chosen), torch.stack(log_probs, dim=1), torch.stack(greedy, dim=1)

    def collect(
        self, parts: Sequence[tuple[Bucket, tuple[Tensor, Tensor, Tensor]]]
    ) -> tuple[Float[Tensor, "prompt candidate"], Bool[Tensor, "prompt candidate"]]:
        """Scores and greedy flags of all prompts from what ``read`` gave for every bucket."""
        log_probs = torch.zeros(len(self.encodings), len(self.edges))
        greedy = torch.zeros(len(self.encodings), len(self.edges))
        for bucket, (edges, values, flags) in parts:
            log_probs[bucket.prompt[:, None], edges] = values.float().cpu()
            greedy[bucket.prompt[:, None], edges] = flags.float().cpu()
        return log_probs @ self.incidence, (1.0 - greedy) @ self.incidence == 0


def _ends(
    logits: Float[Tensor, "row vocab"], normaliser: Float[Tensor, " row"], more: Int[Tensor, " token"]
) -> Float[Tensor, " row"]:
    """log P(none of the tokens ``more``): 1 − P(more), or, where that cancels, the sum over all other
    tokens."""
    continued = (logits[:, more] - normaliser[:, None]).double().exp().sum(dim=1)
    ended = torch.log1p(-continued.clamp(max=1.0 - 1e-12)).float()
    if len(close := (continued > 0.99).nonzero()[:, 0]):
        rest = logits[close].index_fill(1, more, -torch.inf)
        ended[close] = rest.logsumexp(dim=1) - normaliser[close]
    return ended


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
    rows = batch_rows(model, plan)
    if len(plan.paths) > 1 and can_continue(model):
        return _telling(model, *plan.collect(list(_continued(model, plan, rows))))
    parts = [(bucket, plan.read(bucket, last_logits(model, bucket))) for bucket in plan.buckets(rows)]
    return _telling(model, *plan.collect(parts))


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
