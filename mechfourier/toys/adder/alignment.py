"""Where the attention of an adder looks, by significance: which digits every query reads, relative to its own
place."""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mechfourier.hooks.capture import capture
from mechfourier.hooks.site import Site, sites
from mechfourier.toys.adder.base import split_at_equals, step_ids
from mechfourier.toys.adder.draw import draw
from mechfourier.toys.adder.task import PAD, decoder_input, significance

SHOWN = 3


@dataclass(frozen=True)
class HeadAlignment:
    """One head: ``weights[i]`` is the attention of a digit's (or step's) query to keys of relative
    significance ``offsets[i]`` (id of the key minus id of the query; keys in a sum, whatever the operand),
    averaged over queries and problems; ``special``: to + and =; ``rest``: further away. ``aligned``: the
    offset with most weight, ``spread`` its standard deviation over queries and problems."""

    site: str
    head: int
    offsets: tuple[int, ...]
    weights: tuple[float, ...]
    special: float
    rest: float
    aligned: int
    spread: float


def alignment(model: Any, *, digits: int, problems: int = 128, seed: int = 0) -> tuple[HeadAlignment, ...]:
    """Every head of every attention, on random problems of two ``digits``-digit numbers, teacher-forced."""
    generator = torch.Generator().manual_seed(seed)
    p = draw(problems, generator, len_a=digits, len_b=digits)
    form = model.cfg.format
    source = form.source(p)
    target = decoder_input(form.target(p))
    tokens = torch.cat([source, target[:, 1:]], 1)
    kept = (tokens != PAD).all(1)  # answers of one length, where the model writes them without zeros in front
    tokens = tokens[kept]
    chosen = [s for s in sites(model) if s.kind in ("pattern", "cross_pattern")]
    found = capture(model, tokens, chosen, "all")
    encoder, decoder = split_at_equals(tokens)
    steps = step_ids(decoder)
    if not form.reverse:  # the first character written is the most significant one, the last ends the answer
        steps = torch.where(steps > 0, steps.max() - steps, 0)
    ids = {"source": significance(encoder), "answer": steps}
    rows = []
    for site in found.sites:
        queries, keys = _ids_of(site, ids, tokens)
        rows += _heads(site, found[site], queries, keys)
    return tuple(rows)


def _ids_of(site: Site, ids: dict[str, Tensor], tokens: Tensor) -> tuple[Tensor, Tensor]:
    """Significance of queries and keys, 0 where there is none; −1 marks positions of the other stack."""
    answer = torch.where(ids["answer"] > 0, ids["answer"], -1)
    if site.stack == "encoder":
        return ids["source"], ids["source"]
    if site.kind == "cross_pattern":
        return answer, ids["source"]
    if site.stack == "decoder":
        return answer, answer
    whole = torch.full_like(tokens, 0)
    whole[:, : ids["source"].shape[1]] = ids["source"]
    whole = torch.where(answer > 0, answer, whole)
    return answer, whole


def _heads(
    site: Site,
    pattern: Float[Tensor, "problem head query key"],
    queries: Int[Tensor, "problem query"],
    keys: Int[Tensor, "problem key"],
) -> list[HeadAlignment]:
    near = keys[:, None, :] - queries[:, :, None]
    digit = (keys > 0)[:, None, :].expand_as(near)
    asks = queries > 0
    offsets = tuple(range(-SHOWN, SHOWN + 1))
    masks = [digit & (near == o) for o in offsets]
    rest, special = digit & (near.abs() > SHOWN), (keys == 0)[:, None, :].expand_as(near)
    by_mask = [(pattern * m[:, None]).sum(-1) for m in [*masks, special, rest]]
    weights = torch.stack(by_mask)  # kind, problem, head, query
    rows = []
    for head in range(pattern.shape[1]):
        values = weights[:, :, head][:, asks]
        mean = values.mean(1)
        best = int(mean[: len(offsets)].argmax())
        rows.append(
            HeadAlignment(
                str(site),
                head,
                offsets,
                tuple(mean[: len(offsets)].tolist()),
                float(mean[-2]),
                float(mean[-1]),
                offsets[best],
                float(values[best].std()),
            )
        )
    return rows
