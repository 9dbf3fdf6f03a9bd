"""What can be studied: names and folders -> models with TransformerLens's hooks."""

from typing import TYPE_CHECKING

from mechfourier._lazy import lazy

_PUBLIC = {
    "load": ".registry",
    "known_models": ".registry",
    "ModelInfo": ".catalogue",
    "Model": ".interface",
    "Encoding": ".interface",
    "encode": ".interface",
    "save_checkpoint": ".checkpoint",
    "load_checkpoint": ".checkpoint",
    "load_foreign_tensors": ".checkpoint",
    "weights_hash": ".weights",
    "reinitialised": ".weights",
}

__all__ = [*_PUBLIC]
__getattr__, __dir__ = lazy(__name__, _PUBLIC)

if TYPE_CHECKING:
    from mechfourier.models.catalogue import ModelInfo
    from mechfourier.models.checkpoint import load_checkpoint, load_foreign_tensors, save_checkpoint
    from mechfourier.models.interface import Encoding, Model, encode
    from mechfourier.models.registry import known_models, load
    from mechfourier.models.weights import reinitialised, weights_hash
