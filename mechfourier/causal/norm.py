"""The last steps of a model as a linear map: its unembedding, and its final norm with the scale frozen."""

from collections.abc import Sequence
from dataclasses import dataclass
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


@dataclass(frozen=True)
class FrozenNorm:
    """A norm as a linear map: ``gain · x / scale + shift``, its scale frozen at each vector's own;
    ``centred``: the mean of x is
    taken out first (a layer norm)."""

    gain: Float[Tensor, " d"]
    shift: Float[Tensor, " d"]
    scale: Float[Tensor, " prompt"]
    centred: bool
    words: str

    def apply(self, x: Float[Tensor, "prompt d"]) -> Float[Tensor, "prompt d"]:
        """The norm of the vectors at which it was frozen."""
        y = x - x.mean(dim=1, keepdim=True) if self.centred else x
        return self.gain * y / self.scale[:, None] + self.shift

    def pull_back(self, readers: Float[Tensor, "prompt d"]) -> Float[Tensor, "prompt d"]:
        """The directions before the norm whose products with x are those of ``readers`` with the norm of x,
        without its shift."""
        before = readers * self.gain / self.scale[:, None]
        return before - before.mean(dim=1, keepdim=True) if self.centred else before


def frozen_norm(model: Any, residual: Float[Tensor, "prompt d"]) -> FrozenNorm | None:
    """The model's final norm, frozen at these residual streams; None where it has none.

    Raises ``UsageError`` where it is no such map.
    """
    norm = getattr(model, "ln_final", None)
    if norm is None or isinstance(norm, torch.nn.Identity):
        return None
    found = freeze(model, norm, residual)
    if found is None:
        raise UsageError(
            f"the final norm of {model_name(model)} ({type(norm).__name__}) is neither an RMS norm nor a "
            f"layer norm, so the answer is "
            "no sum of parts"
        )
    return found


def freeze(model: Any, norm: Any, x: Float[Tensor, "prompt d"]) -> FrozenNorm | None:
    """A norm module frozen at these vectors; None where it is no RMS norm or layer norm of them.

    Gain and shift are read off what the norm does to a vector of plus and minus ones and to its negative, so
    a gain stored as
    1 + w (Gemma), or a norm without weights, needs no case of its own.
    """
    x, d = x.double(), x.shape[1]
    device, dtype = model.W_U.device, model.W_U.dtype
    signs = torch.where(torch.arange(d) % 2 == 0, 1.0, -1.0).double()
    probes = torch.cat((x, torch.stack((signs, -signs)))).to(device, dtype)
    with inference(model):
        *outputs, up, down = norm(probes[:, None])[:, 0].double().cpu()
    wanted, shift = torch.stack(outputs), (up + down) / 2
    near = max(EXACT, 8 * torch.finfo(dtype).eps)
    for eps in _epsilons(model, norm):
        for centred in (False, True):
            y, scale = _scaled(x, centred, eps)
            unit, unit_scale = _scaled(signs[None], centred, eps)
            gain = (up - down) / 2 * unit_scale / unit[0]
            if torch.allclose(gain * y / scale[:, None] + shift, wanted, atol=near, rtol=near):
                kind = "layer norm" if centred else "RMS norm"
                return FrozenNorm(
                    gain, shift, scale, centred, f"{kind}, its scale frozen at each prompt's value"
                )
    return None


def no_norm(x: Float[Tensor, "prompt d"], gain: float = 1.0) -> FrozenNorm:
    """No norm at all, or a multiple, in the same form."""
    ones = torch.ones(x.shape[1], dtype=torch.float64)
    return FrozenNorm(gain * ones, 0 * ones, torch.ones(len(x), dtype=torch.float64), False, "none")


def _scaled(
    x: Float[Tensor, "prompt d"], centred: bool, eps: float
) -> tuple[Float[Tensor, "prompt d"], Float[Tensor, " prompt"]]:
    """The vectors as a norm centres them, and what it divides them by."""
    y = x - x.mean(dim=1, keepdim=True) if centred else x
    return y, (y.square().mean(dim=1) + eps).sqrt()


def _epsilons(model: Any, norm: Any) -> tuple[float, ...]:
    """What the norm may add to the variance, by the names that norms keep it under."""
    named = (
        getattr(model.cfg, "eps", None),
        *(getattr(norm, n, None) for n in ("eps", "variance_epsilon", "norm_eps")),
    )
    return tuple(dict.fromkeys([*(float(e) for e in named if isinstance(e, (int, float))), 1e-5, 1e-6]))


def output_scale(
    linear: Float[Tensor, "prompt choice"], logits: Float[Tensor, "prompt choice"]
) -> float | None:
    """What the model multiplies the unembedding's logits by (Cohere, Granite: a number other than 1); None
    where its logits are
    no multiple of them. Logits with a cap are to be given uncapped."""
    scale = float((linear * logits).sum() / linear.square().sum().clamp(min=1e-300))
    error = (scale * linear - logits).norm()
    return scale if scale > 0 and float(error) <= EXACT * float(logits.norm()) else None
