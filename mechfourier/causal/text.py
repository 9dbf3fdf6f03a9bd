"""What an intervention does to running text: KL(base ‖ changed) and perplexity on sentences nobody trained on."""

import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mechfourier.causal.outcome import bootstrap_mean, standardised
from mechfourier.errors import NotExpressible, OutOfRange
from mechfourier.hooks.run import batches, forward, inference, logits_of, serving
from mechfourier.models.interface import encode

LOGITS = 2**26  # numbers in the logits of one batch, before and after each


@dataclass(frozen=True, eq=False)
class TextEffect:
    """Per predicted token, in nats: surprisal before and after, KL(base ‖ changed); ``sentence`` says whose it is."""

    base: Float[Tensor, " token"]
    changed: Float[Tensor, " token"]
    kl: Float[Tensor, " token"]
    sentence: Int[Tensor, " token"]

    @property
    def perplexity(self) -> tuple[float, float]:
        """exp(mean surprisal) before and after."""
        return math.exp(float(self.base.double().mean())), math.exp(float(self.changed.double().mean()))

    @property
    def mean_kl(self) -> float:
        """Mean KL divergence per token."""
        return float(self.kl.double().mean())

    def by_sentence(self, values: Float[Tensor, " token"]) -> Float[Tensor, " sentence"]:
        """Mean of ``values`` within each sentence: tokens of a sentence are not independent."""
        count = torch.bincount(self.sentence)
        return torch.bincount(self.sentence, weights=values.double())[count > 0] / count[count > 0]

    def kl_interval(self, *, seed: int) -> tuple[float, float]:
        """95 % bootstrap interval of the mean KL over sentences."""
        return bootstrap_mean(self.by_sentence(self.kl), seed=seed)

    @property
    def effect(self) -> float:
        """Rise of the surprisal per sentence, in standard deviations between sentences before the change."""
        return standardised(self.by_sentence(self.changed - self.base), self.by_sentence(self.base))


@cache
def packaged_text() -> tuple[str, ...]:
    """Sixty plain sentences written for this package."""
    path = files("mechfourier") / "data" / "text" / "held_out.txt"
    text = path.read_text(encoding="utf-8")
    return tuple(line for line in text.splitlines() if line.strip())


def text_for(model: Any) -> tuple[tuple[str, ...], str | None]:
    """Held-out sentences that ``model`` can read, or none and the reason."""
    if not hasattr(model, "unembed"):
        return (), "no perplexity: this model has no logits"
    try:
        encode(model, packaged_text())
        return packaged_text(), None
    except NotExpressible:
        pass
    from mechfourier.tasks.calendar_text import held_out_text

    sentences = held_out_text()
    try:
        encode(model, sentences)
    except NotExpressible:
        return (), "no perplexity: this model cannot read running text"
    return sentences, None


def text_effect(
    model: Any, sentences: Sequence[str], intervention: Callable[[], AbstractContextManager[Any]]
) -> TextEffect:
    """Run every sentence twice, as the model is and under ``intervention``, batch by batch.

    Raises ``OutOfRange`` where no sentence has two tokens.
    """
    ids = [encoding.ids for encoding in encode(model, sentences)]
    long = [row for row, tokens in enumerate(ids) if len(tokens) > 1]
    if not long:
        raise OutOfRange("no held-out sentence has two tokens; give longer ones")
    vocab = int(getattr(model.cfg, "d_vocab", 0) or 1)
    size = max(1, min(64, LOGITS // (vocab * max(map(len, ids)))))
    parts = []
    with inference(model):
        for part in batches(model, [ids[row] for row in long], batch_size=size):
            with serving(part.rows):
                before = logits_of(model, forward(model, part.tokens))
                with intervention():
                    after = logits_of(model, forward(model, part.tokens))
            rows = torch.tensor(long)[part.rows]
            parts.append(_compare(before, after, part.tokens, rows))
    return TextEffect(*(torch.cat([part[i] for part in parts]) for i in range(4)))


def _compare(before: Tensor, after: Tensor, tokens: Tensor, rows: Tensor) -> tuple[Tensor, ...]:
    p, q = before[:, :-1].float().log_softmax(-1), after[:, :-1].float().log_softmax(-1)
    nexts = tokens[:, 1:, None].to(p.device)
    kl = (p.exp() * (p - q)).sum(-1)
    columns = (-p.gather(-1, nexts)[..., 0], -q.gather(-1, nexts)[..., 0], kl.clamp(min=0.0))
    whose = rows[:, None].expand(tokens.shape[0], tokens.shape[1] - 1)
    return (*(column.cpu().flatten() for column in columns), whose.flatten())
