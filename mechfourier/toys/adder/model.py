"""The adder: a character-level encoder-decoder that adds, with TransformerLens's encoder-decoder hook names.

The encoder reads ``12345+67890=``; the decoder begins at the ``=`` and writes the answer one character at a
time.
"""

from pathlib import Path
from typing import Any, Literal, cast

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformer_lens.hook_points import HookPoint

from mechfourier.errors import NotExpressible
from mechfourier.models.checkpoint import load_checkpoint
from mechfourier.toys.adder.base import AdderBase, split_at_equals, step_ids
from mechfourier.toys.adder.config import AdderConfig
from mechfourier.toys.adder.decoder import AdderDecoder
from mechfourier.toys.adder.parts import Block, DecodingState, KeyValue, LayerNorm, View, buckets
from mechfourier.toys.adder.task import PAD, significance
from mechfourier.toys.parameters import Weights


class AdderTransformer(AdderBase):
    """Encoder and decoder. ``forward`` takes a problem with its answer so far as one row of tokens.

    Position p of every activation is token p of that row: the encoder's up to the ``=``, the decoder's from
    the ``=`` on (what it holds before is empty). ``decode`` runs the decoder step by step and caches the
    encoder, keys and values.
    """

    def add_layers(self, weights: dict[str, Tensor]) -> None:
        cfg = self.cfg
        self.hook_decoder_embed = HookPoint()
        self.pos_embed = self.decoder_pos_embed = None
        if cfg.positions != "significance":
            self.pos_embed, self.hook_pos_embed = Weights(weights, "pos_embed."), HookPoint()
            self.decoder_pos_embed = Weights(weights, "decoder_pos_embed.")
            self.hook_decoder_pos_embed = HookPoint()
        self.encoder = nn.ModuleList(
            [Block(cfg, weights, f"encoder.{i}.", self.noise) for i in range(cfg.n_layers)]
        )
        self.encoder_final_ln = LayerNorm(weights, "encoder_final_ln.")
        self.decoder = nn.ModuleList(
            [
                Block(cfg, weights, f"decoder.{i}.", self.noise, cross=True)
                for i in range(cfg.n_decoder_layers)
            ]
        )
        self.decoder_final_ln = LayerNorm(weights, "decoder_final_ln.")

    def forward(
        self,
        tokens: Int[Tensor, "batch pos"] | str | list[str],
        return_type: Literal["logits"] | None = "logits",
        **_: Any,
    ) -> Float[Tensor, "batch pos vocab_out"] | None:
        """Logits at every position: from the ``=`` on they are what the answer's next character is; before it
        they mean nothing.

        Raises ``NotExpressible`` for a row without an ``=``.
        """
        ids = tokens if isinstance(tokens, Tensor) else self.to_tokens(tokens)
        source, target = split_at_equals(ids)
        logits = self.logits(source, target)
        return None if return_type is None else logits

    def logits(
        self, source: Int[Tensor, "batch pos"], target: Int[Tensor, "batch step"]
    ) -> Float[Tensor, "batch step vocab_out"]:
        """Teacher-forced: what follows every token of ``target`` (which begins with ``=``). PAD is seen by
        nothing."""
        memory = self.run_encoder(source)
        return self.run_decoder(memory, source, target)

    def run_encoder(self, source: Int[Tensor, "batch pos"]) -> Float[Tensor, "batch pos d"]:
        """The normed output of the encoder."""
        ids = significance(source)
        x = self.hook_embed(self.embed.W_E[source])
        if (positions := self._positions(self.pos_embed, source, ids)) is not None:
            x = x + self.hook_pos_embed(positions)
        view = self._view(source, source, ids, ids, causal=False)
        for block in self.encoder:
            x, _ = block(x, view)
        return self.encoder_final_ln(x)

    def memory(self, encoded: Float[Tensor, "batch pos d"]) -> list[KeyValue]:
        """Keys and values that every decoder layer's cross-attention reads, before their hook points."""
        return [block.memory(encoded) for block in stack(self.decoder)]

    def run_decoder(
        self, encoded: Tensor, source: Int[Tensor, "batch pos"], target: Int[Tensor, "batch step"]
    ) -> Float[Tensor, "batch step vocab_out"]:
        """All steps at once."""
        steps = step_ids(target)
        views = (
            self._view(target, target, steps, steps, causal=True),
            self._view(target, source, steps, significance(source), causal=False),
        )
        x = self.embed_steps(target, steps)
        for block, memory in zip(stack(self.decoder), self.memory(encoded), strict=True):
            x, _ = block(x, views[0], memory=memory, memory_view=views[1])
        return self.unembedded(x)

    def begin(self, source: Int[Tensor, "batch pos"]) -> DecodingState:
        """Run the encoder; the decoder has written nothing yet."""
        memory = self.memory(self.run_encoder(source))
        return DecodingState(source, significance(source), memory, [None] * len(self.decoder))

    def step(self, state: DecodingState, tokens: Int[Tensor, " batch"]) -> Float[Tensor, "batch vocab_out"]:
        """One more step on the characters just read (``=`` first): logits of the next one. Changes
        ``state``."""
        state.done += 1
        steps = torch.full((len(tokens), 1), state.done, device=tokens.device)
        earlier = torch.arange(1, state.done + 1, device=tokens.device).expand(len(tokens), -1)
        bias = self.cfg.positions == "significance"
        own = View(
            torch.ones_like(earlier, dtype=torch.bool)[:, None], buckets(steps, earlier) if bias else None
        )
        cross = View((state.source != PAD)[:, None], buckets(steps, state.source_ids) if bias else None)
        x = self.embed_steps(tokens[:, None], steps)
        for i, block in enumerate(self.decoder):
            x, state.past[i] = block(x, own, past=state.past[i], memory=state.memory[i], memory_view=cross)
        return self.unembedded(x)[:, 0]

    def embed_steps(
        self, target: Int[Tensor, "batch step"], steps: Int[Tensor, "batch step"]
    ) -> Float[Tensor, "batch step d"]:
        """The decoder's input; ``steps`` count from 1, and are 0 at PAD."""
        x = self.hook_decoder_embed(self.embed.W_E[target])
        if self.decoder_pos_embed is None:
            return x
        if self.cfg.positions == "learned":
            wanted = (steps - 1).clamp(min=0)
            self.check_steps(int(wanted.max()) + 1)
            return x + self.hook_decoder_pos_embed(self.decoder_pos_embed.W_pos[wanted])
        self.check_steps(int(steps.max()))
        return x + self.hook_decoder_pos_embed(self.decoder_pos_embed.W_pos[steps])

    def check_steps(self, steps: int) -> None:
        """Raise ``NotExpressible`` where the decoder has no positions for so many steps."""
        if self.cfg.max_digits is not None and steps > self.cfg.target_positions:
            raise NotExpressible(
                f"the decoder of {self.mechfourier_name} writes at most {self.cfg.target_positions} "
                f"characters (the sum of two "
                f"{self.cfg.max_digits}-digit numbers and the end token), not {steps}; give a shorter answer"
            )

    def unembedded(self, x: Float[Tensor, "batch step d"]) -> Float[Tensor, "batch step vocab_out"]:
        """The final norm and the logits."""
        return self.decoder_final_ln(x) @ self.unembed.W_U + self.unembed.b_U

    def _view(
        self, queries: Tensor, keys: Tensor, query_ids: Tensor, key_ids: Tensor, *, causal: bool
    ) -> View:
        visible = (keys != PAD)[:, None, :].expand(-1, queries.shape[1], -1)
        if causal:
            visible = (
                visible
                & torch.ones(queries.shape[1], keys.shape[1], dtype=torch.bool, device=keys.device).tril()
            )
        # a PAD query would see nothing, and softmax over nothing is NaN: it sees one key, and no one sees it
        first = torch.arange(keys.shape[1], device=keys.device) == 0
        visible = visible | ((queries == PAD)[:, :, None] & first)
        bias = self.cfg.positions == "significance"
        return View(visible, buckets(query_ids, key_ids) if bias else None)


def stack(blocks: nn.ModuleList) -> list[Block]:
    """The blocks of a stack, as what they are."""
    return cast(list[Block], list(blocks))


def build(cfg: AdderConfig, *, weights: dict[str, Tensor] | None = None, seed: int = 0) -> AdderBase:
    """The model of that configuration: an ``AdderTransformer``, or the decoder-only ``AdderDecoder``."""
    if cfg.kind == "decoder-only":
        return AdderDecoder(cfg, weights=weights, seed=seed)
    return AdderTransformer(cfg, weights=weights, seed=seed)


def load_folder(
    folder: str | Path, device: str | torch.device = "cpu", dtype: torch.dtype | None = None
) -> AdderBase:
    """An adder's checkpoint folder (``config.json`` and ``model.safetensors``) as a model in evaluation
    mode."""
    tensors, config = load_checkpoint(folder)
    return build(AdderConfig.from_dict(config), weights=tensors).to(device=device, dtype=dtype).eval()
