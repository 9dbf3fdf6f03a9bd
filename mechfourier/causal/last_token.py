"""The choices' logits of a few prompts under many edits of their last token, at any sites at once.

No edit changes what stands before the last token, so those tokens run once and leave their keys and values behind.
The first such pass is held against a whole one; where they differ, or the model keeps no keys and values, whole passes
run.
"""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mechfourier.domains.prepare import Questions
from mechfourier.hooks.cache import grown, no_cache, take
from mechfourier.hooks.edit import Edit
from mechfourier.hooks.interventions import intervene
from mechfourier.hooks.prefix import can_pack, can_share
from mechfourier.hooks.run import UNEMBED, forward, hooked, inference, is_bridge, logits_of
from mechfourier.hooks.unembed import before_unembedding, unembedding_of
from mechfourier.models.interface import Model

ROWS = 512  # prompts of one pass
SAME = 1e-4  # largest difference from whole passes, relative to the largest logit


class LastToken:
    """Passes over the prompts of ``asked`` with edits at their last token (``positions=-1``)."""

    def __init__(self, model: Model, asked: Questions) -> None:
        self.model, self.asked = model, asked
        lengths = torch.tensor([len(e.ids) for e in asked.encodings])
        parts = [(lengths == size).nonzero()[:, 0].split(ROWS) for size in lengths.unique().tolist()]
        self.parts = [part for some in parts for part in some]
        self.tokens = [torch.tensor([asked.encodings[i].ids for i in part.tolist()]) for part in self.parts]
        with inference(model):
            known = unembedding_of(model, self.tokens[0][:1])
            self.choice = None if known is None else known.of(asked.choices)
            self.before = self._before()

    def logits(self, edits: Sequence[Edit] = ()) -> Float[Tensor, "prompt choice"]:
        """The logits of the choices after the last token, with these edits of it."""
        out = torch.zeros(len(self.asked.encodings), len(self.asked.choices), dtype=torch.float64)
        with inference(self.model), intervene(self.model, edits, must_change=False):
            for i, part in enumerate(self.parts):
                out[part] = self._pass(i, self.before).double().cpu()
        return out

    def _before(self) -> list[Any] | None:
        """Keys and values of all but the last token of every prompt; None where whole passes are to run."""
        model = self.model
        able = can_pack(model) if is_bridge(model) else can_share(model)
        if not able or min(tokens.shape[1] for tokens in self.tokens) < 2:
            return None
        try:
            caches = [self._begun(tokens[:, :-1]) for tokens in self.tokens]
            ours = self._pass(0, caches)
        except Exception:  # each architecture fails in its own way; a whole pass always works
            return None
        theirs = self._pass(0, None)
        near = float((ours - theirs).abs().max()) <= SAME * max(1.0, float(theirs.abs().max()))
        return caches if near else None

    def _begun(self, tokens: Int[Tensor, "row pos"]) -> Any:
        cache = no_cache(self.model, len(tokens))
        before_unembedding(self.model, lambda: grown(self.model, tokens, cache), 1)
        return cache

    def _pass(self, i: int, before: list[Any] | None) -> Float[Tensor, "row choice"]:
        model, tokens = self.model, self.tokens[i]

        def run() -> Any:
            if before is None:
                return forward(model, tokens)
            return grown(model, tokens[:, -1:], take(model, before[i], None))

        if self.choice is not None:
            return self.choice(before_unembedding(model, run, 1))[:, -1]
        narrow = [(UNEMBED, lambda value: value[:, -1:])] if str(UNEMBED) in model.hook_dict else []
        with hooked(model, narrow):
            output = logits_of(model, run())
        return (output if output.ndim == 3 else output[:, None])[:, -1, list(self.asked.choices)].float()
