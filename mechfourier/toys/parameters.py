"""What the networks of this folder share: modules that hold parameters by name."""

from typing import Any

from torch import Tensor, nn
from transformer_lens import ActivationCache, HookedRootModule
from transformer_lens.hook_points import HookPoint


class Weights(nn.Module):
    """A module that only holds parameters, under TransformerLens's names."""

    W_E: Tensor
    W_pos: Tensor
    W_U: Tensor
    b_U: Tensor
    W_O: Tensor
    b_O: Tensor
    W_in: Tensor
    b_in: Tensor
    W_out: Tensor
    b_out: Tensor
    B_rel: Tensor
    w: Tensor
    b: Tensor

    def __init__(self, weights: dict[str, Tensor], prefix: str) -> None:
        super().__init__()
        for name, value in weights.items():
            if name.startswith(prefix) and "." not in name.removeprefix(prefix):
                parameter = value if isinstance(value, nn.Parameter) else nn.Parameter(value)
                self.register_parameter(name.removeprefix(prefix), parameter)

    def bias(self, name: str) -> Tensor | float:
        """The bias of that name, or 0 where the model has none."""
        return getattr(self, name, 0.0)


class _Part(nn.Module):
    """A module that holds parameters, hook points and other parts under TransformerLens's names."""


def plant(root: nn.Module, path: str, value: nn.Module | nn.Parameter) -> None:
    """Put ``value`` at a dotted path below ``root``, making the parts between."""
    *parents, name = path.split(".")
    for parent in parents:
        if not hasattr(root, parent):
            root.add_module(parent, nn.ModuleList() if parent == "blocks" else _Part())
        root = getattr(root, parent)
    if isinstance(value, nn.Parameter):
        root.register_parameter(name, value)
    else:
        root.add_module(name, value)


class Hooks:
    """Sends activations through a model's hook points; ``wants`` says whether anything listens at one."""

    def __init__(self, points: dict[str, HookPoint]) -> None:
        self.points = points

    def __call__(self, name: str, value: Tensor) -> Tensor:
        return self.points[name](value)

    def wants(self, name: str) -> bool:
        return self.points[name].has_hooks()


class Network(HookedRootModule):
    """A model that keeps its parameters under TransformerLens's names."""

    mechfourier_architecture: str

    def run_with_cache(self, *args: Any, return_cache_object: bool = True, **kwargs: Any) -> Any:
        """As ``HookedTransformer.run_with_cache``: the logits and an ``ActivationCache`` (or a plain
        dict)."""
        out, cache = super().run_with_cache(*args, **kwargs)
        if not return_cache_object:
            return out, cache
        return out, ActivationCache(cache, self, has_batch_dim=not kwargs.get("remove_batch_dim", False))

    def weights(self) -> dict[str, Tensor]:
        """The parameters by name (the live tensors, no copies)."""
        return dict(self.named_parameters())
