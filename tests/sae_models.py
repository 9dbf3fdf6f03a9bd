"""A small untrained model with a task of its own, and dictionaries whose features are known."""

import math
from pathlib import Path
from typing import Any

import torch
from sae_lens import StandardSAE, StandardSAEConfig
from torch import Tensor

from mechfourier.sae.load import LoadedDictionary
from mechfourier.sae.shards import Shards
from mechfourier.toys.one_layer.model import OneLayerConfig, OneLayerTransformer

MLP = "blocks.0.mlp.hook_post"


def tiny_model(p: int = 23) -> OneLayerTransformer:
    return OneLayerTransformer(
        OneLayerConfig(p=p, d_model=16, n_heads=2, d_head=8, d_mlp=24, model_name="tiny"), seed=5
    )


def stored(folder: Path, acts: Tensor, *, site: str = MLP, parts: int = 3, seed: int = 0) -> Shards:
    shards = Shards(folder, (site,), (acts.shape[1],), seed)
    return shards.keep({site: part} for part in acts.chunk(parts))


def dictionary_of(
    directions: Tensor, *, bias: float = 0.0, made: dict[str, Any] | None = None
) -> LoadedDictionary:
    """A dictionary that fires where an activation reaches beyond ``bias`` along one of these unit
    directions."""
    sae = StandardSAE(
        StandardSAEConfig(d_in=directions.shape[1], d_sae=len(directions), apply_b_dec_to_input=False)
    )
    with torch.no_grad():
        sae.W_dec.copy_(directions)
        sae.W_enc.copy_(directions.T)
        sae.b_enc.fill_(-bias)
        sae.b_dec.zero_()
    sae.cfg.metadata.hook_name = MLP
    return LoadedDictionary("planted", sae.eval(), made or {})


def orthonormal(d: int, count: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.linalg.qr(torch.randn(d, count, generator=generator)).Q.T


def circle(n: int, plane: Tensor, k: int = 1) -> Tensor:
    """n unit vectors that turn k times in ``plane`` [2, d]."""
    angle = 2 * math.pi * k * torch.arange(n) / n
    return torch.stack([angle.cos(), angle.sin()], 1) @ plane
