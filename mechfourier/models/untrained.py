"""The untrained control without a second model: random weights stand in for the trained ones while each block
runs.

A block's weights are drawn into one scratch buffer when the block is called and the trained ones are back
when it returns, so a pass takes the memory of one block more; of an embedding only the rows of the tokens at
hand are drawn. The draws depend on the seed and on the parameter's name alone (`draws`), not on the batch or
on how many layers run.
"""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mechfourier.errors import UsageError
from mechfourier.models.draws import Stream, stream
from mechfourier.models.weights import reinitialised, root_of

Region = tuple[Any, ...]
Kind = tuple[torch.dtype, torch.device]
Weights = dict[nn.Parameter, Tensor]

KEPT_BYTES = 2**26  # of weights outside the blocks that stay drawn for the whole time


@contextlib.contextmanager
def untrained(model: Any, seed: int) -> Iterator[Any]:
    """``model`` with chance weights inside the ``with`` block, and exactly as it was after it, whatever
    happens.

    Parameters with two or more axes are drawn with their own mean and standard deviation, so the size of the
    signal along the residual stream stays; norm weights, biases and buffers are kept, and weights that were
    tied stay tied. What is yielded is the model itself, or, where it defines ``reinitialised(seed)``, what
    that gives. Activations that a store keeps of it have a key of their own. Raises ``UsageError`` for
    quantised weights.
    """
    if callable(getattr(model, "reinitialised", None)):
        yield reinitialised(model, seed)
        return
    before = {name: vars(model).get(name) for name in ("mechfourier_name", "_mechfourier_control")}
    shown = getattr(model, "mechfourier_name", type(model).__name__)
    draws = _Draws(root_of(model), seed)
    try:
        object.__setattr__(model, "mechfourier_name", f"{shown} (weights re-initialised with seed {seed})")
        object.__setattr__(model, "_mechfourier_control", seed)
        with draws.in_place():
            yield model
    finally:
        for name, value in before.items():
            if value is None:
                vars(model).pop(name, None)
            else:
                object.__setattr__(model, name, value)


class _Draws:
    """The parameters of a model that are drawn, and which of its modules draws which."""

    def __init__(self, root: nn.Module, seed: int) -> None:
        self.seed = seed
        self.named = {
            f"{prefix}.{name}".removeprefix("."): p
            for prefix, module in root.named_modules()
            for name, p in _own(module)
        }
        self.region = {parameter: _region(parameter) for parameter in self.named.values()}
        self.name_of: dict[Region, str] = {}
        for name, parameter in self.named.items():  # weights that are tied have the name of the first
            self.name_of.setdefault(self.region[parameter], name)
        self.tables = {self.region[p] for m in root.modules() if _is_table(m) for _, p in _own(m)}
        self.blocks = list(dict.fromkeys(_blocks(root)))
        inside = {module for block in self.blocks for module in block.modules()}
        self.rest = [(m, _all(m, False)) for m in root.modules() if m not in inside and _all(m, False)]
        self.streams: dict[Region, Stream] = {}
        self.scratch: dict[Kind, Tensor] = {}
        self.held: dict[nn.Parameter, Tensor] = {}

    @contextlib.contextmanager
    def in_place(self) -> Iterator[None]:
        """Every module draws its weights when it is called."""
        handles: list[Any] = []
        try:
            for block in self.blocks:
                handles += self._around(block, lambda _, chosen=_all(block, True): self._block(chosen))
            kept = 0
            for module, parameters in self.rest:
                size = sum(p.numel() * p.element_size() for p in parameters)
                if _is_table(module):
                    handles += self._around(module, lambda ids, chosen=parameters: self._rows(chosen, ids))
                elif kept + size <= KEPT_BYTES:
                    kept += size
                    self._put(self._each(parameters))
                else:
                    handles += self._around(module, lambda _, chosen=parameters: self._each(chosen))
            yield
        finally:
            for handle in handles:
                handle.remove()
            self._restore(list(self.held))

    def _around(self, module: nn.Module, draw: Callable[[Tensor | None], Weights]) -> list[Any]:
        """Hooks that draw before a module runs and restore after it, also when it raises (as the end of a
        capture does)."""
        placed: list[list[nn.Parameter]] = []

        def before(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            placed.append(self._put(draw(_token_ids((*args, *kwargs.values())))))

        def after(*_: Any) -> None:
            if placed:
                self._restore(placed.pop())

        return [
            module.register_forward_pre_hook(before, with_kwargs=True),
            module.register_forward_hook(after, always_call=True),
        ]

    def _put(self, weights: Weights) -> list[nn.Parameter]:
        # a parameter that another module has drawn already (tied weights) is that module's to give back
        fresh = {parameter: new for parameter, new in weights.items() if parameter not in self.held}
        for parameter, new in fresh.items():
            self.held[parameter] = parameter.data
            parameter.data = new
        return list(fresh)

    def _restore(self, parameters: list[nn.Parameter]) -> None:
        for parameter in parameters:
            parameter.data = self.held.pop(parameter)

    def _block(self, parameters: list[nn.Parameter]) -> Weights:
        """A block's weights, side by side in the scratch buffer that every block uses in turn."""
        found: Weights = {}
        chosen = [p for p in parameters if p not in self.held]
        for kind in {(p.dtype, p.device) for p in chosen}:
            alike = [p for p in chosen if (p.dtype, p.device) == kind]
            size = sum(p.numel() for p in alike)
            if kind not in self.scratch or len(self.scratch[kind]) < size:
                self.scratch[kind] = torch.empty(size, dtype=kind[0], device=kind[1])
            parts = self.scratch[kind][:size].split([p.numel() for p in alike])
            found |= {p: self.whole(p, part) for p, part in zip(alike, parts, strict=True)}
        return found

    def _each(self, parameters: list[nn.Parameter]) -> Weights:
        return {p: self.whole(p) for p in parameters if p not in self.held}

    def _rows(self, parameters: list[nn.Parameter], ids: Tensor | None) -> Weights:
        """Tables of which only the rows ``ids`` are written; memory that nobody touches is never taken."""
        if ids is None:
            return self._each(parameters)
        found: Weights = {}
        rows = ids.unique().cpu()
        for parameter in (p for p in parameters if p not in self.held):
            exact = torch.empty(len(rows), parameter.shape[1])
            numbers = self._stream(parameter)
            for place, row in enumerate(rows.tolist()):
                numbers.fill_row(exact[place], row)
            table = torch.empty(parameter.shape, dtype=parameter.dtype, device=parameter.device)
            table[rows.to(table.device)] = exact.to(table)
            found[parameter] = table
        return found

    def whole(self, parameter: nn.Parameter, out: Float[Tensor, " n"] | None = None) -> Tensor:
        """All of a parameter, laid out in memory as the trained one is, in ``out`` where that is given."""
        if out is None:
            out = torch.empty(parameter.numel(), dtype=parameter.dtype, device=parameter.device)
        direct = out.dtype == torch.float32 and out.device.type == "cpu"
        exact = out if direct else torch.empty(len(out))
        self._stream(parameter).fill_all(exact)
        if not direct:
            out.copy_(exact)
        order = _memory_order(parameter)
        back = [order.index(axis) for axis in range(parameter.dim())]
        return out.view([parameter.shape[axis] for axis in order]).permute(back)

    def _stream(self, parameter: nn.Parameter) -> Stream:
        region = self.region[parameter]
        if region not in self.streams:
            trained = self.held.get(parameter, parameter.data)
            trained = trained.detach().permute(_memory_order(trained))
            by_rows = region in self.tables
            self.streams[region] = stream(self.name_of[region], self.seed, trained, by_rows=by_rows)
        return self.streams[region]


def _own(module: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    """The parameters of this module itself that are drawn."""
    if "norm" in type(module).__name__.lower():
        return
    for name, parameter in module.named_parameters(recurse=False):
        if parameter.dim() < 2 or name.startswith(("b_", "bias")):
            continue
        if not parameter.is_floating_point():
            raise UsageError(
                f"the weights {name} of {type(module).__name__} are quantised ({parameter.dtype}), so no "
                f"untrained control "
                "can be drawn; leave it out with controls=False (--no-controls)"
            )
        yield name, parameter


def _all(module: nn.Module, recurse: bool) -> list[nn.Parameter]:
    modules = module.modules() if recurse else [module]
    return list(dict.fromkeys(p for m in modules for _, p in _own(m)))


def _blocks(module: nn.Module) -> Iterator[nn.Module]:
    """The outermost members of lists of modules."""
    for child in module.children():
        if isinstance(module, nn.ModuleList) and not isinstance(child, nn.ModuleList):
            if not _is_table(child) and _all(child, True):
                yield child
        else:
            yield from _blocks(child)


def _is_table(module: nn.Module) -> bool:
    """Whether a module looks up rows by token: PyTorch's embedding and its kin, and TransformerLens's."""
    return isinstance(module, nn.Embedding) or (
        type(module).__name__ == "Embed" and isinstance(getattr(module, "W_E", None), nn.Parameter)
    )


def _token_ids(values: tuple[Any, ...]) -> Tensor | None:
    return next((v for v in values if isinstance(v, Tensor) and not v.is_floating_point()), None)


def _memory_order(tensor: Tensor) -> list[int]:
    """The axes from the one with the longest steps in memory to the one with the shortest."""
    return sorted(range(tensor.dim()), key=lambda axis: (-tensor.stride(axis), -tensor.shape[axis]))


def _region(parameter: Tensor) -> Region:
    """What tied weights have in common: the memory that they fill, whichever way they look at it."""
    if parameter.permute(_memory_order(parameter)).is_contiguous():
        return parameter.device, parameter.data_ptr(), parameter.numel()
    return parameter.device, parameter.data_ptr(), tuple(parameter.shape), parameter.stride()
