"""Keys and values that several continuations of the same tokens grow from, in either engine."""

import copy
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from mechfourier.hooks.run import device_of, forward, is_bridge
from mechfourier.models.interface import Model


def empty_cache(model: Model, count: int) -> Any:
    """No keys and values yet, for ``count`` rows."""
    from transformer_lens.cache.key_value_cache import TransformerLensKeyValueCache

    return TransformerLensKeyValueCache.init_cache(model.cfg, device_of(model), count)


def numbers_per_token(model: Any) -> int:
    """Numbers in the keys and values of one token, in all blocks."""
    cfg = model.cfg
    heads = getattr(cfg, "n_key_value_heads", None) or getattr(cfg, "n_heads", None) or 1
    return 2 * getattr(cfg, "n_layers", 1) * heads * (getattr(cfg, "d_head", None) or 64)


def fork(model: Model, cache: Any, index: Int[Tensor, " row"] | None = None) -> Any:
    """A cache of its own with the rows ``index`` of ``cache`` (None: all).

    Its tensors are replaced when it grows, never changed.
    """
    fresh = empty_cache(model, 0)
    for new, old in zip(fresh.entries, cache.entries, strict=True):
        held = index is not None and old.past_keys.shape[1] > 0
        new.past_keys = old.past_keys[index] if held else old.past_keys
        new.past_values = old.past_values[index] if held else old.past_values
    fresh.previous_attention_mask = cache.previous_attention_mask
    return fresh


def no_cache(model: Any, rows: int) -> Any:
    """No keys and values yet, for ``rows`` rows of either engine."""
    if not is_bridge(model):
        return empty_cache(model, rows)
    from transformers import DynamicCache

    return DynamicCache(config=model.original_model.config)


def take(model: Any, cache: Any, index: Int[Tensor, " row"] | None) -> Any:
    """A cache of its own with the rows ``index`` of ``cache`` (None: all), of either engine."""
    if is_bridge(model):
        own = copy.deepcopy(cache)
        if index is not None:
            own.batch_select_indices(index.to(device_of(model)))
        return own
    index = None if index is None else index.to(device_of(model))
    own = fork(model, cache, index)
    if index is not None:
        own.previous_attention_mask = own.previous_attention_mask[index]
    return own


def grown(model: Any, tokens: Int[Tensor, "row pos"], cache: Any, **options: Any) -> Any:
    """What the model returns for tokens that follow those in ``cache``; theirs are added to it. ``options``:
    of a HookedTransformer."""
    if is_bridge(model):
        return forward(model, tokens, past_key_values=cache, use_cache=True)
    # Said outright, as TransformerLens would look for padding by token id.
    mask = torch.ones_like(tokens, device=device_of(model))
    return forward(model, tokens, past_kv_cache=cache, attention_mask=mask, **options)
