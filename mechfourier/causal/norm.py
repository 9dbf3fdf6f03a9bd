"""The last steps of a model as a linear map: its unembedding, and its final norm with the scale frozen."""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from mechfourier.errors import UsageError
from mechfourier.hooks.run import inference
from mechfourier.hooks.site import model_name

EXACT = (
    1e-3  # error of a linear account, relative to the size of what it adds up to, that is taken for rounding
)


def unembedding(
    model: Any, tokens: Sequence[int]
) -> tuple[Float[Tensor, "d choice"], Float[Tensor, " choice"]]:
    """The columns and the bias of the unembedding for some tokens."""
    unembed = model.unembed
    weights = unembed.W_U if hasattr(unembed, "W_U") else model.W_U
    bias = getattr(unembed, "b_U", None)
    columns = weights.detach()[:, list(tokens)].double().cpu()
    if bias is None:
        return columns, torch.zeros(len(tokens), dtype=torch.float64)
    return columns, bias.detach()[list(tokens)].double().cpu()


def frozen_norm(
    model: Any, residual: Float[Tensor, "prompt d"]
) -> tuple[Float[Tensor, " d"], Float[Tensor, " d"], Float[Tensor, " prompt"], bool, str]:
    """Gain, shift, each prompt's scale, whether the mean is taken out, and all that in words.

    Checked against the model's own norm; raises ``UsageError`` where it is no such map.
    """
    norm, x = getattr(model, "ln_final", None), residual.double()
    d = x.shape[1]
    nothing = torch.ones(d).double(), torch.zeros(d).double()
    if norm is None or isinstance(norm, torch.nn.Identity):
        return *nothing, torch.ones(len(x)).double(), False, "none"
    with inference(model):
        device, dtype = model.W_U.device, model.W_U.dtype
        wanted = norm(residual[:, None].to(device, dtype))[:, 0].double().cpu()
    gain, shift = (
        _parameter(norm, names, default)
        for names, default in zip((("w", "weight"), ("b", "bias")), nothing, strict=True)
    )
    eps = float(getattr(model.cfg, "eps", 1e-5) or 1e-5)
    near = max(EXACT, 8 * torch.finfo(dtype).eps)
    for centred in (False, True):
        y = x - x.mean(dim=1, keepdim=True) if centred else x
        scale = (y.square().mean(dim=1) + eps).sqrt()
        if torch.allclose(gain * y / scale[:, None] + shift, wanted, atol=near, rtol=near):
            kind = "layer norm" if centred else "RMS norm"
            return gain, shift, scale, centred, f"{kind}, its scale frozen at each prompt's value"
    raise UsageError(
        f"the final norm of {model_name(model)} ({type(norm).__name__}) is neither an RMS norm nor a layer norm, so the answer is "
        "no sum of parts"
    )


def _parameter(norm: Any, names: tuple[str, ...], default: Tensor) -> Float[Tensor, " d"]:
    for name in names:
        if isinstance(found := getattr(norm, name, None), Tensor):
            return found.detach().double().cpu()
    return default
