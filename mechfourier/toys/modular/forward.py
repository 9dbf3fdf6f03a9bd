"""The forward pass of `ModularConfig` networks as a function of their weights, with a hook at every point."""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from einops import einsum
from jaxtyping import Float, Int
from torch import Tensor

from mechfourier.toys.modular.config import ModularConfig

Weights = dict[str, Tensor]
Hook = Callable[[str, Tensor], Tensor]
ACT: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": F.relu,
    "gelu": F.gelu,
    "gelu_new": lambda x: F.gelu(x, approximate="tanh"),
    "square": torch.square,
    "tanh": torch.tanh,
    "silu": F.silu,
    "sigmoid": torch.sigmoid,
    "linear": lambda x: x,
}


def no_hook(_name: str, value: Tensor) -> Tensor:
    """Leave every activation as it is."""
    return value


def residual(
    cfg: ModularConfig,
    weights: Weights,
    tokens: Int[Tensor, "batch pos"],
    hook: Hook = no_hook,
    *,
    only_last: bool = False,
) -> Float[Tensor, "batch kept d"]:
    """What the unembedding reads at every position; ``only_last``: the MLP of the last block at the last one
    only (which is all that is then right)."""
    embed = hook("hook_embed", weights["embed.W_E"][tokens])
    positions = weights["pos_embed.W_pos"][: tokens.shape[1]].expand(*tokens.shape, -1).clone()
    x = embed + hook("hook_pos_embed", positions)
    if cfg.widths:
        x = x.cumsum(1)  # at b: the sum of both operands
    for layer in range(cfg.n_layers):
        last = only_last and cfg.pool == "last" and layer == cfg.n_layers - 1
        x = _chain(cfg, weights, layer, x, hook) if cfg.widths else _block(cfg, weights, layer, x, hook, last)
    if cfg.pool != "last":
        pooled = x.mean(1, keepdim=True) if cfg.pool == "mean" else x[:, :1]
        x = hook("hook_pooled", pooled.expand_as(x))
    return _norm(cfg, weights, "ln_final", x, hook) if cfg.final_norm else x


def logits(
    cfg: ModularConfig, weights: Weights, tokens: Int[Tensor, "batch pos"], hook: Hook = no_hook
) -> Float[Tensor, "batch kept p"]:
    """Logits at every position that the hooks keep (only the last is trained)."""
    inside = hook("unembed.hook_in", residual(cfg, weights, tokens, hook))
    return hook("unembed.hook_out", inside @ weights["unembed.W_U"] + weights["unembed.b_U"])


def last_logits(
    cfg: ModularConfig, weights: Weights, tokens: Int[Tensor, "batch pos"]
) -> Float[Tensor, "batch p"]:
    """Logits at the last position, the quick way."""
    inside = residual(cfg, weights, tokens, only_last=True)[:, -1]
    return inside @ weights["unembed.W_U"] + weights["unembed.b_U"]


def points(cfg: ModularConfig) -> list[str]:
    """The names of the hook points, in the order in which they fire."""
    found = ["hook_embed", "hook_pos_embed"]
    for layer in range(cfg.n_layers):
        block = f"blocks.{layer}."
        attn, mlp = cfg.attention != "none" and not cfg.widths, bool(cfg.d_mlp or cfg.widths)
        found.append(f"{block}hook_resid_pre")
        if attn:
            found += [f"{block}ln1.hook_normalized"] * (cfg.norm != "none")
            found += [f"{block}attn.hook_{x}" for x in ("q", "k", "v", "attn_scores", "pattern", "z")]
            found += [f"{block}hook_attn_out", f"{block}hook_resid_mid"]
        if mlp:
            found += [f"{block}ln2.hook_normalized"] * (cfg.norm != "none")
            found += [
                f"{block}mlp.hook_pre",
                *[f"{block}mlp.hook_pre_linear"] * cfg.gated,
                f"{block}mlp.hook_post",
            ]
            found += [] if cfg.widths else [f"{block}hook_mlp_out"]
        found.append(f"{block}hook_resid_post")
    found += ["hook_pooled"] * (cfg.pool != "last") + ["ln_final.hook_normalized"] * cfg.final_norm
    return [*found, "unembed.hook_in", "unembed.hook_out"]


def _chain(cfg: ModularConfig, weights: Weights, layer: int, x: Tensor, hook: Hook) -> Tensor:
    block = f"blocks.{layer}."
    x = hook(f"{block}hook_resid_pre", x)
    pre = hook(f"{block}mlp.hook_pre", x @ weights[f"{block}mlp.W_in"] + weights[f"{block}mlp.b_in"])
    return hook(f"{block}hook_resid_post", hook(f"{block}mlp.hook_post", ACT[cfg.act](pre)))


def _block(
    cfg: ModularConfig, weights: Weights, layer: int, x: Tensor, hook: Hook, only_last: bool = False
) -> Tensor:
    block = f"blocks.{layer}."
    x = hook(f"{block}hook_resid_pre", x)
    parts: list[tuple[str, str, str]] = []
    if cfg.attention != "none":
        parts.append(("ln1", "hook_attn_out", "hook_resid_mid"))
    if cfg.d_mlp:
        parts.append(("ln2", "hook_mlp_out", ""))
    for name, out, after in parts:
        inside = _norm(cfg, weights, f"{block}{name}", x, hook) if cfg.norm == "pre" else x
        run = _attend if name == "ln1" else _mlp
        x = x + hook(f"{block}{out}", run(cfg, weights, block, inside, hook))
        x = _norm(cfg, weights, f"{block}{name}", x, hook) if cfg.norm == "post" else x
        x = hook(f"{block}{after}", x) if after else x
        x = x[:, -1:] if only_last else x
    return hook(f"{block}hook_resid_post", x)


def _norm(cfg: ModularConfig, weights: Weights, name: str, x: Tensor, hook: Hook) -> Tensor:
    """`hook_normalized` is after the norm's own weights."""
    if not cfg.rms:
        x = x - x.mean(-1, keepdim=True)
    x = x / (x.square().mean(-1, keepdim=True) + cfg.eps).sqrt()
    x = x * weights[f"{name}.w"] if f"{name}.w" in weights else x
    x = x + weights[f"{name}.b"] if f"{name}.b" in weights else x
    return hook(f"{name}.hook_normalized", x)


def _attend(cfg: ModularConfig, weights: Weights, block: str, x: Tensor, hook: Hook) -> Tensor:
    q, k, v = (
        hook(
            f"{block}attn.hook_{name.lower()}",
            einsum(x, weights[f"{block}attn.W_{name}"], "batch pos d, head d e -> batch pos head e")
            + weights[f"{block}attn.b_{name}"],
        )
        for name in "QKV"
    )
    q, k = (_turned(q), _turned(k)) if cfg.rotary else (q, k)
    scores = einsum(q, k, "batch query head e, batch key head e -> batch head query key") / math.sqrt(
        cfg.d_head
    )
    visible = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool, device=x.device)
    hidden = ~visible.tril() if cfg.causal else ~visible
    softmax = cfg.attention == "softmax"
    scores = hook(f"{block}attn.hook_attn_scores", scores.masked_fill(hidden, -math.inf if softmax else 0.0))
    pattern = scores.softmax(-1) if softmax else scores
    if cfg.attn_coeff != 1.0:
        pattern = cfg.attn_coeff * pattern + (1.0 - cfg.attn_coeff)
    pattern = hook(f"{block}attn.hook_pattern", pattern)
    z = hook(
        f"{block}attn.hook_z",
        einsum(pattern, v, "batch head query key, batch key head e -> batch query head e"),
    )
    out = einsum(z, weights[f"{block}attn.W_O"], "batch pos head e, head e d -> batch pos d")
    return out + weights[f"{block}attn.b_O"]


def _mlp(cfg: ModularConfig, weights: Weights, block: str, x: Tensor, hook: Hook) -> Tensor:
    mlp = f"{block}mlp."
    into = x @ weights[f"{mlp}W_in"]
    if cfg.gated:
        pre = hook(f"{mlp}hook_pre", x @ weights[f"{mlp}W_gate"])
        post = ACT[cfg.act](pre) * hook(f"{mlp}hook_pre_linear", into) + weights[f"{mlp}b_in"]
    else:
        post = ACT[cfg.act](hook(f"{mlp}hook_pre", into + weights[f"{mlp}b_in"]))
    return hook(f"{mlp}hook_post", post) @ weights[f"{mlp}W_out"] + weights[f"{mlp}b_out"]


def _turned(x: Float[Tensor, "batch pos head e"]) -> Float[Tensor, "batch pos head e"]:
    """Dimensions i and i + e/2 turned by position · 10000^(−2i/e) (Su et al. 2021)."""
    half = x.shape[-1] // 2
    rates = 10000 ** (-torch.arange(half, device=x.device, dtype=x.dtype) / half)
    angle = (torch.arange(x.shape[1], device=x.device, dtype=x.dtype)[:, None] * rates)[None, :, None, :]
    one, other = x[..., :half], x[..., half : 2 * half]
    turned = [one * angle.cos() - other * angle.sin(), other * angle.cos() + one * angle.sin()]
    return torch.cat([*turned, x[..., 2 * half :]], -1)
