"""Prompts that begin alike ("January + 3 …", "January + 4 …"): the common beginning is run once, through the keys and
values it leaves behind. What follows it sees the same keys and values as in a whole pass, so the numbers are the same
within float error."""

import inspect
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from mechfourier.hooks.run import device_of, has_hooks, is_bridge

WORTHWHILE = 0.85  # share of the tokens still to be run, above which two passes cost more than they save


@dataclass(frozen=True)
class SharedPrefix:
    """``beginnings``: the distinct first tokens; ``which``: the one that each row of the batch has."""

    beginnings: Int[Tensor, "beginning pos"]
    which: Int[Tensor, " row"]

    @property
    def length(self) -> int:
        return self.beginnings.shape[1]


def can_share(model: Any) -> bool:
    """Whether the model keeps keys and values for later tokens, is causal, and nobody else's hooks are on it (edits
    count positions from the beginning of a whole prompt)."""
    accepts = "past_kv_cache" in inspect.signature(model.forward).parameters and not is_bridge(model)
    return accepts and getattr(model.cfg, "attention_dir", "") == "causal" and not has_hooks(model)


def shared_prefix(tokens: Int[Tensor, "row pos"], before: int) -> SharedPrefix | None:
    """The length of beginning, up to position ``before``, that leaves the fewest tokens to run; None if hardly any less."""
    rows, length = tokens.shape
    best, cost = 0, WORTHWHILE * rows * length
    for size in range(1, min(before, length - 1) + 1):
        distinct = len(torch.unique(tokens[:, :size], dim=0))
        if distinct * size + rows * (length - size) < cost:
            best, cost = size, distinct * size + rows * (length - size)
    if not best:
        return None
    beginnings, which = torch.unique(tokens[:, :best], dim=0, return_inverse=True)
    return SharedPrefix(beginnings, which)


def run_prefix(model: Any, shared: SharedPrefix, *, n_layers: int | None) -> dict[str, Any]:
    """Run the distinct beginnings through the first ``n_layers`` layers (None: all); the options with which the rest of every row
    (``tokens[:, shared.length:]``) is to be run after them."""
    from transformer_lens.cache.key_value_cache import TransformerLensKeyValueCache

    device = device_of(model)
    cache = TransformerLensKeyValueCache.init_cache(model.cfg, device, len(shared.beginnings))
    # Said outright, as TransformerLens would look for padding by token id.
    model(
        shared.beginnings.to(device), past_kv_cache=cache, attention_mask=torch.ones_like(shared.beginnings),
        stop_at_layer=n_layers, return_type=None,
    )  # fmt: skip
    which = shared.which.to(device)
    for entry in cache.entries:
        if entry.past_keys.shape[1]:
            entry.past_keys, entry.past_values = entry.past_keys[which], entry.past_values[which]
    cache.previous_attention_mask = cache.previous_attention_mask[which]
    return {"past_kv_cache": cache}
