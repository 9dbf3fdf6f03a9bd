"""Activations of a whole data set on disk: sharded safetensors with checksums, made by one process or many,
read back without copying.

``capture_dataset`` makes them (``mechfourier capture``), ``open_harvest`` reads them, ``plan`` says
beforehand what they take. Names are loaded on first use.
"""

from typing import TYPE_CHECKING

from mechfourier._lazy import lazy

if TYPE_CHECKING:
    from mechfourier.harvest.check import VerifyResult as VerifyResult, verify as verify
    from mechfourier.harvest.planning import Plan as Plan, plan as plan
    from mechfourier.harvest.read import Harvest as Harvest, open_harvest as open_harvest
    from mechfourier.harvest.result import CaptureResult as CaptureResult
    from mechfourier.harvest.run import capture_dataset as capture_dataset

__getattr__, __dir__ = lazy(__name__)
