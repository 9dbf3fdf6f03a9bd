"""Where a network of this folder is taken from: a run or model folder, one of a run's checkpoints, or a
packaged name."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from mechfourier.errors import BadCheckpoint, UsageError
from mechfourier.models.architectures import run_folder
from mechfourier.models.checkpoint import load_checkpoint, read_config, read_safetensors
from mechfourier.models.folder import CONFIG, WEIGHTS

STEP = re.compile(r"step-(\d+)\.safetensors")


@dataclass(frozen=True)
class OpenedRun:
    """Tensors with the config.json that describes them; ``checkpoints`` are the (step, file) of a run, in
    order."""

    name: str
    config: dict[str, Any]
    weights: dict[str, Tensor]
    checkpoints: tuple[tuple[int, Path], ...] = ()


def open_run(source: str | Path, architecture: str, *, otherwise: str = "") -> OpenedRun:
    """What ``source`` holds. Raises ``UsageError`` where it is of another architecture (``otherwise`` says
    what to do then)."""
    path = Path(source)
    if path.is_file():
        folder = run_folder(path)
        if folder is None:
            raise UsageError(
                f"{path} is no checkpoint of a run of ours (a .safetensors file with {CONFIG} beside it or "
                f"above it); "
                f"bring it in with: mechfourier import {path} --out DIR"
            )
        return OpenedRun(
            f"{folder.name}/{path.name}", _config(folder, architecture, otherwise), read_safetensors(path)
        )
    if path.is_dir():
        folder, name = path, path.name or str(path)
    else:
        from mechfourier.models.registry import resolve

        folder, name = resolve(source), str(source)
    config, checkpoints = _config(folder, architecture, otherwise), _checkpoints(folder)
    if checkpoints and not (folder / WEIGHTS).is_file():
        step, path = checkpoints[-1]  # a run that is still going, or was interrupted
        weights, name = read_safetensors(path), f"{name} (unfinished, step {step}; finish it with --resume)"
    else:
        weights, _ = load_checkpoint(folder)
    return OpenedRun(name, config, weights, checkpoints)


def _config(folder: Path, architecture: str, otherwise: str) -> dict[str, Any]:
    config = read_config(folder)
    found = config.get("architecture", config.get("model_type"))
    if found != architecture:
        raise UsageError(
            f"{folder} holds the architecture {found!r}, and {architecture!r} is wanted here{otherwise}"
        )
    return config


def _checkpoints(folder: Path) -> tuple[tuple[int, Path], ...]:
    found = [
        (STEP.fullmatch(path.name), path) for path in (folder / "checkpoints").glob("step-*.safetensors")
    ]
    return tuple(sorted((int(match[1]), path) for match, path in found if match))


def check_shapes(
    weights: Mapping[str, Tensor], shapes: Mapping[str, tuple[int, ...]], model: str, *, where: str = ""
) -> None:
    """Raise ``BadCheckpoint`` for the first tensor that ``model`` lacks, does not have, or has in another
    shape."""
    of = f"{where}: " if where else ""
    for name in [*shapes, *weights]:
        if name not in weights:
            raise BadCheckpoint(f"{of}the tensor {name!r} is missing, which {model} needs")
        if name not in shapes:
            raise BadCheckpoint(
                f"{of}the tensor {name!r} is none of {model}'s; its names: {', '.join(list(shapes)[:6])} …"
            )
        if tuple(weights[name].shape) != shapes[name]:
            raise BadCheckpoint(
                f"{of}{name!r} has shape {tuple(weights[name].shape)}; {model} needs {shapes[name]}"
            )
