"""A model without its weights: the same hook points, built from config.json on torch's meta device, where tensors have shapes and no memory."""

from pathlib import Path
from typing import Any

import torch

from mechfourier.errors import UsageError
from mechfourier.models import pretrained, registry
from mechfourier.models.folder import read_config, weight_files


def outline(name_or_path: str | Path, *, engine: str = "auto") -> Any:
    """The model that ``load`` gives, with nothing in it: for what can be told from its structure (names of hook points, layers, heads).

    A network of this project is loaded whole (the largest has a megabyte), and so is whatever cannot be built without weights. Raises
    what ``load`` raises.
    """
    folder = registry.resolve(name_or_path)
    weight_files(folder)
    loader = registry._loader(folder)
    build = {registry.PRETRAINED: _language_model, registry.ENCODERS["BertModel"]: _encoder}.get(loader)
    if build is None or engine not in registry.ENGINES or (build is _encoder and engine != "auto"):
        return registry.load(name_or_path, engine=engine)
    try:
        model = build(folder, engine)
    except UsageError:
        raise
    except Exception:  # an architecture that asks for numbers while it is built: its own loader knows it, or says what is wrong
        return registry.load(name_or_path, engine=engine)
    model.mechfourier_name = str(name_or_path)
    return model


def _language_model(folder: Path, engine: str) -> Any:
    """HookedTransformer where ``load`` would take it, else the bridge."""
    reason = pretrained._why_not_hooked(read_config(folder))
    if engine == "hooked" and reason:
        raise pretrained._no_hooked(folder, reason)
    with pretrained.quiet(), torch.device("meta"):
        return _bridge(folder) if engine == "bridge" or reason else _hooked(folder)


def _hooked(folder: Path) -> Any:
    from transformer_lens import HookedTransformer
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False)
    cfg = pretrained._hooked_config(folder, config, torch.float32)
    cfg.init_weights = False
    cfg.device = "meta"
    return HookedTransformer(cfg, move_to_device=False)


def _bridge(folder: Path) -> Any:
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False)
    config._attn_implementation = "eager"
    model = pretrained._model_class(folder, config)._from_config(config, dtype=torch.float32).eval()
    return pretrained._bridge(model, folder, torch.float32, "meta", None)


def _encoder(folder: Path, engine: str) -> Any:
    from mechfourier.models.minilm import SentenceEncoder, encoder_config

    del engine  # it has one of its own
    with pretrained.quiet(), torch.device("meta"):
        return SentenceEncoder(encoder_config(read_config(folder), device="meta", dtype=torch.float32))
