"""One safetensors file: its tensors, and the hash of what it holds."""

import hashlib
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from mechfourier.errors import BadCheckpoint
from mechfourier.models.folder import brief

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
