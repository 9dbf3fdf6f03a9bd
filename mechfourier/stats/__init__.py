"""Arrays in, evidence and a verdict out: spectra, permutation nulls, closure, operations, planted data.

Nothing here knows a model: ``analyse_value`` and ``analyse_operation`` measure, ``verdict_value`` and
``verdict_operation`` decide. Names are loaded on first use.
"""

from typing import TYPE_CHECKING

from mechfourier._lazy import lazy

_PUBLIC = {
    "analyse_value": ".value",
    "ValueEvidence": ".value",
    "verdict_value": ".verdict",
    "Verdict": ".verdict",
    "analyse_operation": ".operation",
    "OperationEvidence": ".operation",
    "verdict_operation": ".operation_verdict",
}

__all__ = [*_PUBLIC]
__getattr__, __dir__ = lazy(__name__, _PUBLIC)

if TYPE_CHECKING:
    from mechfourier.stats.operation import OperationEvidence, analyse_operation
    from mechfourier.stats.operation_verdict import verdict_operation
    from mechfourier.stats.value import ValueEvidence, analyse_value
    from mechfourier.stats.verdict import Verdict, verdict_value
