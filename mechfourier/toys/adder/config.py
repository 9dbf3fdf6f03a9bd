"""Shape and initial weights of the adders, without TransformerLens (whose import takes seconds)."""

import dataclasses
import math

import torch
from torch import Tensor

from mechfourier.errors import UsageError
from mechfourier.models.sizes import check_sizes
from mechfourier.toys.adder.task import D_VOCAB, D_VOCAB_OUT, Format
from mechfourier.toys.config import NetworkConfig

KINDS = ("encoder-decoder", "decoder-only")
POSITIONS = ("significance", "coupled", "learned")
REACH = 3  # significances further away than this share a bucket
BUCKETS = 2 * REACH + 3  # −3 … 3, a special key, a special query
# what a stored attention bias is multiplied with, so that a step of the optimiser moves it far enough
BIAS_EFFECT = 40.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class AdderConfig(NetworkConfig):
    """The architecture. Pre-norm, ReLU, biases everywhere.

    ``positions``: ``"significance"`` (attention biases by how far two digits' significances are apart, and
    nothing else), ``"coupled"`` (a learned embedding per significance, Cho et al. 2024, arXiv 2405.20671) or
    ``"learned"`` (one per absolute position). ``ssmax`` multiplies attention logits by ln(visible keys +
    1)/2.5 (Nakanishi 2025, arXiv
    2501.19399). ``padded`` and ``reverse`` say how problems are written (``Format``). ``max_digits``: the
    longest operand there are positions for; None: any. ``n_layers`` is the encoder's (a decoder-only model's)
    number of layers.
    """

    record = "adder"
    normalization_type = "LN"

    kind: str = "encoder-decoder"
    d_model: int = 64
    n_heads: int = 4
    d_head: int = 0
    d_mlp: int = 256
    n_layers: int = 1
    n_decoder_layers: int = 1
    positions: str = "significance"
    ssmax: bool = True
    padded: bool = True
    reverse: bool = True
    max_digits: int | None = None
    model_name: str = "adder"

    def __post_init__(self) -> None:
        check_sizes(self, "d_model", "n_heads", "d_mlp", "n_layers")
        if self.kind == "encoder-decoder":
            check_sizes(self, "n_decoder_layers")
        if self.d_head == 0:
            object.__setattr__(self, "d_head", self.d_model // self.n_heads)
        if self.kind not in KINDS:
            raise UsageError(f"no kind of adder {self.kind!r}; known: {', '.join(KINDS)}")
        if self.positions not in POSITIONS:
            raise UsageError(f"no positions {self.positions!r}; known: {', '.join(POSITIONS)}")
        if self.positions != "significance" and self.max_digits is None:
            raise UsageError(f"positions {self.positions!r} need max_digits, the longest operand")
        if self.kind == "decoder-only" and self.positions != "significance":
            raise UsageError(
                f"a decoder-only adder knows positions by significance only, not {self.positions!r}"
            )
        check_sizes(self, "d_head")

    @property
    def format(self) -> Format:
        return Format(self.padded, self.reverse)

    @property
    def source_positions(self) -> int:
        """Learned absolute positions of the encoder."""
        return 2 * (self.max_digits or 0) + 2

    @property
    def target_positions(self) -> int:
        """Learned positions of the decoder: "=" and the digits of the answer."""
        return (self.max_digits or 0) + 2

    @property
    def d_vocab(self) -> int:
        return D_VOCAB

    @property
    def d_vocab_out(self) -> int:
        return D_VOCAB_OUT

    @property
    def n_ctx(self) -> int | None:
        """Tokens of the longest prompt with its answer; None: no limit."""
        return None if self.max_digits is None else 2 * self.max_digits + 2 + self.target_positions - 1


def parameter_shapes(config: AdderConfig) -> dict[str, tuple[int, ...]]:
    """Parameter name -> shape, in a fixed order. Encoder and decoder share the embedding of the
    characters."""
    d = config.d_model
    shapes: dict[str, tuple[int, ...]] = {"embed.W_E": (config.d_vocab, d)}
    if config.positions != "significance":
        coupled = config.positions == "coupled"
        digits = (config.max_digits or 0) + 2
        shapes["pos_embed.W_pos"] = (digits + 1 if coupled else config.source_positions, d)
        shapes["decoder_pos_embed.W_pos"] = (digits + 1 if coupled else config.target_positions, d)
    if config.kind == "decoder-only":
        for layer in range(config.n_layers):
            shapes |= _block(config, f"blocks.{layer}.", cross=False, tables=3)
        return shapes | _norm("ln_final.", d) | _unembed(config)
    for layer in range(config.n_layers):
        shapes |= _block(config, f"encoder.{layer}.", cross=False)
    shapes |= _norm("encoder_final_ln.", d)
    for layer in range(config.n_decoder_layers):
        shapes |= _block(config, f"decoder.{layer}.", cross=True)
    return shapes | _norm("decoder_final_ln.", d) | _unembed(config)


def _block(config: AdderConfig, prefix: str, *, cross: bool, tables: int = 1) -> dict[str, tuple[int, ...]]:
    d, m = config.d_model, config.d_mlp
    shapes = _norm(f"{prefix}ln1.", d) | _attention(config, f"{prefix}attn.", tables)
    shapes |= _norm(f"{prefix}ln2.", d)
    if cross:
        shapes |= _attention(config, f"{prefix}cross_attn.", tables) | _norm(f"{prefix}ln3.", d)
    mlp = f"{prefix}mlp."
    return shapes | {
        f"{mlp}W_in": (d, m),
        f"{mlp}b_in": (m,),
        f"{mlp}W_out": (m, d),
        f"{mlp}b_out": (d,),
    }


def _attention(config: AdderConfig, prefix: str, tables: int) -> dict[str, tuple[int, ...]]:
    d, h, e = config.d_model, config.n_heads, config.d_head
    shapes: dict[str, tuple[int, ...]] = {f"{prefix}W_{name}": (h, d, e) for name in "QKV"}
    shapes |= {f"{prefix}W_O": (h, e, d)} | {f"{prefix}b_{name}": (h, e) for name in "QKV"}
    shapes[f"{prefix}b_O"] = (d,)
    if config.positions == "significance":
        shapes[f"{prefix}B_rel"] = (tables * BUCKETS, h)
    return shapes


def _norm(prefix: str, d: int) -> dict[str, tuple[int, ...]]:
    return {f"{prefix}w": (d,), f"{prefix}b": (d,)}


def _unembed(config: AdderConfig) -> dict[str, tuple[int, ...]]:
    return {"unembed.W_U": (config.d_model, config.d_vocab_out), "unembed.b_U": (config.d_vocab_out,)}


def initial_weights(
    config: AdderConfig, *, seed: int, embed_std: float = 0.1, write_scale: float = 0.3
) -> dict[str, Tensor]:
    """Matrices uniform within ±1/√fan-in (PyTorch's own rule for linear layers), embeddings normal with
    ``embed_std``, norms 1, biases and attention biases 0.

    What writes to the residual stream (W_O, W_out) is ``write_scale`` times as large: at full size the first
    steps drown the small embeddings, and one seed in four got stuck.
    """
    generator = torch.Generator().manual_seed(seed)
    weights = {}
    for name, shape in parameter_shapes(config).items():
        leaf = name.rsplit(".", 1)[-1]
        if leaf in ("W_E", "W_pos"):
            weights[name] = torch.randn(shape, generator=generator) * embed_std
        elif leaf.startswith("W_"):
            fan_in = math.prod(shape[:2]) if leaf == "W_O" else shape[-2]
            size = (write_scale if leaf in ("W_O", "W_out") else 1.0) / math.sqrt(fan_in)
            weights[name] = (torch.rand(shape, generator=generator) * 2 - 1) * size
        else:
            weights[name] = torch.ones(shape) if leaf == "w" else torch.zeros(shape)
    return weights


def decays(name: str) -> bool:
    """Whether weight decay acts on the parameter: on matrices, not on norms, biases and attention biases."""
    return name.rsplit(".", 1)[-1].startswith("W_")
