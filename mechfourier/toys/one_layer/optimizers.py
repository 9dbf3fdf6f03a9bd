"""The optimisers of the recipes. AdamW and Muon are torch's; the two gradient filters are a few lines
each."""

from collections.abc import Sequence
from typing import Any

import torch
from einops import rearrange
from torch import Tensor

from mechfourier.toys.one_layer.recipes import Recipe

MATRIX = {
    "W_Q": "h d e -> d (h e)",
    "W_K": "h d e -> d (h e)",
    "W_V": "h d e -> d (h e)",
    "W_O": "h e d -> (h e) d",
}
MUON_NAMES = ("W_Q", "W_K", "W_V", "W_O", "W_in", "W_out")


class Optimizer:
    """One step on ``weights`` (leaf tensors by TransformerLens name) from their gradients.

    ``scale_lr`` and ``weight_decay`` are set by the schedule before every step.
    """

    def __init__(self, recipe: Recipe, weights: dict[str, Tensor]) -> None:
        self.recipe = recipe
        self.weights = weights
        self.average: list[Tensor] | None = None
        self.inner: list[torch.optim.Optimizer] = []
        self.matrices: dict[str, Tensor] = {}
        adam = weights
        if recipe.optimizer == "muon":
            # Muon is for hidden matrices; embeddings and the unembedding stay with AdamW (Jordan et al.
            # 2024).
            hidden = {name: w for name, w in weights.items() if _last(name) in MUON_NAMES}
            adam = {name: w for name, w in weights.items() if name not in hidden}
            self.matrices = {
                name: _as_matrix(name, w.detach()).clone().requires_grad_() for name, w in hidden.items()
            }
            self.inner.append(torch.optim.Muon(list(self.matrices.values()), lr=recipe.muon_lr))
        fused = next(iter(weights.values())).device.type in ("cpu", "cuda", "mps")
        self.inner.append(
            torch.optim.AdamW(list(adam.values()), lr=recipe.lr, betas=recipe.betas, fused=fused)
        )

    def step(self, gradients: Sequence[Tensor], *, lr_scale: float, weight_decay: float) -> None:
        """Filter the gradients as the recipe says and step; ``lr_scale`` multiplies the recipe's rates."""
        gradients = list(gradients)
        if self.recipe.grokfast is not None:
            gradients = self._grokfast(gradients, *self.recipe.grokfast)
        if self.recipe.orthogonal:
            gradients = [
                orthogonal(g, w.detach()) for g, w in zip(gradients, self.weights.values(), strict=True)
            ]
        for (name, weight), gradient in zip(self.weights.items(), gradients, strict=True):
            weight.grad = gradient
            if name in self.matrices:
                self.matrices[name].grad = _as_matrix(name, gradient).contiguous()
        for optimizer in self.inner:
            base = self.recipe.muon_lr if isinstance(optimizer, torch.optim.Muon) else self.recipe.lr
            for group in optimizer.param_groups:
                group["lr"], group["weight_decay"] = base * lr_scale, weight_decay
        if self.recipe.optimizer == "muon":
            self._muon_step()
        self.inner[-1].step()

    def _grokfast(self, gradients: list[Tensor], alpha: float, amplify: float) -> list[Tensor]:
        """Grokfast-EMA: amplify the slow part of the gradient (Lee et al. 2024, arXiv 2405.20233)."""
        if self.average is None:
            self.average = [g.clone() for g in gradients]
        else:
            torch._foreach_lerp_(self.average, gradients, 1 - alpha)
        return list(torch._foreach_add(gradients, self.average, alpha=amplify))

    def _muon_step(self) -> None:
        """Heads side by side are one matrix; the weights keep their own shape."""
        self.inner[0].step()
        with torch.no_grad():
            for name, matrix in self.matrices.items():
                self.weights[name].copy_(_as_heads(name, matrix, self.weights[name]))

    def state(self) -> dict[str, Any]:
        return {
            "inner": [optimizer.state_dict() for optimizer in self.inner],
            "average": self.average,
            "matrices": {name: matrix.detach() for name, matrix in self.matrices.items()},
        }

    def load_state(self, state: dict[str, Any]) -> None:
        for optimizer, saved in zip(self.inner, state["inner"], strict=True):
            optimizer.load_state_dict(saved)
        self.average = state["average"]
        with torch.no_grad():
            for name, saved in state["matrices"].items():
                self.matrices[name].copy_(saved)


def orthogonal(gradient: Tensor, weight: Tensor) -> Tensor:
    """⊥Grad: the gradient without its part along the weights, at its old length (Prieto et al. 2025, arXiv
    2501.04697)."""
    along = (weight * gradient).sum() / (weight * weight).sum().clamp_min(1e-30)
    rest = gradient - along * weight
    return rest * (gradient.norm() / rest.norm().clamp_min(1e-30))


def _last(name: str) -> str:
    return name.rsplit(".", 1)[-1]


def _as_matrix(name: str, value: Tensor) -> Tensor:
    pattern = MATRIX.get(_last(name))
    return value if pattern is None else rearrange(value, pattern)


def _as_heads(name: str, matrix: Tensor, like: Tensor) -> Tensor:
    pattern = MATRIX.get(_last(name))
    if pattern is None:
        return matrix
    left, right = pattern.split(" -> ")
    return rearrange(matrix, f"{right} -> {left}", h=like.shape[0])
