"""What is analysed: a model, a run folder, a checkpoint file or a packaged name, as weights with their configuration."""

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool
from torch import Tensor

from mechfourier.errors import BadCheckpoint, MechFourierError, UsageError
from mechfourier.models.checkpoint import load_checkpoint, read_config, read_safetensors
from mechfourier.toys.one_layer.task import split
from mechfourier.toys.one_layer.weights import OneLayerConfig, parameter_shapes

STEP = re.compile(r"step-(\d+)\.safetensors")


@dataclass(frozen=True)
class Source:
    """``weights`` by TransformerLens name; ``train[a, b]`` marks the pairs trained on (None where that is unknown);
    ``checkpoints`` are the (step, file) of a run, in order."""

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
    if isinstance(source, str | Path):
        path = Path(source)
        if path.is_dir():
            return _from_folder(path)
        if path.is_file():
            return _from_file(path)
        from mechfourier.models.registry import resolve

        return dataclasses.replace(_from_folder(resolve(source)), name=str(source))
    return _from_model(source)


def _from_model(model: Any) -> Source:
    cfg = getattr(model, "cfg", None)
    if not isinstance(cfg, OneLayerConfig):
        raise UsageError(
            f"analyze takes a one-layer transformer apart, not {type(model).__name__}; for other models use: mechfourier probe"
        )
    weights = {name: value.detach().cpu() for name, value in model.weights().items()}
    return Source(str(getattr(model, "mechfourier_name", cfg.model_name)), weights, cfg)


def _from_folder(folder: Path) -> Source:
    config = read_config(folder)
    cfg = _config(config, folder)
    checkpoints = _checkpoints(folder)
    if checkpoints and not (folder / "model.safetensors").is_file():
        weights = read_safetensors(checkpoints[-1][1])  # a run that is still going, or was interrupted
    else:
        weights, _ = load_checkpoint(folder)
    check_weights(weights, cfg, folder)
    return Source(folder.name or str(folder), weights, cfg, train_mask(config, cfg), checkpoints)


def _from_file(path: Path) -> Source:
    """One checkpoint; its configuration is beside it, or one folder up (``checkpoints/step-….safetensors``)."""
    folder = next((f for f in (path.parent, path.parent.parent) if (f / "config.json").is_file()), None)
    if folder is None or path.suffix != ".safetensors":
        raise UsageError(
            f"{path} is no checkpoint of a run of ours (a .safetensors file with config.json beside it or above it); "
            f"bring it in with: mechfourier import {path} --out DIR"
        )
    config = read_config(folder)
    cfg = _config(config, folder)
    weights = read_safetensors(path)
    check_weights(weights, cfg, path)
    return Source(f"{folder.name}/{path.name}", weights, cfg, train_mask(config, cfg))


def _config(config: Mapping[str, Any], folder: Path) -> OneLayerConfig:
    architecture = config.get("architecture", config.get("model_type"))
    if architecture != "one-layer":
        raise UsageError(
            f"{folder} holds the architecture {architecture!r}, and only one-layer networks can be taken apart and animated "
            "(make one with: mechfourier train one-layer); for others use: mechfourier probe"
        )
    try:
        return OneLayerConfig.from_dict(dict(config))
    except MechFourierError:
        raise
    except TypeError as error:
        raise BadCheckpoint(
            f"{folder / 'config.json'} does not describe a one-layer model ({error})"
        ) from error


def _checkpoints(folder: Path) -> tuple[tuple[int, Path], ...]:
    found = [
        (STEP.fullmatch(path.name), path) for path in (folder / "checkpoints").glob("step-*.safetensors")
    ]
    return tuple(sorted((int(match[1]), path) for match, path in found if match))


def check_weights(weights: Mapping[str, Tensor], cfg: OneLayerConfig, where: Path) -> None:
    for name, shape in parameter_shapes(cfg).items():
        if name not in weights:
            raise BadCheckpoint(f"{where} lacks the tensor {name!r}; its config.json says it should be there")
        if tuple(weights[name].shape) != shape:
            raise BadCheckpoint(
                f"{where}: {name!r} has shape {tuple(weights[name].shape)}, config.json asks for {shape}"
            )


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
