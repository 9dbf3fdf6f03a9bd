"""A model and a domain in, a verdict with its evidence out. Names are loaded on first use.

The statistics on arrays are in ``mechfourier.stats``, domains and designs in ``mechfourier.domains``; the names that were
here before are found here still.
"""

from typing import TYPE_CHECKING

from mechfourier._lazy import lazy

_PUBLIC = {
    "ProbeResult": ".result",
    "Domain": "mechfourier.domains",
    "domain": "mechfourier.domains",
    "list_domains": "mechfourier.domains",
    "Design": "mechfourier.domains",
    "read_positions": "mechfourier.domains",
    "analyse_value": "mechfourier.stats",
    "ValueEvidence": "mechfourier.stats",
    "verdict_value": "mechfourier.stats",
    "Verdict": "mechfourier.stats",
    "analyse_operation": "mechfourier.stats",
    "OperationEvidence": "mechfourier.stats",
    "verdict_operation": "mechfourier.stats",
}

__all__ = [*_PUBLIC]
__getattr__, __dir__ = lazy(__name__, _PUBLIC)

if TYPE_CHECKING:
    from mechfourier.domains import Design, Domain, domain, list_domains, read_positions
    from mechfourier.probes.result import ProbeResult
    from mechfourier.stats import (
        OperationEvidence,
        ValueEvidence,
        Verdict,
        analyse_operation,
        analyse_value,
        verdict_operation,
        verdict_value,
    )
