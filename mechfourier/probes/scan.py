"""The sweep over moduli: which moduli does a model carry on a circle, with which dimensions, and does the
calendar share their planes?

Every modulus gets the operation test of ``analyse_operation`` ("a + b mod n ="). The naive score of the
literature (best R² of one dimension's mean per residue class) stands beside it, with the bound that pure
noise reaches after the same search: a "range detector" (a dimension that tells one-digit from two-digit
operands) has a high naive score and no plane beyond the token lengths.
"""

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd
import torch
from einops import rearrange, reduce
from jaxtyping import Float
from torch import Tensor

from mechfourier._arguments import refuse_repeated
from mechfourier._renamed import renamed
from mechfourier.domains.definition import Domain
from mechfourier.domains.definition import domain as find_domain
from mechfourier.domains.design import confounds, max_cycles
from mechfourier.domains.reads import TokensRead, tokens_of
from mechfourier.errors import MechFourierError, NotExpressible, OutOfRange, UsageError
from mechfourier.fourier.harmonics import harmonic_r2
from mechfourier.hooks.capture import capture
from mechfourier.hooks.site import Site, model_name, select_sites
from mechfourier.models.interface import Model, encode
from mechfourier.models.untrained import untrained
from mechfourier.progress import tracked
from mechfourier.results.base import Result
from mechfourier.stats.naive import class_means, noise_bound
from mechfourier.stats.operation import OperationEvidence, OperationSite, analyse_operation
from mechfourier.stats.operation_verdict import verdict_operation
from mechfourier.stats.permutation import holm
from mechfourier.stats.planes import SharedPlane, shared_plane

PRIMES = frozenset(n for n in range(2, 201) if all(n % d for d in range(2, int(n**0.5) + 1)))


@dataclass(frozen=True)
class Modulus:
    """One modulus. ``p_value``: family-wise over sites and harmonics; ``ratio``: period specificity, beside
    ``threshold``. ``naive_r2``: the best mean-per-class R² over sites, dimensions and harmonics;
    ``naive_bound``: what white noise reaches in 95 of 100 such searches. ``partial_r2``: what a harmonic adds
    to the confounds in the best dimension, with ``p_dim`` over the same search."""

    n: int
    prime: bool
    verdict: str
    p_value: float
    site: str
    k: int
    plane_share: float
    ratio: float
    threshold: float
    dim: int
    partial_r2: float
    p_dim: float
    naive_r2: float
    naive_bound: float
    cycles: int
    reason: str


@dataclass(frozen=True)
class ScanResult(Result, kind="scan"):
    """All moduli, and the planes of the compared domains, pair by pair. ``holm``: the pairs' p-values after
    Holm."""

    model: str
    moduli: tuple[Modulus, ...]
    planes: tuple[SharedPlane, ...]
    holm: tuple[float, ...]
    notes: tuple[str, ...]
    tokens: TokensRead | None = None

    def __str__(self) -> str:
        found = [m for m in self.moduli if m.verdict == "circular"]
        naive = [m for m in self.moduli if m.naive_r2 > 0.9]
        lines = [
            f"{self.model}: {len(found)} of {len(self.moduli)} moduli are circular"
            + (f" ({', '.join(str(m.n) for m in found)})" if found else ""),
            f"  a naive R² above 0.9 is found for {len(naive)} of them, "
            f"{sum(m.naive_r2 > m.naive_bound for m in naive)} of those above "
            "the bound of white noise",
        ]
        untested: dict[str, list[int]] = {}
        for row in self.moduli:
            if row.verdict == "not testable":
                untested.setdefault(row.reason, []).append(row.n)
        lines += [f"  not testable: {', '.join(map(str, ns))} ({reason})" for reason, ns in untested.items()]
        lines += [f"  {pair} (Holm {p:.3g})" for pair, p in zip(self.planes, self.holm, strict=True)]
        return "\n".join([*lines, *(f"  note: {note}" for note in self.notes)])

    def frame(self) -> pd.DataFrame:
        return pd.DataFrame([vars(m) for m in self.moduli])

    def planes_frame(self) -> pd.DataFrame:
        """The compared planes, one row per pair."""
        rows = [pair.frame() for pair in self.planes]
        return pd.concat(rows, ignore_index=True).assign(holm=self.holm) if rows else pd.DataFrame()


def parse_moduli(text: str, *, primes: bool = False) -> tuple[int, ...]:
    """Moduli from "2-31" or "5,7,12-14"; raises ``UsageError`` or ``OutOfRange``."""
    found: list[int] = []
    for part in text.split(","):
        match = re.fullmatch(
            r"\s*(\d{1,4})\s*(?:-\s*(\d{1,4})\s*)?", part
        )  # a range of more digits would not end
        if not match:
            raise UsageError(f"--moduli {text[:60]!r} is no list of numbers; write it like 2-31 or 5,7,12-14")
        found += range(int(match[1]), int(match[2] or match[1]) + 1)
    chosen = tuple(dict.fromkeys(n for n in found if n in PRIMES or not primes))
    if not chosen or min(chosen) < 2 or max(chosen) > 200:
        raise OutOfRange(f"--moduli {text!r} must name {'primes' if primes else 'numbers'} from 2 to 200")
    return chosen


@renamed(permutations="n_permutations", control="controls")
def scan(
    model: Model,
    moduli: Sequence[int],
    *,
    compare: Sequence[str] = (),
    sites: str = "resid_post",
    layers: str | None = None,
    cycles: int = 4,
    controls: bool = True,
    n_permutations: int = 1000,
    seed: int = 0,
) -> ScanResult:
    """Test every modulus, and compare the planes of ``compare`` (domain names) with each other and with the
    moduli of their lengths.

    A modulus that the model cannot express is reported ``not testable`` with the reason. Raises for the other
    errors of ``capture``.
    """
    refuse_repeated("moduli", moduli)
    wanted = select_sites(model, sites, layers)
    rows, notes = [], []
    for n in tracked(moduli, "moduli", len(moduli)):
        row, note = _modulus(
            model, n, wanted, control=controls, cycles=cycles, permutations=n_permutations, seed=seed
        )
        rows.append(row)
        notes += [note] if note else []
    planes = _compared(model, compare, moduli, wanted, cycles=cycles, seed=seed)
    return ScanResult(
        model=model_name(model),
        moduli=tuple(rows),
        planes=planes,
        holm=holm([p.p_value for p in planes]),
        notes=tuple(notes),
        tokens=_tokens(model, [row.n for row in rows if row.cycles]),
    )


def _tokens(model: Model, moduli: Sequence[int]) -> TokensRead | None:
    """What is read of every modulus: its first prompt, at the last token."""
    if not moduli:
        return None
    designs = [find_domain(f"mod-{n}").operation_design(1, model=model) for n in moduli]
    prompts = [design.prompts[0] for design in designs]
    encodings = encode(model, prompts)
    return tokens_of(model, prompts, encodings, [e.last for e in encodings], [f"mod-{n}" for n in moduli])


def operation_grid(
    model: Model, domain: Domain, sites: Sequence[Site], *, cycles: int
) -> tuple[Float[Tensor, "site a offset d"], Float[Tensor, "a offset feature"], str | None]:
    """Activations of a domain's operation at the last token, with the surface features of its cells and a
    note on the cycles."""
    possible = max_cycles(domain, model, cycles)
    design = domain.operation_design(possible.cycles, template=possible.template)
    encodings = encode(model, design.prompts)
    acts = capture(model, encodings, sites).stack()
    grid = rearrange(acts, "site (a o) d -> site a o d", a=design.shape[0])
    features = rearrange(confounds(design, encodings).values, "(a o) f -> a o f", a=design.shape[0])
    return grid, features, possible.note


def _modulus(
    model: Model, n: int, sites: Sequence[Site], *, control: bool, cycles: int, permutations: int, seed: int
) -> tuple[Modulus, str | None]:
    domain = find_domain(f"mod-{n}")
    try:
        acts, features, note = operation_grid(model, domain, sites, cycles=cycles)
    except NotExpressible as error:
        return _untested(n, str(error)), None
    blank = None
    if control:
        with untrained(model, seed) as chance:
            blank = operation_grid(chance, domain, sites, cycles=cycles)[0]
    evidence = analyse_operation(
        acts, n=n, confounds=features, control=blank, permutations=permutations, seed=seed
    )
    best = evidence.best()
    if best is None:
        return _untested(n, evidence.reason), note
    return _row(n, evidence, best, sites, acts), note


def _untested(n: int, reason: str) -> Modulus:
    nan = float("nan")
    return Modulus(
        n=n,
        prime=n in PRIMES,
        verdict="not testable",
        p_value=nan,
        site="",
        k=0,
        plane_share=nan,
        ratio=nan,
        threshold=nan,
        dim=-1,
        partial_r2=nan,
        p_dim=nan,
        naive_r2=nan,
        naive_bound=nan,
        cycles=0,
        reason=reason,
    )


def _row(
    n: int,
    evidence: OperationEvidence,
    best: OperationSite,
    sites: Sequence[Site],
    acts: Float[Tensor, "site a offset d"],
) -> Modulus:
    verdict = verdict_operation(evidence)
    single = max(evidence.sites, key=lambda s: s.partial_r2)
    return Modulus(
        n=n,
        prime=n in PRIMES,
        verdict=verdict.word,
        p_value=best.p,
        site=str(sites[best.site]),
        k=best.k,
        plane_share=best.plane_share,
        ratio=best.ratio,
        threshold=evidence.threshold,
        dim=single.dim,
        partial_r2=single.partial_r2,
        p_dim=single.p_dim,
        naive_r2=float(harmonic_r2(rearrange(class_means(acts.double()), "site n d -> n (site d)")).max())
        if n >= 3
        else float("nan"),
        naive_bound=noise_bound(n, acts.shape[0] * acts.shape[-1]),
        cycles=acts.shape[2] // n,
        reason=" ".join(verdict.reasons),
    )


def _compared(
    model: Model,
    names: Sequence[str],
    moduli: Sequence[int],
    sites: Sequence[Site],
    *,
    cycles: int,
    seed: int,
) -> tuple[SharedPlane, ...]:
    """Pairs of the named domains, and of each with the modulus of its length where that was scanned."""
    domains = [find_domain(name) for name in names]
    partners = [
        find_domain(f"mod-{n}") for n in dict.fromkeys(d.n for d in domains) if n in moduli and n >= 5
    ]
    wanted = [d for d in dict.fromkeys([*domains, *partners])]
    means = {d.name: _site_means(model, d, sites, cycles) for d in wanted}
    pairs = [
        *itertools.combinations(domains, 2),
        *((d, p) for d in domains for p in partners if p.n == d.n and p != d),
    ]
    return tuple(_pair(first, second, means, sites, seed) for first, second in pairs)


def _site_means(
    model: Model, domain: Domain, sites: Sequence[Site], cycles: int
) -> Float[Tensor, "site label d"]:
    acts = operation_grid(model, domain, sites, cycles=cycles)[0]
    if domain.n < 5:
        raise MechFourierError(f"{domain.name} has {domain.n} values; a plane comparison needs at least 5")
    return class_means(acts.double())


def _pair(
    first: Domain, second: Domain, means: dict[str, Tensor], sites: Sequence[Site], seed: int
) -> SharedPlane:
    """The two planes at the site where the weaker of the two is strongest, each at its strongest harmonic
    there."""
    shares = [_plane_shares(means[d.name]) for d in (first, second)]
    site = int(torch.minimum(shares[0].amax(1), shares[1].amax(1)).argmax())
    k = tuple(int(s[site].argmax()) + 1 for s in shares)
    return shared_plane(
        means[first.name][site].numpy(),
        means[second.name][site].numpy(),
        k=(k[0], k[1]),
        names=(f"{first.name} (k={k[0]})", f"{second.name} (k={k[1]})"),
        site=str(sites[site]),
        seed=seed,
    )


def _plane_shares(means: Float[Tensor, "site label d"]) -> Float[Tensor, "site k"]:
    """Share of the between-class power in every harmonic that has a plane (1 ≤ k < n/2)."""
    spectrum = torch.fft.fft(means - means.mean(1, keepdim=True), dim=1)[:, 1 : (means.shape[1] + 1) // 2]
    power = reduce(spectrum.abs() ** 2, "site k d -> site k", "sum")
    return power / power.sum(1, keepdim=True).clamp_min(1e-30)
