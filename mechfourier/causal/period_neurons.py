"""Which neurons write each period of an answer, and whether another task uses the same ones.

The residual stream is a sum, so with the final norm's scale frozen every head, neuron and bias adds a part of its own
to the answers' logits, and to the part of them that is a circle of period T in the answer's number (`stats.writers`).
Only direct paths count, as in `attribution`; ablating the neurons found says what the model does without them.
"""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from numpy import ndarray
from torch import Tensor

from mechfourier._arguments import checked
from mechfourier.causal.controls import check_count
from mechfourier.causal.neuron_ablation import Ablating, period_lead
from mechfourier.causal.neurons import unsplit_note
from mechfourier.causal.number_questions import at_chance
from mechfourier.causal.parts import whole_note
from mechfourier.causal.period_credit import PeriodCredit, WritingTask
from mechfourier.causal.period_result import (
    PeriodNeurons,
    PeriodWriters,
    SharedNeurons,
    Writer,
    WritingNeuron,
    period_name,
)
from mechfourier.causal.task import has_logits
from mechfourier.domains.definition import Domain
from mechfourier.domains.definition import domain as find_domain
from mechfourier.domains.reads import tokens_asked
from mechfourier.domains.tasks import task_named
from mechfourier.errors import OutOfRange, UnknownDomain, UsageError, nearest
from mechfourier.hooks.site import model_name
from mechfourier.models.interface import Model
from mechfourier.stats.helix import PERIODS
from mechfourier.stats.null import check_permutations
from mechfourier.stats.paired import bootstrap_mean, chance_note, resampled_means
from mechfourier.stats.writers import fewest, overlap, peaks, rank_correlation

LEAST_PERMUTATIONS = 99
N_CONTROLS = 20  # p can reach 1/21
MOST = 50  # neurons that are ablated together, and listed
LISTED = 10  # neurons that are listed at least
OVERLAP = 0.1  # cosine of two periods' planes from which it is said
ONE = 0.95  # and from which they are one
HARMONICS = 5  # periods of a cycle that are looked at where none is named


@checked
def period_neurons(
    model: Model,
    domain: Domain | str = "numbers",
    *,
    task: str | None = None,
    periods: Sequence[float] | None = None,
    against: Domain | str | None = None,
    n_prompts: int | None = None,
    n_controls: int = N_CONTROLS,
    n_permutations: int = 5000,
    seed: int = 0,
) -> PeriodNeurons:
    """Credit attention, MLPs and every neuron with the part of the right answer's lead that has each period; ablate the
    neurons found; and compare them with those of another task.

    Asked are the prompts whose answer is a number of one token. ``periods`` (None: those of 2, 5, 10, 100 that the
    numbers can carry; on a cycle of n those n/k that
    have more of the lead than without a preferred period, at most five). ``against``: another task of the
    domain by name, another domain, or ``"domain:task"``. ``n_controls``: draws of random neurons for the ablation (0:
    nothing is ablated). Raises ``UsageError`` (answers that are no numbers or too few of one token, no logits, no MLP
    neurons, a norm that is no scaled linear map), ``OutOfRange`` and ``NotExpressible``.
    """
    check_count(n_controls)
    check_permutations(n_permutations)
    if n_permutations < LEAST_PERMUTATIONS:
        raise OutOfRange(
            f"n_permutations is {n_permutations}, and p cannot fall below {1 / (n_permutations + 1):.2g}: no neuron "
            f"could be found; give {LEAST_PERMUTATIONS} or more"
        )
    if not has_logits(model):
        raise UsageError(f"{model_name(model)} has no logits, so it answers nothing; choose a language model")
    chosen = domain if isinstance(domain, Domain) else find_domain(domain)
    first = WritingTask.of(model, chosen, task, n_prompts, seed)
    wanted = _wanted(first, periods)
    planes = {period: first.plane(period) for period in wanted}
    second, said = _second(model, chosen, first, against, n_prompts, seed)
    found = [first.credited(period, plane, n_permutations, seed) for period, plane in planes.items()]
    other = None if second is None else _others(second, wanted, n_permutations, seed)
    ablating = None
    if n_controls and any(each.significant for each in found):
        ablating = Ablating(model, first.asked, first.neurons, seed)
    rows = tuple(
        _writers(first, each, ablating, n_controls, _shared(each, other, len(first.neurons)), seed)
        for each in found
    )
    said += _period_notes(first, periods, planes)
    if not n_controls and any(each.significant for each in found):
        said.append("no neuron was ablated: n_controls is 0")
    return _result(first, second, rows, n_permutations, seed, against, said)


def _result(
    first: "WritingTask",
    second: "WritingTask | None",
    rows: tuple[PeriodWriters, ...],
    n_permutations: int,
    seed: int,
    against: Domain | str | None,
    said: Sequence[str],
) -> PeriodNeurons:
    asked, stream = first.asked, first.stream
    notes = [
        *asked.asked.notes,
        chance_note(first.right, len(asked.numbers)),
        whole_note(stream.whole),
        unsplit_note(first.neurons.unsplit),
        *said,
    ]
    low, high = bootstrap_mean(first.whole, seed=seed)
    return PeriodNeurons(
        model=model_name(first.model),
        domain=asked.asked.design.domain.name,
        n=asked.asked.design.domain.n,
        n_answers=len(asked.numbers),
        low=int(asked.numbers.min()),
        high=int(asked.numbers.max()),
        n_prompts=len(asked),
        accuracy=float(first.right.double().mean()),
        lead=float(first.whole.mean()),
        lead_low=low,
        lead_high=high,
        n_neurons=len(first.neurons),
        width=int(np.bincount(first.neurons.layer).max()),
        n_layers=int(stream.model.cfg.n_layers),
        periods=rows,
        against=None if against is None else _name_of(against),
        against_accuracy=None if second is None else float(second.right.double().mean()),
        n_permutations=n_permutations,
        norm=stream.norm_words,
        sum_error=first.error,
        notes=tuple(dict.fromkeys(note for note in notes if note)),
        seed=seed,
        task=asked.asked.task,
        tokens=tokens_asked(first.model, asked.asked),
    )


GROUPS = {"mlp": "MLPs", "attn": "attention", "embed": "embedding"}


def _groups(task: WritingTask, credit: PeriodCredit) -> dict[str, Float[Tensor, " prompt"]]:
    """What MLPs, attention, the embedding and whatever is left add to the period; together all of it."""
    sums: dict[str, Tensor] = {}
    for name, value in task.parts(credit.plane).items():
        group = GROUPS.get(name.partition(" ")[0], "rest")
        sums[group] = sums.get(group, torch.zeros_like(value)) + value
    left = credit.prompts - sum(sums.values(), torch.zeros_like(credit.prompts))
    found = {name: sums[name] for name in GROUPS.values() if name in sums}
    return found | {"rest": sums.get("rest", torch.zeros_like(left)) + left}


def _writers(
    task: WritingTask,
    credit: PeriodCredit,
    ablating: Ablating | None,
    n_controls: int,
    shared: SharedNeurons | None,
    seed: int,
) -> PeriodWriters:
    groups, significant = _groups(task, credit), credit.significant
    table = torch.stack([credit.prompts, task.whole, *groups.values()], dim=1)
    drawn, (lead, whole, *parts) = resampled_means(table, seed=seed), table.mean(dim=0).tolist()
    low, high = _interval(drawn[:, 0])
    share_low, share_high = _interval(drawn[:, 0] / drawn[:, 1])
    written = low > 0  # shares of what may be nothing say nothing
    spread = [_interval(column / drawn[:, 0]) if written else (None, None) for column in drawn[:, 2:].T]
    ablated = None
    if ablating is not None and significant:
        ablated = ablating.ablated(significant[:MOST], credit.period, credit.plane, n_controls)
    return PeriodWriters(
        period=credit.period,
        lead=lead,
        low=low,
        high=high,
        share=lead / whole,
        share_low=share_low,
        share_high=share_high,
        even=credit.plane.shape[1] / (len(credit.plane) - 1),
        writers=tuple(
            Writer(name, part / lead if written else None, *ends)
            for name, part, ends in zip(groups, parts, spread, strict=True)
        ),
        neurons_share=float(credit.leads.sum()) / lead if written else None,
        n_half=fewest(credit.leads),
        n_significant=len(significant),
        neurons=_listed(task, credit, lead if written else None),
        ablated=ablated,
        shared=shared,
    )


def _interval(draws: Float[ndarray, " draw"]) -> tuple[float, float]:
    low, high = np.quantile(draws, [0.025, 0.975])
    return float(low), float(high)


def _listed(task: WritingTask, credit: PeriodCredit, lead: float | None) -> tuple[WritingNeuron, ...]:
    count = min(MOST, max(LISTED, len(credit.significant)))
    units, neurons = np.argsort(-credit.leads)[:count], task.neurons
    peak = peaks(
        neurons.means[:, units].astype(float), task.asked.numbers, credit.period, line=not task.asked.cyclic
    )
    own = neurons.own_lead(units.tolist())
    return tuple(
        WritingNeuron(
            layer=int(neurons.layer[u]),
            index=int(neurons.index[u]),
            lead=float(credit.leads[u]),
            share=None if lead is None else float(credit.leads[u]) / lead,
            p_value=float(credit.p[u]),
            peak=float(at),
            of_own=float(credit.leads[u] / whole) if whole > 0 else None,
        )
        for u, at, whole in zip(units.tolist(), peak, own, strict=True)
    )


def _wanted(task: WritingTask, periods: Sequence[float] | None) -> tuple[float, ...]:
    """The periods asked for, or those that can be looked at."""
    if periods is not None:
        if not periods or len(set(periods)) < len(periods) or min(periods) < 2:
            raise OutOfRange(f"periods {list(periods)} must be different, at least one, and 2 or more")
        return tuple(float(p) for p in periods)
    n, cycle = len(task.asked.numbers), task.asked.asked.design.wraps_at
    if cycle is None:
        return tuple(p for p in PERIODS if p <= n + 1)
    every = [cycle / k for k in range(1, cycle // 2 + 1)]
    parts = [float(period_lead(task.asked, task.logits, task.plane(period)).mean()) for period in every]
    whole = float(task.whole.mean())
    even = [task.plane(period).shape[1] / (n - 1) for period in every]
    ranked = sorted(range(len(every)), key=lambda i: -parts[i])[:HARMONICS]
    beyond = [i for i in ranked if parts[i] > even[i] * whole]
    return tuple(every[i] for i in sorted(beyond or ranked[:1]))


def _period_notes(
    task: WritingTask, periods: Sequence[float] | None, planes: dict[float, Float[ndarray, "n r"]]
) -> list[str]:
    notes = []
    cycle, found = task.asked.asked.design.wraps_at, list(planes.values())
    if periods is None and cycle is not None and cycle // 2 > len(planes):
        notes.append(
            f"the periods are those of {cycle}/1 to {cycle}/{cycle // 2} with the largest parts of the lead, which are so "
            "inflated; name periods to look at others"
        )
    count = task.asked.counts
    if count.max() > count.min():
        notes.append(
            f"the answers have {count.min()} to {count.max()} prompts each, and means of few prompts are noisier: means are "
            "exchanged as they are, and once more weighted by the root of their prompts; the larger p counts"
        )
    names = [period_name(period, task.asked.asked.design.domain.n) for period in planes]
    cross = {
        (names[j], names[i]): float(np.linalg.svd(found[i].T @ found[j])[1][0])
        for i in range(len(found))
        for j in range(i)
    }
    if max(cross.values(), default=0.0) > OVERLAP:
        (one, other), most = max(cross.items(), key=lambda item: item[1])
        same = " and are one part: these answers do not tell the two apart" if most > ONE else ""
        notes.append(
            f"on {len(task.asked.numbers)} numbers the periods are not independent (largest cosine between their planes {most:.2f}, of {one} and "
            f"{other}), so their parts of the lead overlap{same}"
        )
    return notes


def _name_of(against: Domain | str) -> str:
    return against.name if isinstance(against, Domain) else against


def _second(
    model: Model,
    domain: Domain,
    first: WritingTask,
    against: Domain | str | None,
    n_prompts: int | None,
    seed: int,
) -> tuple[WritingTask | None, list[str]]:
    """The other task, where the model answers it above chance."""
    if against is None:
        return None, []
    where, task = (against, None) if isinstance(against, Domain) else compared_with(domain, against)
    found = WritingTask.of(model, where, task, n_prompts, seed)
    name, asked = f"{where.name}, task {found.asked.asked.task}", found.asked
    if (where.name, asked.asked.task) == (domain.name, first.asked.asked.task):
        raise UsageError(f"{name} is the task itself; compare it with another one")
    if at_chance(found.right, len(asked.numbers)):
        hits = int(found.right.sum())
        return None, [f"nothing is compared: {name}, is answered at chance ({hits} of {len(asked)} right)"]
    if found.neurons.unsplit != first.neurons.unsplit:
        return None, [f"nothing is compared: in {name}, other layers are not split into neurons"]
    return found, [f"compared with {name}, on {len(asked)} prompts ({found.right.double().mean():.1%} right)"]


def compared_with(domain: Domain, against: str) -> tuple[Domain, str | None]:
    """A task of the same domain, another domain, or a task of another domain, without a model. Raises
    ``UnknownDomain``, ``UsageError``."""
    if any(spec.name == against for spec in domain.tasks):
        return domain, against
    name, _, task = against.partition(":")
    try:
        found = find_domain(name)
        if task:
            task_named(found, task)
        return found, task or None
    except UnknownDomain as error:
        tasks = [spec.name for spec in domain.tasks]
        raise UnknownDomain(
            f"against is {against!r}, no task of {domain.name} (closest: {nearest(against, tasks)}) and no domain: {error}"
        ) from error


def _others(
    second: WritingTask, periods: Sequence[float], n_permutations: int, seed: int
) -> dict[float, PeriodCredit]:
    """The same periods in the other task, where its numbers have them."""
    found = {}
    for period in periods:
        try:
            plane = second.plane(period)
        except OutOfRange:
            continue
        found[period] = second.credited(period, plane, n_permutations, seed)
    return found


def _shared(
    credit: PeriodCredit, other: dict[float, PeriodCredit] | None, units: int
) -> SharedNeurons | None:
    if other is None or (same := other.get(credit.period)) is None:
        return None
    sets = overlap(set(credit.significant), set(same.significant), units)
    r, low, high = rank_correlation(credit.leads, same.leads)
    rest = [rank_correlation(credit.leads, each.leads)[0] for T, each in other.items() if credit.period != T]
    return SharedNeurons(
        lead=float(same.prompts.mean()),
        first=sets.first,
        second=sets.second,
        shared=sets.shared,
        expected=sets.expected,
        p_value=sets.p_value,
        correlation=r,
        low=low,
        high=high,
        others=float(np.mean(rest)) if rest else None,
    )
