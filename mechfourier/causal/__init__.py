"""Interventions with controls: does the model use what it represents?"""

from typing import TYPE_CHECKING

from mechfourier._lazy import lazy

if TYPE_CHECKING:
    from mechfourier.causal.experiment import Experiment as Experiment
    from mechfourier.causal.result import AblationResult as AblationResult, Performance as Performance

__getattr__, __dir__ = lazy(__name__)
