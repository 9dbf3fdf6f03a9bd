"""Sweeps: take out every dimension, head or neuron in turn, and rank them by what the model loses.

One family of tests: the p-values hold for the best of all units of all layers that were swept.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor

from mechfourier.causal.ablate import MODES
from mechfourier.causal.controls import Ablations, Moments, affordable, margins, moments, run_ablations
from mechfourier.causal.cost import whole_steps
from mechfourier.causal.outcome import (
    AnswerTask,
    SimilarityTask,
    balanced_sample,
    chance_note,
    task_name,
    task_of,
)
from mechfourier.causal.readout import readout, through_readout
from mechfourier.causal.text import sentences_for, text_effects
from mechfourier.domains.answers import AnswerScores
from mechfourier.domains.definition import Domain
from mechfourier.domains.definition import domain as find_domain
from mechfourier.domains.task_spec import NATIVE
from mechfourier.errors import InterventionChangedNothing, OutOfRange, UsageError, nearest
from mechfourier.hooks.site import HEAD_KINDS, Site, model_name, select_sites
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

    ``effects``: mean drop of the margin (right candidate minus the mean of the others: nats, or cosine for a model without
    logits), with its standard error over prompts in ``errors``; ``accuracies`` after the ablation. ``p_values``: two-sided,
    corrected for all units of all sites. ``frozen_units``: units whose activation never varies.
    ``specific``: the drop of the margin less the rise of surprisal on held-out text, each in its own standard deviations (over prompts, over
    sentences): high where a unit serves the task and little else. None where the model reads no running text.
    ``method``: ``"read-out"`` where the path from the site to the logits is linear and was used as such, else ``"forward passes"``.
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
            {
                "site": site, self.unit: unit, "effect": effect, "error": self.errors[at][unit],
                "accuracy": self.accuracies[at][unit], "p_value": self.p_values[at][unit],
                **({} if self.specific is None else {"specific": self.specific[at][unit]}),
            }
            for at, site in enumerate(self.sites)
            for unit, effect in enumerate(self.effects[at])
        ]  # fmt: skip
        frame = pd.DataFrame(rows)
        by = "effect" if self.specific is None else "specific"
        return frame.sort_values(by, ascending=False, kind="stable", ignore_index=True)

    def __str__(self) -> str:
        frame = self.frame()
        best = frame.loc[frame["effect"].idxmax()]
        measure = "nats" if self.outcome == "log-probability" else "of cosine"
        lines = [
            f"{self.mode} ablation of each of {self.n_units} {self.unit}s of {self.model}, {self.domain}, task {self.task} ({self.n_prompts} "
            f"prompts, accuracy {self.accuracy:.1%}): {self.significant()} matter at family-wise p < 0.05; the greatest drop is "
            f"{best['effect']:.3g} {measure} of {self.logit_diff:.3g}, {self.unit} {best[self.unit]} of {best['site']} "
            f"(accuracy {best['accuracy']:.1%}, p = {best['p_value']:.2g})"
        ]
        return "\n".join([*lines, *(f"note: {note}" for note in self.notes)])


def sweep_ablate(
    model: Any,
    domain: Domain | str,
    *,
    sites: str | Site | Sequence[str | Site] = "resid_post",
    layers: str | int | Iterable[int] | None = None,
    unit: str | None = None,
    mode: str = "mean",
    positions: str = "all",
    task: str | None = None,
    samples: int | None = None,
    cycles: int = 1,
    flips: int = FLIPS,
    text: Sequence[str] | None = None,
    seed: int = 0,
) -> SweepResult:
    """Ablate every unit of these sites in turn, as ``ablate`` does with one.

    ``unit``: ``"dim"``, ``"head"`` (all dimensions of one head of z, or of another site with heads) or ``"neuron"`` (a
    dimension of mlp_post); None takes what fits the site. ``sites`` and ``layers`` are what ``select_sites`` takes; ``mode``
    and ``positions`` as in ``ablate``, and ``task`` too. ``samples``: as many prompts, balanced over the answers (None: all, or as
    many as a few minutes allow on a CPU). ``text``: sentences for the specific effect (None: held-out ones that come with the package, as
    many as a few minutes allow; ``()``: none).

    The p-values: a unit that plays no part raises a prompt's margin as readily as it lowers it, so under that null the signs of
    the paired differences (before minus after) may be flipped. Every flip applies to all units at once, which keeps
    their dependence, and the largest |t| over *all* units is kept: p = (1 + #{max|t| ≥ |t of the unit|}) / (flips + 1)
    bounds the chance of one false unit among them (Westfall & Young 1993). Statistics are t (mean over standard error), so that one unit
    with wild prompts does not set the bar for the rest. Prompts that share an operand are taken as independent, so the p-values speak of this
    grid; with many prompts even a tiny effect is certain, so rank by ``specific`` or ``effect``.

    Raises ``OutOfRange`` (layers, samples), ``UnknownSite``, ``UsageError`` (a unit that does not fit the site),
    ``NotExpressible``, ``HookNeverFired``, and ``InterventionChangedNothing`` where no unit of any site ever varies.
    """
    chosen = select_sites(model, sites, layers)
    _check(mode, positions, flips)
    kinds = {unit_of(site, unit) for site in chosen}
    if len(kinds) > 1:
        raise UsageError(f"sites of different units ({', '.join(sorted(kinds))}); sweep them one at a time")
    wanted = domain if isinstance(domain, Domain) else find_domain(domain)
    asked = task_of(model, wanted, task=task, cycles=cycles, samples=samples, seed=seed)
    sweep = _Sweep(model, asked, chosen, kinds.pop(), mode, positions, samples, seed)
    with progress("units", total=sweep.n_units) as bar:
        found = [sweep.effects(place, bar.advance) for place in sweep.places]
    sentences, reason = tuple(text or ()), None
    if text is None and isinstance(asked, AnswerTask):
        sentences, reason = sentences_for(model, sweep.n_units)
    rises = None
    if sentences:
        with progress("units on text", total=sweep.n_units) as bar:
            rises = [
                text_effects(model, sentences, sweep.ablations(place), bar.advance) for place in sweep.places
            ]
    return _result(sweep, chosen, found, flips, rises, reason)


def _check(mode: str, positions: str, flips: int) -> None:
    for option, value, known in (("mode", mode, MODES), ("positions", positions, ("all", "last"))):
        if value not in known:
            raise UsageError(f"{option} {value!r} is not known; closest: {nearest(value, known)}")
    if flips < 1:
        raise OutOfRange(f"flips is {flips}; p-values need at least 1, better {FLIPS}")


def unit_of(site: Site, unit: str | None) -> str:
    """The unit to take out at ``site``; raises ``UsageError`` where ``unit`` is none of its own."""
    if unit is None:
        return "neuron" if site.kind == "mlp_post" else "head" if site.kind in HEAD_KINDS else "dim"
    if unit not in UNITS:
        raise UsageError(f"unit {unit!r} is not known; closest: {nearest(unit, UNITS)}")
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
    """A site with its moments, its units and its way to the logits where that is linear."""

    site: Site
    around: Moments
    units: Int[Tensor, "unit k"]
    matrix: Tensor | None

    @property
    def frozen(self) -> int:
        """Units whose every dimension has the same value everywhere."""
        variance = self.around.covariance.diagonal()
        still = variance <= STILL * (variance + self.around.mean.square()) + 1e-30
        return int(still[self.units].all(dim=1).sum())


class _Sweep:
    """A task with its baseline, and the places to sweep; ``effects`` ablates every unit of one."""

    def __init__(
        self,
        model: Any,
        task: AnswerTask | SimilarityTask,
        sites: Sequence[Site],
        unit: str,
        mode: str,
        positions: str,
        samples: int | None,
        seed: int,
    ) -> None:
        self.model, self.unit, self.mode, self.seed = model, unit, mode, seed
        self.last_only, self.positions = positions == "last", positions
        self.n_all, self.task = len(task.rows), task
        self.places = [self._place(site) for site in sites]
        by_model = sum(len(place.units) for place in self.places if place.matrix is None)
        if samples is None and by_model and isinstance(task, AnswerTask):
            chosen = balanced_sample(task.label, affordable(model, task, by_model), seed=seed)
            self.task = task if len(chosen) == self.n_all else task.subset(chosen)
        self.base = self.task.score(model)

    @property
    def n_units(self) -> int:
        return sum(len(place.units) for place in self.places)

    def _place(self, site: Site) -> _Place:
        around = moments(self.model, self.task, site, last_only=self.last_only)
        units = _units(self.model, site, self.unit, len(around.mean))
        linear = self.mode != "resample" and units.shape[1] == 1
        return _Place(site, around, units, readout(self.model, self.task, site) if linear else None)

    def ablations(self, place: _Place) -> Ablations:
        mode: Any = self.mode
        return Ablations(place.site, mode, place.around.mean, dims=place.units, seed=self.seed)

    def effects(self, place: _Place, advance: Callable[[int], None]) -> _Effects:
        ablations = self.ablations(place)
        if place.matrix is not None and isinstance(self.task, AnswerTask):
            found = through_readout(self.model, self.task, self.base, ablations, place.matrix, advance)
        else:
            found = through_model(self.model, self.task, self.base, ablations, self.last_only, advance)
        return _Effects(*found)


def _units(model: Any, site: Site, unit: str, width: int) -> Int[Tensor, "unit k"]:
    if unit != "head":
        return torch.arange(width)[:, None]
    of_head = int(model.cfg.d_model if site.kind in ("result", "attn_in") else model.cfg.d_head)
    return rearrange(torch.arange(width), "(head d) -> head d", d=of_head)


def through_model(
    model: Any,
    task: AnswerTask | SimilarityTask,
    base: AnswerScores,
    ablations: Ablations,
    last_only: bool,
    advance: Callable[[int], None],
) -> tuple[Float[Tensor, "unit prompt"], Float[Tensor, " unit"]]:
    """Drops of the margin and accuracies by running the model, many ablations per pass."""
    per_unit = base.scores.numel()
    report = whole_steps(advance, task.plan.n_sequences if isinstance(task, AnswerTask) else len(task.rows))
    drops, right = [], []
    for part in _dims(ablations).split(max(1, TABLE // per_unit)):
        some = Ablations(ablations.site, ablations.mode, ablations.mean, dims=part, seed=ablations.seed)
        scores = run_ablations(model, task, some, last_only=last_only, relative=True, advance=report)
        drops.append(base.margin - margins(scores, base.label))
        right.append((scores.argmax(dim=2) == base.label).double().mean(dim=1))
    return torch.cat(drops), torch.cat(right)


def _dims(ablations: Ablations) -> Int[Tensor, "unit k"]:
    if ablations.dims is None:
        raise UsageError("a sweep takes out dimensions")
    return ablations.dims


def flip_p_values(drops: Float[Tensor, "unit prompt"], *, flips: int, seed: int) -> Float[Tensor, " unit"]:
    """Family-wise p-values of "the mean is 0" by flipping the prompts' signs, the largest |mean| / rms over the units kept.

    Under flips of signs a unit's sum of squares stays, so mean / rms ranks as t does. A unit that is 0 throughout has p = 1.
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
    sweep: _Sweep,
    sites: Sequence[Site],
    found: Sequence[_Effects],
    flips: int,
    rises: Sequence[Tensor] | None,
    reason: str | None,
) -> SweepResult:
    frozen = sum(place.frozen for place in sweep.places)
    if frozen == sweep.n_units and sweep.mode in ("mean", "resample"):
        raise InterventionChangedNothing(
            f"no {sweep.unit} of {sites[0]} in {model_name(sweep.model)} ever varies, so a {sweep.mode} ablation changes "
            "nothing; choose another site, or positions='all'"
        )
    p = flip_p_values(torch.cat([f.drops for f in found]), flips=flips, seed=sweep.seed)
    parts = p.split([len(f.drops) for f in found])
    task, base, domain = sweep.task, sweep.base, sweep.task.design.domain
    return SweepResult(
        model=model_name(sweep.model),
        domain=domain.name,
        n=domain.n,
        unit=sweep.unit,
        mode=sweep.mode,
        positions=sweep.positions,
        outcome=base.outcome,
        method="read-out" if all(p.matrix is not None for p in sweep.places) else "forward passes",
        sites=tuple(map(str, sites)),
        n_prompts=len(task.rows),
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
        seed=sweep.seed,
        task=task_name(task),
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
    used, of = len(sweep.task.rows), sweep.n_all
    few = f"{used} of the {of} prompts were used, balanced over the answers (samples)" if used < of else None
    still = f"{frozen} {sweep.unit}s never vary on these prompts" if frozen else None
    notes = [*sweep.task.notes, chance_note(sweep.base, sweep.task.design.n_answers), few, still, reason]
    return tuple(note for note in notes if note)
