"""Logits of a few words, or of many positions in slices: the last step of a model taken out of its forward
pass.

A vocabulary of 262,144 words makes the unembedding more expensive than all blocks together, and logits at
every position more than the memory holds. Margins and choices among answers of one token need the logits of
those tokens only, as the normaliser cancels; surprisal and KL need whole rows, but a few at a time. What is
computed here is compared with the model's own logits first.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mechfourier.hooks.run import UNEMBED, StopForward, forward, hooked, logits_of
from mechfourier.models.interface import Model

SLICE = 2**24  # logits at a time: 64 MiB in float32


@dataclass(frozen=True, eq=False)
class Unembedding:
    """``logits(x) = factor · cap(x W + b)``, the columns of ``weights`` those of the whole vocabulary or of
    some tokens."""

    weights: Float[Tensor, "d word"]
    bias: Float[Tensor, " word"] | None
    cap: float
    factor: float = 1.0

    def __call__(self, x: Float[Tensor, "*row d"]) -> Float[Tensor, "*row word"]:
        logits = (x.to(self.weights) @ self.weights).float()
        if self.bias is not None:
            logits = logits.add_(self.bias)
        if self.factor != 1.0:
            logits = logits.mul_(self.factor)
        return logits.div_(self.cap).tanh_().mul_(self.cap) if self.cap > 0 else logits

    def of(self, tokens: Sequence[int]) -> "Unembedding":
        """The same for some tokens."""
        at = torch.tensor(list(tokens), device=self.weights.device)
        bias = None if self.bias is None else self.bias[at]
        return Unembedding(self.weights[:, at].contiguous(), bias, self.cap, self.factor)

    def slices(self, rows: int) -> Iterator[slice]:
        """Ranges of rows whose logits fit in ``SLICE``."""
        size = max(1, SLICE // self.weights.shape[1])
        return (slice(start, start + size) for start in range(0, rows, size))


def unembedding_of(model: Model, tokens: Int[Tensor, "row pos"]) -> Unembedding | None:
    """The model's unembedding, held against its logits of the first row of ``tokens``; None where it is not
    known to be such a map."""
    unembed = getattr(model, "unembed", None)
    weights = getattr(unembed, "W_U", None)
    if not isinstance(weights, Tensor) or str(UNEMBED) not in model.hook_dict:
        return None
    bias = getattr(unembed, "b_U", None)
    bias = bias.detach().float() if isinstance(bias, Tensor) and bool(bias.any()) else None
    cap = float(getattr(model.cfg, "output_logits_soft_cap", 0.0) or 0.0)
    plain = Unembedding(weights.detach(), bias, max(cap, 0.0))
    first, seen = tokens[:1], []
    with hooked(model, [(UNEMBED, lambda value: _last(value, seen))]):
        own = logits_of(model, forward(model, first, logits=True))
    own = (own if own.ndim == 3 else own[:, None])[:, -1].float()
    return _held_against(plain, seen[0][:, -1], own)


def _last(value: Tensor, seen: list[Tensor]) -> Tensor:
    """Keep the input of the unembedding, of which it is to see the last position only."""
    seen.append(value[:, -1:])
    return value[:, -1:]


def _held_against(plain: Unembedding, x: Tensor, own: Tensor) -> Unembedding | None:
    """``plain``, with the factor (Cohere, Granite) that makes it the model's own logits; None where none
    does."""
    ours = plain(x)
    near = max(1e-4, 20 * torch.finfo(plain.weights.dtype).eps)
    if plain.cap == 0:
        factor = float((ours * own).sum() / ours.square().sum().clamp(min=1e-30))
        if abs(factor - 1) > near:
            plain = Unembedding(plain.weights, plain.bias, 0.0, factor)
            ours = ours * factor
    return plain if float((ours - own).norm()) <= near * float(own.norm()) else None


def before_unembedding(
    model: Model, run: Callable[[], Any], keep: int | None = None
) -> Float[Tensor, "row pos d"]:
    """What goes into the unembedding in the pass ``run``, which ends there: the last ``keep`` positions
    (None: all)."""
    seen: list[Tensor] = []

    def stop(value: Tensor) -> None:
        seen.append(value if keep is None else value[:, -keep:])
        raise StopForward

    with hooked(model, [(UNEMBED, stop)]):
        run()
    return seen[0]
