"""Which questions of a domain a model answers: accuracy by task and template, with exact intervals, against
chance."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from mechfourier._renamed import renamed
from mechfourier.domains.answer_plan import AnswerPlan
from mechfourier.domains.answers import AnswerScores, plan_answers, score_plan
from mechfourier.domains.continuations import continuation_notes
from mechfourier.domains.definition import Domain, list_domains
from mechfourier.domains.definition import domain as find_domain
from mechfourier.domains.design import Design, max_cycles
from mechfourier.domains.sampling import balanced_sample
from mechfourier.domains.task_design import expressible
from mechfourier.domains.task_spec import NATIVE, TaskSpec, native_task
from mechfourier.errors import NotExpressible, UsageError
from mechfourier.hooks.site import model_name
from mechfourier.models.interface import Model
from mechfourier.progress import tracked
from mechfourier.results.base import Result
from mechfourier.stats.intervals import binomial_p, clopper_pearson
from mechfourier.stats.permutation import holm

if TYPE_CHECKING:
    import pandas as pd

LEVEL = 0.05
MOST_PROMPTS = 240
"""Prompts of a task that are asked unless told otherwise, balanced over the answers."""
MOST_SEQUENCES = 480
"""Sequences that a task runs unless told otherwise: answers of several tokens take several for each prompt."""
FEWEST_PROMPTS = 12
ASIDE = 0.5
"""Share of the prompts in chat that may be answered with something else than a candidate before a note says so."""


@dataclass(frozen=True)
class Accuracy:
    """``right`` of ``prompts``, as a share in [0, 1] with its exact 95 % interval (Clopper & Pearson)."""

    right: int
    prompts: int
    share: float
    low: float
    high: float


def accuracy_of(right: Bool[Tensor, " prompt"]) -> Accuracy | None:
    """The share of True, None without prompts."""
    if not len(right):
        return None
    count = int(right.sum())
    return Accuracy(count, len(right), count / len(right), *clopper_pearson(count, len(right)))


@dataclass(frozen=True)
class TaskRow:
    """One task, or one ``template`` of it (None: all of them together).

    ``accuracy``: the right answer scores highest among the candidates; ``greedy``: greedy decoding over the
    whole vocabulary gives exactly it. ``wrap``: prompts whose answer lies beyond the last value (or before
    the first), ``no_wrap``: the others. ``chance``: the share that the best constant answer gets;
    ``p_value``: exact one-sided binomial against it, ``p_holm`` corrected over the tasks of the result (both
    None for a single template).
    """

    domain: str
    task: str
    kind: str
    template: str | None
    accuracy: Accuracy
    greedy: Accuracy
    wrap: Accuracy | None
    no_wrap: Accuracy | None
    chance: float
    p_value: float | None = None
    p_holm: float | None = None

    @property
    def answered(self) -> bool:
        """Above chance at 5 %, corrected over the tasks."""
        return self.p_holm is not None and self.p_holm < LEVEL

    def words(self) -> str:
        """ "list 100.0 % [92.6, 100.0] of 48"."""
        a = self.accuracy
        return f"{self.task} {a.share:.1%} [{100 * a.low:.1f}, {100 * a.high:.1f}] of {a.prompts}"


@dataclass(frozen=True)
class TasksResult(Result, kind="tasks", figure="mechfourier.figures.tasks:tasks_figure"):
    """Tasks of one domain or of several. ``unasked``: tasks that the model cannot be asked, each with the
    reason."""

    model: str
    rows: tuple[TaskRow, ...]
    unasked: tuple[str, ...]
    notes: tuple[str, ...]
    seed: int

    @property
    def tasks(self) -> tuple[TaskRow, ...]:
        """One row per task, all templates together."""
        return tuple(row for row in self.rows if row.template is None)

    def best(self, domain: str) -> TaskRow | None:
        """The task of ``domain`` with the highest accuracy of those answered above chance; None where none
        is."""
        return best_of([row for row in self.tasks if row.domain == domain])

    def frame(self) -> "pd.DataFrame":
        """One row per task and per template: shares with their intervals, chance and p."""
        import pandas as pd

        return pd.DataFrame(
            [_flat(row) for row in self.rows], columns=None if self.rows else ["domain", "task"]
        )

    def __str__(self) -> str:
        from mechfourier.domains.tasks_text import table_of

        return table_of(self)


def _flat(row: TaskRow) -> dict[str, Any]:
    flat: dict[str, Any] = {
        "domain": row.domain,
        "task": row.task,
        "kind": row.kind,
        "template": row.template,
        "prompts": row.accuracy.prompts,
    }
    for name in ("accuracy", "greedy", "wrap", "no_wrap"):
        found: Accuracy | None = getattr(row, name)
        flat[name] = None if found is None else found.share
        flat[f"{name}_low"] = None if found is None else found.low
        flat[f"{name}_high"] = None if found is None else found.high
    return flat | {"chance": row.chance, "p_value": row.p_value, "p_holm": row.p_holm}


def best_of(rows: Sequence[TaskRow]) -> TaskRow | None:
    """The highest accuracy of the tasks answered above chance; the first of equals."""
    return max((row for row in rows if row.answered), key=lambda row: row.accuracy.share, default=None)


@renamed(samples="n_prompts")
def tasks(
    model: Model,
    domain: Domain | str | Sequence[Domain | str],
    *,
    task: str | None = None,
    n_prompts: int | None = None,
    cycles: int = 1,
    seed: int = 0,
    most_prompts: int = MOST_PROMPTS,
) -> TasksResult:
    """How ``model`` answers the tasks of ``domain`` (``"all"``: every packaged domain; or several).

    ``task``: this one only. ``n_prompts``: as many prompts per task, balanced over the answers (None: all, or
    ``most_prompts`` of them, and no more than run ``MOST_SEQUENCES``, fewer in proportion to fewer prompts);
    ``cycles`` of offsets of arithmetic tasks; ``seed`` draws samples and examples. A task that the model has
    no tokens for is named in ``unasked``. Prompts of one value in several templates are not independent: intervals and p-values speak
    of these prompts.

    Raises ``UnknownDomain``, ``UsageError`` (a task that the domain lacks, a model without logits) and
    ``OutOfRange``.
    """
    wanted = _domains(domain)
    if not wanted:
        raise UsageError("no domains were named; give names, or 'all'")
    asked = [(each, spec) for each in wanted for spec in _specs(each, task)]
    rows: list[TaskRow] = []
    unasked = [f"{each.name} has no tasks" for each in wanted if not each.tasks]
    notes: list[str] = []
    for each, spec in tracked(
        asked, f"tasks of {wanted[0].name}" if len(wanted) == 1 else "tasks", len(asked)
    ):
        try:
            found, said = score_task(
                model, each, spec, samples=n_prompts, cycles=cycles, seed=seed, most=most_prompts
            )
        except NotExpressible as error:
            unasked.append(f"{each.name}, {spec.name}: {error}")
            continue
        rows += found
        notes += said
    notes += continuation_notes(model)
    return TasksResult(model_name(model), corrected(rows), tuple(unasked), tuple(dict.fromkeys(notes)), seed)


def _domains(domain: Domain | str | Sequence[Domain | str]) -> list[Domain]:
    if isinstance(domain, str) and domain == "all":
        return list(list_domains())
    several = [domain] if isinstance(domain, (Domain, str)) else list(domain)
    return [each if isinstance(each, Domain) else find_domain(each) for each in several]


def _specs(domain: Domain, task: str | None) -> tuple[TaskSpec, ...]:
    return specs_of(domain) if task is None else (task_named(domain, task),)


def specs_of(domain: Domain) -> tuple[TaskSpec, ...]:
    """The domain's tasks; the operation of one made without (an addition inside the adder)."""
    if domain.tasks or domain.operation is None:
        return domain.tasks
    return (native_task(domain.operation),)


def task_named(domain: Domain, name: str) -> TaskSpec:
    """The task of that name; raises ``UsageError``."""
    found = next((spec for spec in specs_of(domain) if spec.name == name), None)
    return domain.task(name) if found is None else found


def is_native(domain: Domain, spec: TaskSpec) -> bool:
    """Whether ``spec`` is the domain's ``[operation]``, whose grid is `operation_design`."""
    return spec.name == NATIVE and domain.operation is not None


def design_of(
    model: Model, domain: Domain, spec: TaskSpec, *, cycles: int = 1, seed: int = 0
) -> tuple[Design, tuple[str, ...]]:
    """The prompts of a task in wordings that ``model`` can express, and what is to be said of them.

    Raises ``NotExpressible`` and ``OutOfRange``.
    """
    if not is_native(domain, spec):
        return expressible(model, domain, spec, cycles=cycles, seed=seed)
    found = max_cycles(domain, model, cycles)
    design = domain.operation_design(found.cycles, template=found.template)
    return design, (found.note,) if found.note else ()


def score_task(
    model: Model,
    domain: Domain,
    spec: TaskSpec,
    *,
    samples: int | None = None,
    cycles: int = 1,
    seed: int = 0,
    most: int = MOST_PROMPTS,
    sequences: int | None = None,
) -> tuple[list[TaskRow], tuple[str, ...]]:
    """The row of one task and those of its templates, without correction, and notes. ``sequences`` bounds what is run for
    answers of several tokens, down to ``FEWEST_PROMPTS`` prompts.

    Raises ``NotExpressible`` and ``UsageError`` (a model without logits).
    """
    _check_logits(model)
    design, notes = design_of(model, domain, spec, cycles=cycles, seed=seed)
    chosen, plan = _asked(model, design, samples, seed, most, sequences)
    if len(chosen) < len(design):
        notes = (*notes, f"{domain.name}, {spec.name}: {len(chosen)} of {len(design)} prompts were asked")
    scores = AnswerScores(*score_plan(model, plan), design.label[chosen])
    if spec.chat:
        notes = (*notes, *_aside(design, spec, chosen, scores))
    rows = [_row(design, spec, chosen, scores, None)]
    if design.template is not None and len(design.wordings) > 1:
        templates = design.template[chosen]
        rows += [_row(design, spec, chosen, scores, t) for t in templates.unique().tolist()]
    return rows, notes


def _asked(
    model: Model, design: Design, samples: int | None, seed: int, most: int, sequences: int | None
) -> tuple[Int[Tensor, " prompt"], AnswerPlan]:
    """The prompts that are asked, balanced over the answers, and what is run for them."""
    wanted = most if samples is None else samples
    chosen = balanced_sample(design.label, min(len(design), wanted), seed=seed)
    plan = plan_answers(model, [design.prompts[i] for i in chosen.tolist()], design.candidates)
    fewer = len(chosen)
    if samples is None:
        fewer = max(design.n_answers, MOST_SEQUENCES * most // MOST_PROMPTS // len(plan.paths))
    elif sequences is not None:
        fewer = max(FEWEST_PROMPTS, sequences // len(plan.paths))
    if len(chosen) <= fewer:
        return chosen, plan
    chosen = balanced_sample(design.label, fewer, seed=seed)
    return chosen, plan_answers(model, [design.prompts[i] for i in chosen.tolist()], design.candidates)


def _aside(
    design: Design, spec: TaskSpec, chosen: Int[Tensor, " prompt"], scores: AnswerScores
) -> tuple[str, ...]:
    """A note where a chat model answers with a sentence, so that the candidates do not say what it answers:
    the likeliest text is none of them, or the value asked about, with which such a sentence begins."""
    best = scores.scores.argmax(dim=1)
    plainly = scores.greedy.any(dim=1) & (best != design.value[chosen])
    aside = int((~plainly).sum())
    if aside <= ASIDE * len(chosen):
        return ()
    return (
        f"{design.domain.name}, {spec.name}: on {aside} of {len(chosen)} prompts the likeliest answer is "
        f"none of the candidates, or repeats "
        "the value asked about: the model may answer in a sentence, which the accuracy does not see; ask "
        "for one word only",
    )


def has_logits(model: Model) -> bool:
    """Whether the model says words: one that gives embeddings answers no question."""
    return getattr(model.cfg, "attention_dir", "causal") != "bidirectional" or hasattr(model, "unembed")


def _check_logits(model: Model) -> None:
    if not has_logits(model):
        raise UsageError(f"{model_name(model)} has no logits (it gives embeddings), so it answers no task")


def _row(
    design: Design, spec: TaskSpec, chosen: Int[Tensor, " prompt"], scores: AnswerScores, template: int | None
) -> TaskRow:
    mine = torch.ones(len(chosen), dtype=torch.bool)
    if template is not None and design.template is not None:
        mine = design.template[chosen] == template
    right, wraps = scores.right[mine], design.wraps[chosen][mine]
    greedy = scores.greedy.gather(1, scores.label[:, None])[:, 0][mine]
    chance = max(1 / design.n_answers, int(torch.bincount(design.label).max()) / len(design))
    whole, greedily = accuracy_of(right), accuracy_of(greedy)
    if whole is None or greedily is None:
        raise UsageError(f"no prompts of task {spec.name!r} were asked; choose at least one sample")
    p = binomial_p(whole.right, whole.prompts, chance)
    return TaskRow(
        domain=design.domain.name,
        task=spec.name,
        kind=spec.kind,
        template=None if template is None else design.wordings[template],
        accuracy=whole,
        greedy=greedily,
        wrap=accuracy_of(right[wraps]),
        no_wrap=accuracy_of(right[~wraps]),
        chance=chance,
        p_value=None if template is not None else p,
    )


def corrected(rows: Sequence[TaskRow]) -> tuple[TaskRow, ...]:
    """The rows with Holm's correction over those that stand for a whole task."""
    found = [row.p_value for row in rows if row.p_value is not None]
    adjusted = iter(holm(found)) if found else iter(())
    return tuple(row if row.p_value is None else replace(row, p_holm=next(adjusted)) for row in rows)
