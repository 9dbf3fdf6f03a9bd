"""Activations of a whole data set on disk: sharded safetensors with checksums, made by one process or many, read back without copying.

``capture_dataset`` makes them (``mechfourier capture``), ``open_harvest`` reads them, ``plan`` says beforehand what they take. Names
are loaded on first use.
"""

import importlib
from typing import TYPE_CHECKING, Any

_PUBLIC: dict[str, str] = {
    "capture_dataset": "run",
    "CaptureResult": "run",
    "open_harvest": "read",
    "Harvest": "read",
    "verify": "check",
    "VerifyResult": "check",
    "plan": "planning",
    "Plan": "planning",
}

__all__ = [
    "capture_dataset",
    "CaptureResult",
    "open_harvest",
    "Harvest",
    "verify",
    "VerifyResult",
    "plan",
    "Plan",
]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        from mechfourier.errors import nearest

        raise AttributeError(f"mechfourier.harvest has no name {name!r}; closest: {nearest(name, _PUBLIC)}")
    value = getattr(importlib.import_module(f"mechfourier.harvest.{_PUBLIC[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)


if TYPE_CHECKING:
    from mechfourier.harvest.check import VerifyResult, verify
    from mechfourier.harvest.planning import Plan, plan
    from mechfourier.harvest.read import Harvest, open_harvest
    from mechfourier.harvest.run import CaptureResult, capture_dataset
