"""The character-level adder: measured and taken apart. Names are loaded on first use."""

from typing import TYPE_CHECKING

from mechfourier._lazy import lazy

_PUBLIC = {
    "AdderAccuracy": ".accuracy",
    "Share": ".accuracy",
    "exact": ".accuracy",
    "sweep_accuracy": ".accuracy",
    "AdderAnalysis": ".analysis",
    "analyze": ".analysis",
    "QUANTITIES": ".domains",
    "AdderDomain": ".domains",
    "adder_domain": ".domains",
    "open_adder": ".source",
}

__all__ = [*_PUBLIC]
__getattr__, __dir__ = lazy(__name__, _PUBLIC)

if TYPE_CHECKING:
    from mechfourier.toys.adder.accuracy import AdderAccuracy, Share, exact, sweep_accuracy
    from mechfourier.toys.adder.analysis import AdderAnalysis, analyze
    from mechfourier.toys.adder.domains import QUANTITIES, AdderDomain, adder_domain
    from mechfourier.toys.adder.source import open_adder
