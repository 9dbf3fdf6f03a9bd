"""What can be studied: names and folders -> models with TransformerLens's hooks."""

from typing import TYPE_CHECKING

from mechfourier._lazy import lazy

if TYPE_CHECKING:
    from mechfourier.models.catalogue import ModelInfo as ModelInfo
    from mechfourier.models.checkpoint import (
        load_checkpoint as load_checkpoint,
        load_foreign_tensors as load_foreign_tensors,
        save_checkpoint as save_checkpoint,
    )
    from mechfourier.models.interface import Encoding as Encoding, Model as Model, encode as encode
    from mechfourier.models.registry import known_models as known_models, load as load
    from mechfourier.models.weights import reinitialised as reinitialised, weights_hash as weights_hash

__getattr__, __dir__ = lazy(__name__)
