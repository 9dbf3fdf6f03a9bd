"""The atlas: every cyclic domain of a model at once, on one page."""

from typing import TYPE_CHECKING

from mechfourier._lazy import lazy

if TYPE_CHECKING:
    from mechfourier.atlas.result import AtlasResult as AtlasResult, DomainAtlas as DomainAtlas
    from mechfourier.atlas.run import atlas as atlas

__getattr__, __dir__ = lazy(__name__)
