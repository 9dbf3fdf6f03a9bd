"""The uniform hook layer: models in, arrays out. Sites, capture, the activation store, interventions."""

from mechfourier.hooks.capture import Activations, capture
from mechfourier.hooks.site import Site, select_sites, sites
from mechfourier.hooks.store import ActivationStore

__all__ = ["ActivationStore", "Activations", "Site", "capture", "select_sites", "sites"]
