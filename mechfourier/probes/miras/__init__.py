"""The models of every modulus measured and taken apart."""

from mechfourier.probes.miras.accuracy import AccuracySweep, ModulusAccuracy, sweep_accuracy
from mechfourier.probes.miras.source import Opened, open_miras, predictions

__all__ = ["AccuracySweep", "ModulusAccuracy", "Opened", "open_miras", "predictions", "sweep_accuracy"]
