"""The parts of the adders, with TransformerLens's hook and parameter names: norm, attention, MLP, block.

Attention knows two things that a HookedTransformer does not: a learned bias by relative significance, and
logits that grow with the number of visible keys.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import einsum, rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from transformer_lens.hook_points import HookPoint

from mechfourier.toys.adder.config import BIAS_EFFECT, BUCKETS, REACH, AdderConfig
from mechfourier.toys.parameters import Weights

SSMAX_DIVISOR = 2.5  # ln(keys + 1)/2.5 is 1 at the 11 keys of two four-digit operands
EPS = 1e-5


class LayerNorm(Weights):
    """``hook_scale`` is the standard deviation, ``hook_normalized`` the output, as in TransformerLens."""

    def __init__(self, weights: dict[str, Tensor], prefix: str) -> None:
        super().__init__(weights, prefix)
        self.hook_scale, self.hook_normalized = HookPoint(), HookPoint()

    def forward(self, x: Float[Tensor, "batch pos d"]) -> Float[Tensor, "batch pos d"]:
        if not self.hook_scale.has_hooks():
            return self.hook_normalized(F.layer_norm(x, x.shape[-1:], self.w, self.b, EPS))
        centred = x - x.mean(-1, keepdim=True)
        scale = self.hook_scale((centred.pow(2).mean(-1, keepdim=True) + EPS).sqrt())
        return self.hook_normalized(centred / scale * self.w + self.b)


@dataclass(frozen=True, eq=False)
class View:
    """What the queries see: ``visible`` keys, and the row of the bias table for every query and key (None
    without a table)."""

    visible: Bool[Tensor, "batch query key"]
    bucket: Int[Tensor, "batch query key"] | None = None


def buckets(
    query_ids: Int[Tensor, "batch query"], key_ids: Int[Tensor, "batch key"]
) -> Int[Tensor, "batch query key"]:
    """clip(id_key − id_query, −3, 3) + 3; 7 for a key without significance (+, =), 8 for a query without."""
    q, k = query_ids[:, :, None], key_ids[:, None, :]
    near = (k - q).clamp(-REACH, REACH) + REACH
    return torch.where(k == 0, BUCKETS - 2, torch.where(q == 0, BUCKETS - 1, near))


@dataclass
class Noise:
    """Gaussian noise on attention logits in training: ``sigma`` 0 is none."""

    sigma: float = 0.0
    generator: torch.Generator | None = None


KeyValue = tuple[Tensor, Tensor]


@dataclass(eq=False)
class DecodingState:
    """A decoding run in progress: what was computed once, and the keys and values of the steps so far."""

    source: Int[Tensor, "batch pos"]
    source_ids: Int[Tensor, "batch pos"]
    memory: list[KeyValue]
    past: list[KeyValue | None]
    done: int = 0


class Attention(Weights):
    """Multi-head attention; ``hook_result`` (per-head output) runs only when something listens to it."""

    def __init__(self, config: AdderConfig, weights: dict[str, Tensor], prefix: str, noise: Noise) -> None:
        super().__init__(weights, prefix)
        self.config, self.noise = config, noise
        self.hook_q, self.hook_k, self.hook_v, self.hook_z = (HookPoint() for _ in range(4))
        self.hook_attn_scores, self.hook_pattern, self.hook_result = (HookPoint() for _ in range(3))

    def project(self, x: Float[Tensor, "batch pos d"], name: str) -> Float[Tensor, "batch pos head e"]:
        """Queries, keys or values before their hook points."""
        weight = rearrange(getattr(self, f"W_{name}"), "head d e -> d (head e)")
        bias = getattr(self, f"b_{name}").flatten()
        return rearrange(x @ weight + bias, "batch pos (head e) -> batch pos head e", e=self.config.d_head)

    def scores(self, q: Tensor, k: Tensor, view: View) -> Float[Tensor, "batch head query key"]:
        """Attention logits: content and bias, sharpened by the number of visible keys, noise in training;
        −inf where hidden."""
        q, k = (
            rearrange(q, "batch pos head e -> batch head pos e"),
            rearrange(k, "batch pos head e -> batch head e pos"),
        )
        scores = (q / math.sqrt(self.config.d_head)) @ k
        if view.bucket is not None:
            bias = F.embedding(view.bucket, BIAS_EFFECT * self.B_rel)
            scores = scores + rearrange(bias, "batch query key head -> batch head query key")
        if self.config.ssmax:
            keys = view.visible.sum(-1)[:, None, :, None]
            scores = scores * (torch.log(keys + 1.0) / SSMAX_DIVISOR)
        if self.training and self.noise.sigma > 0:
            scores = scores + self.noise.sigma * torch.randn(
                scores.shape, generator=self.noise.generator, device=scores.device
            )
        return self.hook_attn_scores(scores.masked_fill(~view.visible[:, None], -math.inf))

    def forward(
        self, x: Float[Tensor, "batch query d"], keys: Tensor, values: Tensor, view: View
    ) -> Float[Tensor, "batch query d"]:
        """``keys`` and ``values`` have been through their hook points."""
        q = self.hook_q(self.project(x, "Q"))
        pattern = self.hook_pattern(self.scores(q, keys, view).softmax(dim=-1))
        z = pattern @ rearrange(values, "batch pos head e -> batch head pos e")
        z = self.hook_z(rearrange(z, "batch head pos e -> batch pos head e"))
        if self.hook_result.has_hooks():
            result = self.hook_result(einsum(z, self.W_O, "batch pos head e, head e d -> batch pos head d"))
            return result.sum(dim=2) + self.b_O
        return z.flatten(2) @ rearrange(self.W_O, "head e d -> (head e) d") + self.b_O


class MLP(Weights):
    """One hidden layer with ReLU."""

    def __init__(self, weights: dict[str, Tensor], prefix: str) -> None:
        super().__init__(weights, prefix)
        self.hook_pre, self.hook_post = HookPoint(), HookPoint()

    def forward(self, x: Float[Tensor, "batch pos d"]) -> Float[Tensor, "batch pos d"]:
        return self.hook_post(F.relu(self.hook_pre(x @ self.W_in + self.b_in))) @ self.W_out + self.b_out


class Block(nn.Module):
    """Self-attention, in a decoder cross-attention, and MLP, each normed before and added to the residual
    stream.

    Norms are numbered as in T5: ln2 stands before the cross-attention where there is one, before the MLP
    otherwise.
    """

    def __init__(
        self,
        config: AdderConfig,
        weights: dict[str, Tensor],
        prefix: str,
        noise: Noise,
        *,
        cross: bool = False,
    ) -> None:
        super().__init__()
        self.ln1, self.ln2 = LayerNorm(weights, f"{prefix}ln1."), LayerNorm(weights, f"{prefix}ln2.")
        self.attn = Attention(config, weights, f"{prefix}attn.", noise)
        self.cross_attn = Attention(config, weights, f"{prefix}cross_attn.", noise) if cross else None
        self.mlp = MLP(weights, f"{prefix}mlp.")
        self.hook_resid_pre, self.hook_resid_mid, self.hook_resid_post = HookPoint(), HookPoint(), HookPoint()
        self.hook_attn_out, self.hook_mlp_out = HookPoint(), HookPoint()
        if cross:
            self.ln3 = LayerNorm(weights, f"{prefix}ln3.")
            self.hook_cross_attn_out, self.hook_resid_mid_cross = HookPoint(), HookPoint()

    def memory(self, encoded: Float[Tensor, "batch pos d"]) -> KeyValue:
        """Keys and values that the cross-attention reads, before their hook points."""
        if self.cross_attn is None:
            raise TypeError("a block without cross-attention has no memory")
        return self.cross_attn.project(encoded, "K"), self.cross_attn.project(encoded, "V")

    def forward(
        self,
        x: Float[Tensor, "batch pos d"],
        view: View,
        *,
        past: KeyValue | None = None,
        memory: KeyValue | None = None,
        memory_view: View | None = None,
    ) -> tuple[Float[Tensor, "batch pos d"], KeyValue]:
        """The residual stream after the block, and all keys and values of its self-attention so far.

        ``past``: those of earlier positions. ``memory``: the cross-attention's, from the encoder
        (``Attention.project``).
        """
        pre = self.hook_resid_pre(x)
        normed = self.ln1(pre)
        new = [getattr(self.attn, f"hook_{n.lower()}")(self.attn.project(normed, n)) for n in "KV"]
        keys, values = (
            new if past is None else (torch.cat([old, n], 1) for old, n in zip(past, new, strict=True))
        )
        mid = self.hook_resid_mid(pre + self.hook_attn_out(self.attn(normed, keys, values, view)))
        last = self.ln2
        if self.cross_attn is not None and memory is not None and memory_view is not None:
            cross = self.cross_attn
            out = cross(self.ln2(mid), cross.hook_k(memory[0]), cross.hook_v(memory[1]), memory_view)
            mid = self.hook_resid_mid_cross(mid + self.hook_cross_attn_out(out))
            last = self.ln3
        return self.hook_resid_post(mid + self.hook_mlp_out(self.mlp(last(mid)))), (keys, values)
