"""Models that add in every modulus, with TransformerLens's hook names: the faithful one and the one that
extrapolates."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformer_lens.hook_points import HookPoint

from mechfourier.errors import NotExpressible, OutOfRange
from mechfourier.models.checkpoint import load_checkpoint
from mechfourier.models.interface import Encoding
from mechfourier.toys.one_layer.task import task
from mechfourier.toys.opening import check_shapes
from mechfourier.toys.parameters import Hooks, Network, plant
from mechfourier.toys.universal.config import (
    ExtrapolatingConfig,
    FaithfulConfig,
    MirasConfig,
    config_from,
    initial_weights,
    parameter_shapes,
)
from mechfourier.toys.universal.forward_pass import (
    Hook,
    drawn_frequencies,
    embed_values,
    extrapolating_residual,
    faithful_residual,
    no_hook,
    point,
    scores,
    test_sizes,
    value_table,
    with_negatives,
)
from mechfourier.toys.universal.task import check_modulus

__all__ = ["ExtrapolatingTransformer", "UniversalModulusTransformer", "build", "load_folder"]

ATTN = ("hook_q", "hook_k", "hook_v", "hook_attn_scores", "hook_pattern", "hook_z", "hook_result")
BLOCK = ("hook_resid_pre", "hook_resid_mid", "hook_resid_post", "hook_attn_out", "hook_mlp_out")
NORM = ("hook_scale", "hook_normalized")


class _Universal(Network):
    """What both models share: questions in, parameters and hook points by name."""

    mechfourier_architecture = "miras"
    cfg: Any
    blocks: nn.ModuleList

    def __init__(self, cfg: MirasConfig, *, weights: dict[str, Tensor] | None = None, seed: int = 0) -> None:
        super().__init__()
        self.cfg = cfg
        self.mechfourier_name = cfg.model_name
        weights = initial_weights(cfg, seed=seed) if weights is None else weights
        check_shapes(weights, parameter_shapes(cfg), f"a miras model ({cfg.architecture})")
        for name, value in weights.items():
            plant(self, name, value if isinstance(value, nn.Parameter) else nn.Parameter(value))
        for name in self._points():
            plant(self, name, HookPoint())
        self.setup()
        self._hook = Hooks(self.hook_dict)

    def _points(self) -> list[str]:
        gated = "blocks.0.mlp.W_gate" in parameter_shapes(self.cfg)
        mlp = ("hook_pre", "hook_pre_linear", "hook_post") if gated else ("hook_pre", "hook_post")
        norms = [] if gated else [f"{ln}.{p}" for ln in ("ln1", "ln2") for p in NORM]
        inside = [*BLOCK, *(f"attn.{p}" for p in ATTN), *(f"mlp.{p}" for p in mlp), *norms]
        blocks = [f"blocks.{layer}.{path}" for layer in range(self.cfg.n_layers) for path in inside]
        return ["hook_embed", "hook_pos_embed", *blocks, "unembed.hook_in", "unembed.hook_out"]

    def reinitialised(self, seed: int) -> "_Universal":
        """The same architecture with newly drawn weights (the control of a probe)."""
        fresh = type(self)(self.cfg, weights=initial_weights(self.cfg, seed=seed))
        return fresh.to(next(self.parameters()).device)

    # questions

    def tokens(self, questions: Int[Tensor, "batch 3"]) -> Int[Tensor, "batch 4"]:
        """Questions (m, a, b) as the four tokens m, a, b, =; refused as ``forward`` refuses them."""
        self.check(questions)
        return torch.cat([questions, torch.full_like(questions[:, :1], self.cfg.equals)], dim=1)

    def check(self, questions: Int[Tensor, "batch 3"]) -> None:
        """Raise ``OutOfRange`` for a modulus below 2 or above the numbers of the model, and for a or b
        outside 0..m − 1."""
        if not len(questions):
            return
        m, operands = questions[:, 0], questions[:, 1:]
        for wrong in (int(m.min()), int(m.max())):
            self._check_modulus(wrong)
        outside = ((operands < 0) | (operands >= m[:, None])).nonzero()
        if len(outside):
            row, which = outside[0].tolist()
            raise OutOfRange(
                f"{'ab'[which]} = {int(operands[row, which])} is no residue mod {int(m[row])}; "
                f"give 0 to {int(m[row]) - 1} (one cycle: --cycles 1)"
            )

    def _check_modulus(self, m: int) -> None:
        check_modulus(m)
        if m > self.cfg.largest_modulus:
            raise OutOfRange(self.cfg.too_large(m))

    def _questions(self, tokens: Tensor | str | Sequence[str]) -> Int[Tensor, "batch 3"]:
        ids = tokens if isinstance(tokens, Tensor) else self.to_tokens(tokens)
        if ids.ndim != 2 or ids.shape[1] != 4:
            raise NotExpressible(
                f"{self.cfg.model_name} reads four tokens (m, a, b, =), not {tuple(ids.shape)}; "
                "give the question without an answer"
            )
        self.check(ids[:, :3])
        return ids[:, :3]

    def to_tokens(self, prompts: str | Sequence[str], **_: Any) -> Int[Tensor, "batch pos"]:
        """Prompts (without answers) as tokens on the model's device; see ``encode``."""
        texts = [prompts] if isinstance(prompts, str) else list(prompts)
        ids = [encoding.ids for encoding in self.encode(texts)]
        if any(len(row) != 4 for row in ids):
            raise NotExpressible("a prompt here holds its answer already; give questions only")
        return torch.tensor(ids, device=next(self.parameters()).device).reshape(-1, 4)

    def encode(self, prompts: Sequence[str]) -> list[Encoding]:
        """``5 + 9 mod 23 =`` as the tokens 23, 5, 9, =, with the characters they stand for (m comes first for
        the model, wherever it stands in the text). A number after the ``=`` becomes a fifth token.

        Raises ``NotExpressible`` for any other text, a modulus out of range, or an operand that is no
        residue.
        """
        pattern = task("add").pattern()
        return [self._encode(prompt, pattern.fullmatch(prompt)) for prompt in prompts]

    def _encode(self, prompt: str, match: Any) -> Encoding:
        if match is None:
            raise NotExpressible(
                f"{self.cfg.model_name} reads only questions like '5 + 9 mod 23 =', not {prompt!r}"
            )
        groups = ["p", "a", "b", "equals", *["answer"] * (match["answer"] is not None)]
        numbers = [int(match[group]) for group in groups[:3]]
        try:
            self.check(torch.tensor([numbers]))
        except OutOfRange as error:
            raise NotExpressible(str(error)) from error
        answer = [] if match["answer"] is None else self.answer_ids([match["answer"]])
        return Encoding((*numbers, self.cfg.equals, *answer), tuple(match.span(group) for group in groups))

    def answer_ids(self, answers: Sequence[str]) -> tuple[int, ...]:
        """The token of each answer text (``" 14"``); raises ``NotExpressible`` for anything but a number it
        can name."""
        for answer in answers:
            if not answer.strip().isdecimal() or int(answer) >= self.cfg.d_vocab_out:
                raise NotExpressible(
                    f"{self.cfg.model_name} answers with numbers 0 to {self.cfg.d_vocab_out - 1}, not "
                    f"{answer!r}"
                )
        return tuple(int(answer) for answer in answers)


class ExtrapolatingTransformer(_Universal):
    """(a + b) mod m for moduli far above the trained ones: numbers by value, answers by ⟨h, φ(c)⟩.

    Every hook point has the shape of an ordinary transformer of width ``cfg.d_model``; see
    ``ExtrapolatingConfig`` for where the frequency is. ``frequencies`` [draw, freq] (cycles per unit) are
    those of ``cfg.freq_seed``; ``hook_point`` is h, [batch, pos, (draw two·freq)], the cosines before the
    sines within a draw. Logits cover all numbers 0..n_values − 1, none masked. ``weights`` are used as they
    are, without a copy.
    """

    cfg: ExtrapolatingConfig

    def __init__(
        self, cfg: ExtrapolatingConfig, *, weights: dict[str, Tensor] | None = None, seed: int = 0
    ) -> None:
        super().__init__(cfg, weights=weights, seed=seed)
        drawn = drawn_frequencies(cfg, torch.Generator().manual_seed(cfg.freq_seed))
        self.register_buffer("frequencies", drawn, persistent=False)
        self.register_buffer("table", value_table(drawn, cfg.n_values), persistent=False)

    frequencies: Tensor
    table: Tensor

    def _points(self) -> list[str]:
        return [*super()._points(), "hook_point"]

    @property
    def W_U(self) -> Float[Tensor, "d_model number"]:
        """Residual stream to logits, dense: the block-diagonal readout times φ."""
        block = self.weights()["unembed.W_U"]
        return torch.einsum("dw,nkw->kdn", block, self.table).flatten(0, 1)

    def with_values(self, n_values: int, **changes: Any) -> "ExtrapolatingTransformer":
        """The same weights for more numbers (or another ``draws``, ``freq_seed``, ``scale_min``): nothing is
        trained per number."""
        config = type(self.cfg)(**{**vars(self.cfg), "n_values": n_values, **changes})
        return ExtrapolatingTransformer(config, weights=self.weights()).to(self.table.device)

    def forward(
        self,
        tokens: Int[Tensor, "batch pos"] | str | list[str],
        return_type: Literal["logits"] | None = "logits",
        **_: Any,
    ) -> Float[Tensor, "batch kept number"] | None:
        """Logits at every position (only ``=`` is trained); ``None`` with ``return_type=None``.

        Raises ``OutOfRange`` for a modulus or operand out of range, ``NotExpressible`` for other than four
        tokens.
        """
        questions, weights = self._questions(tokens), self.weights()
        embedded = embed_values(weights, self.table[questions], self.sizes(questions))
        residual = extrapolating_residual(self.cfg, weights, embedded, hook=self._hook)
        if return_type is None:
            return None
        written = self._hook("hook_point", point(weights, self._hook("unembed.hook_in", residual)))
        return self._hook("unembed.hook_out", scores(written, self.table))

    def written(
        self,
        waves: Float[Tensor, "batch three draw two_freq"],
        sizes: Float[Tensor, "batch three"],
        *,
        hook: Hook = no_hook,
    ) -> Float[Tensor, "batch draw_two_freq"]:
        """h at ``=`` for numbers given by their waves and sizes, which need not belong together.

        The last block runs at ``=`` only and the model's hook points are passed by; ``hook(name, value)`` may
        change values.
        """
        weights = self.weights()
        embedded = embed_values(weights, waves, sizes)
        residual = extrapolating_residual(self.cfg, weights, embedded, hook=hook, last_only=True)
        return point(weights, residual[:, -1])

    def best(self, questions: Int[Tensor, "batch 3"], *, negatives: bool = True) -> Int[Tensor, " batch"]:
        """The number with the highest logit, of −(n_values − 1)..n_values − 1, or of 0..n_values − 1.

        With no number below 0 to choose, a network may write both a + b and a + b − m and leave it to the
        edge of the candidates to rule one out; with them it has to decide.
        """
        written = self.written(self.table[questions], self.sizes(questions))
        candidates = with_negatives(self.table) if negatives else self.table
        return scores(written, candidates).argmax(1) - (len(candidates) - len(self.table))

    def sizes(self, questions: Int[Tensor, "batch 3"]) -> Float[Tensor, "batch three"]:
        """s·v of m, a and b."""
        return test_sizes(self.cfg, questions)

    def answer_logits(self, questions: Int[Tensor, "batch 3"]) -> Float[Tensor, "batch number"]:
        """Logits at ``=``, the quick way: the last block at one position only, hooks passed by."""
        return scores(self.written(self.table[questions], self.sizes(questions)), self.table)


class UniversalModulusTransformer(_Universal):
    """The faithful model: SinPE at position 0, a memory block, categorical a and b, two pre-norm layers,
    class logits.

    ``hook_modulus`` [batch, d] is the encoding of m, ``memory.hook_state`` [batch, d_mem] the state of the
    memory, ``hook_embed`` [batch, 3, d] the tokens a, b and =. What the memory variants do:
    ``miras_forward.memory``.
    """

    cfg: FaithfulConfig

    def __init__(
        self, cfg: FaithfulConfig, *, weights: dict[str, Tensor] | None = None, seed: int = 0
    ) -> None:
        super().__init__(cfg, weights=weights, seed=seed)

    def _points(self) -> list[str]:
        memory = [] if self.cfg.memory == "none" else ["memory.hook_state"]
        return ["hook_modulus", *memory, *super()._points()]

    @property
    def W_U(self) -> Float[Tensor, "d number"]:
        return self.weights()["unembed.W_U"]

    def forward(
        self,
        tokens: Int[Tensor, "batch pos"] | str | list[str],
        return_type: Literal["logits"] | None = "logits",
        **_: Any,
    ) -> Float[Tensor, "batch kept number"] | None:
        """Logits at every position (only ``=`` is trained); raises as
        ``ExtrapolatingTransformer.forward``."""
        questions, weights = self._questions(tokens), self.weights()
        residual = faithful_residual(self.cfg, weights, questions, hook=self._hook)
        if return_type is None:
            return None
        inside = self._hook("unembed.hook_in", residual)
        return self._hook("unembed.hook_out", inside @ weights["unembed.W_U"] + weights["unembed.b_U"])

    def answer_logits(self, questions: Int[Tensor, "batch 3"]) -> Float[Tensor, "batch number"]:
        """Logits at ``=``, the quick way: the last block at one position only, hooks passed by."""
        weights = self.weights()
        residual = faithful_residual(self.cfg, weights, questions, last_only=True)[:, -1]
        return residual @ weights["unembed.W_U"] + weights["unembed.b_U"]

    def best(self, questions: Int[Tensor, "batch 3"], *, negatives: bool = True) -> Int[Tensor, " batch"]:
        """The class with the highest logit; a class table has no negative numbers."""
        del negatives
        return self.answer_logits(questions).argmax(1)


Universal = ExtrapolatingTransformer | UniversalModulusTransformer


def build(cfg: MirasConfig, weights: dict[str, Tensor] | None = None, *, seed: int = 0) -> Universal:
    """The model of a configuration."""
    if isinstance(cfg, ExtrapolatingConfig):
        return ExtrapolatingTransformer(cfg, weights=weights, seed=seed)
    return UniversalModulusTransformer(cfg, weights=weights, seed=seed)


def load_folder(
    folder: str | Path, device: str | torch.device = "cpu", dtype: torch.dtype | None = None
) -> Universal:
    """A checkpoint folder with ``"architecture": "miras"`` as a model in evaluation mode."""
    tensors, config = load_checkpoint(folder)
    return build(config_from(config), tensors).to(device=device, dtype=dtype).eval()
