"""Shape and initial weights of networks on modular arithmetic of any depth."""

import dataclasses
import math
from typing import Any

import torch
from torch import Tensor

from mechfourier.errors import UsageError, nearest
from mechfourier.models.sizes import check_sizes
from mechfourier.toys.forms import form_of
from mechfourier.toys.pairs import PairConfig

ATTENTIONS = ("softmax", "linear", "none")
NORMS = ("none", "pre", "post")
POOLS = ("last", "mean", "first")
ACTIVATIONS = ("relu", "gelu", "gelu_new", "square", "tanh", "silu", "sigmoid", "linear")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModularConfig(PairConfig):
    """Tokens, positions, ``n_layers`` blocks, an unembedding of p answers; every map may have a bias.

    ``attention``: softmax, linear (the scores themselves; no softmax) or none; ``rotary``: queries and keys are turned by their position (half apart, base 10,000);
    ``attn_coeff`` as in
    `OneLayerConfig`. ``norm``: where layer norms stand (``norm_weights``: with weights of their own;
    ``final_norm``: one before the unembedding); ``rms`` leaves their mean and bias out. ``d_mlp`` 0: attention
    alone; ``gated``: its activations multiply a second map (W_in; the first is W_gate). ``widths`` (d₀, d₁, …): an MLP alone; it reads the sum of the embeddings of a and b and has no
    residual stream. ``pool``: the answer is read at the last position, at the first, or from the mean of all.
    """

    record = "modular"

    p: int
    d_model: int = 128
    n_heads: int = 4
    d_head: int = 32
    d_mlp: int = 512
    n_layers: int = 1
    n_ctx: int = 3
    act: str = "relu"
    causal: bool = True
    attention: str = "softmax"
    attn_coeff: float = 1.0
    norm: str = "none"
    final_norm: bool = False
    norm_weights: bool = True
    rms: bool = False
    eps: float = 1e-5
    gated: bool = False
    rotary: bool = False
    widths: tuple[int, ...] = ()
    pool: str = "last"
    task: str = "add"
    model_name: str = "modular"
    form: str = ""
    vocabularies: int = 1
    table: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        for value, known in (
            (self.attention, ATTENTIONS),
            (self.norm, NORMS),
            (self.pool, POOLS),
            (self.act, ACTIVATIONS),
        ):
            if value not in known:
                raise UsageError(
                    f"no option {value!r}; closest: {nearest(value, known)}; known: {', '.join(known)}"
                )
        check_sizes(self, "p", "d_model", "n_heads", "d_head", "n_layers")
        form_of(self.form, self.n_ctx, self.p, self.vocabularies)

    @property
    def normalization_type(self) -> str | None:  # type: ignore[override]
        return None if self.norm == "none" else "RMS" if self.rms else "LN"

    @property
    def attn_only(self) -> bool:  # type: ignore[override]
        return self.d_mlp == 0 and not self.widths


def parameter_shapes(config: ModularConfig) -> dict[str, tuple[int, ...]]:
    """TransformerLens parameter name -> shape, in a fixed order."""
    d = config.widths[0] if config.widths else config.d_model
    shapes: dict[str, tuple[int, ...]] = {
        "embed.W_E": (config.d_vocab, d),
        "pos_embed.W_pos": (config.n_ctx, d),
    }
    for layer in range(config.n_layers):
        shapes |= _chain(config, layer) if config.widths else _block(config, layer)
    last = config.widths[-1] if config.widths else d
    if config.final_norm:
        shapes |= _norm(config, "ln_final")
    return shapes | {"unembed.W_U": (last, config.p), "unembed.b_U": (config.p,)}


def _chain(config: ModularConfig, layer: int) -> dict[str, tuple[int, ...]]:
    before, after = config.widths[layer : layer + 2]
    return {f"blocks.{layer}.mlp.W_in": (before, after), f"blocks.{layer}.mlp.b_in": (after,)}


def _norm(config: ModularConfig, name: str) -> dict[str, tuple[int, ...]]:
    if not config.norm_weights:
        return {}
    weights: dict[str, tuple[int, ...]] = {f"{name}.w": (config.d_model,)}
    return weights if config.rms else weights | {f"{name}.b": (config.d_model,)}


def _block(config: ModularConfig, layer: int) -> dict[str, tuple[int, ...]]:
    d, h, e, m = config.d_model, config.n_heads, config.d_head, config.d_mlp
    attn, mlp = f"blocks.{layer}.attn.", f"blocks.{layer}.mlp."
    shapes: dict[str, tuple[int, ...]] = {}
    if config.attention != "none":
        shapes |= {f"{attn}W_{x}": (h, d, e) for x in "QKV"} | {f"{attn}W_O": (h, e, d)}
        shapes |= {f"{attn}b_{x}": (h, e) for x in "QKV"} | {f"{attn}b_O": (d,)}
    if m:
        shapes |= {f"{mlp}W_in": (d, m), f"{mlp}b_in": (m,), f"{mlp}W_out": (m, d), f"{mlp}b_out": (d,)}
    if m and config.gated:
        shapes |= {f"{mlp}W_gate": (d, m)}
    if config.norm != "none":
        shapes |= _norm(config, f"blocks.{layer}.ln1") if config.attention != "none" else {}
        shapes |= _norm(config, f"blocks.{layer}.ln2") if m else {}
    return shapes


def initial_weights(
    config: ModularConfig, *, seed: int, dtype: torch.dtype = torch.float32
) -> dict[str, Tensor]:
    """Normal weights of standard deviation 1/√(inputs), biases 0, norms 1."""
    generator = torch.Generator().manual_seed(seed)
    weights: dict[str, Any] = {}
    for name, shape in parameter_shapes(config).items():
        last = name.rsplit(".", 1)[-1]
        if last == "w":
            weights[name] = torch.ones(shape, dtype=dtype)
        elif last.startswith("b"):
            weights[name] = torch.zeros(shape, dtype=dtype)
        else:
            inputs = (
                shape[0] * shape[1]
                if last == "W_O"
                else shape[-1]
                if "embed.W_" in name and "un" not in name
                else shape[-2]
            )
            drawn = torch.randn(shape, generator=generator, dtype=torch.float64)
            weights[name] = (drawn / math.sqrt(inputs)).to(dtype)
    return weights
