"""Which task an intervention asks: the one that was named, or the best one that the model answers above
chance."""

from dataclasses import dataclass

from mechfourier.domains.definition import Domain
from mechfourier.domains.task_spec import TaskSpec
from mechfourier.domains.tasks import TaskRow, best_of, corrected, score_task, specs_of, task_named
from mechfourier.errors import NotExpressible, UsageError
from mechfourier.models.interface import Model

PROMPTS = 48
"""Prompts that each task is judged by when one is chosen."""
SEQUENCES = 1_440
"""And at most so many sequences: numbers to 99 are answered by some 90 beginnings after every prompt."""
ENOUGH = 0.95
"""A task answered as well as this is taken without looking at the others."""


@dataclass(frozen=True)
class Choice:
    """``spec``: the task taken. ``table``: the accuracies of the tasks looked at, ``reason``: one sentence
    that says which was taken and why (None where there was nothing to choose); ``unasked``: tasks that the
    model has no tokens for."""

    spec: TaskSpec
    table: tuple[TaskRow, ...] = ()
    unasked: tuple[str, ...] = ()
    reason: str | None = None
    answered: bool = True


def choose_task(model: Model, domain: Domain, task: str | None = None) -> Choice:
    """The task named ``task``; without a name the best one answered above chance, on ``PROMPTS`` prompts
    each (fewer where answers of many tokens would take more than ``SEQUENCES`` sequences).

    Tasks are tried in the order of the file, and the first that is answered nearly always (``ENOUGH``) ends
    the search. Where none is answered, the first that can be asked, and the reason says so. Nothing depends
    on a seed.

    Raises ``UsageError`` (no such task, a domain without tasks) and ``NotExpressible`` (none can be asked).
    """
    if task is not None:
        return Choice(task_named(domain, task))
    specs = specs_of(domain)
    if not specs:
        raise UsageError(
            f"domain {domain.name!r} has no operation and no tasks; add an [operation] or a [[task]] table "
            f"to {domain.source}"
        )
    if len(specs) == 1:
        return Choice(specs[0])
    return _scored(model, domain, specs)


def _scored(model: Model, domain: Domain, specs: tuple[TaskSpec, ...]) -> Choice:
    rows: list[TaskRow] = []
    unasked: list[str] = []
    first: NotExpressible | None = None
    for spec in specs:
        try:
            row = score_task(model, domain, spec, samples=PROMPTS, sequences=SEQUENCES)[0][0]
            rows.append(row)
        except NotExpressible as error:
            unasked.append(f"{spec.name}: {error}")
            first = first or error
            continue
        if rows[-1].accuracy.share >= ENOUGH and corrected(rows)[-1].answered:
            break
    if not rows:
        raise first or NotExpressible(f"no task of {domain.name} can be asked of this model")
    table = corrected(rows)
    best = best_of(table)
    taken = task_named(domain, (best or table[0]).task)
    return Choice(taken, table, tuple(unasked), _reason(best, table, unasked), best is not None)


def _reason(best: TaskRow | None, table: tuple[TaskRow, ...], unasked: list[str]) -> str:
    """One sentence: what was taken, and how the others were answered."""
    others = ", ".join(row.words() for row in table if row is not best)
    missing = f"; not asked: {', '.join(each.partition(':')[0] for each in unasked)}" if unasked else ""
    if best is None:
        return (
            f"no task is answered above chance (right of the prompts asked: {others}{missing}); task "
            f"{table[0].task!r} is taken"
        )
    beside = f"; beside it {others}" if others else ""
    return (
        f"task {best.task!r} is taken, the best that the model answers (right of the prompts asked: "
        f"{best.words()}{beside}{missing})"
    )
