"""Imported networks on modular arithmetic with TransformerLens's hook and parameter names."""

from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformer_lens.hook_points import HookPoint

from mechfourier.models.checkpoint import load_checkpoint
from mechfourier.toys.modular.config import ModularConfig, initial_weights, parameter_shapes
from mechfourier.toys.modular.forward import logits, points, residual
from mechfourier.toys.opening import check_shapes
from mechfourier.toys.parameters import Hooks, Network, plant
from mechfourier.toys.prompts import ModularPrompts


class ModularTransformer(ModularPrompts, Network):
    """Modular arithmetic in any number of layers. Logits have p entries; the answer is read at the last
    position."""

    mechfourier_architecture = "modular"
    blocks: nn.ModuleList

    def __init__(
        self, cfg: ModularConfig, *, weights: dict[str, Tensor] | None = None, seed: int = 0
    ) -> None:
        super().__init__()
        self.cfg, self.mechfourier_name = cfg, cfg.model_name
        weights = initial_weights(cfg, seed=seed) if weights is None else weights
        check_shapes(weights, parameter_shapes(cfg), f"this network mod {cfg.p}")
        for name, value in weights.items():
            plant(self, name, nn.Parameter(value))
        for name in points(cfg):
            plant(self, name, HookPoint())
        self.setup()
        self._hook = Hooks(self.hook_dict)

    def forward(
        self,
        tokens: Int[Tensor, "batch pos"] | str | list[str],
        return_type: Literal["logits"] | None = "logits",
        **_: Any,
    ) -> Float[Tensor, "batch kept p"] | None:
        """Logits at every position; ``None`` with ``return_type=None``. Raises ``NotExpressible`` for more
        tokens than positions, or a token outside the vocabulary."""
        ids = self._checked(tokens if isinstance(tokens, Tensor) else self.to_tokens(tokens))
        if return_type is None:
            residual(self.cfg, self.weights(), ids, self._hook)
            return None
        return logits(self.cfg, self.weights(), ids, self._hook)

    @property
    def W_E(self) -> Float[Tensor, "vocab d"]:
        return self.weights()["embed.W_E"]

    @property
    def W_U(self) -> Float[Tensor, "d p"]:
        return self.weights()["unembed.W_U"]

    @property
    def b_U(self) -> Float[Tensor, " p"]:
        return self.weights()["unembed.b_U"]

    def reinitialised(self, seed: int) -> "ModularTransformer":
        """The same architecture with newly drawn weights (the control of a probe)."""
        parameter = next(self.parameters())
        weights = initial_weights(self.cfg, seed=seed, dtype=parameter.dtype)
        return ModularTransformer(self.cfg, weights=weights).to(parameter.device)


def load_folder(
    folder: str | Path, device: str | torch.device = "cpu", dtype: torch.dtype | None = None
) -> ModularTransformer:
    """A checkpoint folder with ``"architecture": "modular"`` as a model in evaluation mode."""
    tensors, config = load_checkpoint(folder)
    return (
        ModularTransformer(ModularConfig.from_dict(config), weights=tensors)
        .to(device=device, dtype=dtype)
        .eval()
    )
