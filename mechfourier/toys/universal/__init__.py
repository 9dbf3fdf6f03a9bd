"""The models of every modulus: measured and taken apart. Names are loaded on first use."""

from typing import TYPE_CHECKING

from mechfourier._lazy import lazy

_PUBLIC = {
    "AccuracySweep": ".accuracy",
    "ModulusAccuracy": ".accuracy",
    "sweep_accuracy": ".accuracy",
    "Algorithm": ".algorithm",
    "study_algorithm": ".algorithm",
    "MirasAnalysis": ".analysis",
    "analyze": ".analysis",
    "interference": ".analysis",
    "memory_effects": ".memory",
    "attention_flow": ".neurons",
    "neuron_tables": ".neurons",
    "Opened": ".source",
    "open_miras": ".source",
    "predictions": ".source",
}

__all__ = [*_PUBLIC]
__getattr__, __dir__ = lazy(__name__, _PUBLIC)

if TYPE_CHECKING:
    from mechfourier.toys.universal.accuracy import AccuracySweep, ModulusAccuracy, sweep_accuracy
    from mechfourier.toys.universal.algorithm import Algorithm, study_algorithm
    from mechfourier.toys.universal.analysis import MirasAnalysis, analyze, interference
    from mechfourier.toys.universal.memory import memory_effects
    from mechfourier.toys.universal.neurons import attention_flow, neuron_tables
    from mechfourier.toys.universal.source import Opened, open_miras, predictions
