"""The uniform hook layer: models in, arrays out. Sites, capture, the activation store, interventions."""

from mechfourier.hooks.capture import Activations, capture
from mechfourier.hooks.site import Site, select_sites, sites

__all__ = ["Activations", "Site", "capture", "select_sites", "sites"]
