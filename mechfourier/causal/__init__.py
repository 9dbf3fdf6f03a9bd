"""Interventions with controls: does the model use what it represents?"""

from mechfourier._lazy import lazy

_PUBLIC = {
    "Experiment": ".experiment",
    "AblationResult": ".result",
    "Performance": ".result",
}
__all__ = ["AblationResult", "Experiment", "Performance"]
__getattr__, __dir__ = lazy(__name__, _PUBLIC)
