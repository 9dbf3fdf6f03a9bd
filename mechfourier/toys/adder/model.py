"""The adder: a character-level encoder-decoder that adds, with TransformerLens's encoder-decoder hook names.

The encoder reads ``12345+67890=``; the decoder begins at the ``=`` and writes the answer one character at a time.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformer_lens import ActivationCache, HookedRootModule
from transformer_lens.hook_points import HookPoint

from mechfourier.errors import BadCheckpoint, NotExpressible
from mechfourier.models.interface import Encoding
from mechfourier.toys.adder.config import AdderConfig, initial_weights, parameter_shapes
from mechfourier.toys.adder.parts import (
    Block,
    DecodingState,
    KeyValue,
    LayerNorm,
    Noise,
    View,
    Weights,
    buckets,
)
from mechfourier.toys.adder.task import EQUALS, PAD, significance
from mechfourier.toys.adder.text import answer_ids, encode_prompt

if TYPE_CHECKING:
    from mechfourier.toys.adder.decode import Decoded

__all__ = ["AdderBase", "AdderConfig", "AdderTransformer", "load_folder"]


class AdderBase(HookedRootModule):
    """What the encoder-decoder and the decoder-only adder share: text, configuration, weights."""

    cfg: AdderConfig
    noise: Noise

    def _start(self, cfg: AdderConfig, weights: dict[str, Tensor] | None, seed: int) -> dict[str, Tensor]:
        self.cfg, self.mechfourier_name, self.noise = cfg, cfg.model_name, Noise()
        weights = initial_weights(cfg, seed=seed) if weights is None else weights
        _check_shapes(cfg, weights)
        self.embed, self.hook_embed = Weights(weights, "embed."), HookPoint()
        self.unembed = Weights(weights, "unembed.")
        return weights

    def logits(
        self, source: Int[Tensor, "batch pos"], target: Int[Tensor, "batch step"]
    ) -> Float[Tensor, "batch step vocab_out"]:
        """Teacher-forced: what follows every token of ``target`` (which begins with ``=``). PAD is seen by nothing."""
        raise TypeError(f"{type(self).__name__} is no adder by itself; use AdderTransformer or AdderDecoder")

    @property
    def W_E(self) -> Float[Tensor, "vocab d"]:
        return self.embed.W_E

    @property
    def W_U(self) -> Float[Tensor, "d vocab_out"]:
        return self.unembed.W_U

    def run_with_cache(self, *args: Any, return_cache_object: bool = True, **kwargs: Any) -> Any:
        """As ``HookedTransformer.run_with_cache``: the logits and an ``ActivationCache`` (or a plain dict)."""
        out, cache = super().run_with_cache(*args, **kwargs)
        if not return_cache_object:
            return out, cache
        return out, ActivationCache(cache, self, has_batch_dim=not kwargs.get("remove_batch_dim", False))

    def encode(self, prompts: Sequence[str]) -> list[Encoding]:
        """``12+345=`` (and the answer so far) as tokens; see ``adder_text.encode_prompt``."""
        return [encode_prompt(self.cfg, prompt) for prompt in prompts]

    def to_tokens(self, prompts: str | Sequence[str], **_: Any) -> Int[Tensor, "batch pos"]:
        """Prompts as tokens on the model's device. Raises ``NotExpressible`` where they have different lengths."""
        texts = [prompts] if isinstance(prompts, str) else list(prompts)
        ids = [encoding.ids for encoding in self.encode(texts)]
        if len({len(row) for row in ids}) > 1:
            raise NotExpressible(
                "these prompts have different lengths; run them one at a time, or use answer()"
            )
        return torch.tensor(ids, device=self.embed.W_E.device)

    def answer_ids(self, answers: Sequence[str]) -> tuple[int, ...]:
        """The token of each answer character (``"7"``, ``" 7"``); raises ``NotExpressible`` for anything but one digit."""
        return answer_ids(self.cfg, answers)

    def reinitialised(self, seed: int) -> "AdderBase":
        """The same architecture with newly drawn weights (the control of a probe).

        Attention biases keep their learned values' spread in another order: drawn anew they would all be 0.
        """
        weights = initial_weights(self.cfg, seed=seed)
        generator = torch.Generator().manual_seed(seed)
        for name, value in self.weights().items():
            if name.endswith("B_rel"):
                flat = value.detach().cpu().flatten()
                weights[name] = flat[torch.randperm(len(flat), generator=generator)].reshape(value.shape)
        return build(self.cfg, weights=weights).to(self.embed.W_E.device)

    def weights(self) -> dict[str, Tensor]:
        """The parameters by TransformerLens name (the live tensors, no copies)."""
        return dict(self.named_parameters())

    def decode(
        self, source: Int[Tensor, "batch pos"], *, max_steps: int | None = None, cache: bool = False
    ) -> "Decoded":
        """Greedy decoding with hooks at every step; see ``adder_decode.decode``."""
        from mechfourier.toys.adder.decode import decode

        return decode(self, source, max_steps=max_steps, cache=cache)

    def answer(self, prompts: str | Sequence[str], *, max_steps: int | None = None) -> list[str]:
        """The sums that the model gives, as people write them; ``"?"`` and the raw characters where it wrote no number.

        Raises ``NotExpressible`` for a prompt that is no addition, or longer than the model's positions.
        """
        from mechfourier.toys.adder.decode import answer_texts

        return answer_texts(
            self, [prompts] if isinstance(prompts, str) else list(prompts), max_steps=max_steps
        )

    def _positions(self, table: Weights | None, tokens: Tensor, ids: Tensor) -> Tensor | None:
        """Position embeddings of the tokens, None for a model without."""
        if table is None:
            return None
        if self.cfg.positions == "learned":
            ids = torch.cumsum(tokens != PAD, 1).clamp(min=1) - 1
        if int(ids.max()) >= len(table.W_pos):
            raise NotExpressible(
                f"{self.mechfourier_name} has positions for operands of up to {self.cfg.max_digits} digits, and this is longer; "
                "the packaged model adder has no such limit"
            )
        return table.W_pos[ids]


class AdderTransformer(AdderBase):
    """Encoder and decoder. ``forward`` takes a problem with its answer so far as one row of tokens.

    Position p of every activation is token p of that row: the encoder's up to the ``=``, the decoder's from the ``=`` on (what it
    holds before is empty). ``decode`` runs the decoder step by step and caches the encoder, keys and values.
    """

    def __init__(self, cfg: AdderConfig, *, weights: dict[str, Tensor] | None = None, seed: int = 0) -> None:
        super().__init__()
        weights = self._start(cfg, weights, seed)
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
        self.setup()

    def forward(
        self,
        tokens: Int[Tensor, "batch pos"] | str | list[str],
        return_type: Literal["logits"] | None = "logits",
        **_: Any,
    ) -> Float[Tensor, "batch pos vocab_out"] | None:
        """Logits at every position: from the ``=`` on they are what the answer's next character is; before it they mean nothing.

        Raises ``NotExpressible`` for a row without an ``=``.
        """
        ids = tokens if isinstance(tokens, Tensor) else self.to_tokens(tokens)
        source, target = split_at_equals(ids)
        logits = self.logits(source, target)
        return None if return_type is None else logits

    def logits(
        self, source: Int[Tensor, "batch pos"], target: Int[Tensor, "batch step"]
    ) -> Float[Tensor, "batch step vocab_out"]:
        """Teacher-forced: what follows every token of ``target`` (which begins with ``=``). PAD is seen by nothing."""
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
        """One more step on the characters just read (``=`` first): logits of the next one. Changes ``state``."""
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
                f"the decoder of {self.mechfourier_name} writes at most {self.cfg.target_positions} characters (the sum of two "
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


def split_at_equals(
    tokens: Int[Tensor, "batch pos"],
) -> tuple[Int[Tensor, "batch source_pos"], Int[Tensor, "batch pos"]]:
    """The encoder's tokens (up to the first ``=``) and the decoder's (from it on), PAD elsewhere."""
    if not bool((tokens == EQUALS).any(1).all()):
        raise NotExpressible(
            "every row of tokens needs an '=': the problem before it, the answer so far behind it"
        )
    at = (tokens == EQUALS).long().argmax(1, keepdim=True)
    place = torch.arange(tokens.shape[1], device=tokens.device)
    source = torch.where(place <= at, tokens, PAD)[:, : int(at.max()) + 1]
    return source, torch.where(place >= at, tokens, PAD)


def step_ids(target: Int[Tensor, "batch step"]) -> Int[Tensor, "batch step"]:
    """Ids of the decoder's positions: 1 for the ``=`` (which asks for the first character), …; 0 for PAD."""
    real = target != PAD
    return torch.where(real, torch.cumsum(real, 1), 0)


def _check_shapes(cfg: AdderConfig, weights: dict[str, Tensor]) -> None:
    shapes = parameter_shapes(cfg)
    for name in [*shapes, *weights]:
        if name not in weights:
            raise BadCheckpoint(f"the tensor {name!r} is missing; an adder of this configuration needs it")
        if name not in shapes:
            raise BadCheckpoint(
                f"the tensor {name!r} is none of this adder's; it has {', '.join(list(shapes)[:6])} …"
            )
        if tuple(weights[name].shape) != shapes[name]:
            raise BadCheckpoint(
                f"{name!r} has shape {tuple(weights[name].shape)}; this configuration needs {shapes[name]}"
            )


def build(cfg: AdderConfig, *, weights: dict[str, Tensor] | None = None, seed: int = 0) -> AdderBase:
    """The model of that configuration: an ``AdderTransformer``, or the decoder-only ``AdderDecoder``."""
    if cfg.kind == "decoder-only":
        from mechfourier.toys.adder.decoder import AdderDecoder

        return AdderDecoder(cfg, weights=weights, seed=seed)
    return AdderTransformer(cfg, weights=weights, seed=seed)


def load_folder(
    folder: str | Path, device: str | torch.device = "cpu", dtype: torch.dtype | None = None
) -> AdderBase:
    """An adder's checkpoint folder (``config.json`` and ``model.safetensors``) as a model in evaluation mode."""
    from mechfourier.models.checkpoint import load_checkpoint

    tensors, config = load_checkpoint(folder)
    return build(AdderConfig.from_dict(config), weights=tensors).to(device=device, dtype=dtype).eval()


def loss_of(
    logits: Float[Tensor, "batch step vocab_out"], target: Int[Tensor, "batch step"]
) -> Float[Tensor, ""]:
    """Mean cross-entropy (nats) over the characters of the answers, the end token among them."""
    return F.cross_entropy(logits.flatten(0, 1), target.flatten(), ignore_index=PAD)
