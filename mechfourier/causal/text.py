"""What an intervention does to running text: KL(base ‖ changed) and perplexity on sentences nobody trained on."""

import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import torch
from einops import repeat
from jaxtyping import Float, Int
from torch import Tensor

from mechfourier.causal.controls import FLOP_BUDGET, Ablations, edited_logits, resume
from mechfourier.causal.outcome import bootstrap_mean, standardised
from mechfourier.errors import NotExpressible, OutOfRange
from mechfourier.hooks.run import batches, device_of, forward, inference, logits_of, serving
from mechfourier.models.interface import encode
from mechfourier.probes.answers import Bucket

LOGITS = 2**26  # numbers in the logits of one batch, before and after each
FEWEST_SENTENCES = 8


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


def affordable_sentences(model: Any, sentences: Sequence[str], ablations: int) -> int:
    """How many of the sentences ``ablations`` passes can run on within a third of the controls' ``FLOP_BUDGET`` (on a GPU: all)."""
    if not sentences or device_of(model).type != "cpu":
        return len(sentences)
    tokens = sum(len(encoding.ids) for encoding in encode(model, sentences)) / len(sentences)
    weights = sum(p.numel() for name, p in model.named_parameters() if "W_E" not in name)
    return min(len(sentences), int(FLOP_BUDGET / 3 / (2 * weights * tokens * ablations)))


def text_effects(
    model: Any, sentences: Sequence[str], ablations: Ablations, advance: Callable[[int], None] | None = None
) -> Float[Tensor, " ablation"]:
    """``TextEffect.effect`` of every ablation: rise of the surprisal per sentence, in standard deviations between sentences.

    Many ablations per pass, at all positions. Raises ``OutOfRange`` where no sentence has two tokens.
    """
    ids = [encoding.ids for encoding in encode(model, sentences) if len(encoding.ids) > 1]
    if not ids:
        raise OutOfRange("no held-out sentence has two tokens; give longer ones")
    vocab, longest = int(getattr(model.cfg, "d_vocab", 0) or 1), max(map(len, ids))
    rows = max(1, min(512, LOGITS // (vocab * longest)))
    base, rise = torch.zeros(len(ids)), torch.zeros(len(ablations), len(ids))
    with inference(model):
        for part in batches(model, ids, batch_size=min(rows, 64)):
            bucket = Bucket(part.tokens, part.rows, (), part.tokens.shape[1])
            start, residual = resume(model, ablations.site, part.tokens)
            before = _surprisal(logits_of(model, forward(model, part.tokens)), part.tokens)
            base[part.rows] = before
            for chosen in torch.arange(len(ablations)).split(max(1, rows // len(part.rows))):
                whose = repeat(chosen, "c -> (c row)", row=len(part.rows))
                edit = ablations.several(len(chosen))
                with serving(whose):
                    logits = edited_logits(model, bucket, edit, whose, start, residual)
                after = _surprisal(logits, part.tokens.repeat(len(chosen), 1)).unflatten(0, (len(chosen), -1))
                rise[chosen[:, None], part.rows] = after - before
                if advance is not None:
                    advance(len(chosen))
    spread = float(base.double().std()) if len(base) > 1 else 0.0
    return rise.mean(dim=1) / max(spread, 1e-12)


def _surprisal(
    logits: Float[Tensor, "row pos vocab"], tokens: Int[Tensor, "row pos"]
) -> Float[Tensor, " row"]:
    """Mean surprisal of the tokens of every row but the first, in nats."""
    scores = logits[:, :-1].float()
    right = scores.gather(-1, tokens[:, 1:, None].to(scores.device))[..., 0]
    return (scores.logsumexp(-1) - right).mean(dim=1).cpu()


def _compare(before: Tensor, after: Tensor, tokens: Tensor, rows: Tensor) -> tuple[Tensor, ...]:
    p, q = before[:, :-1].float().log_softmax(-1), after[:, :-1].float().log_softmax(-1)
    nexts = tokens[:, 1:, None].to(p.device)
    kl = (p.exp() * (p - q)).sum(-1)
    columns = (-p.gather(-1, nexts)[..., 0], -q.gather(-1, nexts)[..., 0], kl.clamp(min=0.0))
    whose = rows[:, None].expand(tokens.shape[0], tokens.shape[1] - 1)
    return (*(column.cpu().flatten() for column in columns), whose.flatten())
