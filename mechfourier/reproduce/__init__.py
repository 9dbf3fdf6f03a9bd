"""Every experiment of grokking-fourier by name: the published figure beside the measured one, and whether the
claim stands."""

from typing import TYPE_CHECKING

from mechfourier._lazy import lazy

_PUBLIC = {
    "Claim": ".result",
    "Control": ".result",
    "Reproduction": ".result",
    "Experiment": ".experiment",
    "EXPERIMENTS": ".catalogue",
    "Settings": ".settings",
    "QUICK": ".settings",
    "reproduce": ".run",
    "estimate": ".estimate",
}

__all__ = [*_PUBLIC]
__getattr__, __dir__ = lazy(__name__, _PUBLIC)

if TYPE_CHECKING:
    from mechfourier.reproduce.catalogue import EXPERIMENTS
    from mechfourier.reproduce.estimate import estimate
    from mechfourier.reproduce.experiment import Experiment
    from mechfourier.reproduce.result import Claim, Control, Reproduction
    from mechfourier.reproduce.run import reproduce
    from mechfourier.reproduce.settings import QUICK, Settings
