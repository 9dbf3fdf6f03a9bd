"""What is the same whenever a network is trained by gradient descent: AdamW, its schedule, and the state of a
bit-exact resume."""

import math
from collections.abc import Callable, Mapping
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor


@runtime_checkable
class Rates(Protocol):
    """The settings of a recipe that AdamW needs."""

    @property
    def lr(self) -> float: ...
    @property
    def betas(self) -> tuple[float, float]: ...
    @property
    def weight_decay(self) -> float: ...
    @property
    def clip(self) -> float: ...


class Descent:
    """A `mechfourier.training.loop.Trainee` but for its ``config``, ``step`` and ``evaluate``.

    Set ``generator`` (a torch.Generator) where steps draw random numbers, so that a resumed run draws the
    same.
    """

    generator: torch.Generator

    def __init__(
        self,
        parameters: Mapping[str, Tensor],
        rates: Rates,
        *,
        decays: Callable[[str, Tensor], bool],
        fused: bool = False,
    ) -> None:
        self.parameters, self.rates = dict(parameters), rates
        parts = {True: [w for n, w in self.parameters.items() if decays(n, w)]}
        parts[False] = [w for n, w in self.parameters.items() if not decays(n, w)]
        groups = [
            {"params": parts[kept], "weight_decay": rates.weight_decay * kept}
            for kept in (True, False)
            if parts[kept]
        ]
        self.optimizer = torch.optim.AdamW(groups, lr=rates.lr, betas=rates.betas, fused=fused or None)

    def descend(self, loss: Tensor, rate: float) -> float:
        """One step down ``loss`` at ``rate`` of the recipe's learning rate; the loss."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.rates.lr * rate
        self.optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.parameters.values(), self.rates.clip)
        self.optimizer.step()
        return float(loss.detach())

    def state(self) -> dict[str, Any]:
        kept = {"weights": self.weights(), "optimizer": self.optimizer.state_dict()}
        return {**kept, "generator": self.generator.get_state()} if hasattr(self, "generator") else kept

    def load_state(self, state: dict[str, Any]) -> None:
        with torch.no_grad():
            for name, value in state["weights"].items():
                self.parameters[name].copy_(value)
        self.optimizer.load_state_dict(state["optimizer"])
        if hasattr(self, "generator"):
            self.generator.set_state(state["generator"].cpu())

    def weights(self) -> dict[str, Tensor]:
        return {name: value.detach() for name, value in self.parameters.items()}


def cosine(index: int, steps: int, *, warmup: int = 0, final: float = 0.0) -> float:
    """The rate of step ``index`` relative to the recipe's: a linear warm-up, then a half cosine down to
    ``final`` at ``steps``."""
    if index < warmup:
        return (index + 1) / warmup
    done = (index - warmup) / max(1, steps - warmup)
    return final + (1 - final) * (1 + math.cos(math.pi * done)) / 2
