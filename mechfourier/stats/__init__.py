"""Arrays in, evidence and a verdict out: spectra, permutation nulls, closure, operations, planted data.

Nothing here knows a model: ``analyse_value`` and ``analyse_operation`` measure, ``verdict_value`` and
``verdict_operation`` decide. Names are loaded on first use.
"""

from typing import TYPE_CHECKING

from mechfourier._lazy import lazy

if TYPE_CHECKING:
    from mechfourier.stats.operation import (
        OperationEvidence as OperationEvidence,
        analyse_operation as analyse_operation,
    )
    from mechfourier.stats.operation_verdict import verdict_operation as verdict_operation
    from mechfourier.stats.permutation import holm as holm, permutation_p as permutation_p
    from mechfourier.stats.value import ValueEvidence as ValueEvidence, analyse_value as analyse_value
    from mechfourier.stats.verdict import Verdict as Verdict, verdict_value as verdict_value

__getattr__, __dir__ = lazy(__name__)
