"""Prompts that begin alike ("January + 3 …", "January + 4 …"): the common beginning is run once, through the
keys and values it leaves behind. What follows it sees the same keys and values as in a whole pass, so the
numbers are the same within float error."""

import contextlib
import inspect
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from mechfourier.hooks.packing import Beginnings, Pack
from mechfourier.hooks.run import StopForward, device_of, forward, has_hooks, hooked, is_bridge
from mechfourier.hooks.site import Site
from mechfourier.models.interface import Model
from mechfourier.models.weights import root_of

WORTHWHILE = 0.85  # share of the tokens still to be run, above which two passes cost more than they save


@dataclass(frozen=True)
class SharedPrefix:
    """``beginnings``: the distinct first tokens; ``which``: the one that each row of the batch has."""

    beginnings: Int[Tensor, "beginning pos"]
    which: Int[Tensor, " row"]

    @property
    def length(self) -> int:
        return self.beginnings.shape[1]


def can_share(model: Model, *, alike: bool = False) -> bool:
    """Whether the model keeps keys and values for later tokens, is causal, and nobody else's hooks are on it
    (edits count positions from the beginning of a whole prompt; ``alike`` allows those that count none)."""
    accepts = "past_kv_cache" in inspect.signature(model.forward).parameters and not is_bridge(model)
    return (
        accepts
        and getattr(model.cfg, "attention_dir", "") == "causal"
        and not has_hooks(model, besides_alike=alike)
    )


def shared_prefix(tokens: Int[Tensor, "row pos"], before: int) -> SharedPrefix | None:
    """The length of beginning, up to position ``before``, that leaves the fewest tokens to run; None if
    hardly any less."""
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


def can_pack(model: Model, *, alike: bool = False) -> bool:
    """Whether prompts may be cut after the last position that is read, and padded: the model is causal and
    nobody else's hooks are on it (``alike`` allows those that count no positions). Whether that is so in truth is
    seen by ``capture``, which runs one prompt alone as well."""
    if has_hooks(model, besides_alike=alike) or getattr(model.cfg, "attention_dir", "causal") != "causal":
        return False
    if not is_bridge(model):
        return "past_kv_cache" in inspect.signature(model.forward).parameters
    config = getattr(getattr(model, "original_model", None), "config", None)
    encoder = getattr(config, "is_encoder_decoder", False)
    return bool(getattr(getattr(model, "adapter", None), "supports_causal_loss", False)) and not encoder


def shortest_window(model: Model) -> float:
    """Tokens that the layer with the shortest attention window looks back to; infinite without windows."""
    config = getattr(getattr(model, "original_model", None), "config", None)
    text = getattr(config, "text_config", None) or config
    sizes = [getattr(text, "sliding_window", None), getattr(text, "attention_chunk_size", None)]
    sizes.append(getattr(model.cfg, "window_size", None))
    return min((size for size in sizes if isinstance(size, int) and size > 0), default=float("inf"))


def pass_options(model: Model, pack: Pack, *, n_layers: int | None) -> dict[str, Any]:
    """With which options the tokens of ``pack`` are to be run: their padding, and what their beginnings left
    behind, which are run here through the first ``n_layers`` layers (None: all)."""
    begin = pack.beginnings
    if begin is None:
        # Said outright, as TransformerLens would look for padding by token id. A bridge leaves a causal
        # model's padding to it.
        return {} if is_bridge(model) else {"attention_mask": pack.mask}
    run = _bridge_cache if is_bridge(model) else _hooked_cache
    return run(model, pack, begin, begin.which.to(device_of(model)), n_layers)


def _hooked_cache(
    model: Model, pack: Pack, begin: Beginnings, which: Int[Tensor, " line"], n_layers: int | None
) -> dict[str, Any]:
    from transformer_lens.cache.key_value_cache import TransformerLensKeyValueCache

    device = device_of(model)
    cache = TransformerLensKeyValueCache.init_cache(model.cfg, device, len(begin.tokens))
    model(
        begin.tokens.to(device),
        past_kv_cache=cache,
        attention_mask=begin.mask.to(device),
        stop_at_layer=n_layers,
        return_type=None,
    )
    for entry in cache.entries:
        if entry.past_keys.shape[1]:
            entry.past_keys, entry.past_values = entry.past_keys[which], entry.past_values[which]
    cache.previous_attention_mask = cache.previous_attention_mask[which]
    return {"past_kv_cache": cache, "attention_mask": pack.mask.to(device)}


def _bridge_cache(
    model: Model, pack: Pack, begin: Beginnings, which: Int[Tensor, " line"], n_layers: int | None
) -> dict[str, Any]:
    from transformers import DynamicCache

    device = device_of(model)
    cache = DynamicCache(config=root_of(model).config)
    with stopping_after(model, n_layers):
        forward(
            model, begin.tokens, attention_mask=begin.mask.to(device), past_key_values=cache, use_cache=True
        )
    cache.batch_select_indices(which)
    mask = torch.cat([begin.mask[begin.which], pack.mask], dim=1).to(device)
    return {"attention_mask": mask, "past_key_values": cache, "use_cache": True}


@contextlib.contextmanager
def stopping_after(model: Model, n_layers: int | None) -> Iterator[None]:
    """End forward passes after that many layers (None: all), before the unembedding, where the model shows
    that point."""
    last = Site("resid_post", (int(model.cfg.n_layers) if n_layers is None else n_layers) - 1)

    def stop(value: Tensor) -> None:
        raise StopForward

    with hooked(model, [(last, stop)] if str(last) in model.hook_dict else []):
        yield
