"""``ProbeResult``: a verdict, its reasons, the evidence of every hook point, and what to do next."""

import math
import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mechfourier.domains.reads import TokensRead
from mechfourier.probes.caveats import Caveats
from mechfourier.results.base import Result
from mechfourier.stats.operation import OperationEvidence
from mechfourier.stats.value import ValueEvidence
from mechfourier.stats.verdict import WORDS

if TYPE_CHECKING:
    import pandas as pd


WITH_PLANE = ("circular", "modular", "open arc")


@dataclass(frozen=True)
class Best:
    """The hook point and harmonic with the strongest circle. ``r2``: value designs, held-out R² of the subspace probe;
    operation designs, partial R² of the best dimension beyond the confounds."""

    site: str
    k: int
    r2: float


@dataclass(frozen=True)
class SiteRow:
    """One hook point in short: ``p_value`` is family-wise, ``spectrum[k − 1]`` the share of the power at harmonic k."""

    site: str
    p_value: float
    k: int
    r2: float
    spectrum: tuple[float, ...]


@dataclass(frozen=True)
class Circle:
    """Held-out positions of the values in the fitted plane at the best site: ``points[value] = (x, y)``, and the standard
    deviations and correlation over templates (operations: over first operands), for the ellipses of a figure."""

    k: int
    labels: tuple[str, ...]
    points: tuple[tuple[float, float], ...]
    spread: tuple[tuple[float, float, float], ...]


@dataclass(frozen=True)
class ProbeResult(
    Result,
    kind="probe",
    figure="mechfourier.figures.probe:probe_figure",
    part="mechfourier.figures.probe:probe_part",
):
    """What ``probe`` found. ``verdict`` is one of ``mechfourier.stats.verdict.WORDS``, ``used`` whether an intervention
    showed that the model uses it (a probe alone never does), ``reasons`` a sentence each, ``notes`` what to keep in mind.
    ``tokens``: what is read where, per template; ``caveats``: attention sinks and massive dimensions.
    """

    model: str
    domain: str
    n: int
    unit: str
    design: str
    position: str
    prompts: int
    verdict: str
    used: str
    reasons: tuple[str, ...]
    notes: tuple[str, ...]
    p_value: float
    best: Best | None
    sites: tuple[SiteRow, ...]
    circle: Circle | None
    value: ValueEvidence | None
    operation: OperationEvidence | None
    tokens: TokensRead | None = None
    caveats: Caveats | None = None

    def __str__(self) -> str:
        # an operation's word may rest on another site than the strongest plane, which its reasons name
        told = WITH_PLANE if self.design == "operation" else WORDS[:-1]
        tested = self.best is not None and self.verdict in told
        where = f" at {self.best.site}, k = {self.best.k}" if self.best is not None and tested else ""
        head = f"{self.verdict} ({self.used} for use): {self.domain} in {self.model}{where}"
        if tested and math.isfinite(self.p_value):
            head += f", family-wise p = {self.p_value:.2g}"
        return "\n".join([head, *(f"  - {reason}" for reason in self.reasons)])

    def frame(self) -> "pd.DataFrame":
        """One row per hook point, in the order of a forward pass; the units are in ``attrs["units"]``."""
        import pandas as pd

        if self.value is not None:
            rows = pd.DataFrame(_value_rows(self.value))
            rows.attrs["units"] = {"error": self.unit, "control_error": self.unit}
            return rows
        if self.operation is not None:
            return pd.DataFrame(_operation_rows(self.operation, self.sites))
        return pd.DataFrame(columns=["site", "p"])

    def next_steps(self) -> tuple[str, ...]:
        """What it would take to believe more, as commands."""
        return tuple(_next_steps(self))


def _value_rows(evidence: ValueEvidence) -> list[dict[str, Any]]:
    rows = []
    for site in evidence.sites:
        row: dict[str, Any] = {"site": site.site, "k": site.k, "share": site.share, "p": site.p_value}
        if site.probe is not None:
            row |= {
                "error": site.probe.error,
                "control_error": site.probe.null_error,
                "held_out_r2": site.probe.r2,
            }
        if site.closure is not None:
            row |= {"turns": site.closure.turns.value, "closes": "yes" if site.closure.closed else "no"}
        if site.dimensions:
            row |= {
                "best_dim": site.dimensions[0].dim,
                "dim_r2": site.dimensions[0].r2,
                "p_dim": site.dimensions[0].p_value,
            }
        rows.append(row)
    return rows


def _operation_rows(evidence: OperationEvidence, sites: tuple[SiteRow, ...]) -> list[dict[str, Any]]:
    return [
        {
            "site": row.site,
            "k": site.k,
            "share": site.plane_share,
            "p": site.p,
            "specificity": site.ratio,
            "surrogates": site.p_specific,
            "concentration": site.concentration,
            "a_only": site.a_only,
            "offset_only": site.offset_only,
            "best_dim": site.dim,
            "partial_r2": site.partial_r2,
            "p_dim": site.p_dim,
        }
        for site, row in zip(evidence.sites, sites, strict=True)
    ]


def _next_steps(result: ProbeResult) -> list[str]:
    if result.verdict == "not testable":
        return []
    model, domain = shlex.quote(result.model), shlex.quote(result.domain)
    steps = []
    if result.verdict in ("circular", "modular") and result.best is not None:
        steps.append(f"which questions the model answers: mechfourier tasks {model} --domain {domain}")
        steps.append(f"whether it uses this plane: mechfourier study {model} --domain {domain}")
    if result.design != "value":
        steps.append(f"where the answer arises: mechfourier lens {model} --domain {domain}")
    return steps
