"""What can be studied: names and folders -> models with TransformerLens's hooks."""

import importlib
from typing import TYPE_CHECKING, Any

_PUBLIC = {
    "load": "registry",
    "known_models": "registry",
    "ModelInfo": "catalogue",
    "Model": "interface",
    "Encoding": "interface",
    "encode": "interface",
    "save_checkpoint": "checkpoint",
    "load_checkpoint": "checkpoint",
    "load_foreign_tensors": "checkpoint",
    "weights_hash": "weights",
    "reinitialised": "weights",
}

__all__ = [
    "load", "known_models", "ModelInfo",
    "Model", "Encoding", "encode",
    "save_checkpoint", "load_checkpoint", "load_foreign_tensors",
    "weights_hash", "reinitialised",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'mechfourier.models' has no attribute {name!r}")
    return getattr(importlib.import_module(f"mechfourier.models.{_PUBLIC[name]}"), name)


if TYPE_CHECKING:
    from mechfourier.models.catalogue import ModelInfo
    from mechfourier.models.checkpoint import load_checkpoint, load_foreign_tensors, save_checkpoint
    from mechfourier.models.interface import Encoding, Model, encode
    from mechfourier.models.registry import known_models, load
    from mechfourier.models.weights import reinitialised, weights_hash
