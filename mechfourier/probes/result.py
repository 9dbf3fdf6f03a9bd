"""``ProbeResult``: a verdict, its reasons, the evidence of every hook point, and what to do next."""

import math
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any

from mechfourier.domains.reads import TokensRead
from mechfourier.errors import MechFourierError, UsageError
from mechfourier.hooks.site import Site
from mechfourier.probes.caveats import Caveats
from mechfourier.results.base import Result
from mechfourier.stats.operation import OperationEvidence
from mechfourier.stats.shapes.contest import ShapeEvidence
from mechfourier.stats.value import ValueEvidence
from mechfourier.stats.words import CIRCLES

if TYPE_CHECKING:
    import pandas as pd

    from mechfourier.probes.planes import HarmonicPlane


WITH_PLANE = ("circular", "modular", "open arc")
WORDS_0_1 = ("circular", "open arc", "magnitude", "token identity", "noise")
"""Verdicts on value designs in files of version 0.1, which had one best site and no words of single sites."""
MOST_RUNS = 3
"""Ranges of layers listed one by one; of more, the first and the last layer are named."""


@dataclass(frozen=True)
class Best:
    """The hook point and harmonic with the strongest circle. ``r2``: value designs, held-out R² of the
    subspace probe; operation designs, partial R² of the best dimension beyond the confounds."""

    site: str
    k: int
    r2: float


@dataclass(frozen=True)
class SiteRow:
    """One hook point in short: ``p_value`` is family-wise, ``spectrum[k − 1]`` the share of the power at
    harmonic k; its ``word``, what belongs to it (``label``), and every shape of the contest, best first (of
    operations: of the residue classes)."""

    site: str
    p_value: float
    k: int
    r2: float
    spectrum: tuple[float, ...]
    word: str = ""
    label: str = ""
    shapes: tuple[ShapeEvidence, ...] = ()


@dataclass(frozen=True)
class Circle:
    """Held-out positions of the values in the fitted plane at the best site: ``points[value] = (x, y)``, and
    the standard deviations and correlation over templates (operations: over first operands), for the ellipses
    of a figure."""

    k: int
    labels: tuple[str, ...]
    points: tuple[tuple[float, float], ...]
    spread: tuple[tuple[float, float, float], ...]


@dataclass(frozen=True)
class ArraysRead:
    """What was read where there was no model: ``source`` (a file, or the kind of object), ``layout`` (which axis is what),
    ``shape`` and ``dtype`` as given, ``templates`` that took part."""

    source: str
    layout: str
    shape: tuple[int, ...]
    dtype: str
    templates: int

    def __str__(self) -> str:
        count = f"{self.templates} template{'s' * (self.templates != 1)}"
        return f"{self.source}, {list(self.shape)} {self.dtype} as {self.layout!r}, {count}"


@dataclass(frozen=True)
class ProbeResult(
    Result,
    kind="probe",
    figure="mechfourier.figures.probe:probe_figure",
    part="mechfourier.figures.probe:probe_part",
):
    """What ``probe`` found. ``verdict`` is one of ``mechfourier.stats.verdict.WORDS``, ``used`` whether an
    intervention showed that the model uses it (a probe alone never does), ``reasons`` a sentence each,
    ``notes`` what to keep in mind. ``layers``: the first and the last layer whose word is the verdict (value
    designs). ``tokens``: what is read where, per template; ``caveats``: attention sinks and massive
    dimensions; ``arrays``: what was read where there was no model; ``domain_file``: where the domain lies, where
    it is one of the user's own; ``answers``: whether the model has logits, so that it can be asked.
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
    layers: tuple[int, int] | None = None
    arrays: ArraysRead | None = None
    domain_file: str = ""
    answers: bool = True

    @property
    def planes(self) -> "tuple[HarmonicPlane, ...]":
        """The plane of every hook point at its circle's k, else its strongest harmonic's; raises ``UsageError`` where they are gone
        (JSON does not keep them)."""
        made: Callable[[], tuple[HarmonicPlane, ...]] | None = vars(self).get("_planes")
        if made is None:
            raise UsageError(
                "this result keeps no planes; value designs have them where they were probed, and activations in the .planes.safetensors file "
                "that the command writes"
            )
        return made()

    def word_layers(self) -> str:
        """The layers whose word is the verdict: "3–5 and 7–10"; "" where no layer has a word of its own."""
        if self.layers is None:
            return ""
        return places_of([row.site for row in self.sites], [row.word for row in self.sites], self.verdict)

    def with_planes(self, make: "Callable[[], tuple[HarmonicPlane, ...]]") -> "ProbeResult":
        """This result, which gives ``planes`` by ``make`` when they are asked for."""
        object.__setattr__(self, "_planes", make)
        return self

    def __str__(self) -> str:
        named = self.value is not None and any(row.word for row in self.sites)
        where = self._where() if named else self._strongest()
        head = f"{self.verdict} ({self.used} for use): {self.domain} in {self.model}{where}"
        return "\n".join([head, *(f"  - {reason}" for reason in self.reasons)])

    def _where(self) -> str:
        """At which hook points the word holds, and what the others show."""
        if self.value is None or self.verdict == "not testable":
            return ""
        told = " " + places([row.site for row in self.sites], [row.word for row in self.sites], self.verdict)
        if self.verdict in CIRCLES and self.best is not None:
            told += f", k = {self.best.k}, family-wise p = {self.value.circle_p:.2g}"
        return told

    def _strongest(self) -> str:
        """An operation's word may rest on another site than the strongest plane, which its reasons name."""
        told = WITH_PLANE if self.design == "operation" else WORDS_0_1
        if self.best is None or self.verdict not in told:
            return ""
        p = f", family-wise p = {self.p_value:.2g}" if math.isfinite(self.p_value) else ""
        return f" at {self.best.site}, k = {self.best.k}{p}"

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


def places(sites: Sequence[str], words: Sequence[str], word: str) -> str:
    """Where ``word`` holds, and what else is said before, between and after: "at layers 3–17 of 18 (before:
    open curve)"."""
    at = [i for i, each in enumerate(words) if each == word]
    if not at:
        return ""
    kind = "layer" if all(name.isdigit() for name in short_names(sites)) else "hook point"
    listed = f"at {kind}{'s' * (len(at) > 1)} {places_of(sites, words, word)}"
    told = f"{listed} of {_probed(sites)}" if len(sites) > 1 else f"at {sites[0]}"
    if " of those " in listed:
        told = listed
    others = {
        "before": words[: at[0]],
        "between": [each for each in words[at[0] : at[-1]] if each != word],
        "after": words[at[-1] + 1 :],
    }
    beside = [f"{when}: {', '.join(dict.fromkeys(each))}" for when, each in others.items() if each]
    return f"{told} ({'; '.join(beside)})" if beside else told


def _probed(sites: Sequence[str]) -> str:
    """How many hook points there were; of some layers of a model only, that these were probed."""
    names = short_names(sites)
    some = all(name.isdigit() for name in names) and max(map(int, names)) >= len(names)
    return f"the {len(names)} probed" if some else str(len(names))


def places_of(sites: Sequence[str], words: Sequence[str], word: str) -> str:
    """Names of the hook points of ``word``, neighbours as a range: "3–5 and 7–10"; of many ranges the first and
    the last place, and how many of those between: "3–17, 9 of those 15"; "" for none."""
    at = [i for i, each in enumerate(words) if each == word]
    names = short_names(sites)
    runs = [list(run) for _, run in groupby(at, key=lambda i: i - at.index(i))]
    if len(runs) > MOST_RUNS:
        return f"{names[at[0]]}–{names[at[-1]]}, {len(at)} of those {at[-1] - at[0] + 1}"
    ranges = [names[r[0]] if len(r) == 1 else f"{names[r[0]]}–{names[r[-1]]}" for r in runs]
    return " and ".join([", ".join(ranges[:-1]), ranges[-1]] if len(ranges) > 1 else ranges)


def short_names(sites: Sequence[str]) -> list[str]:
    """Layer numbers where all hook points are of one kind, else their full names."""
    found = [Site.parse(name) for name in sites]
    if len({(site.kind, site.stack) for site in found}) == 1 and all(s.layer is not None for s in found):
        return [str(site.layer) for site in found]
    return list(sites)


def _value_rows(evidence: ValueEvidence) -> list[dict[str, Any]]:
    rows = []
    for site in evidence.sites:
        row: dict[str, Any] = {"site": site.site, "word": site.word} if site.word else {"site": site.site}
        row |= {"k": site.k, "share": site.share, "p": site.p_value}
        if site.probe is not None:
            row |= {
                "error": site.probe.error,
                "control_error": site.probe.null_error,
                "held_out_r2": site.probe.r2,
            }
        if site.dimensions:
            row |= {
                "best_dim": site.dimensions[0].dim,
                "dim_k": site.dimensions[0].k,
                "dim_r2": site.dimensions[0].r2,
                "p_dim": site.dimensions[0].p_value,
            }
        rows.append(row)
    return rows


def _operation_rows(evidence: OperationEvidence, sites: tuple[SiteRow, ...]) -> list[dict[str, Any]]:
    return [
        {
            "site": row.site,
            "word": row.word,
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
    if result.verdict == "not testable" or result.arrays is not None:
        return []
    model, domain = shlex.quote(result.model), shlex.quote(result.domain_file or result.domain)
    asks = result.answers and _asks(result)
    steps = []
    # planes of an open curve may be used as well: values that are read modulo n need not lie on a circle
    planes = result.verdict in (*CIRCLES, "modular", "open curve") or result.verdict.startswith("undecided")
    if planes and result.best is not None and asks:
        steps.append(f"which questions the model answers: mechfourier tasks {model} --domain {domain}")
        steps.append(f"whether it uses this plane: mechfourier study {model} --domain {domain}")
    if result.design != "value" and asks:
        steps.append(f"where the answer arises: mechfourier lens {model} --domain {domain}")
    return steps


def _asks(result: ProbeResult) -> bool:
    """Whether the domain has questions, which is what the next steps need."""
    from mechfourier.domains.definition import domain

    try:
        found = domain(result.domain_file or result.domain)
    except MechFourierError:
        return False
    return bool(found.tasks) or found.operation is not None
