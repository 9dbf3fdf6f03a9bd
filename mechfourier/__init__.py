"""Find, test and explain Fourier (circular) features in transformers.

The public names below are loaded on first use (PEP 562), so that ``import mechfourier`` stays cheap:
no torch, no transformer_lens.
"""

import importlib
from typing import TYPE_CHECKING, Any

from mechfourier._version import __version__

# public name -> module that defines it; "" marks a submodule.
_PUBLIC: dict[str, str] = {
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
    "Domain": "mechfourier.probes.domains",
    "domain": "mechfourier.probes.domains",
    "probe": "mechfourier.probes.probe",
    "ProbeResult": "mechfourier.probes.result",
    "analyze": "mechfourier.probes.one_layer",
    "OneLayerAnalysis": "mechfourier.probes.one_layer",
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
    "tasks": "",
    "training": "",
    "figures": "",
}

__all__ = [
    "__version__",
    *_PUBLIC,
]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        from mechfourier.errors import nearest

        raise AttributeError(f"mechfourier has no name {name!r}; closest: {nearest(name, _PUBLIC)}")
    module = _PUBLIC[name]
    value = (
        getattr(importlib.import_module(module), name)
        if module
        else importlib.import_module(f"mechfourier.{name}")
    )
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)


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
    from mechfourier.errors import MechFourierError, UsageError
    from mechfourier.harvest.read import open_harvest
    from mechfourier.harvest.run import capture_dataset
    from mechfourier.hooks.capture import Activations, capture
    from mechfourier.hooks.generate import generate
    from mechfourier.hooks.site import Site, sites
    from mechfourier.hooks.store import ActivationStore
    from mechfourier.models.registry import load
    from mechfourier.probes.domains import Domain, domain
    from mechfourier.probes.one_layer import OneLayerAnalysis, analyze
    from mechfourier.probes.probe import probe
    from mechfourier.probes.result import ProbeResult
    from mechfourier.probes.tasks import tasks
