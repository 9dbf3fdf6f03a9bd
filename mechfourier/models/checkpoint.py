"""Weights on disk: a folder with ``model.safetensors`` and ``config.json``, written atomically, read without
running code.

``config["architecture"]`` names the loader (``"one-layer"``); a Hugging Face folder has ``model_type``
instead. The safetensors metadata carries a content hash, so that a damaged file is noticed and not studied.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor

from mechfourier.errors import BadCheckpoint
from mechfourier.files import write_json, write_with
from mechfourier.models.folder import CONFIG, WEIGHTS, read_config, refuse_pickles
from mechfourier.models.strangers import load_foreign
from mechfourier.models.tensor_files import CONTENT_KEY, content_hash, read_safetensors

METRICS = "metrics.json"


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

    Raises ``BadCheckpoint`` for a missing, truncated or altered file and for weights that are not finite,
    and ``UnsafeCheckpoint`` where the weights are only there as a pickle.
    """
    folder = Path(folder)
    config = read_config(folder)
    weights = folder / WEIGHTS
    if not weights.is_file():
        refuse_pickles(folder)
        raise BadCheckpoint(f"{folder} holds no {WEIGHTS}; point at a folder written by mechfourier train")
    tensors = read_safetensors(weights)
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
            raise BadCheckpoint(
                f"{weights} holds NaN or infinite weights, first in {name}: the training diverged or the file is "
                "damaged; take an earlier checkpoint"
            )
    return tensors, config


def load_foreign_tensors(path: str | Path) -> dict[str, Tensor]:
    """Tensors of somebody else's checkpoint (`mechfourier.models.strangers.load_foreign`); what is no tensor
    is left out."""
    return load_foreign(path)[0]
