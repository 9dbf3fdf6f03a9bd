"""The models of every modulus measured and taken apart."""

from mechfourier.probes.miras.accuracy import AccuracySweep, ModulusAccuracy, sweep_accuracy
from mechfourier.probes.miras.algorithm import Algorithm, study_algorithm
from mechfourier.probes.miras.analysis import MirasAnalysis, analyze, interference
from mechfourier.probes.miras.memory import memory_effects
from mechfourier.probes.miras.neurons import attention_flow, neuron_tables
from mechfourier.probes.miras.source import Opened, open_miras, predictions

__all__ = [
    "AccuracySweep", "Algorithm", "MirasAnalysis", "ModulusAccuracy", "Opened", "analyze", "attention_flow", "interference",
    "memory_effects", "neuron_tables", "open_miras", "predictions", "study_algorithm", "sweep_accuracy",
]  # fmt: skip
