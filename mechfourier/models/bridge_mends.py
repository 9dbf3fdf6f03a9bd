"""What TransformerLens's bridges get wrong, mended in place; the self-check at load refuses what is not
mended."""

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

POINTS = "_mechfourier_hook_points"
# Rotate pairs (2i, 2i + 1); the bridge took (i, i + d/2).
NEIGHBOUR_PAIRS = ("CohereForCausalLM", "Cohere2ForCausalLM")


def mend_rotary_pairs(model: Any, architecture: str) -> None:
    """Let the bridge rotate the pairs of dimensions that Cohere's models rotate.

    Its own way for such pairs (GLM, ERNIE) reads angles as [a0 a1 … a0 a1 …]; Cohere's rotary module gives
    [a0 a0 a1 a1 …].
    """
    if architecture not in NEIGHBOUR_PAIRS:
        return
    for block in model.blocks:
        block.attn.config.rotary_adjacent_pairs = True  # every block has a copy of the config
    model.rotary_emb.original_component.register_forward_hook(_halves)


def _halves(module: Any, args: Any, output: Any) -> tuple[Tensor, ...]:
    del module, args
    return tuple(values[..., ::2].repeat(*([1] * (values.ndim - 1)), 2) for values in output)


def skip_unread_norms(model: Any) -> None:
    """Let norms work out scale and normalised values only where a hook reads them: they come from Hugging
    Face's own forward, beside which the bridge computes each of these once more (in Gemma 3 a third of a
    short pass)."""
    from transformer_lens.model_bridge.generalized_components.normalization import NormalizationBridge

    for module in model.modules():
        if isinstance(module, NormalizationBridge):
            whole = module._hf_autograd_forward_with_hooks
            module._hf_autograd_forward_with_hooks = functools.partial(_norm, module, whole)


def _norm(module: Any, whole: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    points = [getattr(module, name, None) for name in ("hook_scale", "hook_normalized")]
    if any(p is None or p.fwd_hooks or p.bwd_hooks or p._forward_hooks for p in points):
        return whole(x)
    return module.original_component(x).to(x.dtype)


def mend_absent_biases(hf_model: Any) -> None:
    """Zeros where GPT-NeoX's attention has no biases: both engines' readers ask for them, and nothing
    changes."""
    if type(hf_model).__name__ != "GPTNeoXForCausalLM" or getattr(hf_model.config, "attention_bias", True):
        return
    for layer in hf_model.gpt_neox.layers:
        for linear in (layer.attention.query_key_value, layer.attention.dense):
            if linear.bias is None:
                zeros = torch.zeros(
                    linear.out_features, dtype=linear.weight.dtype, device=linear.weight.device
                )
                linear.bias = nn.Parameter(zeros, requires_grad=False)


def keep_hook_points(model: Any) -> None:
    """Let ``hook_dict`` be put together once, and again only when hook points or their other names change: a
    bridge does it at every look, which takes longer than a layer of a small model (3.6 ms in Gemma 3
    270M)."""
    model.__class__ = _keeping(type(model))


@functools.cache
def _keeping(bridge: type) -> type:
    from transformer_lens.model_bridge.generalized_components import base

    generation = getattr(base, "alias_generation", int)

    def hook_dict(self: Any) -> dict[str, Any]:
        key = (len(self._hook_registry), generation(), getattr(self, "compatibility_mode", None))
        kept = self.__dict__.get(POINTS)
        if kept is None or kept[0] != key:
            kept = self.__dict__[POINTS] = (key, bridge.hook_dict.fget(self))  # type: ignore[attr-defined]
        return dict(kept[1])

    return type(
        bridge.__name__, (bridge,), {"hook_dict": property(hook_dict), "__module__": bridge.__module__}
    )
