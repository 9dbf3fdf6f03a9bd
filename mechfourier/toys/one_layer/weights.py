"""Shape and initial weights of the one-layer transformer, without TransformerLens (whose import takes
seconds)."""

import dataclasses
import math
from typing import Any

import torch
from torch import Tensor

from mechfourier.errors import UsageError
from mechfourier.models.sizes import check_sizes
from mechfourier.toys.forms import form_of
from mechfourier.toys.pairs import PairConfig

ACTIVATIONS = ("relu", "gelu", "square")


@dataclasses.dataclass(frozen=True, kw_only=True)
class OneLayerConfig(PairConfig):
    """The architecture: tokens 0..p−1 and, with three positions, ``=`` as token p; no layer norm.

    ``attn_coeff`` c mixes the attention pattern with a constant one, c · softmax + (1 − c) (Zhong et al.
    2023, arXiv 2306.17844); 1 is ordinary attention. ``biases`` adds b_Q, b_K, b_V, b_O, b_in, b_out and b_U.
    ``task`` is the operation its prompts ask for (``mechfourier.toys.one_layer.task``). ``form`` is how a
    question is written, one word per position (``a + b =``; by default what ``n_ctx`` says); with two
    ``vocabularies`` the second operand has tokens of its own (`mechfourier.toys.forms`).
    ``table``: the answers of the task "table", row-major.
    """

    record = "one-layer"

    p: int
    d_model: int = 128
    n_heads: int = 4
    d_head: int = 0
    d_mlp: int = 512
    n_ctx: int = 3
    act: str = "relu"
    causal: bool = True
    biases: bool = False
    attn_coeff: float = 1.0
    task: str = "add"
    model_name: str = "one-layer"
    form: str = ""
    vocabularies: int = 1
    table: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        check_sizes(self, "p", "d_model", "n_heads", "d_mlp")
        if self.d_head == 0:
            object.__setattr__(self, "d_head", self.d_model // self.n_heads)
        form_of(self.form, self.n_ctx, self.p, self.vocabularies)
        if self.act not in ACTIVATIONS:
            raise UsageError(f"no activation {self.act!r}; known: {', '.join(ACTIVATIONS)}")
        check_sizes(self, "d_head")

    @property
    def n_layers(self) -> int:
        return 1

    def to_dict(self) -> dict[str, Any]:
        """As JSON; what every network of this package has in common is left out."""
        usual = {"form": "", "vocabularies": 1, "table": ()}
        values = super().to_dict()
        return {key: value for key, value in values.items() if key not in usual or value != usual[key]}


def parameter_shapes(config: OneLayerConfig) -> dict[str, tuple[int, ...]]:
    """TransformerLens parameter name -> shape, in a fixed order."""
    d, h, e, m = config.d_model, config.n_heads, config.d_head, config.d_mlp
    attn, mlp = "blocks.0.attn.", "blocks.0.mlp."
    shapes: dict[str, tuple[int, ...]] = {
        "embed.W_E": (config.d_vocab, d),
        "pos_embed.W_pos": (config.n_ctx, d),
        **{f"{attn}W_{name}": (h, d, e) for name in "QKV"},
        f"{attn}W_O": (h, e, d),
        f"{mlp}W_in": (d, m),
        f"{mlp}W_out": (m, d),
        "unembed.W_U": (d, config.d_vocab_out),
    }
    if config.biases:
        shapes |= {f"{attn}b_{name}": (h, e) for name in "QKV"}
        shapes |= {f"{attn}b_O": (d,), f"{mlp}b_in": (m,), f"{mlp}b_out": (d,)}
        shapes |= {"unembed.b_U": (config.d_vocab_out,)}
    return shapes


def initial_weights(
    config: OneLayerConfig, *, seed: int, embed_std: float | None = None, dtype: torch.dtype = torch.float32
) -> dict[str, Tensor]:
    """Normal weights of standard deviation 1/√d_model (W_U: 1/√d_vocab; Nanda et al. 2023), biases 0.

    ``embed_std`` replaces the deviation of W_E and W_pos: small embeddings leave the lazy regime sooner.
    """
    generator = torch.Generator().manual_seed(seed)
    weights = {}
    for name, shape in parameter_shapes(config).items():
        if ".b_" in name:
            weights[name] = torch.zeros(shape, dtype=dtype)
            continue
        std = 1 / math.sqrt(config.d_vocab if name == "unembed.W_U" else config.d_model)
        if embed_std is not None and name in ("embed.W_E", "pos_embed.W_pos"):
            std = embed_std
        weights[name] = (torch.randn(shape, generator=generator, dtype=torch.float64) * std).to(dtype)
    return weights
