"""The engine: a task's prompts with edits, many per forward pass, and the scores that come out.

Every row of a batch is a prompt with an edit of its own. What is the same for many rows runs once: the tokens
before an edit and the beginnings that prompts share (`prefix_sharing`), else the blocks before it (`suffix`).
Where every answer is one token, only the logits of the answers are computed. Each shortcut is compared with
whole passes on the model at hand, and left out where it differs.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cached_property, partial
from typing import Any

import torch
from einops import repeat
from jaxtyping import Float, Int
from torch import Tensor

from mechfourier.causal import prefix_sharing
from mechfourier.causal.cost import EDIT_BUDGET
from mechfourier.causal.edits import EditedRows
from mechfourier.causal.readers import AnswerReader, Reader, SimilarityReader
from mechfourier.causal.suffix import (
    forward_from_block,
    residual_before,
    start_layer,
    starts_inside,
    suffix_notes,
)
from mechfourier.causal.task import AnswerTask, SimilarityTask, Task
from mechfourier.domains.answer_plan import Bucket
from mechfourier.errors import InterventionChangedNothing
from mechfourier.hooks.edit import Edit
from mechfourier.hooks.interventions import refuse_read_only
from mechfourier.hooks.passes import packing_notes
from mechfourier.hooks.run import HookFunction, forward, hooked, inference, is_bridge, serving
from mechfourier.hooks.site import Site, model_name
from mechfourier.hooks.unembed import Unembedding, unembedding_of
from mechfourier.models.interface import Model
from mechfourier.progress import progress


class Engine:
    """Runs the prompts of one task with edits."""

    def __init__(self, model: Model, task: Task, like: "Engine | None" = None) -> None:
        """``like``: an engine of the same task on other prompts, whose checks of the model hold here too."""
        self.model, self.task, self.like = model, task, like

    @cached_property
    def choice(self) -> Unembedding | None:
        """The unembedding of the answers (edge by edge), where each is one token and it is known to be
        linear."""
        if self.like is not None:
            return self.like.choice
        if not isinstance(self.task, AnswerTask) or not self.task.plan.of_one_token:
            return None
        with inference(self.model):
            whole = unembedding_of(self.model, torch.tensor([self.task.encodings[0].ids]))
        return None if whole is None else whole.of([edge.token for edge in self.task.plan.edges])

    @cached_property
    def reader(self) -> Reader:
        """How this task's scores are read."""
        if isinstance(self.task, AnswerTask):
            return AnswerReader(self.model, self.task.plan, self.choice)
        if isinstance(self.task, SimilarityTask):
            return SimilarityReader(self.task)
        raise TypeError(f"{type(self.task).__name__} has no reader")

    def scores(
        self, rows: EditedRows, what: str = "edited prompts", *, must_change: bool = True, grad: bool = False
    ) -> Float[Tensor, "row candidate"]:
        """Scores of every row, up to a number per row where every answer is one token; those of a pass for
        each.

        ``grad`` lets gradients reach what the edits are made of. Raises ``InterventionChangedNothing`` where
        no edit of any row changed an activation and one ``must``, ``UsageError`` for a site that only shows
        an activation.
        """
        refuse_read_only(self.model, rows.site)
        changed: list[bool] = []
        watched = _watched(rows, changed) if must_change else rows
        reader = self.reader
        size = max(1, min(reader.batch, EDIT_BUDGET // rows.width))
        with (
            inference(self.model),
            torch.set_grad_enabled(grad),
            progress(what, total=len(rows) * self.task.n_sequences // len(self.task.rows)) as bar,
        ):
            run: Callable[..., Tensor] = run_suffixes
            if isinstance(reader, AnswerReader) and prefix_sharing.fits(self.model, reader, watched, run):
                run = prefix_sharing.run
            table = run(self.model, reader, watched, size, bar.advance)
        if must_change and len(rows) and not any(changed):
            raise InterventionChangedNothing(
                f"{rows.edit_of(torch.arange(1)).name} at {rows.site} in {model_name(self.model)} left every "
                "activation as it was; choose another site, position or plane"
            )
        return reader.scores(table, rows.prompt)


def _watched(rows: EditedRows, changed: list[bool]) -> EditedRows:
    """The same rows; ``changed`` is told of every edit whether it changed an activation."""

    def edit_of(which: Int[Tensor, " row"]) -> Edit:
        edit = rows.edit_of(which)

        def change(old: Tensor, prompts: Tensor) -> Tensor:
            new = edit.change(old, prompts)
            changed.append(not torch.equal(new, old))
            return new

        return Edit(edit.name, edit.where, change)

    return replace(rows, edit_of=edit_of)


def run_suffixes(
    model: Model, reader: Reader, rows: EditedRows, size: int, advance: Callable[[int], None]
) -> Float[Tensor, "row column"]:
    """Whole sequences from the block where the edit is, or from their tokens."""
    table = torch.zeros(len(rows), reader.columns)
    for bucket in reader.sequences(rows.prompt.unique()):
        mine, place = _members(bucket.prompt, rows.prompt)
        start, stream = resume(model, rows.site, bucket.tokens)
        block = len(bucket.tokens) if rows.together else 1
        for chosen, at in _chunks(mine, place, max(1, size // block) * block):
            part = Bucket(bucket.tokens[at], chosen, bucket.path, bucket.keep)
            given = None if stream is None else stream[at.to(stream.device)]
            edit, local = rows.edit_of(chosen), torch.arange(len(chosen))
            run = partial(edited_pass, model, part.tokens, edit, local, start, given)
            with serving(rows.prompt[chosen]):
                columns, values = reader.read(part, run)
            table[chosen[:, None], columns] = values.float().cpu()
            advance(len(chosen))
    return table


def _members(bucket: Int[Tensor, " member"], prompt: Int[Tensor, " row"]) -> tuple[Tensor, Tensor]:
    """The rows whose prompt lies in this bucket, and where in it."""
    place = torch.full((int(max(bucket.max(), prompt.max())) + 1,), -1)
    place[bucket] = torch.arange(len(bucket))
    rows = (place[prompt] >= 0).nonzero()[:, 0]
    return rows, place[prompt[rows]]


def _chunks(rows: Tensor, at: Tensor, size: int) -> Iterator[tuple[Tensor, Tensor]]:
    return zip(rows.split(size), at.split(size), strict=True)


def edited_pass(
    model: Model,
    tokens: Int[Tensor, "row pos"],
    edit: Edit,
    rows: Int[Tensor, " edited"],
    start: int | None,
    stream: Float[Tensor, "row pos d"] | None,
) -> Any:
    """What the model returns for these tokens under ``edit``, from the block where the edit is or from the
    tokens (``resume``).

    Fewer tokens than ``rows`` are repeated.
    """
    copies, site = len(rows) // len(tokens), edit.where.site
    tokens = repeat(tokens, "row pos -> (c row) pos", c=copies)
    functions: list[tuple[Site, HookFunction]] = [(site, lambda value: edit.apply(value, rows))]
    if start is None or stream is None:
        with hooked(model, functions):
            return forward(model, tokens)
    stream = repeat(stream, "row pos d -> (c row) pos d", c=copies)
    if start and site == Site("resid_post", start - 1):
        stream, functions = edit.apply(stream, rows), []
    with hooked(model, functions):
        return forward_from_block(model, stream, start, tokens)


def resume(model: Model, site: Site, tokens: Int[Tensor, "row pos"]) -> tuple[int | None, Tensor | None]:
    """The block to start at and the residual stream in front of it; (None, None) where a pass starts at the
    tokens."""
    if site.layer is None or site.stack != "blocks" or not starts_inside(model):
        return None, None
    start = start_layer(site)
    if start == 0 and is_bridge(model):
        # nothing is saved, and what a bridge is given in front of block 0 would take the place of an edit
        # there
        return None, None
    return start, residual_before(model, tokens, start)


def whole_pass_notes(model: Model) -> tuple[str, ...]:
    """What a result must say where a shorter pass was tried on ``model``, was not the same as a whole one,
    and so was not used."""
    return (*suffix_notes(model), *prefix_sharing.notes(model), *packing_notes(model))
