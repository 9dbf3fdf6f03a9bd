"""Sparse dictionaries (SAELens) on any hook point: trained on captured activations, evaluated, scored for
Fourier structure.

``train`` makes them, ``load_sae`` reads them (or a release of SAELens), ``evaluate`` measures them on
held-out text, ``score`` asks whether they hold cleaner circles than the basis, ``feature_pages`` shows what
features stand for, ``feature_basis`` gives their directions to ``ablate``, ``patch`` and ``rotate``. Names
are loaded on first use: SAELens takes seconds to import.
"""

from typing import TYPE_CHECKING

from mechfourier._lazy import lazy

if TYPE_CHECKING:
    from mechfourier.sae.evaluation import SAEEvaluation as SAEEvaluation, evaluate as evaluate
    from mechfourier.sae.features import FeaturePage as FeaturePage, feature_pages as feature_pages
    from mechfourier.sae.load import (
        LoadedDictionary as LoadedDictionary,
        feature_basis as feature_basis,
        load_sae as load_sae,
    )
    from mechfourier.sae.rows import Reading as Reading
    from mechfourier.sae.score_result import SAEScore as SAEScore
    from mechfourier.sae.scoring import score as score
    from mechfourier.sae.settings import Dictionary as Dictionary, Schedule as Schedule
    from mechfourier.sae.text import Source as Source
    from mechfourier.sae.training import SAERun as SAERun, train as train

__getattr__, __dir__ = lazy(__name__)
