"""The straightforward training step: all three positions through the whole model, log-softmax in float64.

This is what the published code for this experiment does (Nanda et al. 2023), and what the fast step is
compared with.
"""

import math

import torch
from einops import einsum, rearrange
from torch import Tensor

Weights = dict[str, Tensor]


def logits(weights: Weights, tokens: Tensor) -> Tensor:
    """Logits ``[batch, pos, p]`` of the one-layer transformer."""
    attn, pos = "blocks.0.attn.", tokens.shape[1]
    residual = weights["embed.W_E"][tokens] + weights["pos_embed.W_pos"][:pos]
    q, k, v = (
        einsum(residual, weights[f"{attn}W_{name}"], "batch pos d, head d e -> batch pos head e")
        for name in "QKV"
    )
    scores = einsum(q, k, "batch query head e, batch key head e -> batch head query key") / math.sqrt(
        q.shape[-1]
    )
    hidden = ~torch.ones(pos, pos, dtype=torch.bool, device=tokens.device).tril()
    pattern = scores.masked_fill(hidden, -math.inf).softmax(dim=-1)
    z = einsum(pattern, v, "batch head query key, batch key head e -> batch query head e")
    z = rearrange(z, "batch query head e -> batch query (head e)")
    residual = residual + z @ rearrange(weights[f"{attn}W_O"], "head e d -> (head e) d")
    post = torch.relu(residual @ weights["blocks.0.mlp.W_in"])
    return (residual + post @ weights["blocks.0.mlp.W_out"]) @ weights["unembed.W_U"]


def loss(weights: Weights, tokens: Tensor, answers: Tensor) -> Tensor:
    """Mean cross-entropy at the last position."""
    log_probs = logits(weights, tokens)[:, -1].double().log_softmax(dim=-1)
    return -log_probs.gather(1, answers[:, None]).mean()
