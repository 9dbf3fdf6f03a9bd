"""The one-layer transformer taken apart: one checkpoint (``analyze``) or a whole run (``progress_curves``, ``find_phases``)."""

from mechfourier.probes.one_layer.analysis import analyze
from mechfourier.probes.one_layer.curves import ProgressCurves, progress_curves
from mechfourier.probes.one_layer.evolution import Evolution, evolution
from mechfourier.probes.one_layer.phases import Phases, find_phases
from mechfourier.probes.one_layer.portrait import Portrait, portrait
from mechfourier.probes.one_layer.result import Baseline, Cluster, OneLayerAnalysis
from mechfourier.probes.one_layer.source import Source, open_source
from mechfourier.probes.one_layer.view import View, view

__all__ = [
    "analyze", "OneLayerAnalysis", "Cluster", "Baseline",
    "progress_curves", "ProgressCurves", "find_phases", "Phases",
    "portrait", "Portrait", "evolution", "Evolution",
    "open_source", "Source", "view", "View",
]  # fmt: skip
