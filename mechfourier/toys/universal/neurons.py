"""Neurons across moduli: which harmonic of a + b each follows as m changes, and attention between m, a, b and
"="."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mechfourier.fourier import r2_bound
from mechfourier.hooks.capture import capture
from mechfourier.toys.universal.task import grid

POSITIONS = ("m", "a", "b", "=")
MOST_NEURONS = 512


@dataclass(frozen=True)
class Adaptation:
    """One neuron at one modulus: the harmonic k of (a + b) mod m that explains most of its activation at
    ``=`` over the whole grid, the share R² of its variance that it explains, and k/m in cycles per unit."""

    layer: int
    neuron: int
    m: int
    k: int
    r2: float
    cycles_per_unit: float


@dataclass(frozen=True)
class NeuronTable:
    """The neurons of one layer at one modulus. ``bound``: what the best of all neurons and harmonics stays
    under in white noise (95 %); ``untrained``: the best R² in a re-initialised network; ``above``: share of
    neurons above both."""

    layer: int
    m: int
    neurons: int
    median_r2: float
    best_r2: float
    bound: float
    untrained: float
    above: float


@dataclass(frozen=True)
class Flow:
    """Mean attention of one head from the position ``source`` to m, a, b and ``=`` (over questions, and draws
    where there are several)."""

    m: int
    layer: int
    head: int
    weights: tuple[float, float, float, float]
    source: str = "="


def class_harmonics(acts: Float[Tensor, "cell d"], m: int) -> tuple[Int[Tensor, " d"], Float[Tensor, " d"]]:
    """(k, R²) of the best harmonic of (a + b) mod m for activations on the whole grid, row-major in a.

    R² is of the cells, not of their means over a + b: what varies within a class counts as unexplained.
    """
    cells = acts.double().unflatten(0, (m, m))
    centred = cells - cells.mean((0, 1))
    total = centred.square().sum((0, 1)).clamp_min(1e-30)
    label = (torch.arange(m)[:, None] + torch.arange(m)) % m
    means = torch.zeros(m, acts.shape[1], dtype=torch.float64)
    means.index_add_(0, label.flatten(), centred.flatten(0, 1))
    power = (
        torch.fft.rfft(means / m, dim=0).abs().square()[1:] * 2
    )  # Σ over k, −k, per m classes of m cells each
    if m % 2 == 0:
        power[-1] /= 2
    share = power / total
    best = share.argmax(0)
    constant = centred.square().mean((0, 1)) < 1e-12 * cells.square().mean((0, 1)).clamp_min(1e-30)
    r2 = torch.where(constant, 0.0, share.gather(0, best[None])[0])
    return best + 1, r2


def neuron_tables(
    model: Any, moduli: Sequence[int], *, seed: int = 0
) -> tuple[tuple[NeuronTable, ...], tuple[Adaptation, ...]]:
    """Every layer's neurons (up to 512 of them) at every modulus, and how each adapts."""
    tables, rows = [], []
    control = model.reinitialised(seed)
    for m in moduli:
        for layer in range(model.cfg.n_layers):
            k, r2 = class_harmonics(_neurons(model, m, layer), m)
            untrained = class_harmonics(_neurons(control, m, layer), m)[1].max()
            bound = r2_bound(m * m, len(k) * max(1, m // 2))
            above = (r2 > max(bound, float(untrained))).double().mean()
            tables.append(
                NeuronTable(
                    layer,
                    m,
                    len(k),
                    float(r2.median()),
                    float(r2.max()),
                    bound,
                    float(untrained),
                    float(above),
                )
            )
            rows += [Adaptation(layer, i, m, int(k[i]), float(r2[i]), int(k[i]) / m) for i in range(len(k))]
    return tuple(tables), tuple(rows)


def _neurons(model: Any, m: int, layer: int) -> Float[Tensor, "cell d"]:
    site = f"blocks.{layer}.mlp.hook_post"
    return capture(model, model.tokens(grid(m)), site, "last")[site][:, :MOST_NEURONS]


def follows_draw(model: Any, rows: Sequence[Adaptation]) -> float:
    """Correlation, over neurons and moduli with R² ≥ .5, of k/m with the frequency of the neuron's own draw
    (both folded to
    0..½); NaN where fewer than three such neurons are. Only a model that reads one frequency per draw has it.
    """
    config = model.cfg
    strong = [row for row in rows if row.r2 >= 0.5]
    if getattr(config, "freqs", 0) != 1 or len(strong) < 3:
        return float("nan")
    own = torch.tensor([float(model.frequencies[row.neuron // config.gates, 0]) for row in strong])
    folded = torch.minimum(own, 1 - own)
    found = torch.tensor([row.cycles_per_unit for row in strong])
    return float(torch.corrcoef(torch.stack([folded, found]))[0, 1])


def attention_flow(model: Any, m: int, *, count: int = 200, seed: int = 0) -> tuple[Flow, ...]:
    """Mean attention on random questions mod m, per layer, head and position that looks."""
    from mechfourier.toys.universal.task import random_questions

    tokens, found = model.tokens(random_questions(m, count, seed=seed)), []
    heads = getattr(model.cfg, "heads", model.cfg.n_heads)
    for layer in range(model.cfg.n_layers):
        site = f"blocks.{layer}.attn.hook_pattern"
        pattern = capture(model, tokens, site, "all")[site].mean(0)
        for head, rows in enumerate(pattern.unflatten(0, (-1, heads)).mean(0).tolist()):
            found += [
                Flow(m, layer, head, tuple(row), source) for source, row in zip(POSITIONS, rows, strict=True)
            ]
    return tuple(found)
