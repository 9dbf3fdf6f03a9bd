"""The language model inside a model of text and images: its own config and tensors, where transformers has a
class for it."""

from pathlib import Path
from typing import Any

from torch import Tensor

from mechfourier.errors import UsageError
from mechfourier.models.folder import read_config

# where files of different versions keep the language model and its output matrix, the longest first
_INNER = ("model.language_model.model.", "model.language_model.", "language_model.model.", "language_model.")
_HEADS = ("model.language_model.lm_head.", "language_model.lm_head.", "model.lm_head.", "lm_head.")
_OTHER = (
    "vision",
    "visual",
    "image",
    "audio",
    "multi_modal",
    "mm_",
    "projector",
    "connector",
    "aligner",
    "embed_vision",
    "embed_audio",
)


def text_config(config: Any) -> Any | None:
    """The config of the language model of a multimodal model, ready for its own class; None for a model of
    text alone.

    Raises ``UsageError`` where transformers has no class for the text part alone.
    """
    inner = getattr(config, "text_config", None)
    if inner is None or not any(hasattr(config, f"{kind}_config") for kind in ("vision", "audio")):
        return None
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    name = MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.get(inner.model_type)
    if name is None or name == (config.architectures or [None])[0]:
        raise UsageError(
            f"{(config.architectures or ['this model'])[0]} reads images as well as text, and transformers "
            f"has no class for its language model "
            f"alone ({inner.model_type}); take a text-only model of that family"
        )
    inner.architectures = [name]
    # the whole model's word, where the part was saved without one of its own
    inner.tie_word_embeddings = getattr(config, "tie_word_embeddings", None) or inner.tie_word_embeddings
    return inner


def is_text_part(folder: Path, config: Any) -> bool:
    """Whether ``config`` is that of the language model inside the model of a folder, not of the whole."""
    return read_config(folder).get("architectures") != config.architectures


def text_tensors(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The language model's tensors under a causal language model's names; those of images and sound are left
    out, all else is kept."""
    found = {}
    for name, tensor in tensors.items():
        head = next((h for h in _HEADS if name.startswith(h)), None)
        inner = next((i for i in _INNER if name.startswith(i)), None)
        if head is not None:
            found["lm_head." + name.removeprefix(head)] = tensor
        elif inner is not None:
            found["model." + name.removeprefix(inner)] = tensor
        elif not any(part.startswith(_OTHER) for part in name.split(".")[:2]):
            found[name] = tensor
    return found
