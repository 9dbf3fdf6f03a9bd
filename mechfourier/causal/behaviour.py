"""Behaviour geometry: which shape the answers lie in, and do representations lie as the answers do?

A prompt's answer is a distribution over the values that the model may be taken to speak of: coordinate w is the
probability of the answer that is right for value w in the same wording. The square roots of such distributions lie
on a sphere, where straight distances are Hellinger distances. They are asked what activations are asked: which
shape the values lie in (`stats.shapes`), one vector per value and wording. The distances between the values are then
compared with those of the activations at every site, beside the null of exchanged values. The two sides come from
different wordings, so that they share no noise.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy import ndarray
from torch import Tensor

from mechfourier._arguments import checked
from mechfourier.causal.cost import bounded
from mechfourier.causal.experiment import Experiment
from mechfourier.causal.plane import stream_sites
from mechfourier.causal.task import AnswerTask
from mechfourier.domains.definition import Domain
from mechfourier.domains.task_spec import NATIVE
from mechfourier.errors import OutOfRange, UsageError
from mechfourier.hooks.site import Site, model_name, select_sites
from mechfourier.models.interface import Model
from mechfourier.results.base import Result
from mechfourier.stats.mantel import Mantel, distances, mantel
from mechfourier.stats.shapes import ShapeEvidence, contest
from mechfourier.stats.shapes.contest import MOST_VALUES

if TYPE_CHECKING:
    import pandas as pd

    from mechfourier.hooks.store import ActivationStore

LEVEL = 0.05
SAME = 1e-6  # differences between values, relative to the activations, that are taken for rounding
COLUMNS = 24  # wordings of every value, at most


@dataclass(frozen=True)
class SiteAgreement:
    """How far the distances between the values at a site agree with those between their answers: Pearson ``r``
    with its 95 % interval (bootstrap over the values), and its one-sided ``p_value`` under exchanged values,
    family-wise over the sites."""

    site: str
    position: str
    r: float
    low: float
    high: float
    p_value: float


@dataclass(frozen=True)
class BehaviourResult(
    Result,
    kind="behaviour",
    figure="mechfourier.figures.behaviour:behaviour_figure",
    part="mechfourier.figures.behaviour:behaviour_part",
):
    """``shape``: the word of the contest on the answers, with its ``evidence`` and ``reasons``. ``sites``: the
    agreement at every site. ``null_upper``: 95 % of exchanged values have no site with a larger r; ``exact``: all
    ``n_orders`` orders were tried. ``agrees``: "agreement beyond chance" or not, by the best p.
    ``pairs``: of the best site, (value, value, distance of activations, Hellinger distance of answers)."""

    model: str
    domain: str
    n: int
    unit: str
    shape: str
    reasons: tuple[str, ...]
    evidence: tuple[ShapeEvidence, ...]
    n_templates: int
    accuracy: float
    sites: tuple[SiteAgreement, ...]
    null_upper: float
    n_orders: int
    exact: bool
    agrees: str
    pairs: tuple[tuple[str, str, float, float], ...]
    notes: tuple[str, ...]
    seed: int
    task: str = NATIVE

    @property
    def best(self) -> SiteAgreement:
        """The site whose distances agree best."""
        return max(self.sites, key=lambda site: site.r)

    def frame(self) -> "pd.DataFrame":
        """One row per site."""
        import pandas as pd

        return pd.DataFrame([vars(site) for site in self.sites])

    def __str__(self) -> str:
        best = self.best
        orders = f"all {self.n_orders} orders" if self.exact else f"{self.n_orders} random orders"
        lines = [
            f"the answers of {self.model} in {self.domain}, task {self.task} ({self.n_templates} wordings, accuracy "
            f"{self.accuracy:.1%}): {self.shape}",
            *(f"  - {reason}" for reason in self.reasons),
            f"{self.agrees}: distances of activations and of answers correlate best at {best.site} ({best.position} "
            f"token), r = {best.r:.2f} (95 % {best.low:.2f} to {best.high:.2f}), p = {best.p_value:.2g} over "
            f"{len(self.sites)} sites",
            f"with the values exchanged ({orders}), the best of all sites stays below r = {self.null_upper:.2f} in "
            f"95 %: {self.n * (self.n - 1) // 2} pairs of {self.n} values are not independent",
        ]
        return "\n".join([*lines, *(f"note: {note}" for note in self.notes)])


@checked
def behaviour(
    model: Model | Experiment,
    domain: Domain | str | None = None,
    *,
    sites: str | None = None,
    layers: str | None = None,
    task: str | None = None,
    cycles: int = 1,
    n_permutations: int = 1000,
    seed: int = 0,
    store: "ActivationStore | None" = None,
) -> BehaviourResult:
    """The shape of the answers, and how far the distances at every site (None: the embedding and every
    ``resid_post``) agree with theirs. ``task`` and ``cycles`` as in ``rotate``.

    Raises ``UsageError`` for a model without logits, ``OutOfRange`` for fewer than 4 values, and what ``rotate``
    raises.
    """
    asked = Experiment.of(model, domain, task=task, cycles=cycles, seed=seed, store=store)
    if not isinstance(asked.task, AnswerTask):
        raise UsageError(
            f"{model_name(asked.model)} has no logits, so it answers nothing; choose a language model"
        )
    if asked.design.n < 4:
        raise OutOfRange(f"{asked.design.n} values have no geometry to compare; choose a domain of 4 or more")
    whole, columns = _every_value(asked)
    answers = answer_geometry(whole, columns)
    word, reasons, evidence = _shape(answers, n_permutations, seed)
    chosen = stream_sites(asked.model) if sites is None and layers is None else _chosen(asked, sites, layers)
    tables = _tables(whole, [(site, position) for site in chosen for position in _positions(whole)])
    places = list(tables)
    found, first, second = _agreement(list(tables.values()), answers, n_permutations, seed)
    listed = [
        SiteAgreement(str(site), position, *numbers)
        for (site, position), numbers in zip(
            places, zip(found.r, found.low, found.high, found.p_value, strict=True), strict=True
        )
    ]
    best = max(range(len(listed)), key=lambda i: listed[i].r)
    return BehaviourResult(
        model=model_name(asked.model),
        domain=asked.design.domain.name,
        n=asked.design.n,
        unit=asked.design.domain.unit,
        shape=word,
        reasons=reasons,
        evidence=evidence,
        n_templates=len(columns),
        accuracy=whole.baseline.accuracy,
        sites=tuple(listed),
        null_upper=found.null_upper,
        n_orders=found.n_orders,
        exact=found.exact,
        agrees=_word(listed[best].p_value),
        pairs=_pairs(asked, first[best], second[best]),
        notes=tuple(_notes(whole, len(columns))),
        seed=seed,
        task=asked.task.name,
    )


def _word(p: float) -> str:
    return "agreement beyond chance" if p < LEVEL else "no agreement beyond chance"


def _chosen(asked: Experiment, sites: str | None, layers: str | None) -> list[Site]:
    return list(select_sites(asked.model, sites or "resid_post", layers))


def _positions(asked: Experiment) -> tuple[str, ...]:
    """The last token tells values apart only where a wording has one answer per value."""
    return ("value",) if asked.design.offset is not None else ("value", "last")


def _every_value(asked: Experiment) -> tuple[Experiment, Int[Tensor, " column"]]:
    """The experiment on every value in the same wordings, as many as can be afforded, and which those are."""
    n, count = asked.design.shape
    everything = asked.task.on(asked.model, torch.arange(n * count)) if len(asked) < n * count else asked.task
    most = min(count, COLUMNS, max(1, bounded(asked.model, everything, 1) // n))
    order = torch.randperm(count, generator=torch.Generator().manual_seed(asked.seed))
    columns = order[:most].sort().values
    rows = (torch.arange(n)[:, None] * count + columns[None]).flatten()
    task = everything if most == count else asked.task.on(asked.model, rows)
    return Experiment(asked.model, task, seed=asked.seed, part_of=asked), columns


def answer_geometry(asked: Experiment, columns: Int[Tensor, " column"]) -> Float[ndarray, "n column w"]:
    """√p of the answers: coordinate w is the answer that is right for value w in the same wording; one more
    coordinate holds the candidates that are right for none."""
    n, count = asked.design.shape
    p = asked.baseline.scores.double().softmax(1)
    cells = torch.arange(n)[None] * count + (asked.task.rows % count)[:, None]
    own = p.gather(1, asked.design.label[cells])
    rest = (1.0 - own.sum(1, keepdim=True)).clamp(min=0.0)
    return torch.cat([own, rest], 1).sqrt().reshape(n, len(columns), -1).numpy()


def _shape(
    answers: Float[ndarray, "n column w"], n_permutations: int, seed: int
) -> tuple[str, tuple[str, ...], tuple[ShapeEvidence, ...]]:
    if len(answers) > MOST_VALUES:
        reason = f"{len(answers)} values; the contest holds designs for up to {MOST_VALUES}"
        return "shape not testable", (reason,), ()
    site = contest(answers, n_permutations=n_permutations, seed=seed).sites[0]
    return site.label, site.reasons, site.shapes


def _tables(
    asked: Experiment, places: Sequence[tuple[Site, str]]
) -> dict[tuple[Site, str], Float[ndarray, "n column d"]]:
    """The activations of every value and wording, at the places where they depend on the value; raises ``OutOfRange``
    where there is none."""
    sites, positions = dict.fromkeys(site for site, _ in places), dict.fromkeys(p for _, p in places)
    vectors = asked.measured.vectors(list(sites), list(positions), asked.task.rows)
    found = {
        place: vectors[place].double().reshape(asked.design.n, -1, vectors[place].shape[1])
        for place in places
    }
    kept = {
        place: table.numpy()
        for place, table in found.items()
        if float((table - table[:1]).abs().max()) > SAME * float(table.abs().max())
    }
    if not kept:
        raise OutOfRange("no activation depends on the value at these sites; choose later ones")
    return kept


def _agreement(
    tables: Sequence[Float[ndarray, "n column _"]],
    answers: Float[ndarray, "n column w"],
    n_permutations: int,
    seed: int,
) -> tuple[Mantel, Float[ndarray, "place n n"], Float[ndarray, "place n n"]]:
    """The agreement at every place. Activations are those of one half of the wordings, answers of the other, and
    the other way round; the two correlations are averaged."""
    columns = answers.shape[1]
    halves = [np.arange(columns)[i::2] for i in (0, 1)] if columns > 1 else [np.arange(1)]
    first = np.stack([[distances(table[:, half].mean(1)) for table in tables] for half in halves])
    others = np.stack([distances(answers[:, half].mean(1)) for half in halves[::-1]])
    second = np.repeat(others[:, None], len(tables), 1)
    found = mantel(first, second, n_permutations=n_permutations, seed=seed)
    return found, first.mean(0), second.mean(0)


def _pairs(
    asked: Experiment, first: Float[ndarray, "n n"], second: Float[ndarray, "n n"]
) -> tuple[tuple[str, str, float, float], ...]:
    """Every pair of values with both distances, over their means."""
    values = asked.design.domain.values
    means = [side[np.triu_indices(len(side), 1)].mean() for side in (first, second)]
    return tuple(
        (values[i], values[j], float(first[i, j] / means[0]), float(second[i, j] / means[1]))
        for i, j in zip(*np.triu_indices(len(values), 1), strict=True)
    )


def _notes(asked: Experiment, columns: int) -> list[str]:
    said = asked.notes()
    if columns == 1:
        said.append("one wording: activations and answers come from the same prompts and share their noise")
    if columns < asked.design.shape[1]:
        said.append(f"{columns} of the {asked.design.shape[1]} wordings of every value were asked")
    return said
