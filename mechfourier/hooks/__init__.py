"""The uniform hook layer: models in, arrays out. Sites, capture, the activation store, interventions."""

from mechfourier.hooks.capture import Activations, capture
from mechfourier.hooks.edit import Edit, Where
from mechfourier.hooks.generate import Generation, generate
from mechfourier.hooks.interventions import add, intervene, mean, patch, project_out, resample, rotate, zero
from mechfourier.hooks.run import forward_from
from mechfourier.hooks.site import Site, select_sites, sites
from mechfourier.hooks.store import ActivationStore

__all__ = [
    "Site", "select_sites", "sites",
    "Activations", "ActivationStore", "capture", "forward_from",
    "Edit", "Where", "intervene", "Generation", "generate",
    "add", "mean", "patch", "project_out", "resample", "rotate", "zero",
]  # fmt: skip
