"""Two questions about a model's weights: are they the same, and what would chance have given?"""

import copy
import hashlib
import json
from collections.abc import Iterator
from typing import Any

import torch
import xxhash
from torch import Tensor, nn

from mechfourier.models.draws import VERSION

PLAIN = (bool, int, float, str, type(None))
# Entries of a model's config that do not change what it computes.
IGNORED_SETTINGS = frozenset({"device", "model_name", "tokenizer_name", "seed", "n_devices"})


def weights_hash(model: Any) -> str:
    """Content hash (hex, 32 characters) of a model: class, plain config values, and every parameter's and
    buffer's bytes.

    The same folder loaded twice by the same engine has the same hash. Every call reads the weights, a tenth
    of a second per gigabyte: no counter of PyTorch's sees what is written through ``param.data``. Inside
    ``untrained`` the hash is another one, which depends on the seed.
    """
    control = getattr(model, "_mechfourier_control", None)
    value = _hash(model, dict(_tensors(model)))
    if control is None:
        return value
    return hashlib.blake2b(f"{value} drawn {VERSION} {control}".encode(), digest_size=16).hexdigest()


def _tensors(model: Any) -> Iterator[tuple[str, Tensor]]:
    yield from nn.Module.named_parameters(root_of(model), remove_duplicate=False)
    yield from nn.Module.named_buffers(root_of(model), remove_duplicate=False)


def root_of(model: Any) -> Any:
    """The module that owns the weights: a TransformerBridge keeps the Hugging Face model in
    ``original_model``."""
    return getattr(model, "original_model", model)


def _hash(model: Any, tensors: dict[str, Tensor]) -> str:
    cfg = vars(getattr(model, "cfg", None) or object)
    settings = {k: v for k, v in sorted(cfg.items()) if isinstance(v, PLAIN) and k not in IGNORED_SETTINGS}
    digest = hashlib.blake2b(digest_size=16)
    digest.update(json.dumps([type(model).__name__, settings]).encode())
    unique = {_identity(t): t for t in tensors.values()}  # tied weights are read once
    digests = {key: _bytes_digest(tensor) for key, tensor in unique.items()}
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name}\0{tensor.dtype}\0{tuple(tensor.shape)}\0".encode())
        digest.update(digests[_identity(tensor)])
    return digest.hexdigest()


def _identity(tensor: Tensor) -> tuple[Any, ...]:
    return tensor.device, tensor.data_ptr(), tensor.dtype, tuple(tensor.shape), tensor.stride()


def _bytes_digest(tensor: Tensor) -> bytes:
    """XXH3 (ten times as fast as SHA-256, which a cache key does not need) of the values in the order they
    lie in memory (and of that order), so that a transposed view is not copied."""
    order = sorted(range(tensor.dim()), key=lambda axis: -tensor.stride(axis))
    flat = tensor.detach().permute(order).contiguous().cpu().flatten()
    return repr(order).encode() + xxhash.xxh3_128(flat.view(torch.uint8).numpy().data).digest()


def reinitialised(model: Any, seed: int) -> Any:
    """The same architecture with chance weights and the same tokenizer: the first control of a probe.

    A model that defines ``reinitialised(seed)`` answers itself. Otherwise every parameter with two or more
    axes is drawn from a normal distribution with that parameter's own mean and standard deviation (so scale,
    and with it the signal's size along the residual stream, stays), parameters with one axis (norm weights,
    biases) and buffers are kept, and weights that were tied stay tied. ``model`` is left as it is; only the
    new weights take memory.
    """
    own = getattr(model, "reinitialised", None)
    fresh: Any = own(seed) if callable(own) else _redrawn(model, seed)
    name = getattr(model, "mechfourier_name", type(model).__name__)
    fresh.mechfourier_name = f"{name} (weights re-initialised with seed {seed})"
    return fresh


def _redrawn(model: Any, seed: int) -> Any:
    """A deep copy in which ``memo`` puts new parameters in the place of the old, so that the old are never
    copied."""
    storages: dict[int, Tensor] = {}
    drawn: set[tuple[int, int, int]] = set()
    memo: dict[int, Any] = {}
    generators: dict[torch.device, torch.Generator] = {}
    for old in nn.Module.parameters(root_of(model)):
        generator = generators.setdefault(old.device, torch.Generator(old.device).manual_seed(seed))
        key = old.untyped_storage().data_ptr()
        if key not in storages:
            elements = old.untyped_storage().nbytes() // old.element_size()
            storages[key] = torch.empty(elements, dtype=old.dtype, device=old.device)
        new = storages[key].as_strided(old.shape, old.stride(), old.storage_offset())
        if (
            region := (key, int(old.storage_offset()), int(old.numel()))
        ) not in drawn:  # tied weights are drawn once
            drawn.add(region)
            _draw(new, old.detach(), generator)
        memo[id(old)] = nn.Parameter(new, requires_grad=old.requires_grad)
    tokenizer = getattr(model, "tokenizer", None)
    memo[id(tokenizer)] = tokenizer
    return copy.deepcopy(model, memo)


@torch.no_grad()
def _draw(new: Tensor, old: Tensor, generator: torch.Generator) -> None:
    if old.dim() < 2 or not old.is_floating_point():
        new.copy_(old)
        return
    std, mean = torch.std_mean(old.float(), correction=0)
    new.normal_(mean.item(), std.item(), generator=generator)
