"""Interventions with controls: does the model use what it represents?"""

from mechfourier.causal.ablate import ablate
from mechfourier.causal.result import AblationResult, Performance

__all__ = ["AblationResult", "Performance", "ablate"]
