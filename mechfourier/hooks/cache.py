"""Keys and values of a HookedTransformer that several continuations of the same tokens grow from."""

from typing import Any

from jaxtyping import Int
from torch import Tensor

from mechfourier.models.interface import Model
from mechfourier.hooks.run import device_of


def empty_cache(model: Model, count: int) -> Any:
    """No keys and values yet, for ``count`` rows."""
    from transformer_lens.cache.key_value_cache import TransformerLensKeyValueCache

    return TransformerLensKeyValueCache.init_cache(model.cfg, device_of(model), count)


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
