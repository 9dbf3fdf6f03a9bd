"""One trained network in the layouts of other people's code, and a small exact one."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from einops import rearrange
from torch import Tensor

from mechfourier.fourier.analytic import analytic_weights
from mechfourier.models.checkpoint import load_checkpoint
from mechfourier.models.registry import resolve

P, A, M = 13, "blocks.0.attn.", "blocks.0.mlp."
SIZES: dict[str, Any] = {"d_model": 32, "n_heads": 4, "d_head": 8, "d_mlp": 48}
State = dict[str, Tensor]


def packaged() -> State:
    """The packaged one-layer network (p = 113)."""
    return load_checkpoint(resolve("one-layer"))[0]


def small_network(p: int = P, n_ctx: int = 3, **sizes: Any) -> State:
    """The weights of a network that adds by construction."""
    exact = analytic_weights(p, frequencies=(2, 5), n_ctx=n_ctx, **(SIZES | sizes))
    return {name: value.float() for name, value in exact.items()}


def saved(state: object, path: Path) -> Path:
    torch.save(state, path)
    return path


def _joined(w: State, x: str) -> Tensor:
    """[h·e, d], as nn.Linear keeps it."""
    return rearrange(w[f"{A}W_{x}"], "h d e -> (h e) d")


def _out(w: State) -> Tensor:
    return rearrange(w[f"{A}W_O"], "h e d -> d (h e)")


def hooked(w: State) -> State:
    return dict(w)


def grokking_fourier(w: State) -> State:
    return {
        "token_embed.weight": w["embed.W_E"],
        "pos_embed.weight": w["pos_embed.W_pos"],
        **{f"W_{x}": w[f"{A}W_{x}"] for x in "QKVO"},
        "W_in.weight": w[f"{M}W_in"].T,
        "W_out.weight": w[f"{M}W_out"].T,
        "unembed.weight": w["unembed.W_U"].T,
    }


def progress_measures(w: State) -> State:
    unembed = w["unembed.W_U"]
    return {
        "embed.W_E": w["embed.W_E"].T,
        "pos_embed.W_pos": w["pos_embed.W_pos"],
        "unembed.W_U": torch.cat([unembed, unembed[:, :1] * 0 - 9], 1),
        **{f"{A}W_{x}": w[f"{A}W_{x}"].mT for x in "QKV"},
        f"{A}W_O": _out(w),
        f"{A}mask": torch.ones(3, 3).tril(),
        f"{M}W_in": w[f"{M}W_in"].T,
        f"{M}W_out": w[f"{M}W_out"].T,
    }


def linear(w: State) -> State:
    """Plain nn.Linear, one for each of q, k and v."""
    return {
        "tok_emb.weight": w["embed.W_E"],
        "pos_emb.weight": w["pos_embed.W_pos"],
        **{f"attn.W{x.lower()}.weight": _joined(w, x) for x in "QKV"},
        "attn.Wo.weight": _out(w),
        "mlp.0.weight": w[f"{M}W_in"].T,
        "mlp.2.weight": w[f"{M}W_out"].T,
        "head.weight": w["unembed.W_U"].T,
    }


def projections(w: State) -> State:
    return {
        "embedding.weight": w["embed.W_E"],
        "positional_embedding": w["pos_embed.W_pos"],
        **{f"layers.0.attention.{x.lower()}_proj.weight": _joined(w, x) for x in "QKV"},
        "layers.0.attention.o_proj.weight": _out(w),
        "layers.0.ffn.fc1.weight": w[f"{M}W_in"].T,
        "layers.0.ffn.fc2.weight": w[f"{M}W_out"].T,
        "lm_head.weight": w["unembed.W_U"].T,
    }


def fused(w: State) -> State:
    found: Any = {
        "model": {
            "module.token_embedding.weight": w["embed.W_E"],
            "module.position_embedding.weight": w["pos_embed.W_pos"],
            "module.block.qkv_proj.weight": torch.cat([_joined(w, x) for x in "QKV"]),
            "module.block.out_proj.weight": _out(w),
            "module.block.linear1.weight": w[f"{M}W_in"].T,
            "module.block.linear2.weight": w[f"{M}W_out"].T,
            "module.unembed.weight": w["unembed.W_U"].T,
        },
        "epoch": 7,
    }
    return found


def fused_by_head(w: State) -> State:
    """q, k and v of each head together, as GPT-NeoX keeps them."""
    stacked = torch.stack([w[f"{A}W_{x}"] for x in "QKV"])  # [three, head, d, e]
    return {
        "gpt_neox.embed_in.weight": w["embed.W_E"],
        "gpt_neox.pos.weight": w["pos_embed.W_pos"],
        "gpt_neox.layers.0.attention.query_key_value.weight": rearrange(
            stacked, "three h d e -> (h three e) d"
        ),
        "gpt_neox.layers.0.attention.dense.weight": _out(w),
        "gpt_neox.layers.0.mlp.dense_h_to_4h.weight": w[f"{M}W_in"].T,
        "gpt_neox.layers.0.mlp.dense_4h_to_h.weight": w[f"{M}W_out"].T,
        "embed_out.weight": w["unembed.W_U"].T,
    }


def encoder_layer(w: State) -> State:
    """nn.TransformerEncoderLayer with its norms replaced by nn.Identity."""
    layer: Any = torch.nn.TransformerEncoderLayer(128, 4, 512, dropout=0.0, bias=True, batch_first=True)
    layer.norm1 = layer.norm2 = torch.nn.Identity()
    with torch.no_grad():
        layer.self_attn.in_proj_weight.copy_(torch.cat([_joined(w, x) for x in "QKV"]))
        layer.self_attn.out_proj.weight.copy_(_out(w))
        layer.linear1.weight.copy_(w[f"{M}W_in"].T)
        layer.linear2.weight.copy_(w[f"{M}W_out"].T)
        for name, parameter in layer.named_parameters():
            if name.endswith("bias"):
                parameter.zero_()
    inside = {f"transformer.layers.0.{name}": value for name, value in layer.state_dict().items()}
    return {
        "embed.weight": w["embed.W_E"],
        "pos.weight": w["pos_embed.W_pos"],
        **inside,
        "fc.weight": w["unembed.W_U"].T,
    }


def gpt2(w: State) -> State:
    """Hugging Face's GPT-2 with its norms replaced: Conv1D keeps [in, out]."""
    return {
        "transformer.wte.weight": w["embed.W_E"],
        "transformer.wpe.weight": w["pos_embed.W_pos"],
        "transformer.h.0.attn.bias": torch.ones(1, 1, 3, 3).tril(),
        "transformer.h.0.attn.masked_bias": torch.tensor(-1e4),
        "transformer.h.0.attn.c_attn.weight": torch.cat([_joined(w, x) for x in "QKV"]).T,
        "transformer.h.0.attn.c_attn.bias": torch.zeros(384),
        "transformer.h.0.attn.c_proj.weight": _out(w).T,
        "transformer.h.0.attn.c_proj.bias": torch.zeros(128),
        "transformer.h.0.mlp.c_fc.weight": w[f"{M}W_in"],
        "transformer.h.0.mlp.c_fc.bias": torch.zeros(512),
        "transformer.h.0.mlp.c_proj.weight": w[f"{M}W_out"],
        "transformer.h.0.mlp.c_proj.bias": torch.zeros(128),
        "lm_head.weight": torch.cat([w["unembed.W_U"].T, torch.full((1, 128), -0.01)]),
    }


def bert(w: State) -> State:
    layer = "bert.encoder.layer.0."
    return {
        "bert.embeddings.word_embeddings.weight": w["embed.W_E"],
        "bert.embeddings.position_embeddings.weight": w["pos_embed.W_pos"],
        **{
            f"{layer}attention.self.{name}.weight": _joined(w, x)
            for x, name in zip("QKV", ("query", "key", "value"), strict=True)
        },
        f"{layer}attention.output.dense.weight": _out(w),
        f"{layer}intermediate.dense.weight": w[f"{M}W_in"].T,
        f"{layer}output.dense.weight": w[f"{M}W_out"].T,
        "cls.predictions.decoder.weight": w["unembed.W_U"].T,
    }


def with_copies(w: State) -> State:
    """Exact copies of the embedding, as published files carry them."""
    return progress_measures(w) | {"x_embed": w["embed.W_E"].T.clone(), "y_embed": w["embed.W_E"].clone()}


def nanogpt(w: State) -> State:
    """The names of GPT-2 with nn.Linear, compiled."""
    state = {
        "wte.weight": w["embed.W_E"],
        "wpe.weight": w["pos_embed.W_pos"],
        "h.0.attn.c_attn.weight": torch.cat([_joined(w, x) for x in "QKV"]),
        "h.0.attn.c_proj.weight": _out(w),
        "h.0.mlp.c_fc.weight": w[f"{M}W_in"].T,
        "h.0.mlp.c_proj.weight": w[f"{M}W_out"].T,
    }
    return {f"_orig_mod.transformer.{name}": value for name, value in state.items()} | {
        "_orig_mod.lm_head.weight": w["unembed.W_U"].T
    }


def flax(w: State) -> State:
    names = zip("QKV", ("query", "key", "value"), strict=True)
    heads = {f"params/block_0/attention/{name}/kernel": w[f"{A}W_{x}"].permute(1, 0, 2) for x, name in names}
    return {
        "params/Embed_0/embedding": w["embed.W_E"],
        "params/pos_embedding": w["pos_embed.W_pos"],
        **heads,
        "params/block_0/attention/out/kernel": w[f"{A}W_O"],
        "params/block_0/mlp/Dense_0/kernel": w[f"{M}W_in"],
        "params/block_0/mlp/Dense_1/kernel": w[f"{M}W_out"],
        "params/head/kernel": w["unembed.W_U"],
    }


def stacked(w: State) -> State:
    """Bare parameters, q, k and v along an axis of three."""
    return {
        "embed": w["embed.W_E"],
        "pos": w["pos_embed.W_pos"],
        "W_QKV": torch.stack([w[f"{A}W_{x}"] for x in "QKV"]),
        "W_O": w[f"{A}W_O"],
        "W_1": w[f"{M}W_in"],
        "W_2": w[f"{M}W_out"],
        "W_U": w["unembed.W_U"],
    }


LAYOUTS: dict[str, Callable[[State], State]] = {
    "hooked-transformer": hooked,
    "grokking-fourier": grokking_fourier,
    "progress-measures": progress_measures,
    "linear": linear,
    "projections": projections,
    "fused": fused,
    "fused by head": fused_by_head,
    "encoder-layer": encoder_layer,
    "gpt2": gpt2,
    "bert": bert,
    "nanogpt": nanogpt,
    "flax": flax,
    "stacked": stacked,
    "copies": with_copies,
}


def respelled(w: State, seed: int) -> State:
    """A layout drawn at random with names that say nothing, in another order, and some tensors transposed."""
    generator = torch.Generator().manual_seed(seed)
    name = list(LAYOUTS)[int(torch.randint(0, len(LAYOUTS) - 1, (1,), generator=generator))]
    state = LAYOUTS[name](w)
    state = state.get("model", state)  # type: ignore[assignment]
    out: State = {}
    for at in torch.randperm(len(state), generator=generator).tolist():
        tensor = list(state.values())[at]
        if tensor.ndim == 2 and torch.rand(1, generator=generator) < 0.3:
            tensor = tensor.T.contiguous()
        elif tensor.ndim == 3 and torch.rand(1, generator=generator) < 0.3:
            tensor = tensor.permute(*torch.randperm(3, generator=generator).tolist()).contiguous()
        out[f"p{int(torch.randint(0, 10**6, (1,), generator=generator))}"] = tensor
    return out
