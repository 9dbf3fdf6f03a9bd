"""Which heads and neurons an adder needs, and for which problems: mean ablation, category by category."""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from mechfourier.hooks.capture import capture
from mechfourier.hooks.interventions import edit_mean, intervene
from mechfourier.hooks.site import Site, sites
from mechfourier.toys.adder.accuracy import correct_characters
from mechfourier.toys.adder.base import split_at_equals
from mechfourier.toys.adder.draw import category
from mechfourier.toys.adder.task import PAD, Problems, decoder_input

CATEGORIES = ("equal lengths", "unequal lengths", "full-length carry chain", "no carry")
SHARES = (0.125, 0.25, 0.5)  # of the neurons, those that vary most first


@dataclass(frozen=True)
class Ablation:
    """One unit ablated: a head of an attention (``unit`` its number), or the neurons of an MLP that vary most
    over problems (``unit`` how many). ``exact`` and ``characters``: share of whole answers and of characters
    that stay right, by greedy decoding; ``before`` is the intact model's exact match."""

    site: str
    unit: int
    what: str
    category: str
    exact: float
    characters: float
    before: float


def ablations(model: Any, *, digits: int = 6, problems: int = 64, seed: int = 0) -> tuple[Ablation, ...]:
    """Every head, and the most variable neurons of every MLP in growing numbers, in every category.

    Mean ablation: the activation becomes its mean over the places where it means something (digits in the
    source, steps in the answer) of random problems.
    """
    groups = {
        name: category(name, problems, digits, torch.Generator().manual_seed(seed + i))
        for i, name in enumerate(CATEGORIES)
    }
    before = {name: float(correct_characters(model, p).all(1).double().mean()) for name, p in groups.items()}
    chosen = [s for s in sites(model) if s.kind in ("z", "cross_z", "mlp_post")]
    values = site_values(model, groups["equal lengths"], chosen)
    rows: list[Ablation] = []
    for site in chosen:
        for unit, what, part in _units(site, values[site]):
            mean = values[site].mean(0)
            edit = edit_mean(site, mean[unit] if what == "head" else mean.flatten(), **part)
            for name, p in groups.items():
                with intervene(model, [edit], must_change=False):
                    right = correct_characters(model, p)
                rows.append(
                    Ablation(
                        str(site),
                        unit,
                        what,
                        name,
                        float(right.all(1).double().mean()),
                        float(right.double().mean()),
                        before[name],
                    )
                )
    return tuple(rows)


def _units(site: Site, values: Tensor) -> list[tuple[int, str, dict[str, Any]]]:
    if site.kind != "mlp_post":
        return [(head, "head", {"head": head}) for head in range(values.shape[1])]
    order = values.var(0).argsort(descending=True)
    counts = [round(share * len(order)) for share in SHARES]
    return [(count, "neurons", {"dims": order[:count].sort().values}) for count in counts]


def site_values(model: Any, p: Problems, chosen: list[Site]) -> dict[Site, Float[Tensor, "sample *rest"]]:
    """Activations of teacher-forced problems at every position that means something: all source tokens, or
    all steps."""
    form = model.cfg.format
    source, target = form.source(p), decoder_input(form.target(p))
    tokens = torch.cat([source, target[:, 1:]], 1)
    tokens = tokens[(tokens != PAD).all(1)]
    found = capture(model, tokens, chosen, "all")
    encoder, decoder = split_at_equals(tokens)
    held = {}
    for site in found.sites:
        real = encoder != PAD if site.stack == "encoder" else decoder != PAD
        real = torch.ones_like(tokens, dtype=torch.bool) if site.stack == "blocks" else real
        held[site] = found[site][real]
    return held
