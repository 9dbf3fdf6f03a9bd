"""Which sequences to run for the answers of a task, and how their logits add up to scores.

Candidates whose tokens begin alike ("1", "10", "11" with a digit tokenizer; "C", "C#") are scored on one
tree. A candidate that is the beginning of another counts only where it is not continued, by a token of the
other or, for a number shorter than the longest one, by any digit: without that, " 1" could never lose against
" 12".
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mechfourier.errors import NotExpressible
from mechfourier.models.interface import Encoding

MAX_ROWS = 512
TERMINATE = -1  # an edge that stands for "not continued"


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
    """The step from the tokens ``node`` to ``token`` (or to no continuation, ``TERMINATE``)."""

    node: tuple[int, ...]
    token: int


class AnswerPlan:
    """Which sequences to run, and how their logits add up to scores; made once, used for every
    intervention."""

    def __init__(
        self,
        encodings: Sequence[Encoding],
        answers: Sequence[tuple[int, ...]],
        digits: Sequence[int] = (),
        closed: frozenset[tuple[int, ...]] = frozenset(),
    ) -> None:
        """``digits``: tokens that would make a number longer; ``closed``: answers whose end is not looked at."""
        if any(not answer for answer in answers):
            raise NotExpressible("a candidate answer has no token of its own in this tokenizer")
        self.encodings, self.answers, self.digits = list(encodings), list(answers), list(digits)
        self.closed = closed
        self.continuing = {a: [] if a in closed else self._continuing(a) for a in self.answers}
        steps = [
            [Edge(a[:i], token) for i, token in enumerate(a)]
            + [Edge(a, TERMINATE)] * bool(self.continuing[a])
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
        number = answer[-1] in self.digits and len(answer) < max(len(a) for a in self.answers)
        return sorted(self.begins_another(answer).union(self.digits if number else ()))

    def begins_another(self, answer: tuple[int, ...]) -> set[int]:
        """The tokens by which other answers continue this one."""
        size = len(answer)
        return {a[size] for a in self.answers if len(a) > size and a[:size] == answer}

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
        chosen = [self.encodings[i] for i in prompts.tolist()]
        return AnswerPlan(chosen, self.answers, self.digits, self.closed)

    def closing(self, answers: frozenset[tuple[int, ...]]) -> "AnswerPlan":
        """The same plan without looking at the end of these answers."""
        return AnswerPlan(self.encodings, self.answers, self.digits, answers)

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
            if edge.token == TERMINATE:
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
        log_probs, greedy = self.by_edge(parts)
        return log_probs @ self.incidence, (1.0 - greedy) @ self.incidence == 0

    def by_edge(
        self, parts: Sequence[tuple[Bucket, tuple[Tensor, Tensor, Tensor]]]
    ) -> tuple[Float[Tensor, "prompt edge"], Float[Tensor, "prompt edge"]]:
        """Log-probabilities and greedy flags of every step."""
        log_probs = torch.zeros(len(self.encodings), len(self.edges))
        greedy = torch.zeros(len(self.encodings), len(self.edges))
        for bucket, (edges, values, flags) in parts:
            log_probs[bucket.prompt[:, None], edges] = values.float().cpu()
            greedy[bucket.prompt[:, None], edges] = flags.float().cpu()
        return log_probs, greedy


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
