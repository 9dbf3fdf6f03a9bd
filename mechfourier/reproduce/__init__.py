"""Every experiment of grokking-fourier by name: the published figure beside the measured one, and whether the claim stands."""

import importlib
from typing import TYPE_CHECKING, Any

_PUBLIC = {
    "Claim": "mechfourier.reproduce.result",
    "Reproduction": "mechfourier.reproduce.result",
    "Experiment": "mechfourier.reproduce.catalogue",
    "EXPERIMENTS": "mechfourier.reproduce.catalogue",
    "Settings": "mechfourier.reproduce.settings",
    "QUICK": "mechfourier.reproduce.settings",
    "reproduce": "mechfourier.reproduce.run",
    "estimate": "mechfourier.reproduce.estimate",
}

__all__ = ["Claim", "Reproduction", "Experiment", "EXPERIMENTS", "Settings", "QUICK", "reproduce", "estimate"]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        from mechfourier.errors import nearest

        raise AttributeError(f"mechfourier.reproduce has no name {name!r}; closest: {nearest(name, _PUBLIC)}")
    return getattr(importlib.import_module(_PUBLIC[name]), name)


if TYPE_CHECKING:
    from mechfourier.reproduce.catalogue import EXPERIMENTS, Experiment
    from mechfourier.reproduce.estimate import estimate
    from mechfourier.reproduce.result import Claim, Reproduction
    from mechfourier.reproduce.run import reproduce
    from mechfourier.reproduce.settings import QUICK, Settings
