"""What is analysed: a model, a run folder, a checkpoint file or a packaged name, as weights with their
configuration."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool
from torch import Tensor

from mechfourier.errors import BadCheckpoint, UsageError
from mechfourier.toys.one_layer.task import split
from mechfourier.toys.one_layer.weights import OneLayerConfig, parameter_shapes
from mechfourier.toys.opening import check_shapes, open_run


@dataclass(frozen=True)
class Source:
    """``weights`` by TransformerLens name; ``train[a, b]`` marks the pairs trained on (None where that is
    unknown); ``checkpoints`` are the (step, file) of a run, in order."""

    name: str
    weights: dict[str, Tensor]
    config: OneLayerConfig
    train: Bool[Tensor, "p p"] | None = None
    checkpoints: tuple[tuple[int, Path], ...] = field(default=())


def open_source(source: Any) -> Source:
    """A ``Source`` from a ``Source``, an ``OneLayerTransformer``, a run or model folder, one of a run's
    ``checkpoints/step-….safetensors``, or a registered name such as ``one-layer``.

    Raises ``UsageError`` where it is another kind of model, ``BadCheckpoint`` where the weights do not fit.
    """
    if isinstance(source, Source):
        return source
    return _from_files(source) if isinstance(source, str | Path) else _from_model(source)


def _from_model(model: Any) -> Source:
    cfg = getattr(model, "cfg", None)
    if not isinstance(cfg, OneLayerConfig):
        raise UsageError(
            f"analyze takes a one-layer transformer apart, not {type(model).__name__}; for other models "
            f"use: mechfourier probe"
        )
    weights = {name: value.detach().cpu() for name, value in model.weights().items()}
    return Source(str(getattr(model, "mechfourier_name", cfg.model_name)), weights, cfg)


def _from_files(source: str | Path) -> Source:
    otherwise = (
        ": only one-layer networks can be taken apart and animated (make one with: mechfourier train "
        "one-layer); for others use: "
        "mechfourier probe"
    )
    opened = open_run(source, "one-layer", otherwise=otherwise)
    try:
        cfg = OneLayerConfig.from_dict(opened.config)
    except TypeError as error:
        raise BadCheckpoint(
            f"the config.json of {source} does not describe a one-layer model ({error})"
        ) from error
    check_weights(opened.weights, cfg, source)
    return Source(opened.name, opened.weights, cfg, train_mask(opened.config, cfg), opened.checkpoints)


def check_weights(weights: Mapping[str, Tensor], cfg: OneLayerConfig, where: str | Path) -> None:
    """Raise ``BadCheckpoint`` where the tensors read from ``where`` are not those of the configuration."""
    check_shapes(weights, parameter_shapes(cfg), "the model that its config.json describes", where=str(where))


def train_mask(config: Mapping[str, Any], cfg: OneLayerConfig) -> Bool[Tensor, "p p"] | None:
    """The pairs a run was trained on, drawn again from its configuration; None where it does not say."""
    flat = _flat(config)
    fraction, seed = flat.get("train_fraction"), flat.get("split_seed", flat.get("seed"))
    if fraction is None or seed is None:
        return None
    pairs = split(cfg.task, cfg.p, train_fraction=float(fraction), seed=int(seed)).train_pairs
    mask = torch.zeros(cfg.p, cfg.p, dtype=torch.bool)
    mask[pairs[:, 0], pairs[:, 1]] = True
    return mask


def _flat(config: Mapping[str, Any]) -> dict[str, Any]:
    """Nested keys by their last name; an outer one wins."""
    out: dict[str, Any] = {}
    for value in config.values():
        if isinstance(value, Mapping):
            out |= _flat(value)
    return out | {key: value for key, value in config.items() if not isinstance(value, Mapping)}
