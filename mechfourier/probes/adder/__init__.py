"""The adder measured and taken apart."""

from mechfourier.probes.adder.accuracy import AdderAccuracy, Share, exact, sweep_accuracy
from mechfourier.probes.adder.analysis import AdderAnalysis, analyze
from mechfourier.probes.adder.domains import QUANTITIES, AdderDomain, adder_domain
from mechfourier.probes.adder.source import open_adder

__all__ = [
    "AdderAccuracy", "AdderAnalysis", "AdderDomain", "QUANTITIES", "Share", "adder_domain", "analyze", "exact", "open_adder",
    "sweep_accuracy",
]  # fmt: skip
