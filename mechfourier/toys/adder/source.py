"""What is studied: an adder, from a model, a run or model folder, one of a run's checkpoints, or a packaged name."""

from pathlib import Path
from typing import Any

from mechfourier.errors import UsageError
from mechfourier.models.checkpoint import load_checkpoint, read_config, read_safetensors
from mechfourier.toys.adder.config import AdderConfig
from mechfourier.toys.adder.model import AdderBase, build

LONGEST_TRAINED = 5  # of every recipe; a run says so itself


def open_adder(source: Any) -> tuple[AdderBase, dict[str, Any]]:
    """The model, in evaluation mode, and its config.json ({} for a model that was passed in).

    Raises ``UsageError`` where it is another kind of model, ``BadCheckpoint`` where the weights do not fit.
    """
    if isinstance(source, AdderBase):
        return source.eval(), {}
    if not isinstance(source, str | Path):
        raise UsageError(
            f"an adder is wanted here, not {type(source).__name__}; train one with: mechfourier train adder"
        )
    path = Path(source)
    if path.is_file() and path.suffix == ".safetensors":
        return _from_file(path)
    if path.is_dir():
        folder, name = path, path.name
    else:
        from mechfourier.models.registry import resolve

        folder, name = resolve(source), str(source)
    config = _checked(folder)
    checkpoints = sorted((folder / "checkpoints").glob("step-*.safetensors"))
    if checkpoints and not (folder / "model.safetensors").is_file():
        weights = read_safetensors(checkpoints[-1])  # a run that is still going, or was interrupted
    else:
        weights, _ = load_checkpoint(folder)
    model = build(AdderConfig.from_dict(config), weights=weights).eval()
    model.mechfourier_name = name
    return model, config


def _from_file(path: Path) -> tuple[AdderBase, dict[str, Any]]:
    """One checkpoint; its configuration is beside it, or one folder up (``checkpoints/step-….safetensors``)."""
    folder = next(
        (f for f in (path.parent, path.parent.parent) if (f / "config.json").is_file()), path.parent
    )
    config = _checked(folder)
    model = build(AdderConfig.from_dict(config), weights=read_safetensors(path)).eval()
    model.mechfourier_name = f"{folder.name}/{path.name}"
    return model, config


def _checked(folder: Path) -> dict[str, Any]:
    config = read_config(folder)
    architecture = config.get("architecture", config.get("model_type"))
    if architecture != "adder":
        raise UsageError(f"{folder} holds the architecture {architecture!r}, and an adder is wanted here")
    return config


def trained_digits(config: dict[str, Any]) -> int:
    """Digits of the longest operand that the run was trained on."""
    stages = config.get("training", {}).get("recipe", {}).get("stages")
    return max(int(longest) for _, longest in stages) if stages else LONGEST_TRAINED
