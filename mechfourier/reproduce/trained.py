"""What the claims about trained networks share: their sources, their words, and what to say where a run is
missing."""

import functools
from pathlib import Path
from typing import Any

from mechfourier.errors import UsageError
from mechfourier.models.folder import WEIGHTS
from mechfourier.reproduce.result import Word, claim

README = "grokking-fourier, README.md"
share_right = functools.partial(
    claim, source=README, unit="share right"
)  # a claim about a share of questions


def compare(measured: float, interval: tuple[float, float], published: float) -> Word:
    """A published accuracy *stands* where the interval of the measured one reaches it."""
    return "stands" if interval[0] <= published <= interval[1] else "does not stand"


def at_least(interval: tuple[float, float], published: float) -> Word:
    """A published success stands where it is matched or passed."""
    return "stands" if interval[1] >= published else "does not stand"


def present(source: Any) -> None:
    """Refuse to go on without weights."""
    if source is None:
        raise UsageError("there is no trained network here; give one with --run FOLDER")


def finished(folder: Path) -> bool:
    """A training writes its weights when it is done."""
    return (folder / WEIGHTS).is_file()


def missing(command: str) -> str:
    return f"no such run here; train one ({command}) and give it with --run, or let --train do it"
