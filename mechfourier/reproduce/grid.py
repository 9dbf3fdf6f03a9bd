"""The measurement behind the claims about language models: one operation grid, by the published method and by
the test.

Published method: mean of every dimension over the cells of the n × n grid with the same (a + b) mod n, best
R² of a cosine. Beside it: what the same search reaches on the same architecture with re-initialised weights,
and where the labels of the cells are shuffled. Test: ``analyse_operation`` on some cycles of offsets, of the
network, of the re-initialised one, and of the network's strongest hook point with its labels shuffled.
"""

import math
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from mechfourier.domains.definition import domain as find_domain
from mechfourier.errors import BadCheckpoint
from mechfourier.files import read_text, slug, write_with
from mechfourier.fourier.harmonics import harmonic_r2
from mechfourier.hooks.site import Site
from mechfourier.probes.scan import operation_grid
from mechfourier.reproduce.session import Session
from mechfourier.reproduce.settings import Settings
from mechfourier.results.base import Result
from mechfourier.stats.naive import class_means, noise_bound
from mechfourier.stats.operation import OperationEvidence, OperationSite, analyse_operation
from mechfourier.stats.operation_verdict import verdict_operation

# dimensions of Qwen3-0.6B that were published as cosines of a sum
PUBLISHED_DIMS = (1, 7, 8, 35, 112, 125, 216, 238, 243, 410, 463, 505, 536, 557, 725, 867)
CLEARLY, MATERIAL = 4.0, 0.1
ENOUGH_CYCLES = (
    3  # with fewer, k = 1 and functions of the residue class cannot be told from others of the sum
)
CONTROL_PERMUTATIONS = 199  # of a control, whose p decides nothing by itself
SHUFFLES = 20  # of the published search, which takes its best R² each time


@dataclass(frozen=True)
class Measured(Result, kind="grid-measurement"):
    """One grid. ``verdict`` with its first ``reason``. ``p``, ``share``, ``ratio``, ``site``, ``k``: the
    strongest plane of the sum beyond the confounds (family-wise p); ``blank_*``: the same of the
    re-initialised network. ``naive``: best R² of the published method, at ``naive_site``, dimension
    ``naive_dim``; ``naive_bound``: what white noise reaches in 95 of 100 such searches; ``line``: R² of a
    straight line in the class, in the same dimension; ``partial``: best R² of one dimension beyond the
    confounds, with ``p_partial``. ``dims``: best R² over layers of the published dimensions.
    ``blank_verdict``: of the re-initialised network by itself. ``shuffled_*``: the strongest hook point with
    the labels of its cells shuffled; ``shuffled_naive``: median best R² of the published search then."""

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
    blank_verdict: str = "not testable"
    shuffled_naive: float = math.nan
    shuffled_p: float = math.nan
    shuffled_share: float = 0.0
    shuffled_verdict: str = "not testable"

    @property
    def shown(self) -> bool:
        """Does a plane of the sum hold a tenth of what the confounds leave, and clearly more than with random
        weights? (Random networks have planes of p < .05, and now and then functions of the residue class:
        digits and lengths mix in their layers.)"""
        return self.p < 0.05 and self.share > max(MATERIAL, CLEARLY * self.blank_share)


def cycles_of(settings: Settings, n: int) -> int:
    """Cycles of offsets in the grid of a network: what ``settings.cells`` leave of ``settings.cycles``, three
    at least where those are allowed."""
    return min(settings.cycles, max(ENOUGH_CYCLES, settings.cells // n**2))


def control_cycles(settings: Settings, n: int) -> int:
    """Cycles of offsets in the grid of the re-initialised network."""
    return min(ENOUGH_CYCLES, cycles_of(settings, n))


def measured(session: Session, name: str) -> Measured:
    """The grid of the domain ``name``: from this session, from the files of an interrupted one, or measured
    now."""
    if name not in session.kept:
        found = _read(_path(session, name))
        if found is None:
            found = _measure(session, name)
        session.kept[name] = found
    return session.kept[name]


def means_of(session: Session, name: str) -> dict[str, Float[Tensor, "site n d"]]:
    """Mean activation of every class of a measured grid, by "network" and "untrained"."""
    measured(session, name)
    try:
        return load_file(_means_path(session, name))
    except (OSError, SafetensorError):  # cleared away or damaged
        session.kept[name] = _measure(session, name)
        return load_file(_means_path(session, name))


def _path(session: Session, name: str) -> Path:
    s = session.settings
    key = f"p{s.permutations}-c{s.cycles}-{s.cells}-s{s.seed}-l{slug(s.layers or 'all')}"
    return session.out / "grids" / f"{name}-{session.weights[:12]}-{key}.json"


def _means_path(session: Session, name: str) -> Path:
    return _path(session, name).with_suffix(".safetensors")


def _read(path: Path) -> Measured | None:
    if not path.is_file():
        return None
    try:
        return Measured.from_json(read_text(path))
    except (BadCheckpoint, UnicodeDecodeError):
        return None  # damaged: measured again


def _measure(session: Session, name: str) -> Measured:
    """Capture and analyse the network and its control, and keep what was found with the class means."""
    domain, settings = find_domain(name), session.settings
    acts, features, _ = operation_grid(
        session.model, domain, session.sites, cycles=cycles_of(settings, domain.n)
    )
    evidence = _analysed(acts, features, domain.n, settings.permutations, settings.seed)
    means = {"network": class_means(acts.double()).float().contiguous()}
    found: dict[str, Any] = {"prompts": acts.shape[1] * acts.shape[2], "cycles": acts.shape[2] // domain.n}
    found |= _search(session, acts, domain.n) | _shuffled(session, evidence, acts, features)
    del acts
    blank, seen, _ = operation_grid(
        session.blank, domain, session.sites, cycles=control_cycles(settings, domain.n)
    )
    control = _analysed(blank, seen, domain.n, _few(settings), settings.seed)
    means["untrained"] = class_means(blank.double()).float().contiguous()
    found |= {
        "blank_naive": float(_published(blank, domain.n)[0].max()),
        "blank_verdict": verdict_operation(control).word,
    }
    evidence = replace(evidence, control=control.sites, controlled=True)
    verdict = verdict_operation(evidence)
    result = Measured(
        domain=name,
        n=domain.n,
        verdict=verdict.word,
        reason=_named(verdict.reasons[0] if verdict.reasons else "", session.sites),
        **_plane(evidence, evidence.best(), session.sites),
        **found,
    )
    path = _means_path(session, name)
    write_with(path, lambda partial: save_file(means, partial))
    result.save(_path(session, name))
    return result


def _analysed(acts: Tensor, features: Tensor, n: int, permutations: int, seed: int) -> OperationEvidence:
    return analyse_operation(acts, n=n, confounds=features, permutations=permutations, seed=seed)


def _few(settings: Settings) -> int:
    return min(CONTROL_PERMUTATIONS, settings.permutations)


def _search(session: Session, acts: Float[Tensor, "site a offset d"], n: int) -> dict[str, Any]:
    """The published search, with the right labels and with shuffled ones, by the names of ``Measured``."""
    r2, means = _published(acts, n)
    site, dim = divmod(int(r2.amax(0).flatten().argmax()), r2.shape[-1])
    return {
        "naive": float(r2.max()),
        "naive_site": str(session.sites[site]),
        "naive_dim": dim,
        "naive_k": int(r2[:, site, dim].argmax()) + 1,
        "naive_bound": noise_bound(n, acts.shape[0] * acts.shape[-1]),
        "line": _line_r2(means[:, site, dim]),
        "dims": {str(d): float(r2[..., d].max()) for d in PUBLISHED_DIMS if d < acts.shape[-1]},
        "shuffled_naive": _shuffled_search(acts, n, session.settings.seed),
    }


def _shuffled_search(acts: Float[Tensor, "site a offset d"], n: int, seed: int) -> float:
    """Median over ``SHUFFLES`` shuffles of the labels among the cells of the best R² of the published
    search."""
    cells = rearrange(acts[:, :, :n], "site a o d -> (a o) (site d)").double()
    cells = cells - cells.mean(0)  # what all cells share would leave rounding
    label = (torch.arange(n)[:, None] + torch.arange(n)).flatten() % n
    draws = torch.Generator().manual_seed(seed)
    best = []
    for _ in range(SHUFFLES):
        order = label[torch.randperm(len(label), generator=draws)]
        means = F.one_hot(order, n).double().T @ cells / n
        best.append(float(harmonic_r2(means)[: (n - 1) // 2].max()))
    return float(torch.tensor(best, dtype=torch.float64).quantile(0.5))


def _shuffled(
    session: Session, evidence: OperationEvidence, acts: Float[Tensor, "site a offset d"], features: Tensor
) -> dict[str, Any]:
    """The test on the strongest hook point with its labels shuffled among the cells."""
    best = evidence.best()
    if best is None:
        return {}
    cells = rearrange(acts[best.site], "a o d -> (a o) d")
    settings = session.settings
    order = torch.randperm(len(cells), generator=torch.Generator().manual_seed(settings.seed))
    shuffled = cells[order].reshape(1, *acts.shape[1:])
    found = _analysed(shuffled, features, evidence.n, _few(settings), settings.seed)
    site = found.best()
    if site is None:
        return {}
    return {
        "shuffled_p": site.p,
        "shuffled_share": site.plane_share,
        "shuffled_verdict": verdict_operation(found).word,
    }


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
