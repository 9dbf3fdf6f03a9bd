"""What is studied: an adder, from a model, a run or model folder, one of a run's checkpoints, or a packaged
name."""

from pathlib import Path
from typing import Any

from mechfourier.errors import UsageError
from mechfourier.toys.adder.base import AdderBase
from mechfourier.toys.adder.config import AdderConfig
from mechfourier.toys.adder.model import build
from mechfourier.toys.opening import open_run

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
    opened = open_run(source, "adder")
    model = build(AdderConfig.from_dict(opened.config), weights=opened.weights).eval()
    model.mechfourier_name = opened.name
    return model, opened.config


def trained_digits(config: dict[str, Any]) -> int:
    """Digits of the longest operand that the run was trained on."""
    stages = config.get("training", {}).get("recipe", {}).get("stages")
    return max(int(longest) for _, longest in stages) if stages else LONGEST_TRAINED
