"""Heads that carry a value from its token to the last one: path patching.

A head's output at the last token is replaced by what it would be if the value's token, in front of that
block, were that of a prompt with another value: only the path value token → head → answer differs (path
patching; Wang et al. 2022, "Interpretability in the Wild").
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mechfourier.causal.edits import EditedRows, head_width
from mechfourier.causal.experiment import Experiment, SiteActivations
from mechfourier.errors import HookNeverFired, UnknownSite
from mechfourier.hooks.capture import capture
from mechfourier.hooks.edit import Edit
from mechfourier.hooks.interventions import edit_patch, intervene
from mechfourier.hooks.site import Site, find_site
from mechfourier.stats.family import sign_flip_p
from mechfourier.stats.paired import share_interval


@dataclass(frozen=True)
class HeadReads:
    """``recovered``: share of the donor's score difference that comes through this head alone, with its 95 %
    interval; ``p``: family-wise over all heads looked at (sign flips over prompts)."""

    layer: int
    head: int
    recovered: float
    low: float
    high: float
    p: float


def heads_that_read(
    asked: Experiment, traced: Sequence[tuple[SiteActivations, int]], prompts: Int[Tensor, " prompt"]
) -> tuple[HeadReads, ...]:
    """Every head of these layers, in order; ``traced``: the value's token in front of each layer."""
    pairs = None if not traced else asked.pairs(traced[0][0])
    found: list[tuple[int, int]] = []
    gains: list[Tensor] = []
    for place, layer in traced:
        try:
            gain = _gains(asked, place, find_site(asked.model, Site("z", layer)), prompts)
        except (UnknownSite, HookNeverFired):  # an attention without that hook point
            continue
        found += [(layer, head) for head in range(len(gain))]
        gains += list(gain)
    if pairs is None or not gains:
        return ()
    base = pairs.difference(pairs.before.scores)[prompts].double()
    span = pairs.difference(pairs.donor_scores)[prompts].double() - base
    p = sign_flip_p(torch.stack(gains).numpy(), seed=asked.seed)
    return tuple(
        HeadReads(
            layer,
            head,
            float(gain.mean() / span.mean()),
            *share_interval(gain, span, seed=asked.seed),
            float(each),
        )
        for (layer, head), gain, each in zip(found, gains, p, strict=True)
    )


def _gains(
    asked: Experiment, front: SiteActivations, site: Site, prompts: Int[Tensor, " prompt"]
) -> Float[Tensor, "head prompt"]:
    """By how much each head raises the donor's answer over the own one."""
    pairs, last = asked.pairs(front), asked.places("last")
    with intervene(
        asked.model, [edit_patch(front.site, pairs.donors, positions=front.at)], must_change=False
    ):
        read = capture(asked.model, list(asked.task.encodings), [site], "last")[site]
    heads, width = read.shape[1], head_width(asked.model, site)
    head = torch.arange(heads).repeat_interleave(len(prompts))
    prompt = prompts.repeat(heads)
    dims = torch.arange(width) + head[:, None] * width

    def edit_of(rows: Int[Tensor, " row"]) -> Edit:
        chosen = prompt[rows]
        return edit_patch(site, read[chosen], dims=dims[rows], positions=last[chosen])

    edited = EditedRows(site, prompt, edit_of, last[prompt], width=width)
    scores = asked.engine.scores(edited, "heads", must_change=False)
    own = scores.gather(1, pairs.before.label[prompt][:, None])[:, 0]
    after = scores.gather(1, pairs.answer[prompt][:, None])[:, 0] - own
    base = pairs.difference(pairs.before.scores)[prompt]
    return (after - base).double().reshape(heads, -1)


def strongest(heads: Sequence[HeadReads], level: float = 0.05) -> list[HeadReads]:
    """The heads beyond chance, the strongest first."""
    kept = [head for head in heads if head.p <= level and head.recovered > 0]
    return sorted(kept, key=lambda head: -head.recovered)
