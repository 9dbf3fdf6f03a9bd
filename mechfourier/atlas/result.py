"""``AtlasResult``: what is known of every domain in one model."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mechfourier.atlas.circles import LayerCircle
from mechfourier.causal.study import StudyResult
from mechfourier.domains.tasks import TaskRow, best_of
from mechfourier.fourier.bases import n_frequencies
from mechfourier.fourier.harmonics import r2_bound
from mechfourier.probes.result import ProbeResult, SiteRow
from mechfourier.results.base import Result
from mechfourier.stats.permutation import holm
from mechfourier.stats.value import SiteEvidence
from mechfourier.stats.words import evidence_of

if TYPE_CHECKING:
    import pandas as pd

LEVEL = 0.05
NOT_ASKED = "not expressible"
"""The word of a domain whose prompts the model has no tokens for."""


def evidence_at(site: SiteEvidence) -> float:
    """Evidence of the shape of a hook point's word: 0 where the word is about none."""
    if site.contest is None:
        return 0.0
    return max(0.0, evidence_of(site.contest, site.word))


@dataclass(frozen=True)
class Published:
    """The best single dimension of all hook points, as it would have been published: its R² for harmonic
    ``k``, the R² that the best of as many dimensions of white noise stays under in 95 of 100 cases
    (``chance``), and the p-value of permuted labels, family-wise over hook points, dimensions and
    harmonics."""

    site: str
    dim: int
    k: int
    r2: float
    chance: float
    p_value: float

    def __str__(self) -> str:
        worth = "beyond what noise reaches" if self.real else "which noise reaches as well"
        return (
            f"dimension {self.dim} at {self.site} fits k = {self.k} with R² = {self.r2:.2f}, {worth}: "
            f"the best of as many dimensions of white noise reaches {self.chance:.2f} in 5 of 100 cases, and permuted "
            f"labels give p = {self.p_value:.2g}"
        )

    @property
    def real(self) -> bool:
        """Better than both chances."""
        return self.p_value < LEVEL and self.r2 > self.chance


@dataclass(frozen=True)
class DomainAtlas:
    """One domain. ``word``: the verdict of the probe ("not expressible" where the model has no tokens for it,
    with the ``reason``); ``layers``: the first and the last layer of that word; ``task``: the best task that
    is answered above chance, corrected over all tasks of the atlas; ``used`` and ``share``: of the study,
    where one was made. ``circles``: the values at every hook point."""

    domain: str
    n: int
    word: str
    layers: tuple[int, int] | None
    task: str | None
    used: str
    share: float | None
    title: str = ""
    reason: str | None = None
    probe: ProbeResult | None = None
    circles: tuple[LayerCircle, ...] = ()
    tasks: tuple[TaskRow, ...] = ()
    unasked: tuple[str, ...] = ()
    study: StudyResult | None = None

    def summary(self) -> dict[str, Any]:
        """The seven fields that every reader needs."""
        names = ("domain", "n", "word", "layers", "task", "used", "share")
        return {name: getattr(self, name) for name in names}

    def cells(self) -> list[dict[str, Any]]:
        """One row per hook point: its word, evidence, harmonic and p."""
        probe = self.probe
        if probe is None:
            return []
        value = {} if probe.value is None else {site.site: site for site in probe.value.sites}
        return [_cell(self.domain, row, value.get(row.site), probe.verdict) for row in probe.sites]

    def word_layers(self) -> str:
        """The layers of the word, gaps left out: "3–5 and 7–10"; "" for none."""
        return "" if self.probe is None else self.probe.word_layers()

    def best_task(self) -> TaskRow | None:
        """The task answered best of those above chance."""
        return best_of([row for row in self.tasks if row.template is None])

    def published(self) -> Published | None:
        """What a search for the best single dimension finds, beside what it finds in noise."""
        value = None if self.probe is None else self.probe.value
        if value is None:
            return None
        rows = [(site, dim) for site in value.sites for dim in site.dimensions if math.isfinite(dim.r2)]
        if not rows:
            return None
        site, dim = max(rows, key=lambda pair: pair[1].r2)
        fits = value.d_model * n_frequencies(value.n) * len(value.sites)
        return Published(site.site, dim.dim, dim.k, dim.r2, r2_bound(value.n, fits), dim.p_value)


@dataclass(frozen=True)
class AtlasResult(
    Result,
    kind="atlas",
    figure="mechfourier.figures.atlas:atlas_figure",
    part="mechfourier.figures.atlas:atlas_part",
):
    """The atlas of one model: ``domains`` in the order asked for, ``studied`` whether use was tested where
    the model answers, and the settings of the statistics."""

    model: str
    domains: tuple[DomainAtlas, ...]
    studied: bool
    n_permutations: int
    seed: int
    notes: tuple[str, ...] = ()

    def __getitem__(self, domain: str) -> DomainAtlas:
        """The row of a domain by its name; raises ``KeyError``."""
        return next((each for each in self.domains if each.domain == domain), None) or _missing(self, domain)

    def summary(self) -> dict[str, Any]:
        """Seven fields per domain: what ``mechfourier atlas --json`` prints."""
        return {"model": self.model, "domains": [each.summary() for each in self.domains]}

    def circle_p(self) -> dict[str, tuple[float, float]]:
        """Per domain that was tested: p that none of its hook points is a circle, and the same corrected over
        the domains of this atlas (Holm)."""
        found = {
            each.domain: each.probe.value.circle_p
            for each in self.domains
            if each.probe is not None and each.probe.value is not None
        }
        tested = {name: p for name, p in found.items() if math.isfinite(p)}
        adjusted = holm(list(tested.values())) if tested else []
        return {name: (tested[name], float(p)) for name, p in zip(tested, adjusted, strict=True)}

    def table(self) -> "pd.DataFrame":
        """One row per domain."""
        import pandas as pd

        return pd.DataFrame([_short(each) for each in self.domains])

    def frame(self) -> "pd.DataFrame":
        """One row per domain and hook point: its word, the evidence of the word's best shape (share of the
        between-value power predicted of values left out), k, and the family-wise p of a circle."""
        import pandas as pd

        rows = [row for each in self.domains for row in each.cells()]
        return pd.DataFrame(rows, columns=None if rows else ["domain", "site", "word"])

    def __str__(self) -> str:
        rows = [_short(each) for each in self.domains]
        widths = {name: max(len(name), *(len(str(row[name])) for row in rows)) for name in rows[0]}
        lines = ["  ".join(str(row[n]).ljust(w) for n, w in widths.items()).rstrip() for row in rows]
        head = "  ".join(name.ljust(w) for name, w in widths.items()).rstrip()
        return "\n".join([f"atlas of {self.model}", head, *lines])


def _missing(atlas: AtlasResult, domain: str) -> DomainAtlas:
    raise KeyError(f"no domain {domain!r} in this atlas; it has {[each.domain for each in atlas.domains]}")


def _short(each: DomainAtlas) -> dict[str, str]:
    best = each.best_task()
    share = None if each.study is None else each.study.share
    return {
        "domain": each.domain,
        "n": str(each.n),
        "word": each.word,
        "layers": each.word_layers() or "–",
        "task": "–" if best is None else f"{best.task} {best.accuracy.share:.0%}",
        "used": each.used,
        "share": "–" if share is None else str(share),
    }


def _cell(domain: str, row: SiteRow, site: SiteEvidence | None, verdict: str) -> dict[str, Any]:
    """The evidence is that of the shape of the word; in operation designs, which have no words of single hook
    points, the partial R² where the plane is there at 5 %."""
    found = row.p_value < LEVEL
    word = row.word or (verdict if found else "noise")
    strength = max(0.0, row.r2) if found and math.isfinite(row.r2) else 0.0
    evidence = strength if site is None else evidence_at(site)
    return {
        "domain": domain,
        "site": row.site,
        "word": word,
        "evidence": evidence,
        "k": row.k,
        "p": row.p_value,
    }
