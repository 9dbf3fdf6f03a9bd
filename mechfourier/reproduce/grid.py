"""The measurement behind the claims about language models: one operation grid, by the published method and by
the test.

Published method: mean of every dimension over the cells of the n × n grid with the same (a + b) mod n, best
R² of a cosine. Beside it: what the same search reaches on the same architecture with re-initialised weights.
Test: ``analyse_operation`` on ``cycles`` cycles of offsets.
"""

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from mechfourier.domains.definition import domain as find_domain
from mechfourier.errors import BadCheckpoint
from mechfourier.files import slug
from mechfourier.fourier.harmonics import harmonic_r2
from mechfourier.hooks.site import Site
from mechfourier.probes.scan import operation_grid
from mechfourier.reproduce.session import Session
from mechfourier.results.base import Result
from mechfourier.stats.naive import class_means, noise_bound
from mechfourier.stats.operation import OperationEvidence, OperationSite, analyse_operation
from mechfourier.stats.operation_verdict import verdict_operation

# dimensions of Qwen3-0.6B that were published as cosines of a sum
PUBLISHED_DIMS = (1, 7, 8, 35, 112, 125, 216, 238, 243, 410, 463, 505, 536, 557, 725, 867)
CLEARLY, MATERIAL = 4.0, 0.1


@dataclass(frozen=True)
class Measured(Result, kind="grid-measurement"):
    """One grid. ``verdict`` with its first ``reason``. ``p``, ``share``, ``ratio``, ``site``, ``k``: the
    strongest plane of the sum beyond the confounds (family-wise p); ``blank_*``: the same of the
    re-initialised network. ``naive``: best R² of the published method, at ``naive_site``, dimension
    ``naive_dim``; ``naive_bound``: what white noise reaches in 95 of 100 such searches; ``line``: R² of a
    straight line in the class, in the same dimension; ``partial``: best R² of one dimension beyond the
    confounds, with ``p_partial``. ``dims``: best R² over layers of the published dimensions."""

    domain: str
    n: int
    cycles: int
    prompts: int
    verdict: str
    reason: str
    p: float
    share: float
    ratio: float
    site: str
    k: int
    blank_p: float
    blank_share: float
    naive: float
    naive_site: str
    naive_dim: int
    naive_k: int
    naive_bound: float
    blank_naive: float
    line: float
    partial: float
    p_partial: float
    dims: dict[str, float]

    @property
    def shown(self) -> bool:
        """Does a plane of the sum hold a tenth of what the confounds leave, and clearly more than with random
        weights? (Random networks have planes of p < .05, and now and then functions of the residue class:
        digits and lengths mix in their layers.)"""
        return self.p < 0.05 and self.share > max(MATERIAL, CLEARLY * self.blank_share)


def measured(session: Session, name: str) -> Measured:
    """The grid of the domain ``name``: from this session, from the files of an interrupted one, or measured
    now."""
    if name not in session.kept:
        path = session.out / "grids" / f"{name}-{session.weights[:12]}-{_key(session)}.json"
        found = _read(path)
        if found is None:
            found = _measure(session, name)
            found.save(path)
        session.kept[name] = found
    return session.kept[name]


def _key(session: Session) -> str:
    s = session.settings
    return f"p{s.permutations}-c{s.cycles}-s{s.seed}-l{slug(s.layers or 'all')}"


def _read(path: Path) -> Measured | None:
    if not path.is_file():
        return None
    try:
        return Measured.from_json(path.read_text(encoding="utf-8"))
    except (BadCheckpoint, UnicodeDecodeError):
        return None  # damaged: measured again


def _measure(session: Session, name: str) -> Measured:
    domain, settings = find_domain(name), session.settings
    acts, features, _ = operation_grid(session.model, domain, session.sites, cycles=settings.cycles)
    blank, _, _ = operation_grid(session.blank, domain, session.sites, cycles=settings.cycles)
    evidence = analyse_operation(
        acts,
        n=domain.n,
        confounds=features,
        control=blank,
        permutations=settings.permutations,
        seed=settings.seed,
    )
    verdict = verdict_operation(evidence)
    r2, means = _published(acts, domain.n)
    best = evidence.best()
    place = divmod(int(r2.amax(0).flatten().argmax()), r2.shape[-1])
    return Measured(
        domain=name,
        n=domain.n,
        cycles=acts.shape[2] // domain.n,
        prompts=acts.shape[1] * acts.shape[2],
        verdict=verdict.word,
        reason=_named(verdict.reasons[0] if verdict.reasons else "", session.sites),
        **_plane(evidence, best, session.sites),
        naive=float(r2.max()),
        naive_site=str(session.sites[place[0]]),
        naive_dim=place[1],
        naive_k=int(r2[:, place[0], place[1]].argmax()) + 1,
        naive_bound=noise_bound(domain.n, acts.shape[0] * acts.shape[-1]),
        blank_naive=float(_published(blank, domain.n)[0].max()),
        line=_line_r2(means[:, place[0], place[1]]),
        dims={str(d): float(r2[..., d].max()) for d in PUBLISHED_DIMS if d < acts.shape[-1]},
    )


def _plane(
    evidence: OperationEvidence, best: OperationSite | None, sites: tuple[Site, ...]
) -> dict[str, Any]:
    """The strongest plane, that of the control, and the best single dimension, by the names of
    ``Measured``."""
    if best is None:
        numbers = ("p", "share", "ratio", "blank_p", "blank_share", "partial", "p_partial")
        return {"site": "", "k": 0, **dict.fromkeys(numbers, math.nan)}
    blank = max(evidence.control, key=lambda site: site.plane_z, default=None)
    single = max(evidence.sites, key=lambda site: site.partial_r2)
    return {
        "p": best.p,
        "share": best.plane_share,
        "ratio": best.ratio,
        "site": str(sites[best.site]),
        "k": best.k,
        "blank_p": math.nan if blank is None else blank.p,
        "blank_share": 0.0 if blank is None else blank.plane_share,
        "partial": single.partial_r2,
        "p_partial": single.p_dim,
    }


def _published(
    acts: Float[Tensor, "site a offset d"], n: int
) -> tuple[Float[Tensor, "k site d"], Float[Tensor, "n site d"]]:
    """R² of every harmonic k < n/2 in every dimension's mean per class over one cycle of offsets, and those
    means."""
    means = rearrange(class_means(acts[:, :, :n].double()), "site n d -> n site d")
    sites = means.shape[1]
    r2 = harmonic_r2(rearrange(means, "n site d -> n (site d)"))[: (n - 1) // 2]
    return rearrange(r2, "k (site d) -> k site d", site=sites), means


def _line_r2(y: Float[Tensor, " n"]) -> float:
    """R² of a straight line in the class."""
    x = torch.arange(len(y), dtype=y.dtype)
    return float(torch.corrcoef(torch.stack([x, y]))[0, 1] ** 2)


def _named(reason: str, sites: tuple[Site, ...]) -> str:
    return re.sub(r"\bhook point (\d+)", lambda found: str(sites[int(found[1])]), reason)
