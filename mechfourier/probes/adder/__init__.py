"""The adder measured and taken apart."""

from mechfourier.probes.adder.accuracy import AdderAccuracy, Share, exact, sweep_accuracy
from mechfourier.probes.adder.source import open_adder

__all__ = ["AdderAccuracy", "Share", "exact", "open_adder", "sweep_accuracy"]
