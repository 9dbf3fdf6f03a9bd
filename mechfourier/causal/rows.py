"""Many interventions in few forward passes: every row of a batch is a prompt with an edit of its own."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mechfourier.causal.controls import EDIT_BUDGET, SIMILARITY_ROWS, affordable
from mechfourier.causal.cost import block_weights
from mechfourier.causal.edited import edited_logits, resume
from mechfourier.causal.outcome import AnswerTask, SimilarityTask
from mechfourier.causal.tails import tail_logits, tail_of
from mechfourier.domains.answers import Bucket, batch_rows
from mechfourier.errors import InterventionChangedNothing
from mechfourier.hooks.edit import Edit
from mechfourier.hooks.run import device_of, forward, hooked, inference, serving
from mechfourier.hooks.site import model_name

ROWS = 40_000  # rows that a study runs by default where prompts times interventions would be more
PAIRS = 36  # (prompt, δ) pairs that random planes are turned on, where there are as many

# The numbers of the wanted rows -> an edit whose "prompt" i is the i-th of them.
EditOf = Callable[[Int[Tensor, " row"]], Edit]


def run_rows(
    model: Any,
    task: AnswerTask | SimilarityTask,
    prompt: Int[Tensor, " row"],
    edit_of: EditOf,
    *,
    width: int = 1,
    grad: bool = False,
    at: Int[Tensor, " row"] | None = None,
    advance: Callable[[int], None] | None = None,
) -> Float[Tensor, "row candidate"]:
    """Scores of the task's prompt ``prompt[row]`` under the edit of that row; the same numbers as one pass for each, up to a
    number per row where every answer is one token (the log-probability of all other words).

    ``at``: the one position that each row's edit changes, where there is one: then only the tokens from there on run.
    ``width``: numbers in one row's edit, which bounds the batch; ``grad`` lets gradients reach what the edits
    are made of. Raises ``InterventionChangedNothing`` where no edit of
    any row changed an activation.
    """
    changed: list[bool] = []
    report = advance or (lambda done: None)

    def watched(rows: Int[Tensor, " row"]) -> Edit:
        edit = edit_of(rows)

        def change(old: Tensor, which: Tensor) -> Tensor:
            new = edit.change(old, which)
            changed.append(not torch.equal(new, old))
            return new

        return Edit(edit.name, edit.where, change)

    run = _similarity if isinstance(task, SimilarityTask) else _answers
    with inference(model), torch.set_grad_enabled(grad):
        scores = run(model, task, prompt, watched, max(1, EDIT_BUDGET // width), report, at)
    if len(prompt) and not any(changed):
        edit = edit_of(torch.arange(1))
        raise InterventionChangedNothing(
            f"{edit.name} at {edit.where.site} in {model_name(model)} left every activation as it was; "
            "choose another site, position or plane"
        )
    return scores


def _answers(
    model: Any,
    task: Any,
    prompt: Tensor,
    edit_of: EditOf,
    size: int,
    advance: Callable[[int], None],
    positions: Tensor | None,
) -> Float[Tensor, "row candidate"]:
    plan = task.plan
    table = torch.zeros(len(prompt), len(plan.edges))
    most = batch_rows(model, plan)
    for bucket in plan.buckets(most):
        rows, at = _members(bucket.prompt, prompt, len(plan.encodings))
        if not len(rows):
            continue
        site = edit_of(rows[:1]).where.site
        if positions is not None:  # the beginnings of no others are run
            used, at = at.unique(return_inverse=True)
            bucket = replace(bucket, tokens=bucket.tokens[used], prompt=bucket.prompt[used])
        tail = tail_of(model, plan, site, bucket, None if positions is None else positions[rows])
        start, residual = (None, None) if tail else resume(model, site, bucket.tokens)
        for chosen, place in _chunks(rows, at, min(most, size)):
            part = Bucket(bucket.tokens[place], chosen, bucket.path, bucket.keep)
            local = torch.arange(len(chosen))
            stream = None if residual is None else residual[place.to(residual.device)]
            with serving(local):
                if tail is not None:
                    values = tail_logits(tail, plan, part, edit_of(chosen), place, local)
                    edges = plan.edges_of(part)
                else:
                    logits = edited_logits(model, part, edit_of(chosen), local, start, stream)
                    edges, values, _ = plan.read(part, logits)
            table[chosen[:, None], edges] = values.float().cpu()
            advance(len(chosen))
    return table @ plan.incidence


def _similarity(
    model: Any,
    task: Any,
    prompt: Tensor,
    edit_of: EditOf,
    size: int,
    advance: Callable[[int], None],
    positions: Tensor | None,
) -> Float[Tensor, "row candidate"]:
    del positions  # sentence encoders look both ways: whole passes
    vectors: Tensor | None = None
    for batch in task.batches:
        rows, at = _members(batch.rows, prompt, len(task.rows))
        for chosen, place in _chunks(rows, at, min(SIMILARITY_ROWS, size)):
            edit, local = edit_of(chosen), torch.arange(len(chosen))
            with serving(local), hooked(model, [(edit.where.site, _hook(edit, local))]):
                output = forward(model, batch.tokens[place]).float().cpu()
            vectors = torch.zeros(len(prompt), output.shape[-1]) if vectors is None else vectors
            vectors[chosen] = output
            advance(len(chosen))
    if vectors is None:
        return torch.zeros(0, len(task.design.candidates))
    return replace(task, rows=task.rows[prompt]).scores_of(vectors).scores


def _hook(edit: Edit, rows: Tensor) -> Callable[[Tensor], Tensor]:
    return lambda value: edit.apply(value, rows)


def _members(bucket: Tensor, prompt: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The wanted rows whose prompt lies in this bucket, and where in it."""
    place = torch.full((count,), -1)
    place[bucket] = torch.arange(len(bucket))
    rows = (place[prompt] >= 0).nonzero()[:, 0]
    return rows, place[prompt[rows]]


def _chunks(rows: Tensor, at: Tensor, size: int) -> Iterator[tuple[Tensor, Tensor]]:
    return zip(rows.split(size), at.split(size), strict=True) if len(rows) else iter(())


def prompts_within(model: Any, task: AnswerTask | SimilarityTask, interventions: int, flops: float) -> int:
    """How many prompts ``interventions`` whole passes of each take ``flops`` for, one for every answer at least; all on a GPU."""
    count = len(task.rows)
    if isinstance(task, SimilarityTask) or device_of(model).type != "cpu":
        return count
    tokens = sum(len(e.ids) for e in task.plan.encodings) / count * len(task.plan.paths)
    weights = block_weights(model)
    return min(count, max(task.design.n_answers, int(flops / (2 * weights * tokens * max(interventions, 1)))))


def bounded(model: Any, task: AnswerTask | SimilarityTask, interventions: int) -> int:
    """How many prompts ``interventions`` runs of each can afford: ``ROWS`` rows, and what ``affordable`` says."""
    count = len(task.rows)
    return min(count, max(8, ROWS // max(1, interventions)), affordable(model, task, interventions))


def control_pairs(
    prompts: int, n: int, few: int, seed: int
) -> tuple[Int[Tensor, " pair"], Int[Tensor, " pair"]]:
    """Prompts and turns δ for the random planes: one random δ for each of ``few`` prompts, and more pairs of those prompts where
    they are fewer than ``PAIRS``. No pair twice."""
    generator = torch.Generator().manual_seed(seed)
    picked = torch.randperm(prompts, generator=generator)[:few].sort().values
    delta = torch.randint(1, n, (few,), generator=generator)
    if few >= PAIRS or n < 3:
        return picked, delta
    free = torch.ones(few, n - 1, dtype=torch.bool)
    free[torch.arange(few), delta - 1] = False
    others = free.nonzero()
    more = others[torch.randperm(len(others), generator=generator)[: PAIRS - few]]
    return torch.cat([picked, picked[more[:, 0]]]), torch.cat([delta, more[:, 1] + 1])
