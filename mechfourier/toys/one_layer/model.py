"""The one-layer transformer of the grokking experiments, with TransformerLens's hook and parameter names.

No layer norm; the answer is read at the last position (Nanda et al. 2023, arXiv 2301.05217).
"""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from einops import einsum
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from transformer_lens.hook_points import HookPoint

from mechfourier.hooks.site import Site
from mechfourier.models.checkpoint import load_checkpoint
from mechfourier.toys.one_layer.weights import OneLayerConfig, initial_weights, parameter_shapes
from mechfourier.toys.opening import check_shapes
from mechfourier.toys.parameters import Network, Weights
from mechfourier.toys.prompts import ModularPrompts

__all__ = ["OneLayerConfig", "OneLayerTransformer", "load_folder"]

ACTIVATION: dict[str, Callable[[Tensor], Tensor]] = {"relu": F.relu, "gelu": F.gelu, "square": torch.square}


class Attention(Weights):
    """Multi-head attention; ``hook_result`` (per-head output) runs only when something listens to it."""

    def __init__(self, config: OneLayerConfig, weights: dict[str, Tensor]) -> None:
        super().__init__(weights, "blocks.0.attn.")
        self.config = config
        self.hook_q, self.hook_k, self.hook_v, self.hook_z = (HookPoint() for _ in range(4))
        self.hook_attn_scores, self.hook_pattern, self.hook_result = (HookPoint() for _ in range(3))

    def _project(self, x: Tensor, name: str) -> Float[Tensor, "batch pos head d_head"]:
        product = einsum(x, getattr(self, f"W_{name}"), "batch pos d, head d d_head -> batch pos head d_head")
        return product + self.bias(f"b_{name}")

    def _mask(self, pos: int, device: torch.device) -> Bool[Tensor, "query key"]:
        visible = torch.ones(pos, pos, dtype=torch.bool, device=device)
        return visible.tril() if self.config.causal else visible

    def forward(self, x: Float[Tensor, "batch pos d"]) -> Float[Tensor, "batch pos d"]:
        q, k = self.hook_q(self._project(x, "Q")), self.hook_k(self._project(x, "K"))
        v = self.hook_v(self._project(x, "V"))
        scores = einsum(q, k, "batch query head e, batch key head e -> batch head query key")
        scores = (scores / math.sqrt(self.config.d_head)).masked_fill(
            ~self._mask(x.shape[1], x.device), -math.inf
        )
        pattern = self.hook_attn_scores(scores).softmax(dim=-1)
        if self.config.attn_coeff != 1.0:
            pattern = self.config.attn_coeff * pattern + (1.0 - self.config.attn_coeff)
        pattern = self.hook_pattern(pattern)
        z = self.hook_z(einsum(pattern, v, "batch head query key, batch key head e -> batch query head e"))
        if self.hook_result.has_hooks():
            result = self.hook_result(einsum(z, self.W_O, "batch pos head e, head e d -> batch pos head d"))
            return result.sum(dim=2) + self.bias("b_O")
        return einsum(z, self.W_O, "batch pos head e, head e d -> batch pos d") + self.bias("b_O")


class MLP(Weights):
    """One hidden layer."""

    def __init__(self, config: OneLayerConfig, weights: dict[str, Tensor]) -> None:
        super().__init__(weights, "blocks.0.mlp.")
        self.act = ACTIVATION[config.act]
        self.hook_pre, self.hook_post = HookPoint(), HookPoint()

    def forward(self, x: Float[Tensor, "batch pos d"]) -> Float[Tensor, "batch pos d"]:
        post = self.hook_post(self.act(self.hook_pre(x @ self.W_in + self.bias("b_in"))))
        return post @ self.W_out + self.bias("b_out")


class Block(nn.Module):
    """Attention, then MLP, each added to the residual stream."""

    def __init__(self, config: OneLayerConfig, weights: dict[str, Tensor]) -> None:
        super().__init__()
        self.attn, self.mlp = Attention(config, weights), MLP(config, weights)
        self.hook_resid_pre, self.hook_resid_mid, self.hook_resid_post = HookPoint(), HookPoint(), HookPoint()
        self.hook_attn_out, self.hook_mlp_out = HookPoint(), HookPoint()

    def forward(self, x: Float[Tensor, "batch pos d"]) -> Float[Tensor, "batch pos d"]:
        pre = self.hook_resid_pre(x)
        mid = self.hook_resid_mid(pre + self.hook_attn_out(self.attn(pre)))
        return self.hook_resid_post(mid + self.hook_mlp_out(self.mlp(mid)))


class Unembed(Weights):
    """Residual stream to logits."""

    def __init__(self, weights: dict[str, Tensor]) -> None:
        super().__init__(weights, "unembed.")
        self.hook_in, self.hook_out = HookPoint(), HookPoint()

    def forward(self, x: Float[Tensor, "batch pos d"]) -> Float[Tensor, "batch kept p"]:
        return self.hook_out(self.hook_in(x) @ self.W_U + self.bias("b_U"))


class OneLayerTransformer(ModularPrompts, Network):
    """Modular arithmetic in one layer. Logits have p entries: the answer, read at the last position.

    ``run_with_cache`` gives the same names and values as a HookedTransformer with the same weights.
    ``weights`` (TransformerLens names) are used as they are, without a copy, so that the fast training step
    and this model share their parameters; without them, ``seed`` draws new ones.
    """

    mechfourier_architecture = "one-layer"

    def __init__(
        self, cfg: OneLayerConfig, *, weights: dict[str, Tensor] | None = None, seed: int = 0
    ) -> None:
        super().__init__()
        self.cfg = cfg
        self.mechfourier_name = cfg.model_name
        weights = initial_weights(cfg, seed=seed) if weights is None else weights
        check_shapes(weights, parameter_shapes(cfg), f"a one-layer model mod {cfg.p}")
        self.embed = Weights(weights, "embed.")
        self.hook_embed = HookPoint()
        self.pos_embed = Weights(weights, "pos_embed.")
        self.hook_pos_embed = HookPoint()
        self.blocks = nn.ModuleList([Block(cfg, weights)])  # named as in TransformerLens
        self.unembed = Unembed(weights)
        self.setup()

    def forward(
        self,
        tokens: Int[Tensor, "batch pos"] | str | list[str],
        return_type: Literal["logits"] | None = "logits",
        **_: Any,
    ) -> Float[Tensor, "batch kept p"] | None:
        """Logits at every position (only the last is trained); ``None`` with ``return_type=None``.

        Raises ``NotExpressible`` for more tokens than positions, or a token outside the vocabulary.
        """
        ids = self._checked(tokens if isinstance(tokens, Tensor) else self.to_tokens(tokens))
        embed = self.hook_embed(self.embed.W_E[ids])
        positions = self.pos_embed.W_pos[: ids.shape[1]].expand(*ids.shape, -1).clone()
        (block,) = self.blocks
        residual = block(embed + self.hook_pos_embed(positions))
        if return_type is None:
            return None
        return self.unembed(residual)

    @property
    def W_E(self) -> Float[Tensor, "vocab d"]:
        return self.embed.W_E

    @property
    def W_pos(self) -> Float[Tensor, "pos d"]:
        return self.pos_embed.W_pos

    @property
    def W_U(self) -> Float[Tensor, "d p"]:
        return self.unembed.W_U

    @property
    def b_U(self) -> Float[Tensor, " p"]:
        """Zero where the model has no biases."""
        return self.W_U.new_zeros(self.cfg.p) + self.unembed.bias("b_U")

    def reinitialised(self, seed: int) -> "OneLayerTransformer":
        """The same architecture with newly drawn weights (the control of a probe)."""
        weights = initial_weights(self.cfg, seed=seed, dtype=self.embed.W_E.dtype)
        return OneLayerTransformer(self.cfg, weights=weights).to(self.embed.W_E.device)


def load_folder(
    folder: str | Path, device: str | torch.device = "cpu", dtype: torch.dtype | None = None
) -> OneLayerTransformer:
    """A one-layer checkpoint folder (``config.json`` and ``model.safetensors``) as a model in evaluation
    mode."""
    tensors, config = load_checkpoint(folder)
    model = OneLayerTransformer(OneLayerConfig.from_dict(config), weights=tensors)
    return model.to(device=device, dtype=dtype).eval()


def readout(model: OneLayerTransformer, site: Site, tokens: Sequence[int]) -> Float[Tensor, "d token"] | None:
    """What one unit of each dimension of ``site`` adds to the logits of ``tokens``: no norm and no
    nonlinearity follows the neurons."""
    if site.kind not in ("mlp_post", "mlp_out", "resid_post"):
        return None
    matrix = model.W_U[:, list(tokens)].detach()
    if site.kind == "mlp_post":
        matrix = model.blocks[0].mlp.W_out.detach() @ matrix  # type: ignore[union-attr]
    return matrix.float().cpu()
