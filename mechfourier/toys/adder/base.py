"""What the two kinds of adder share: text, configuration, weights, and the parts of a row of tokens."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor
from transformer_lens.hook_points import HookPoint

from mechfourier.errors import NotExpressible
from mechfourier.models.interface import Encoding
from mechfourier.toys.adder.config import AdderConfig, initial_weights, parameter_shapes
from mechfourier.toys.adder.parts import Noise
from mechfourier.toys.adder.task import EQUALS, PAD
from mechfourier.toys.adder.text import answer_ids, encode_prompt
from mechfourier.toys.opening import check_shapes
from mechfourier.toys.parameters import Network, Weights

if TYPE_CHECKING:
    from mechfourier.toys.adder.decode import Decoded


class AdderBase(Network):
    """What the encoder-decoder and the decoder-only adder share: text, configuration, weights."""

    mechfourier_architecture = "adder"
    cfg: AdderConfig
    noise: Noise

    def __init__(self, cfg: AdderConfig, *, weights: dict[str, Tensor] | None = None, seed: int = 0) -> None:
        super().__init__()
        self.cfg, self.mechfourier_name, self.noise = cfg, cfg.model_name, Noise()
        weights = initial_weights(cfg, seed=seed) if weights is None else weights
        check_shapes(weights, parameter_shapes(cfg), "an adder of this configuration")
        self.embed, self.hook_embed = Weights(weights, "embed."), HookPoint()
        self.unembed = Weights(weights, "unembed.")
        self.add_layers(weights)
        self.setup()

    def add_layers(self, weights: dict[str, Tensor]) -> None:
        """Put the layers of this kind of adder between embedding and unembedding."""
        raise TypeError(f"{type(self).__name__} is no adder by itself; use AdderTransformer or AdderDecoder")

    def logits(
        self, source: Int[Tensor, "batch pos"], target: Int[Tensor, "batch step"]
    ) -> Float[Tensor, "batch step vocab_out"]:
        """Teacher-forced: what follows every token of ``target`` (which begins with ``=``). PAD is seen by
        nothing."""
        raise TypeError(f"{type(self).__name__} is no adder by itself; use AdderTransformer or AdderDecoder")

    @property
    def W_E(self) -> Float[Tensor, "vocab d"]:
        return self.embed.W_E

    @property
    def W_U(self) -> Float[Tensor, "d vocab_out"]:
        return self.unembed.W_U

    def encode(self, prompts: Sequence[str]) -> list[Encoding]:
        """``12+345=`` (and the answer so far) as tokens; see ``adder_text.encode_prompt``."""
        return [encode_prompt(self.cfg, prompt) for prompt in prompts]

    def to_tokens(self, prompts: str | Sequence[str], **_: Any) -> Int[Tensor, "batch pos"]:
        """Prompts as tokens on the model's device. Raises ``NotExpressible`` where they have different
        lengths."""
        texts = [prompts] if isinstance(prompts, str) else list(prompts)
        ids = [encoding.ids for encoding in self.encode(texts)]
        if len({len(row) for row in ids}) > 1:
            raise NotExpressible(
                "these prompts have different lengths; run them one at a time, or use answer()"
            )
        return torch.tensor(ids, device=self.embed.W_E.device)

    def answer_ids(self, answers: Sequence[str]) -> tuple[int, ...]:
        """The token of each answer character (``"7"``, ``" 7"``); raises ``NotExpressible`` for anything but
        one digit."""
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
        return type(self)(self.cfg, weights=weights).to(self.embed.W_E.device)

    def decode(
        self, source: Int[Tensor, "batch pos"], *, max_steps: int | None = None, cache: bool = False
    ) -> "Decoded":
        """Greedy decoding with hooks at every step; see ``adder_decode.decode``."""
        from mechfourier.toys.adder.decode import decode

        return decode(self, source, max_steps=max_steps, cache=cache)

    def answer(self, prompts: str | Sequence[str], *, max_steps: int | None = None) -> list[str]:
        """The sums that the model gives, as people write them; ``"?"`` and the raw characters where it wrote
        no number.

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
                f"{self.mechfourier_name} has positions for operands of up to {self.cfg.max_digits} digits, "
                f"and this is longer; "
                "the packaged model adder has no such limit"
            )
        return table.W_pos[ids]


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


def loss_of(
    logits: Float[Tensor, "batch step vocab_out"], target: Int[Tensor, "batch step"]
) -> Float[Tensor, ""]:
    """Mean cross-entropy (nats) over the characters of the answers, the end token among them."""
    return F.cross_entropy(logits.flatten(0, 1), target.flatten(), ignore_index=PAD)
