"""Domains, designs, statistics and verdicts: is a quantity represented on a circle, and what is that worth?

Arrays in, frozen results out: ``analyse_value`` and ``analyse_operation`` measure, ``verdict_value`` and
``verdict_operation`` decide. ``probe`` takes a model and a domain instead. Names are loaded on first use.
"""

import importlib
from typing import TYPE_CHECKING, Any

_PUBLIC: dict[str, str] = {
    "Domain": "domains",
    "domain": "domains",
    "list_domains": "domains",
    "Design": "design",
    "read_positions": "design",
    "analyse_value": "value",
    "ValueEvidence": "value",
    "verdict_value": "verdict",
    "Verdict": "verdict",
    "analyse_operation": "operation",
    "OperationEvidence": "operation",
    "verdict_operation": "operation_verdict",
    "ProbeResult": "result",
}

__all__ = [
    "Design", "Domain", "domain", "list_domains", "read_positions",
    "ValueEvidence", "Verdict", "analyse_value", "verdict_value",
    "OperationEvidence", "analyse_operation", "verdict_operation",
    "ProbeResult",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_PUBLIC[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


if TYPE_CHECKING:
    from mechfourier.probes.design import Design, read_positions
    from mechfourier.probes.domains import Domain, domain, list_domains
    from mechfourier.probes.operation import OperationEvidence, analyse_operation
    from mechfourier.probes.operation_verdict import verdict_operation
    from mechfourier.probes.result import ProbeResult
    from mechfourier.probes.value import ValueEvidence, analyse_value
    from mechfourier.probes.verdict import Verdict, verdict_value
