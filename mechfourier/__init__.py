"""Find, test and explain Fourier (circular) features in transformers.

The public names below are loaded on first use (PEP 562), so that ``import mechfourier`` stays cheap:
no torch, no transformer_lens.
"""

from typing import TYPE_CHECKING

from mechfourier._lazy import lazy
from mechfourier._version import __version__

# public name -> module that defines it; "" marks a submodule.
_PUBLIC = {
    # models
    "load": "mechfourier.models.registry",
    "models": "",
    # hook points
    "Site": "mechfourier.hooks.site",
    "sites": "mechfourier.hooks.site",
    "capture": "mechfourier.hooks.capture",
    "Activations": "mechfourier.hooks.capture",
    "ActivationStore": "mechfourier.hooks.store",
    "generate": "mechfourier.hooks.generate",
    "capture_dataset": "mechfourier.harvest.run",
    "open_harvest": "mechfourier.harvest.read",
    # domains and probes
    "Domain": "mechfourier.domains.definition",
    "domain": "mechfourier.domains.definition",
    "probe": "mechfourier.probes.probe",
    "ProbeResult": "mechfourier.probes.result",
    "tasks": "mechfourier.domains.tasks",
    "analyze": "mechfourier.toys.one_layer",
    "OneLayerAnalysis": "mechfourier.toys.one_layer",
    # causes
    "ablate": "mechfourier.causal.ablate",
    "sweep_ablate": "mechfourier.causal.sweep",
    "attribution": "mechfourier.causal.attribution",
    "find_plane": "mechfourier.causal.find_plane",
    "AblationResult": "mechfourier.causal.ablate",
    "rotate": "mechfourier.causal.rotate",
    "patch": "mechfourier.causal.patch",
    "arms": "mechfourier.causal.arms",
    "study": "mechfourier.causal.study",
    # errors
    "MechFourierError": "mechfourier.errors",
    "UsageError": "mechfourier.errors",
    # layers
    "fourier": "",
    "hooks": "",
    "probes": "",
    "causal": "",
    "sae": "",
    "harvest": "",
    "domains": "",
    "stats": "",
    "toys": "",
    "results": "",
    "training": "",
    "figures": "",
}

__all__ = ["__version__", *_PUBLIC]
__getattr__, __dir__ = lazy(__name__, _PUBLIC)

if TYPE_CHECKING:
    from mechfourier import causal, figures, fourier, harvest, hooks, models, probes, sae, training
    from mechfourier.causal.ablate import AblationResult, ablate
    from mechfourier.causal.arms import arms
    from mechfourier.causal.attribution import attribution
    from mechfourier.causal.find_plane import find_plane
    from mechfourier.causal.patch import patch
    from mechfourier.causal.rotate import rotate
    from mechfourier.causal.study import study
    from mechfourier.causal.sweep import sweep_ablate
    from mechfourier.domains.definition import Domain, domain
    from mechfourier.domains.tasks import tasks
    from mechfourier.errors import MechFourierError, UsageError
    from mechfourier.harvest.read import open_harvest
    from mechfourier.harvest.run import capture_dataset
    from mechfourier.hooks.capture import Activations, capture
    from mechfourier.hooks.generate import generate
    from mechfourier.hooks.site import Site, sites
    from mechfourier.hooks.store import ActivationStore
    from mechfourier.models.registry import load
    from mechfourier.probes.probe import probe
    from mechfourier.probes.result import ProbeResult
    from mechfourier.toys.one_layer import OneLayerAnalysis, analyze
