"""The decoder-only adder, for comparison: one causal stack that reads the problem and goes on with the
answer.

Hook and parameter names are a HookedTransformer's (``blocks.0.attn.hook_pattern``). The ``=`` is the first
query of the answer.
"""

from typing import Any, Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from mechfourier.toys.adder.base import AdderBase, split_at_equals, step_ids
from mechfourier.toys.adder.config import BUCKETS
from mechfourier.toys.adder.parts import Block, DecodingState, LayerNorm, View, buckets
from mechfourier.toys.adder.task import PAD, significance


class AdderDecoder(AdderBase):
    """A causal stack over problem and answer. Attention biases have a table each for problem → problem,
    answer → problem and answer → answer, as the encoder-decoder has in its three attentions."""

    def add_layers(self, weights: dict[str, Tensor]) -> None:
        blocks = [Block(self.cfg, weights, f"blocks.{i}.", self.noise) for i in range(self.cfg.n_layers)]
        self.blocks = nn.ModuleList(blocks)
        self.ln_final = LayerNorm(weights, "ln_final.")

    def forward(
        self,
        tokens: Int[Tensor, "batch pos"] | str | list[str],
        return_type: Literal["logits"] | None = "logits",
        **_: Any,
    ) -> Float[Tensor, "batch pos vocab_out"] | None:
        """Logits at every position; those from the ``=`` on are trained. Raises ``NotExpressible`` for a row
        without an ``=``."""
        ids = tokens if isinstance(tokens, Tensor) else self.to_tokens(tokens)
        x = self._run(ids)
        return None if return_type is None else self.unembedded(x)

    def logits(
        self, source: Int[Tensor, "batch pos"], target: Int[Tensor, "batch step"]
    ) -> Float[Tensor, "batch step vocab_out"]:
        """Teacher-forced: what follows every token of ``target`` (which begins with ``=``)."""
        return self.unembedded(self._run(torch.cat([source, target[:, 1:]], 1))[:, source.shape[1] - 1 :])

    def _run(self, tokens: Int[Tensor, "batch pos"]) -> Float[Tensor, "batch pos d"]:
        source, target = split_at_equals(tokens)
        ids, answer = _ids(source, target)
        causal = torch.ones(tokens.shape[1], tokens.shape[1], dtype=torch.bool, device=tokens.device).tril()
        # a PAD query would see nothing, and softmax over nothing is NaN: it sees one key, and no one sees it
        first = torch.arange(tokens.shape[1], device=tokens.device) == 0
        visible = ((tokens != PAD)[:, None] & causal) | ((tokens == PAD)[:, :, None] & first)
        view = View(visible, _tables(ids, ids, answer, answer))
        x = self.hook_embed(self.embed.W_E[tokens])
        for block in self.blocks:
            x, _ = block(x, view)
        return x

    def begin(self, source: Int[Tensor, "batch pos"]) -> DecodingState:
        """Read the problem up to its ``=``, which the first step reads."""
        problem = source[:, :-1]
        ids = significance(source)[:, :-1]
        answer = torch.zeros_like(ids, dtype=torch.bool)
        causal = torch.ones(ids.shape[1], ids.shape[1], dtype=torch.bool, device=ids.device).tril()
        first = torch.arange(ids.shape[1], device=ids.device) == 0
        visible = ((problem != PAD)[:, None] & causal) | ((problem == PAD)[:, :, None] & first)
        view = View(visible, _tables(ids, ids, answer, answer))
        x, past = self.hook_embed(self.embed.W_E[problem]), []
        for block in self.blocks:
            x, kept = block(x, view)
            past.append(kept)
        return DecodingState(problem, ids, [], past)

    def step(self, state: DecodingState, tokens: Int[Tensor, " batch"]) -> Float[Tensor, "batch vocab_out"]:
        """One more step on the characters just read (``=`` first): logits of the next one. Changes
        ``state``."""
        state.done += 1
        steps = torch.arange(1, state.done + 1, device=tokens.device).expand(len(tokens), -1)
        key_ids = torch.cat([state.source_ids, steps], 1)
        answer = torch.arange(key_ids.shape[1], device=tokens.device) >= state.source.shape[1]
        answer = answer.expand_as(key_ids)
        visible = torch.cat([state.source != PAD, torch.ones_like(steps, dtype=torch.bool)], 1)[:, None]
        view = View(visible, _tables(steps[:, -1:], key_ids, answer[:, -1:], answer))
        x = self.hook_embed(self.embed.W_E[tokens[:, None]])
        for i, block in enumerate(self.blocks):
            x, state.past[i] = block(x, view, past=state.past[i])
        return self.unembedded(x)[:, 0]

    def unembedded(self, x: Float[Tensor, "batch pos d"]) -> Float[Tensor, "batch pos vocab_out"]:
        """The final norm and the logits."""
        return self.ln_final(x) @ self.unembed.W_U + self.unembed.b_U


def _ids(source: Tensor, target: Tensor) -> tuple[Int[Tensor, "batch pos"], Bool[Tensor, "batch pos"]]:
    """Significance of the problem's digits and steps of the answer's, and which positions are the
    answer's."""
    answer = target != PAD
    ids = torch.zeros_like(target)
    ids[:, : source.shape[1]] = significance(source)
    return torch.where(answer, step_ids(target), ids), answer


def _tables(query_ids: Tensor, key_ids: Tensor, query_answers: Tensor, key_answers: Tensor) -> Tensor:
    """Rows of the three tables of attention biases."""
    table = query_answers.long()[:, :, None] + (query_answers[:, :, None] & key_answers[:, None, :]).long()
    return buckets(query_ids, key_ids) + BUCKETS * table
