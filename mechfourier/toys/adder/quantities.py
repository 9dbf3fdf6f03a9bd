"""What every site of an adder knows at one answer position: circular or not by the probe of the text models,
and how well the value can be read off linearly, beside its permutation null."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor

from mechfourier.domains.design import read_positions
from mechfourier.hooks.capture import capture
from mechfourier.hooks.site import ATTENTION_KINDS, Site, sites
from mechfourier.models.interface import encode
from mechfourier.probes.probe import probe
from mechfourier.toys.adder.domains import QUANTITIES, AdderDomain, adder_domain

ENCODER_KINDS = ("resid_pre", "z", "attn_out", "resid_mid", "mlp_post", "mlp_out", "resid_post")
DECODER_KINDS = (
    "resid_pre",
    "z",
    "attn_out",
    "resid_mid",
    "cross_z",
    "cross_attn_out",
    "resid_mid_cross",
    "mlp_post",
    "mlp_out",
    "resid_post",
)
FOLDS = 5
PERMUTATIONS = 200


@dataclass(frozen=True)
class SiteReading:
    """One quantity at one site. ``decoded``: share of held-out problems whose value a linear map reads off
    rightly, ``chance`` what guessing gives, ``null`` the 95th percentile over shuffled values. ``k``, ``r2``,
    ``p`` and ``share`` (of the harmonic k in the between-value power) are the probe's at this site; NaN and 0
    where the quantity has fewer than five values."""

    site: str
    decoded: float
    chance: float
    null: float
    k: int
    share: float
    r2: float
    p: float


@dataclass(frozen=True)
class QuantityReading:
    """One quantity over the sites of one stack, read at ``where``, with the probe's verdict on its best site
    and its reasons."""

    quantity: str
    design: str
    where: str
    place: int
    digits: int
    verdict: str
    reasons: tuple[str, ...]
    best: str
    sites: tuple[SiteReading, ...]


def stack_sites(model: Any) -> dict[str, tuple[Site, ...]]:
    """The sites to read, by stack (``encoder``, ``decoder``; ``blocks`` in a decoder-only model)."""
    found = [s for s in sites(model) if s.layer is not None and s.kind not in ATTENTION_KINDS]
    kinds = {"encoder": ENCODER_KINDS, "decoder": DECODER_KINDS, "blocks": ENCODER_KINDS}
    stacks = {name: tuple(s for s in found if s.stack == name and s.kind in kinds[name]) for name in kinds}
    return {name: chosen for name, chosen in stacks.items() if chosen}


def read_quantities(
    model: Any,
    *,
    place: int,
    digits: int,
    names: Sequence[str] = QUANTITIES,
    permutations: int = 300,
    seed: int = 0,
) -> tuple[QuantityReading, ...]:
    """Every quantity at every site: the encoder's at the source digit of significance ``place``, the
    decoder's where it is about to write that digit."""
    found, settings = [], {"n_permutations": permutations, "seed": seed}
    found = []
    for name in names:
        domain = adder_domain(name, place=place, digits=digits, form=model.cfg.format, seed=seed)
        for stack, chosen in stack_sites(model).items():
            where = "value" if stack == "encoder" else "last"
            found.append(_reading(model, domain, chosen, where, settings))
            if domain.grid and where == "last":
                found.append(_operation(model, domain, chosen, settings))
    return tuple(found)


def _reading(
    model: Any, domain: AdderDomain, chosen: tuple[Site, ...], where: str, settings: dict[str, Any]
) -> QuantityReading:
    read = [decode_values(acts, seed=settings["seed"]) for acts in value_acts(model, domain, chosen, where)]
    if domain.n < 5:
        unknown: dict[str, Any] = {"k": 0, "share": 0.0, "r2": math.nan, "p": math.nan}
        rows = tuple(SiteReading(str(site), *r, **unknown) for site, r in zip(chosen, read, strict=True))
        best = max(rows, key=lambda row: row.decoded).site
        reason = f"{domain.n} values: fewer than five points always lie near some circle"
        return _quantity(domain, "value", where, ("not testable", (reason,), best), rows)
    result = probe(model, domain, sites=list(chosen), position=where, design="value", **settings)
    rows = tuple(SiteReading(row.site, *r, **_probed(row)) for row, r in zip(result.sites, read, strict=True))
    best = result.best.site if result.best else str(chosen[0])
    return _quantity(domain, "value", where, (result.verdict, result.reasons, best), rows)


def _operation(
    model: Any, domain: AdderDomain, chosen: tuple[Site, ...], settings: dict[str, Any]
) -> QuantityReading:
    """The 10 × 10 grid of both digits (one cycle of offsets)."""
    result = probe(model, domain, sites=list(chosen), design="operation", cycles=1, **settings)
    rows = tuple(SiteReading(row.site, math.nan, 0.1, math.nan, **_probed(row)) for row in result.sites)
    best = result.best.site if result.best else ""
    return _quantity(domain, "operation", "last", (result.verdict, result.reasons, best), rows)


def _quantity(
    domain: AdderDomain,
    design: str,
    where: str,
    said: tuple[str, tuple[str, ...], str],
    rows: tuple[SiteReading, ...],
) -> QuantityReading:
    """``said``: the verdict, its reasons, and the best site."""
    name, _, place = domain.name.partition("@")
    spot = f"{domain.operand}'s digit" if where == "value" else "the step that writes it"
    return QuantityReading(name, design, spot, int(place), domain.digits, *said, rows)


def _probed(row: Any) -> dict[str, Any]:
    """What the probe says of a site."""
    return {"k": row.k, "share": _share(row.spectrum, row.k), "r2": row.r2, "p": row.p_value}


def _share(spectrum: Sequence[float], k: int) -> float:
    return spectrum[k - 1] if 0 < k <= len(spectrum) else 0.0


def value_acts(
    model: Any, domain: AdderDomain, chosen: Sequence[Site], where: str
) -> list[Float[Tensor, "value template d"]]:
    """Activations of a value design at every site."""
    design = domain.value_design(position=where)
    encodings = encode(model, design.prompts)
    acts = capture(model, encodings, list(chosen), read_positions(design, encodings))
    rows = design.shape[0]
    return [
        rearrange(acts[s].flatten(1), "(value template) d -> value template d", value=rows) for s in chosen
    ]


def decode_values(
    acts: Float[Tensor, "value template d"], *, permutations: int = PERMUTATIONS, seed: int = 0
) -> tuple[float, float, float]:
    """Held-out accuracy of a linear read-out (ridge regression to one-hot values, whole templates left out),
    chance, and the 95th percentile of that accuracy when the values are shuffled within every template.

    The penalty is the mean eigenvalue of the training Gram matrix: one fixed rule, so nothing is selected.
    """
    n, count, _ = acts.shape
    generator = torch.Generator().manual_seed(seed)
    y = acts.double()
    y = y - y.mean((0, 1))
    x = rearrange(y, "value template d -> (template value) d")
    order = torch.stack([_orders(permutations, n, generator) for _ in range(count)], 1)
    labels = torch.cat([torch.arange(n).expand(1, count, n), order])
    labels = rearrange(labels, "draw template value -> draw (template value)")
    fold = torch.arange(count).repeat_interleave(n) % min(FOLDS, count)
    right = torch.zeros(len(labels), dtype=torch.double)
    for held in range(int(fold.max()) + 1):
        train, test = fold != held, fold == held
        right += _held_out(x[train], x[test], labels[:, train], labels[:, test], n)
    accuracy = right / labels.shape[1]
    return float(accuracy[0]), 1 / n, float(accuracy[1:].quantile(0.95))


def _orders(count: int, n: int, generator: torch.Generator) -> Int[Tensor, "draw n"]:
    return torch.rand(count, n, generator=generator).argsort(1)


def _held_out(
    x: Tensor, x_test: Tensor, labels: Tensor, test_labels: Tensor, n: int
) -> Float[Tensor, " draw"]:
    """Test problems answered rightly by a ridge fitted on the training problems, for every draw of labels at
    once."""
    gram = x @ x.T
    penalty = gram.diagonal().mean().clamp_min(1e-12)
    inverse = torch.linalg.inv(gram + penalty * torch.eye(len(x), dtype=x.dtype))
    onehot = F.one_hot(labels, n).double() - 1 / n
    scores = torch.einsum("st,btc->bsc", (x_test @ x.T) @ inverse, onehot)
    return (scores.argmax(-1) == test_labels).double().sum(1)
