"""A model without its weights: the same hook points, built from config.json on torch's meta device, where
tensors have shapes and no memory."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from mechfourier.errors import UsageError
from mechfourier.models import hugging_face, pretrained, registry
from mechfourier.models.adapters import adapter_in, base_of
from mechfourier.models.folder import read_config, weight_files
from mechfourier.models.gguf import config_of
from mechfourier.models.packaged import PackagedWeights
from mechfourier.models.quiet import quiet


def outline(name_or_path: str | Path, *, engine: str = "auto") -> Any:
    """The model that ``load`` gives, with nothing in it: for what can be told from its structure (names of
    hook points, layers, heads).

    A network of this project is loaded whole (the largest has a megabyte), and so is whatever cannot be built
    without weights. Raises what ``load`` raises.
    """
    build = _builder(registry.source_of(name_or_path), engine) if engine in registry.ENGINES else None
    try:
        model = build() if build is not None else None
    except UsageError:
        raise
    # an architecture that asks for numbers while it is built: its own loader knows it, or says what is wrong
    except Exception:
        model = None
    if model is None:
        return registry.load(name_or_path, engine=engine)
    model.mechfourier_name = str(name_or_path)
    return model


def _builder(source: Path | PackagedWeights, engine: str) -> Callable[[], Any] | None:
    """What makes the model of a folder, or of a GGUF file (which is not converted for that); None where only
    loading does."""
    if isinstance(source, PackagedWeights) or not source.is_dir():
        place = Path(source.file) if isinstance(source, PackagedWeights) else source
        return lambda: _language_model(place, config_of(source), engine)
    loader, adapter = registry._loader(source), adapter_in(source)
    folder = source if adapter is None else base_of(adapter)
    weight_files(folder)
    if loader == registry.PRETRAINED:
        return lambda: _language_model(folder, hugging_face.config_of(folder), engine)
    return (
        (lambda: _encoder(folder)) if loader == registry.ENCODERS["BertModel"] and engine == "auto" else None
    )


def _language_model(folder: Path, config: Any, engine: str) -> Any:
    """HookedTransformer where ``load`` would take it, else the bridge."""
    reason = pretrained._why_not_hooked(config.to_dict(), folder)
    if engine == "hooked" and reason:
        raise pretrained._no_hooked(folder, reason)
    with quiet(), torch.device("meta"):
        return _bridge(folder, config) if engine == "bridge" or reason else _hooked(folder, config)


def _hooked(folder: Path, config: Any) -> Any:
    from transformer_lens import HookedTransformer

    cfg = pretrained._hooked_config(config, torch.float32, folder.name)
    cfg.init_weights = False
    cfg.device = "meta"
    return HookedTransformer(cfg, move_to_device=False)


def _bridge(folder: Path, config: Any) -> Any:
    config._attn_implementation = "eager"
    model = hugging_face.language_model(folder, config)._from_config(config, dtype=torch.float32).eval()
    return pretrained._bridge(model, folder, torch.float32, "meta", None)


def _encoder(folder: Path) -> Any:
    from mechfourier.models.minilm import SentenceEncoder, encoder_config

    with quiet(), torch.device("meta"):
        return SentenceEncoder(encoder_config(read_config(folder), device="meta", dtype=torch.float32))
