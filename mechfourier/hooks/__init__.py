"""The uniform hook layer: models in, arrays out. Sites, capture, the activation store, interventions."""

# the folder is linked as ``hooks`` at the top of the repository, to be read there; imported so, every class
# would exist twice
if __name__ != "mechfourier.hooks":
    raise ImportError(f"{__name__} is a link to mechfourier/hooks; write: import mechfourier.hooks")

from typing import TYPE_CHECKING

from mechfourier._lazy import lazy

if TYPE_CHECKING:
    from mechfourier.hooks.capture import Activations as Activations, capture as capture
    from mechfourier.hooks.edit import Edit as Edit, Where as Where
    from mechfourier.hooks.generate import Generation as Generation, generate as generate
    from mechfourier.hooks.interventions import (
        add as add,
        intervene as intervene,
        mean as mean,
        patch as patch,
        project_out as project_out,
        resample as resample,
        rotate as rotate,
        zero as zero,
    )
    from mechfourier.hooks.run import forward_from as forward_from
    from mechfourier.hooks.site import Site as Site, select_sites as select_sites, sites as sites
    from mechfourier.hooks.store import ActivationStore as ActivationStore

__getattr__, __dir__ = lazy(__name__)
