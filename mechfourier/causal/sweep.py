"""Sweeps: take out every dimension, head or neuron in turn, and rank them by what the model loses.

One family of tests: the p-values hold for the best of all units of all layers that were swept.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, cast

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor

from mechfourier._renamed import renamed
from mechfourier.causal.ablate import MODES
from mechfourier.causal.controls import Moments, margins
from mechfourier.causal.cost import affordable
from mechfourier.causal.edits import Ablations, Mode, head_width, known
from mechfourier.causal.experiment import Experiment
from mechfourier.causal.readout import readout, through_readout
from mechfourier.causal.task import AnswerTask
from mechfourier.causal.text import sentences_for, text_effects
from mechfourier.domains.answers import AnswerScores
from mechfourier.domains.definition import Domain
from mechfourier.domains.reads import TokensRead
from mechfourier.domains.sampling import balanced_sample
from mechfourier.domains.task_spec import NATIVE
from mechfourier.errors import InterventionChangedNothing, OutOfRange, UsageError
from mechfourier.hooks.site import HEAD_KINDS, Site, model_name, select_sites
from mechfourier.models.interface import Model
from mechfourier.progress import progress
from mechfourier.results.base import Result

if TYPE_CHECKING:
    import pandas as pd

UNITS = ("dim", "head", "neuron")
FLIPS = 2000
TABLE = 2**25  # scores held at a time: 128 MiB
STILL = 1e-12  # variance, relative to the second moment, of a unit that never varies
TOLERANCE = 1e-5  # statistics nearer than this are ties


@dataclass(frozen=True)
class SweepResult(
    Result, kind="ablation-sweep", command="sweep-ablate", figure="mechfourier.figures.sweep:sweep_figure"
):
    """What every unit's ablation took away. All tables are ``[site][unit]``.

    ``effects``: mean drop of the margin (right candidate minus the mean of the others: nats, or cosine for a
    model without logits), with its standard error over prompts in ``errors``; ``accuracies`` after the
    ablation. ``p_values``: two-sided, corrected for all units of all sites. ``frozen_units``: units whose
    activation never varies. ``specific``: the drop of the margin less the rise of surprisal on held-out text,
    each in its own standard deviations (over prompts, over sentences): high where a unit serves the task and
    little else. None where the model reads no running text. ``method``: ``"read-out"`` where the path from
    the site to the logits is linear and was used as such, else ``"forward passes"``.
    """

    model: str
    domain: str
    n: int
    unit: str
    mode: str
    positions: str
    outcome: str
    method: str
    sites: tuple[str, ...]
    n_prompts: int
    accuracy: float
    logit_diff: float
    effects: tuple[tuple[float, ...], ...]
    errors: tuple[tuple[float, ...], ...]
    accuracies: tuple[tuple[float, ...], ...]
    p_values: tuple[tuple[float, ...], ...]
    specific: tuple[tuple[float, ...], ...] | None
    frozen_units: int
    flips: int
    notes: tuple[str, ...]
    seed: int
    task: str = NATIVE
    tokens: TokensRead | None = None

    @property
    def n_units(self) -> int:
        """How many units were ablated."""
        return sum(map(len, self.effects))

    def significant(self, level: float = 0.05) -> int:
        """How many units have a family-wise p below ``level``."""
        return sum(p < level for row in self.p_values for p in row)

    def frame(self) -> "pd.DataFrame":
        """One row per unit, the most specific first (without text: the greatest drop)."""
        import pandas as pd

        rows = [
            (site, unit, effect, self.errors[at][unit], self.accuracies[at][unit], self.p_values[at][unit])
            for at, site in enumerate(self.sites)
            for unit, effect in enumerate(self.effects[at])
        ]
        columns = ["site", self.unit, "effect", "error", "accuracy", "p_value"]
        frame = pd.DataFrame(rows, columns=columns)
        if self.specific is not None:
            frame["specific"] = [each for row in self.specific for each in row]
        by = "effect" if self.specific is None else "specific"
        return frame.sort_values(by, ascending=False, kind="stable", ignore_index=True)

    def __str__(self) -> str:
        frame = self.frame()
        best = frame.loc[frame["effect"].idxmax()]
        measure = "nats" if self.outcome == "log-probability" else "of cosine"
        lines = [
            f"{self.mode} ablation of each of {self.n_units} {self.unit}s of {self.model}, {self.domain}, "
            f"task {self.task} ({self.n_prompts} "
            f"prompts, accuracy {self.accuracy:.1%}): {self.significant()} matter at family-wise p < 0.05; "
            "the greatest drop is "
            f"{best['effect']:.3g} {measure} of {self.logit_diff:.3g}, {self.unit} {best[self.unit]} of "
            f"{best['site']} "
            f"(accuracy {best['accuracy']:.1%}, p = {best['p_value']:.2g})"
        ]
        return "\n".join([*lines, *(f"note: {note}" for note in self.notes)])


@renamed(samples="n_prompts", positions="position", flips="n_permutations")
def sweep_ablate(
    model: Model | Experiment,
    domain: Domain | str | None = None,
    *,
    sites: str | Site | Sequence[str | Site] = "resid_post",
    layers: str | int | Iterable[int] | None = None,
    unit: str | None = None,
    mode: str = "mean",
    position: str = "all",
    task: str | None = None,
    n_prompts: int | None = None,
    cycles: int = 1,
    n_permutations: int = FLIPS,
    text: Sequence[str] | None = None,
    seed: int = 0,
) -> SweepResult:
    """Ablate every unit of these sites in turn, as ``ablate`` does with one.

    ``unit``: ``"dim"``, ``"head"`` (all dimensions of one head of z, or of another site with heads) or
    ``"neuron"`` (a dimension of mlp_post); None takes what fits the site. ``sites`` and ``layers`` are what
    ``select_sites`` takes; ``mode`` and ``position`` (``"all"`` or ``"last"``) as in ``ablate``, and ``task``
    too. ``n_prompts``: as many prompts, balanced over the answers (None: all, or as many as a few minutes
    allow on a CPU). ``text``: sentences for the specific effect (None: held-out ones that come with the
    package, as many as a few minutes allow; ``()``: none).

    The p-values: a unit that plays no part raises a prompt's margin as readily as it lowers it, so under that
    null the signs of the paired differences (before minus after) may be flipped. Every flip applies to all
    units at once, which keeps their dependence, and the largest |t| over *all* units is kept: p = (1 +
    #{max|t| ≥ |t of the unit|}) / (n_permutations + 1) bounds the chance of one false unit among them
    (Westfall & Young 1993). Statistics are t (mean over standard error), so that one unit with wild prompts
    does not set the bar for the rest. Prompts that share an operand are taken as independent, so the p-values
    speak of this grid; with many prompts even a tiny effect is certain, so rank by ``specific`` or
    ``effect``.

    Raises ``OutOfRange`` (layers, prompts), ``UnknownSite``, ``UsageError`` (a unit that does not fit the
    site), ``NotExpressible``, ``HookNeverFired``, and ``InterventionChangedNothing`` where no unit of any
    site ever varies.
    """
    known("mode", mode, MODES)
    known("position", position, ("all", "last"))
    if n_permutations < 1:
        raise OutOfRange(
            f"n_permutations is {n_permutations}; p-values need at least 1 flip of signs, better {FLIPS}"
        )
    chosen = select_sites(model.model if isinstance(model, Experiment) else model, sites, layers)
    kinds = {unit_of(site, unit) for site in chosen}
    if len(kinds) > 1:
        raise UsageError(f"sites of different units ({', '.join(sorted(kinds))}); sweep them one at a time")
    asked = Experiment.of(model, domain, task=task, cycles=cycles, n_prompts=n_prompts, seed=seed)
    sweep = _Sweep(asked, chosen, kinds.pop(), mode, position, few=n_prompts is None)
    found = [sweep.effects(place) for place in sweep.places]
    rises, reason = _on_text(sweep, text)
    return _result(sweep, found, n_permutations, rises, reason)


def _on_text(sweep: "_Sweep", text: Sequence[str] | None) -> tuple[list[Tensor] | None, str | None]:
    """What every unit's ablation does to running text, and a note on that."""
    sentences, reason, model = tuple(text or ()), None, sweep.asked.model
    if text is None and isinstance(sweep.asked.task, AnswerTask):
        sentences, reason = sentences_for(model, sweep.n_units)
    if not sentences:
        return None, reason
    with progress("units on text", total=sweep.n_units) as bar:
        return [
            text_effects(model, sentences, place.ablations, bar.advance) for place in sweep.places
        ], reason


def unit_of(site: Site, unit: str | None) -> str:
    """The unit to take out at ``site``; raises ``UsageError`` where ``unit`` is none of its own."""
    if unit is None:
        return "neuron" if site.kind == "mlp_post" else "head" if site.kind in HEAD_KINDS else "dim"
    known("unit", unit, UNITS)
    if unit == "neuron" and site.kind != "mlp_post":
        raise UsageError(f"{site} has no neurons; sweep mlp_post, or unit='dim' here")
    if unit == "head" and site.kind not in HEAD_KINDS:
        raise UsageError(f"{site} has no heads; sweep z, or unit='dim' here")
    return unit


@dataclass(frozen=True, eq=False)
class _Effects:
    """One site's: drops of the margin, and shares right after the ablation."""

    drops: Float[Tensor, "unit prompt"]
    accuracy: Float[Tensor, " unit"]


@dataclass(frozen=True, eq=False)
class _Place:
    """A site with its moments, the ablations of its units, and its way to the logits where that is linear."""

    around: Moments
    ablations: Ablations
    matrix: Tensor | None

    @property
    def units(self) -> Int[Tensor, "unit k"]:
        """The dimensions of every unit."""
        return self.ablations.parts

    @property
    def frozen(self) -> int:
        """Units whose every dimension has the same value everywhere."""
        variance = self.around.covariance.diagonal()
        still = variance <= STILL * (variance + self.around.mean.square()) + 1e-30
        return int(still[self.units].all(dim=1).sum())


class _Sweep:
    """An experiment (on a ``few`` of the prompts, where all would take long) and the places to sweep."""

    def __init__(
        self, asked: Experiment, sites: Sequence[Site], unit: str, mode: str, position: str, *, few: bool
    ) -> None:
        self.whole, self.asked, self.unit, self.mode, self.position = asked, asked, unit, mode, position
        self.places = [self._place(site) for site in sites]
        by_model = sum(len(place.units) for place in self.places if place.matrix is None)
        if few and by_model:
            count = affordable(asked.model, asked.task, by_model)
            self.asked = asked.subset(balanced_sample(asked.task.label, count, seed=asked.seed))

    @property
    def n_units(self) -> int:
        return sum(len(place.units) for place in self.places)

    def _place(self, site: Site) -> _Place:
        model, how = self.asked.model, cast(Mode, self.mode)
        around = self.asked.moments(site, last_only=self.position == "last")
        width = head_width(model, site) if self.unit == "head" else 1
        units = rearrange(torch.arange(len(around.mean)), "(unit d) -> unit d", d=width)
        ablations = Ablations(site, how, around.mean, dims=units, seed=self.asked.seed)
        linear = self.mode != "resample" and width == 1
        return _Place(around, ablations, readout(model, self.asked.task, site) if linear else None)

    def effects(self, place: _Place) -> _Effects:
        asked = self.asked
        if place.matrix is not None and isinstance(asked.task, AnswerTask):
            return _Effects(
                *through_readout(asked.model, asked.task, asked.baseline, place.ablations, place.matrix)
            )
        return _Effects(*through_model(asked, place.ablations, last_only=self.position == "last"))


def through_model(
    asked: Experiment, ablations: Ablations, *, last_only: bool = False
) -> tuple[Float[Tensor, "unit prompt"], Float[Tensor, " unit"]]:
    """Drops of the margin and accuracies by running the model, many ablations per pass."""
    base, at = asked.baseline, asked.task.last if last_only else None
    drops, right = [], []
    for part in ablations.parts.split(max(1, TABLE // base.scores.numel())):
        scores = asked.ablated(replace(ablations, dims=part), f"units of {ablations.site}", at)
        drops.append(base.margin - margins(scores, base.label))
        right.append((scores.argmax(dim=2) == base.label).double().mean(dim=1))
    return torch.cat(drops), torch.cat(right)


def flip_p_values(drops: Float[Tensor, "unit prompt"], *, flips: int, seed: int) -> Float[Tensor, " unit"]:
    """Family-wise p-values of "the mean is 0" by flipping the prompts' signs, the largest |mean| / rms over
    the units kept.

    Under flips of signs a unit's sum of squares stays, so mean / rms ranks as t does. A unit that is 0
    throughout has p = 1.
    """
    scale = drops.double().square().sum(dim=1).sqrt()
    unit = torch.where(scale[:, None] > 0, drops.double() / scale.clamp(min=1e-300)[:, None], 0.0).float()
    observed = unit.sum(dim=1).abs()
    generator = torch.Generator().manual_seed(seed)
    largest = []
    for size in [min(256, flips - start) for start in range(0, flips, 256)]:
        signs = torch.randint(0, 2, (size, drops.shape[1]), generator=generator).float().mul_(2).sub_(1)
        largest.append((signs @ unit.T).abs().max(dim=1).values)
    bars = torch.cat(largest).sort().values
    reached = flips - torch.searchsorted(bars, observed * (1 - TOLERANCE))
    return torch.where(scale > 0, (1 + reached.double()) / (flips + 1), 1.0)


def _result(
    sweep: _Sweep, found: Sequence[_Effects], flips: int, rises: Sequence[Tensor] | None, reason: str | None
) -> SweepResult:
    asked, base = sweep.asked, sweep.asked.baseline
    frozen, sites = (
        sum(place.frozen for place in sweep.places),
        [place.ablations.site for place in sweep.places],
    )
    if frozen == sweep.n_units and sweep.mode in ("mean", "resample"):
        raise InterventionChangedNothing(
            f"no {sweep.unit} of {sites[0]} in {model_name(asked.model)} ever varies, so a {sweep.mode} "
            "ablation changes "
            "nothing; choose another site, or position='all'"
        )
    p = flip_p_values(torch.cat([f.drops for f in found]), flips=flips, seed=asked.seed)
    parts = p.split([len(f.drops) for f in found])
    return SweepResult(
        **asked.about(sweep.position),
        unit=sweep.unit,
        mode=sweep.mode,
        positions=sweep.position,
        outcome=base.outcome,
        method="read-out" if all(p.matrix is not None for p in sweep.places) else "forward passes",
        sites=tuple(map(str, sites)),
        n_prompts=len(asked),
        accuracy=base.accuracy,
        logit_diff=base.logit_diff,
        effects=tuple(tuple(f.drops.double().mean(dim=1).tolist()) for f in found),
        errors=tuple(tuple(_standard_error(f.drops)) for f in found),
        accuracies=tuple(tuple(f.accuracy.tolist()) for f in found),
        p_values=tuple(tuple(part.tolist()) for part in parts),
        specific=None if rises is None else _specific(found, rises, base),
        frozen_units=frozen,
        flips=flips,
        notes=_notes(sweep, frozen, reason),
    )


def _specific(
    found: Sequence[_Effects], rises: Sequence[Tensor], base: AnswerScores
) -> tuple[tuple[float, ...], ...]:
    """Drop of the margin in standard deviations over the prompts, less the rise on text in its own."""
    spread = max(float(base.margin.double().std()), 1e-12)
    return tuple(
        tuple((f.drops.double().mean(dim=1) / spread - rise.double()).tolist())
        for f, rise in zip(found, rises, strict=True)
    )


def _standard_error(drops: Float[Tensor, "unit prompt"]) -> list[float]:
    count = drops.shape[1]
    spread = drops.double().std(dim=1) if count > 1 else torch.zeros(len(drops)).double()
    return (spread / np.sqrt(count)).tolist()


def _notes(sweep: _Sweep, frozen: int, reason: str | None) -> tuple[str, ...]:
    used, of = len(sweep.asked), len(sweep.whole)
    few = (
        f"{used} of the {of} prompts were used, balanced over the answers (n_prompts)" if used < of else None
    )
    still = f"{frozen} {sweep.unit}s never vary on these prompts" if frozen else None
    return tuple(note for note in [*sweep.asked.notes(), few, still, reason] if note)
