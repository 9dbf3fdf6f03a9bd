"""What an intervention does to running text: KL(base ‖ changed) and perplexity on sentences nobody trained
on."""

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cache, partial
from importlib.resources import files
from typing import Any

import torch
from einops import repeat
from jaxtyping import Float, Int
from torch import Tensor

from mechfourier.causal.cost import block_weights, vocabulary_weights, whole_steps
from mechfourier.causal.edits import Ablations
from mechfourier.causal.engine import edited_pass, resume
from mechfourier.domains.answers import STREAM_BUDGET
from mechfourier.errors import NotExpressible, OutOfRange
from mechfourier.hooks.run import batches, device_of, forward, inference, logits_of, serving
from mechfourier.hooks.unembed import SLICE, Unembedding, before_unembedding, unembedding_of
from mechfourier.models.architectures import architecture_of
from mechfourier.models.interface import Model, encode
from mechfourier.progress import progress
from mechfourier.stats.paired import bootstrap_mean, standardised

LOGITS = 2**26  # numbers in the logits of one batch, where they are not made in slices
TEXT_FLOPS = 1e12  # for the sentences of a sweep on a CPU: some ten seconds on two cores
TEXT_LIMIT = 1.7e13  # for the fewest sentences: some minutes
FEWEST_SENTENCES = 8


@dataclass(frozen=True, eq=False)
class TextEffect:
    """Per predicted token, in nats: surprisal before and after, KL(base ‖ changed); ``sentence`` says whose
    it is."""

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
    text = (files("mechfourier") / "data" / "text" / "held_out.txt").read_text(encoding="utf-8")
    return tuple(line for line in text.splitlines() if line.strip())


def text_for(model: Model) -> tuple[tuple[str, ...], str | None]:
    """Held-out sentences that ``model`` can read, or none and the reason."""
    if not hasattr(model, "unembed"):
        return (), "no perplexity: this model has no logits"
    try:
        encode(model, packaged_text())
        return packaged_text(), None
    except NotExpressible:
        pass
    record = architecture_of(model)
    if record is not None and record.text:
        sentences = tuple(record.part("text")())
        with contextlib.suppress(NotExpressible):
            encode(model, sentences)
            return sentences, None
    return (), "no perplexity: this model cannot read running text"


def text_effect(
    model: Model, sentences: Sequence[str], intervention: Callable[[], AbstractContextManager[Any]]
) -> TextEffect:
    """Run every sentence twice, as the model is and under ``intervention``, batch by batch.

    Raises ``OutOfRange`` where no sentence has two tokens.
    """
    texts, long = _long(model, sentences)
    parts = []
    with inference(model), progress("held-out text", total=len(texts)) as bar:
        read = unembedding_of(model, torch.tensor([texts[0]]))
        for part in batches(model, texts, batch_size=min(64, _rows_on_text(model, texts, read))):
            with serving(part.rows):
                run = partial(forward, model, part.tokens)
                before = _stream(model, run, read)
                with intervention():
                    after = _stream(model, run, read)
            columns = _compare(before, after, part.tokens, read)
            whose = long[part.rows][:, None].expand_as(part.tokens[:, 1:])
            parts.append((*columns, whose.flatten()))
            bar.advance(len(part.rows))
    return TextEffect(*(torch.cat(column) for column in zip(*parts, strict=True)))


def _long(model: Model, sentences: Sequence[str]) -> tuple[list[tuple[int, ...]], Int[Tensor, " sentence"]]:
    """The sentences of two tokens and more as tokens, and their numbers; raises ``OutOfRange`` where there is
    none."""
    ids = [encoding.ids for encoding in encode(model, sentences)]
    long = [row for row, tokens in enumerate(ids) if len(tokens) > 1]
    if not long:
        raise OutOfRange("no held-out sentence has two tokens; give longer ones")
    return [ids[row] for row in long], torch.tensor(long)


def _stream(model: Model, run: Callable[[], Any], read: Unembedding | None) -> Float[Tensor, "row pos d"]:
    """What goes into the unembedding (without ``read``: the logits) in the pass ``run``, at all positions but
    the last."""
    whole = logits_of(model, run()) if read is None else before_unembedding(model, run)
    return whole[:, :-1]


def _surprisals(
    stream: Float[Tensor, "row pos d"], tokens: Int[Tensor, "row length"], read: Unembedding | None
) -> Iterator[tuple[Float[Tensor, "token vocab"], Float[Tensor, " token"]]]:
    """A slice at a time: the log-probabilities of every word after these tokens, and the surprisal of the one
    that follows."""
    flat, following = stream.flatten(0, 1), tokens[:, 1:].flatten().to(stream.device)
    size = max(1, SLICE // flat.shape[-1])
    plain = (slice(start, start + size) for start in range(0, len(flat), size))
    for some in plain if read is None else read.slices(len(flat)):
        logits = flat[some].to(torch.float32, copy=True) if read is None else read(flat[some])
        logits = logits.sub_(logits.logsumexp(-1, keepdim=True))
        yield logits, -logits.gather(-1, following[some][:, None])[:, 0].cpu()


def _compare(
    before: Float[Tensor, "row pos d"],
    after: Float[Tensor, "row pos d"],
    tokens: Int[Tensor, "row length"],
    read: Unembedding | None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Surprisal before, after, and KL of every predicted token."""
    found = []
    both = zip(_surprisals(before, tokens, read), _surprisals(after, tokens, read), strict=True)
    for (old, first), (new, second) in both:
        kl = new.neg_().add_(old).mul_(old.exp_()).sum(-1)
        found.append((first, second, kl.clamp(min=0.0).cpu()))
    first, second, kl = (torch.cat(column) for column in zip(*found, strict=True))
    return first, second, kl


def affordable_sentences(model: Model, sentences: Sequence[str], ablations: int) -> int:
    """How many of the sentences ``ablations`` passes run on: ``TEXT_FLOPS`` allow, at least
    ``FEWEST_SENTENCES`` where those cost no more than ``TEXT_LIMIT``, else none (on a GPU: all)."""
    if not sentences or device_of(model).type != "cpu":
        return len(sentences)
    tokens = sum(len(encoding.ids) for encoding in encode(model, sentences)) / len(sentences)
    one = 2 * tokens * ablations * (block_weights(model) + vocabulary_weights(model))
    if FEWEST_SENTENCES * one > TEXT_LIMIT:
        return 0
    return min(len(sentences), max(FEWEST_SENTENCES, int(TEXT_FLOPS / one)))


def sentences_for(model: Model, units: int) -> tuple[tuple[str, ...], str | None]:
    """Held-out sentences for the ablations of so many units, spread over those there are, as many as can be
    paid for; a note on that."""
    sentences, reason = text_for(model)
    count = affordable_sentences(model, sentences, units)
    if count < FEWEST_SENTENCES <= len(sentences):
        return (
            (),
            f"no specific effect: {units} units on held-out text would take too long; give text, or fewer "
            "layers",
        )
    spread = sentences[:: max(1, -(-len(sentences) // max(count, 1)))]
    if len(spread) < len(sentences):
        reason = (
            f"the specific effect is measured on {len(spread)} of {len(sentences)} held-out sentences, "
            "for the time it takes (text)"
        )
    return spread, reason


def text_effects(
    model: Model, sentences: Sequence[str], ablations: Ablations, advance: Callable[[int], None] | None = None
) -> Float[Tensor, " ablation"]:
    """``TextEffect.effect`` of every ablation: rise of the surprisal per sentence, in standard deviations
    between sentences.

    Many ablations per pass, at all positions; ``advance`` is told of every ablation that is done. Raises
    ``OutOfRange`` where no sentence has two tokens.
    """
    ids, _ = _long(model, sentences)
    base, rise = torch.zeros(len(ids)), torch.zeros(len(ablations), len(ids))
    report = whole_steps(advance or (lambda done: None), len(ids))
    with inference(model):
        read = unembedding_of(model, torch.tensor([ids[0]]))
        rows = _rows_on_text(model, ids, read)
        for part in batches(model, ids, batch_size=min(rows, 64)):
            start, residual = resume(model, ablations.site, part.tokens)
            base[part.rows] = _mean_surprisal(model, partial(forward, model, part.tokens), part.tokens, read)
            for chosen in torch.arange(len(ablations)).split(max(1, rows // len(part.rows))):
                whose = repeat(chosen, "c -> (c row)", row=len(part.rows))
                edit, rows_of = ablations.chosen(whose), torch.arange(len(whose))
                edited = partial(edited_pass, model, part.tokens, edit, rows_of, start, residual)
                with serving(whose):
                    after = _mean_surprisal(model, edited, part.tokens.repeat(len(chosen), 1), read)
                rise[chosen[:, None], part.rows] = after.unflatten(0, (len(chosen), -1)) - base[part.rows]
                report(len(whose))
    spread = float(base.double().std()) if len(base) > 1 else 0.0
    return rise.mean(dim=1) / max(spread, 1e-12)


def _rows_on_text(model: Model, ids: Sequence[Sequence[int]], read: Unembedding | None) -> int:
    """Rows per pass such that what is held of a batch stays small: the stream, or the logits of all
    positions."""
    longest = max(map(len, ids))
    wide = int(model.cfg.d_model) if read is not None else int(getattr(model.cfg, "d_vocab", 0) or 1)
    most = STREAM_BUDGET if read is not None else LOGITS
    return max(1, min(512, most // (wide * longest)))


def _mean_surprisal(
    model: Model, run: Callable[[], Any], tokens: Int[Tensor, "row pos"], read: Unembedding | None
) -> Float[Tensor, " row"]:
    """Mean surprisal of the tokens of every row but the first, in nats, in the pass ``run``."""
    found = [each for _, each in _surprisals(_stream(model, run, read), tokens, read)]
    return torch.cat(found).unflatten(0, (len(tokens), -1)).mean(dim=1)
