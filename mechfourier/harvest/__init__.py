"""Activations of a whole data set on disk: sharded safetensors with checksums, made by one process or many, read back without copying.

``capture_dataset`` makes them (``mechfourier capture``), ``open_harvest`` reads them, ``plan`` says beforehand what they take. Names
are loaded on first use.
"""

from typing import TYPE_CHECKING

from mechfourier._lazy import lazy

_PUBLIC = {
    "capture_dataset": ".run",
    "CaptureResult": ".run",
    "open_harvest": ".read",
    "Harvest": ".read",
    "verify": ".check",
    "VerifyResult": ".check",
    "plan": ".planning",
    "Plan": ".planning",
}

__all__ = [*_PUBLIC]
__getattr__, __dir__ = lazy(__name__, _PUBLIC)

if TYPE_CHECKING:
    from mechfourier.harvest.check import VerifyResult, verify
    from mechfourier.harvest.planning import Plan, plan
    from mechfourier.harvest.read import Harvest, open_harvest
    from mechfourier.harvest.run import CaptureResult, capture_dataset
