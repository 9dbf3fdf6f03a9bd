"""Small models with random weights that the tests of the hook layer share (built once per process)."""

import functools
import types
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mechfourier.hooks import capture
from mechfourier.hooks.site import Site
from mechfourier.models.pretrained import HAS_HOOKED

if not HAS_HOOKED:
    pytest.skip(
        "these models are HookedTransformers, which left TransformerLens in 4.0", allow_module_level=True
    )

from transformer_lens import HookedEncoder, HookedRootModule, HookedTransformer, HookedTransformerConfig
from transformer_lens.hook_points import HookPoint

VOCAB, D_MODEL, N_LAYERS, N_HEADS = 50, 16, 3, 4
_COMMON: dict[str, Any] = {
    "n_layers": N_LAYERS,
    "d_model": D_MODEL,
    "n_ctx": 32,
    "d_head": 4,
    "n_heads": N_HEADS,
    "d_mlp": 32,
    "d_vocab": VOCAB,
    "device": "cpu",
    "seed": 0,
}


@functools.cache
def transformer() -> HookedTransformer:
    """Qwen3's architecture: rotary positions, grouped keys, query and key norms, gated MLP."""
    torch.manual_seed(0)
    config = HookedTransformerConfig(
        **_COMMON,
        n_key_value_heads=2,
        positional_embedding_type="rotary",
        rotary_dim=4,
        gated_mlp=True,
        normalization_type="RMS",
        act_fn="silu",
        use_qk_norm=True,
    )
    return HookedTransformer(config)


@functools.cache
def gpt() -> HookedTransformer:
    """GPT-2's architecture: learned positions, layer norm."""
    return HookedTransformer(HookedTransformerConfig(**_COMMON, act_fn="gelu", normalization_type="LN"))


@functools.cache
def encoder() -> HookedEncoder:
    """BERT's architecture. TransformerLens leaves its weights as the memory was: they are drawn here."""
    model = HookedEncoder(HookedTransformerConfig(**_COMMON, act_fn="gelu", normalization_type="LN")).eval()
    generator = torch.Generator().manual_seed(3)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.3, generator=generator)
    return model


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.Linear(D_MODEL, D_MODEL)
        self.hook_resid_pre, self.hook_resid_post = HookPoint(), HookPoint()

    def forward(self, x: Tensor) -> Tensor:
        x = self.hook_resid_pre(x)
        steps = torch.arange(1, x.shape[1] + 1)[:, None]
        return self.hook_resid_post(x + torch.tanh(self.mix(x.cumsum(1) / steps)))


class Toy(HookedRootModule):
    """A causal model of one's own: two blocks that mix the running mean; never uses ``hook_unused``."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.cfg: Any = types.SimpleNamespace(n_layers=2, d_model=D_MODEL, d_vocab=VOCAB, n_ctx=32)
        self.mechfourier_name = "toy"
        self.embed, self.head = nn.Embedding(VOCAB, D_MODEL), nn.Linear(D_MODEL, VOCAB)
        self.blocks = nn.ModuleList([Block(), Block()])
        self.hook_embed, self.hook_unused, self.hook_pool = HookPoint(), HookPoint(), HookPoint()
        self.blocks_run = 0
        self.setup()

    def to_tokens(self, prompts: Any) -> Tensor:
        return torch.as_tensor(prompts)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.hook_embed(self.embed(tokens))
        for block in self.blocks:
            self.blocks_run += 1
            x = block(x)
        self.hook_pool(x.mean(1))
        return self.head(x)


@functools.cache
def toy() -> Toy:
    return Toy()


def bridge(folder: Path) -> Any:
    """A TransformerBridge around a small random Qwen3 written to ``folder``."""
    from transformer_lens.model_bridge import TransformerBridge
    from transformers import Qwen3Config, Qwen3ForCausalLM

    config = Qwen3Config(
        vocab_size=VOCAB,
        hidden_size=D_MODEL,
        intermediate_size=32,
        num_hidden_layers=N_LAYERS,
        num_attention_heads=N_HEADS,
        num_key_value_heads=2,
        head_dim=8,
        max_position_embeddings=32,
        tie_word_embeddings=True,
    )
    torch.manual_seed(2)
    Qwen3ForCausalLM(config).save_pretrained(folder)
    return TransformerBridge.boot_transformers(str(folder), device="cpu")


def tokens(n: int, length: int, seed: int = 0) -> Tensor:
    return torch.randint(0, VOCAB, (n, length), generator=torch.Generator().manual_seed(seed))


# where the tests of interventions edit, and what they ask
SITE = Site("resid_post", 1)
IDS = tokens(6, 5)


def basis(r: int, seed: int = 0, d: int = D_MODEL) -> Tensor:
    """Random orthonormal columns."""
    return torch.linalg.qr(torch.randn(d, r, generator=torch.Generator().manual_seed(seed))).Q


def read(model: Any, ids: Tensor, site: Site = SITE, positions: Any = "all") -> Tensor:
    """The activations at one site."""
    return capture(model, ids, site, positions)[site]


def close(found: Tensor, expected: Tensor, tolerance: float = 1e-5) -> None:
    """Equal but for rounding."""
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)
