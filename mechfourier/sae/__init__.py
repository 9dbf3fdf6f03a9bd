"""Sparse dictionaries (SAELens) on any hook point: trained on captured activations, evaluated, scored for Fourier structure.

``train`` makes them, ``load_sae`` reads them (or a release of SAELens), ``evaluate`` measures them on held-out text, ``score`` asks
whether they hold cleaner circles than the basis, ``feature_pages`` shows what features stand for, ``feature_basis`` gives their
directions to ``ablate``, ``patch`` and ``rotate``. Names are loaded on first use: SAELens takes seconds to import.
"""

from typing import TYPE_CHECKING

from mechfourier._lazy import lazy

_PUBLIC = {
    "Dictionary": ".settings",
    "Schedule": ".settings",
    "Reading": ".text",
    "Source": ".text",
    "train": ".training",
    "SAERun": ".training",
    "load_sae": ".load",
    "LoadedDictionary": ".load",
    "feature_basis": ".load",
    "evaluate": ".evaluation",
    "SAEEvaluation": ".evaluation",
    "score": ".scoring",
    "SAEScore": ".scoring",
    "feature_pages": ".features",
    "FeaturePage": ".features",
}

__all__ = [*_PUBLIC]
__getattr__, __dir__ = lazy(__name__, _PUBLIC)

if TYPE_CHECKING:
    from mechfourier.sae.evaluation import SAEEvaluation, evaluate
    from mechfourier.sae.features import FeaturePage, feature_pages
    from mechfourier.sae.load import LoadedDictionary, feature_basis, load_sae
    from mechfourier.sae.rows import Reading
    from mechfourier.sae.scoring import SAEScore, score
    from mechfourier.sae.settings import Dictionary, Schedule
    from mechfourier.sae.text import Source
    from mechfourier.sae.training import SAERun, train
