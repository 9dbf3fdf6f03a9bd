"""A model and a domain in, a verdict with its evidence out. Names are loaded on first use.

The statistics on arrays are in ``mechfourier.stats``, domains and designs in ``mechfourier.domains``; the
names that were here before are found here still.
"""

# the folder is linked as ``probes`` at the top of the repository, to be read there; imported so, every class
# would exist twice
if __name__ != "mechfourier.probes":
    raise ImportError(f"{__name__} is a link to mechfourier/probes; write: import mechfourier.probes")

from typing import TYPE_CHECKING

from mechfourier._lazy import lazy

if TYPE_CHECKING:
    from mechfourier.domains import (
        Design as Design,
        Domain as Domain,
        domain as domain,
        list_domains as list_domains,
        read_positions as read_positions,
    )
    from mechfourier.probes.attention import attention as attention
    from mechfourier.probes.attention_result import AttentionResult as AttentionResult
    from mechfourier.probes.lens import LensResult as LensResult, lens as lens
    from mechfourier.probes.numbers import NumberLine as NumberLine, number_line as number_line
    from mechfourier.probes.probe import probe as probe
    from mechfourier.probes.result import ProbeResult as ProbeResult
    from mechfourier.probes.scan import ScanResult as ScanResult, scan as scan
    from mechfourier.probes.shapes import (
        Analogies as Analogies,
        PlaneReducibility as PlaneReducibility,
        analogies as analogies,
        reducibility as reducibility,
    )
    from mechfourier.stats import (
        OperationEvidence as OperationEvidence,
        ValueEvidence as ValueEvidence,
        Verdict as Verdict,
        analyse_operation as analyse_operation,
        analyse_value as analyse_value,
        verdict_operation as verdict_operation,
        verdict_value as verdict_value,
    )

__getattr__, __dir__ = lazy(__name__)
