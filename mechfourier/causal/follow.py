"""The text that follows an edit: written under it, and read by the intact model."""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mechfourier.causal.experiment import Experiment, SiteActivations
from mechfourier.causal.steering import room
from mechfourier.errors import NotExpressible
from mechfourier.hooks.generate import generate
from mechfourier.hooks.interventions import edit_add
from mechfourier.hooks.run import batches, forward, inference, logits_of
from mechfourier.models.interface import Model, encode

READ_AT = (0.0, 0.25, 0.5, 0.75, 1.0)  # shares of a path at which text is written
WRITTEN = 4  # prompts whose text is followed


def perplexities(
    asked: Experiment,
    place: SiteActivations,
    prompts: Int[Tensor, " prompt"],
    edits: Float[Tensor, "dose prompt d"],
    new_tokens: int,
) -> list[float | None]:
    """Perplexity of the text written at a few doses of three paths; None at the others, and where the model has no tokenizer or
    no room for text."""
    found: list[float | None] = [None] * len(edits)
    prompts = prompts[:WRITTEN]
    rows = asked.task.rows[prompts]
    texts = [asked.design.prompts[row] for row in rows.tolist()]
    most = room(asked.model, max(len(e.ids) for e in encode(asked.model, texts)), new_tokens)
    if getattr(asked.model, "tokenizer", None) is None or most < 2:
        return found
    third = len(edits) // 3
    read = sorted({path * third + round(share * (third - 1)) for path in range(3) for share in READ_AT})
    added = edits[read, :WRITTEN].flatten(0, 1)
    edit = edit_add(place.site, added, positions=place.at[prompts].repeat(len(read)))
    # one batch for all doses: the passes of a text are short
    written = generate(asked.model, texts * len(read), edits=[edit], max_new_tokens=most).tokens
    per_dose = [written[i : i + len(texts)] for i in range(0, len(written), len(texts))]
    try:
        surprise = _least_surprise(asked, rows, per_dose)
    except NotExpressible:
        return found
    for i, value in zip(read, torch.exp(surprise.mean(1)).tolist(), strict=True):
        found[i] = value
    return found


def _least_surprise(
    asked: Experiment, rows: Int[Tensor, " prompt"], written: Sequence[Sequence[tuple[int, ...]]]
) -> Float[Tensor, "dose prompt"]:
    """Mean surprisal (nats per token) of every text after its prompt, with whichever value makes it least."""
    n, columns = asked.design.shape
    wanted = list(dict.fromkeys((i, text) for texts in written for i, text in enumerate(texts)))
    asks = [int(w * columns + rows[i] % columns) for i, _ in wanted for w in range(n)]
    starts = [e.ids[: e.last + 1] for e in encode(asked.model, [asked.design.prompts[row] for row in asks])]
    follow = [text for _, text in wanted for _ in range(n)]
    found = surprisal_after(asked.model, starts, follow).reshape(-1, n).min(dim=1).values
    whole = dict(zip(wanted, found.tolist(), strict=True))
    return torch.tensor([[whole[i, text] for i, text in enumerate(texts)] for texts in written]).double()


def surprisal_after(
    model: Model,
    starts: Sequence[tuple[int, ...]],
    follow: Sequence[tuple[int, ...]],
) -> Float[Tensor, " text"]:
    """Mean surprisal of the tokens ``follow`` after ``starts``, nats per token."""
    sequences = [[*a, *b] for a, b in zip(starts, follow, strict=True)]
    found = torch.zeros(len(sequences))
    vocabulary = int(getattr(model.cfg, "d_vocab", 0) or 1)
    size = max(1, 2**26 // (vocabulary * max(map(len, sequences))))
    with inference(model):
        for part in batches(model, sequences, batch_size=size):
            logits = logits_of(model, forward(model, part.tokens, logits=True))
            for row, each in zip(part.rows.tolist(), logits, strict=True):
                text = follow[row]
                log_p = each[-len(text) - 1 : -1].float().log_softmax(-1).cpu()
                found[row] = -log_p.gather(1, torch.tensor(text)[:, None]).mean()
    return found
