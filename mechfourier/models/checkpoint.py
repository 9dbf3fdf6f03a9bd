"""Weights on disk: a folder with ``model.safetensors`` and ``config.json``, written atomically, read without
running code.

``config["architecture"]`` names the loader (``"one-layer"``); a Hugging Face folder has ``model_type``
instead. The safetensors metadata carries a content hash, so that a damaged file is noticed and not studied.
"""

import hashlib
import json
import pickle
import re
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from mechfourier.errors import BadCheckpoint, UnsafeCheckpoint, UsageError, nearest
from mechfourier.files import write_json, write_with
from mechfourier.models.folder import CONFIG, PICKLES, WEIGHTS, brief, read_config, refuse_pickles

METRICS = "metrics.json"
CONTENT_KEY = "mechfourier.content"


def content_hash(tensors: Mapping[str, Tensor]) -> str:
    """BLAKE2b (hex, 32 characters) of names, dtypes, shapes and raw bytes, whatever the order of the
    names."""
    digest = hashlib.blake2b(digest_size=16)
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name}\0{tensor.dtype}\0{tuple(tensor.shape)}\0".encode())
        digest.update(tensor.flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def save_checkpoint(
    folder: str | Path,
    tensors: Mapping[str, Tensor],
    config: Mapping[str, Any],
    metrics: Mapping[str, Any] | None = None,
) -> Path:
    """Write ``model.safetensors``, ``metrics.json`` (if any) and, last, ``config.json``; returns the folder.

    Every file replaces its older version in one step. Tensors that share memory are written separately.
    """
    folder = Path(folder)
    plain = {name: _own_storage(tensor) for name, tensor in tensors.items()}
    write_tensors(folder / WEIGHTS, plain)
    if metrics is not None:
        write_json(folder / METRICS, dict(metrics))
    write_json(folder / CONFIG, dict(config))
    return folder


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> Path:
    """Write a safetensors file with its content hash, atomically; the same tensors give the same bytes."""
    metadata = {"format": "pt", CONTENT_KEY: content_hash(tensors)}

    def write(temporary: Path) -> None:
        save_file(dict(tensors), temporary, metadata=metadata)
        _order_header(temporary)

    return write_with(path, write)


def _order_header(path: Path) -> None:
    """safetensors writes its metadata in an order drawn at random: sort it, in place."""
    with path.open("r+b") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
        header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
        text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
        if len(text) <= length:  # always, as nothing but the order changed
            file.seek(8)
            file.write(text.ljust(length))


def _own_storage(tensor: Tensor) -> Tensor:
    return tensor.detach().cpu().contiguous().clone()


def load_checkpoint(folder: str | Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors (CPU, as stored) and config of a folder written by ``save_checkpoint``.

    Raises ``BadCheckpoint`` for a missing, truncated or altered file and ``UnsafeCheckpoint`` where the
    weights are only there as a pickle.
    """
    folder = Path(folder)
    config = read_config(folder)
    weights = folder / WEIGHTS
    if not weights.is_file():
        refuse_pickles(folder)
        raise BadCheckpoint(f"{folder} holds no {WEIGHTS}; point at a folder written by mechfourier train")
    return read_safetensors(weights), config


def read_safetensors(path: str | Path) -> dict[str, Tensor]:
    """All tensors of one safetensors file (memory-mapped on the CPU); the content hash is checked where there
    is one."""
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            expected = (file.metadata() or {}).get(CONTENT_KEY)
    except FileNotFoundError:
        raise BadCheckpoint(f"no weights at {path}; give the path of a .safetensors file") from None
    except (SafetensorError, OSError, ValueError, RuntimeError, OverflowError) as error:
        raise BadCheckpoint(
            f"{path} is truncated or no safetensors file ({brief(error)}); fetch or write it again"
        ) from error
    if expected is not None and content_hash(tensors) != expected:
        raise BadCheckpoint(
            f"{path} is damaged: its contents do not match its checksum; fetch or write it again"
        )
    return tensors


def load_foreign_tensors(path: str | Path) -> dict[str, Tensor]:
    """Tensors of somebody else's checkpoint: safetensors, or a PyTorch file read with ``weights_only=True``.

    Nested dicts and lists are flattened to dotted names (``model.embed.W_E``); what is no tensor is left out.
    Raises ``UnsafeCheckpoint`` for a pickle that needs code and ``BadCheckpoint`` for a truncated or empty
    file.
    """
    path = Path(path)
    if not path.is_file():
        known = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
        raise UsageError(f"no checkpoint file at {path}; nearest in its folder: {nearest(path.name, known)}")
    if path.suffix.lower() not in PICKLES:
        return read_safetensors(path)
    tensors = dict(_flatten(_load_weights_only(path), ""))
    if not tensors:
        raise BadCheckpoint(f"{path} holds no tensors; give a file with a state dict")
    return tensors


def _load_weights_only(path: Path) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch remarks on the pickle protocol
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises RuntimeError, EOFError, KeyError … for a damaged file
        if why := _needs_code(error):
            raise UnsafeCheckpoint(
                f"{path} needs code to be read ({why}) and is refused; where you trust its author, open it "
                f"there and "
                "save its state dict alone: torch.save(model.state_dict(), path)"
            ) from error
        raise BadCheckpoint(
            f"{path} is truncated or no PyTorch file ({brief(error)}); fetch it again"
        ) from error


def _needs_code(error: Exception) -> str | None:
    """What torch's ``weights_only`` reader refused, in a few words; None where the file is merely damaged."""
    text = str(error)
    if "TorchScript" in text:
        return "a TorchScript archive"
    if not isinstance(error, pickle.UnpicklingError):
        return None
    named = re.search(r"GLOBAL (\S+)", text)
    return f"it calls {named[1]}" if named else "it holds instructions that only a full unpickler follows"


def _flatten(value: Any, prefix: str) -> Iterator[tuple[str, Tensor]]:
    if isinstance(value, Tensor):
        yield prefix or "tensor", value.detach()
        return
    if isinstance(value, Mapping):
        children = value.items()
    elif isinstance(value, list | tuple):
        children = enumerate(value)
    else:
        return
    for key, child in children:
        yield from _flatten(child, f"{prefix}.{key}" if prefix else str(key))
