"""The one-layer transformer: one checkpoint taken apart (``analyze``) or a whole run (``progress_curves``,
``find_phases``)."""

from typing import TYPE_CHECKING

from mechfourier._lazy import lazy

_PUBLIC = {
    "analyze": ".analysis",
    "OneLayerAnalysis": ".result",
    "Cluster": ".result",
    "Baseline": ".result",
    "progress_curves": ".curves",
    "ProgressCurves": ".curves",
    "find_phases": ".phases",
    "Phases": ".phases",
    "portrait": ".checkpoint_tables",
    "Portrait": ".checkpoint_tables",
    "evolution": ".checkpoints",
    "Evolution": ".checkpoints",
    "open_source": ".source",
    "Source": ".source",
    "view": ".tensors",
    "View": ".tensors",
}

__all__ = [*_PUBLIC]
__getattr__, __dir__ = lazy(__name__, _PUBLIC)

if TYPE_CHECKING:
    from mechfourier.toys.one_layer.analysis import analyze
    from mechfourier.toys.one_layer.checkpoint_tables import Portrait, portrait
    from mechfourier.toys.one_layer.checkpoints import Evolution, evolution
    from mechfourier.toys.one_layer.curves import ProgressCurves, progress_curves
    from mechfourier.toys.one_layer.phases import Phases, find_phases
    from mechfourier.toys.one_layer.result import Baseline, Cluster, OneLayerAnalysis
    from mechfourier.toys.one_layer.source import Source, open_source
    from mechfourier.toys.one_layer.tensors import View, view
