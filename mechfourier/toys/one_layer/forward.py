"""The last position of a one-layer transformer on all p² questions, from its weights alone.

Keys and values depend on a token and its position only, so all that attention writes is a mix of table rows,
and any linear map of it (the MLP's input, the logits) can be applied to the tables first: p rows in place of
p².
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import einsum, rearrange
from jaxtyping import Float, Int
from torch import Tensor

from mechfourier.toys.forms import Form
from mechfourier.toys.one_layer.weights import OneLayerConfig

Weights = dict[str, Tensor]
ATTN, MLP = "blocks.0.attn.", "blocks.0.mlp."
ACT = {"relu": F.relu, "gelu": F.gelu, "square": torch.square}


def bias(weights: Weights, name: str) -> Tensor | float:
    """The bias of that TransformerLens name, or 0 where the model has none."""
    return weights.get(name, 0.0)


def output_map(weights: Weights) -> Float[Tensor, "m c"]:
    """W_L = W_out W_U: what a neuron writes to every answer."""
    return weights[f"{MLP}W_out"] @ weights["unembed.W_U"]


@dataclass(frozen=True)
class LastPosition:
    """Attention from the last position: ``pattern[head, position, a, b]`` and the rows it mixes.

    ``words``: what stands at each position (`mechfourier.toys.forms.Form`); ``values[i]`` is [token, head, e]
    for the tokens that may stand at position i; ``skip`` is [b or 1, d], what the residual stream holds there
    before attention.
    """

    pattern: Float[Tensor, "head pos a b"]
    values: tuple[Float[Tensor, "_ head e"], ...]
    skip: Float[Tensor, "_ d"]
    weights: Weights
    words: tuple[str, ...]

    def linear(self, readout: Float[Tensor, "d m"]) -> Float[Tensor, "a b m"]:
        """``resid_mid @ readout`` at the last position for every (a, b), without forming ``resid_mid``."""
        w_o = einsum(self.weights[f"{ATTN}W_O"], readout, "head e d, d m -> head e m")
        tables = [einsum(v, w_o, "token head e, head e m -> token head m") for v in self.values]
        parts = {"a": "hab,ahm->abm", "b": "hab,bhm->abm"}
        out = None
        for at, (word, table) in enumerate(zip(self.words, tables, strict=True)):
            rows = table if word in parts else table[0]
            part = torch.einsum(parts.get(word, "hab,hm->abm"), self.pattern[:, at], rows)
            out = part if out is None else out.add_(part)
        assert out is not None
        return out.add_((self.skip + bias(self.weights, f"{ATTN}b_O")) @ readout)


def last_position(weights: Weights, cfg: OneLayerConfig) -> LastPosition:
    """Attention of every question's last position (all positions are visible to it, causal or not)."""
    form, p = cfg.question, cfg.p
    rows = [_rows(weights, form, at) for at in range(len(form.words))]
    query = _project(weights, "Q", rows[-1]) / math.sqrt(cfg.d_head)  # [b, head, e], or one row for "="
    scores = [
        _scores(query, _project(weights, "K", row), word).expand(cfg.n_heads, p, p)
        for word, row in zip(form.words, rows, strict=True)
    ]
    pattern = torch.stack(scores, dim=1).softmax(dim=1)
    if cfg.attn_coeff != 1.0:
        pattern = cfg.attn_coeff * pattern + (1.0 - cfg.attn_coeff)
    values = tuple(_project(weights, "V", row) for row in rows)
    return LastPosition(pattern, values, rows[-1], weights, form.words)


def _rows(weights: Weights, form: Form, at: int) -> Float[Tensor, "token d"]:
    """What the residual stream may hold at position ``at`` before attention."""
    word, embed = form.words[at], weights["embed.W_E"]
    start = {"a": 0, "b": form.offset}.get(word)
    tokens = embed[form.special(word)][None] if start is None else embed[start : start + form.p]
    return tokens + weights["pos_embed.W_pos"][at]


def _scores(
    query: Float[Tensor, "_ head e"], keys: Float[Tensor, "token head e"], word: str
) -> Float[Tensor, "head _ _"]:
    """From every query (one per b, or one for all) to the position of ``word``: [head, a or 1, b or 1]."""
    if word == "a":
        return einsum(query, keys, "b head e, a head e -> head a b")
    if word == "b" and len(query) > 1:  # each b asks about itself
        return rearrange(einsum(query, keys, "b head e, b head e -> head b"), "head b -> head 1 b")
    one, many = (query[0], keys) if word == "b" else (keys[0], query)
    return rearrange(einsum(one, many, "head e, b head e -> head b"), "head b -> head 1 b")


def _project(weights: Weights, name: str, rows: Float[Tensor, "token d"]) -> Float[Tensor, "token head e"]:
    product = einsum(rows, weights[f"{ATTN}W_{name}"], "token d, head d e -> token head e")
    return product + bias(weights, f"{ATTN}b_{name}")


def neurons(last: LastPosition, cfg: OneLayerConfig) -> Float[Tensor, "a b m"]:
    """``blocks.0.mlp.hook_post`` at the last position."""
    pre = last.linear(last.weights[f"{MLP}W_in"])
    pre += bias(last.weights, f"{MLP}b_in")
    return F.relu_(pre) if cfg.act == "relu" else ACT[cfg.act](pre)


def direct_logits(last: LastPosition) -> Float[Tensor, "a b c"]:
    """The part of the logits that does not go through a neuron: attention, the skip path and the biases."""
    unembed = last.weights["unembed.W_U"]
    logits = last.linear(unembed) + bias(last.weights, "unembed.b_U")
    if f"{MLP}b_out" in last.weights:
        logits += last.weights[f"{MLP}b_out"] @ unembed
    return logits


def logits_grid(weights: Weights, cfg: OneLayerConfig) -> Float[Tensor, "a b c"]:
    """Logits at the last position for every (a, b)."""
    last = last_position(weights, cfg)
    return direct_logits(last) + neurons(last, cfg) @ output_map(weights)


def operand_gradients(
    weights: Weights, cfg: OneLayerConfig, triples: Int[Tensor, "triple 3"]
) -> tuple[Float[Tensor, "triple d"], Float[Tensor, "triple d"]]:
    """Gradients of the logit of c with respect to the embeddings of a and of b, for every (a, b, c)."""
    form = cfg.question
    tokens = form.tokens(triples[:, :2])
    embedded = weights["embed.W_E"].detach()[tokens].requires_grad_(True)
    with torch.enable_grad():
        logits = _straightforward(weights, cfg, embedded)
        chosen = logits.gather(1, triples[:, 2:]).sum()
        (gradient,) = torch.autograd.grad(chosen, embedded)
    return gradient[:, form.position("a")], gradient[:, form.position("b")]


def _straightforward(
    weights: Weights, cfg: OneLayerConfig, embedded: Float[Tensor, "question pos d"]
) -> Float[Tensor, "question c"]:
    """Logits at the last position, as a differentiable function of the tokens' embeddings."""
    x = embedded + weights["pos_embed.W_pos"]
    flat = rearrange(x, "question pos d -> (question pos) d")
    k, v = (_project(weights, name, flat).unflatten(0, x.shape[:2]) for name in "KV")
    query = _project(weights, "Q", x[:, -1]) / math.sqrt(cfg.d_head)
    pattern = einsum(query, k, "question head e, question pos head e -> question head pos").softmax(-1)
    pattern = cfg.attn_coeff * pattern + (1.0 - cfg.attn_coeff)
    z = einsum(pattern, v, "question head pos, question pos head e -> question head e")
    mid = x[:, -1] + einsum(z, weights[f"{ATTN}W_O"], "question head e, head e d -> question d")
    mid = mid + bias(weights, f"{ATTN}b_O")
    post = ACT[cfg.act](mid @ weights[f"{MLP}W_in"] + bias(weights, f"{MLP}b_in"))
    out = mid + post @ weights[f"{MLP}W_out"] + bias(weights, f"{MLP}b_out")
    return out @ weights["unembed.W_U"] + bias(weights, "unembed.b_U")
