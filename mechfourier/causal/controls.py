"""Matched controls: the same ablation of many other subspaces, several of them in one forward pass.

Each row of a batch has an ablation of its own, and where the model allows it the pass starts at the cached residual
stream in front of the site instead of at the tokens. Memory does not grow with the number of controls.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal, Unpack

import torch
from einops import einsum, rearrange, repeat
from jaxtyping import Float, Int
from torch import Tensor

from mechfourier.causal.branches import can_branch, run_branches
from mechfourier.causal.cost import block_weights, vocabulary_weights
from mechfourier.causal.edited import choice_logits, edited_logits, resume
from mechfourier.causal.outcome import AnswerTask, SimilarityTask
from mechfourier.domains.answers import AnswerScores, batch_rows, stream_rows
from mechfourier.errors import HookNeverFired, UsageError
from mechfourier.hooks.edit import Edit, Positions, Where, as_vectors
from mechfourier.hooks.interventions import Part, edit_mean, edit_zero
from mechfourier.hooks.run import (
    HookFunction,
    StopForward,
    device_of,
    forward,
    hooked,
    inference,
    serving,
)
from mechfourier.hooks.site import Site
from mechfourier.hooks.unembed import Unembedding, unembedding_of

Mode = Literal["zero", "mean", "resample", "project-out"]

EDIT_BUDGET = 2**24  # numbers in the bases of one batch
SIMILARITY_ROWS = 512
FLOP_BUDGET = 1e13  # for all controls together on a CPU: two minutes or so on two cores
FEWEST_PROMPTS = 8
POOL = 20  # candidates drawn per control, of which the best matched are kept
TILT = 2.0  # random directions have covariance Σ^tilt, tilt from -2 to 2: some match a small variance, some a large


@dataclass(frozen=True, eq=False)
class Moments:
    """Mean and covariance of the activations at a site, over the prompts and positions of a task."""

    mean: Float[Tensor, " d"]
    covariance: Float[Tensor, "d d"]


@dataclass(frozen=True, eq=False)
class Controls:
    """``bases[control, d, r]`` (orthonormal columns), of which the first ``n_dims`` are sets of single dimensions,
    listed in ``dims[n_dims, r]``. ``variance_ratio``: the median of the controls' variance over the target's."""

    bases: Float[Tensor, "control d r"]
    dims: Int[Tensor, "n_dims r"]
    variance_ratio: float

    @property
    def n_dims(self) -> int:
        return len(self.dims)


def moments(model: Any, task: AnswerTask | SimilarityTask, site: Site, *, last_only: bool = False) -> Moments:
    """Moments of ``site`` over the task's prompts at all positions, or at their last one only.

    Heads lie side by side, as in an intervention. Raises ``UsageError`` where the width changes with the prompt.
    """
    vectors: list[Tensor] = []

    def keep(value: Tensor) -> None:
        found = as_vectors(site, value.detach())
        vectors.append(
            rearrange(found[:, -1:] if last_only else found, "row pos d -> (row pos) d").double().cpu()
        )
        raise StopForward

    count, total, square = 0, torch.zeros(()), torch.zeros(())
    with inference(model), hooked(model, [(site, keep)]):
        for tokens in _prompt_tokens(task):
            forward(model, tokens)
            flat = _same_width(vectors, total, site)
            count, total, square = count + len(flat), total + flat.sum(dim=0), square + flat.T @ flat
    mean = total / count
    covariance = square / count - einsum(mean, mean, "d, e -> d e")
    return Moments(mean.float(), covariance.float())


def _same_width(vectors: list[Tensor], total: Tensor, site: Site) -> Float[Tensor, "sample d"]:
    if not vectors:
        raise HookNeverFired(f"{site} did not run; choose another site")
    flat = vectors.pop()
    if total.ndim and flat.shape[1] != len(total):
        raise UsageError(
            f"{site} is {len(total)} wide in one prompt and {flat.shape[1]} in another; choose a site of fixed width, "
            "for example resid_post"
        )
    return flat


def _prompt_tokens(task: AnswerTask | SimilarityTask) -> list[Tensor]:
    """The task's prompts as batches of equal length, without answers."""
    if isinstance(task, SimilarityTask):
        return [part.tokens for part in task.batches]
    by_length: dict[int, list[tuple[int, ...]]] = {}
    for encoding in task.plan.encodings:
        by_length.setdefault(len(encoding.ids), []).append(encoding.ids)
    return [torch.tensor(rows[i : i + 256]) for rows in by_length.values() for i in range(0, len(rows), 256)]


def one_hot(dims: Int[Tensor, "*set k"], d: int) -> Float[Tensor, "*set d k"]:
    """The basis of a set of dimensions."""
    return rearrange(torch.nn.functional.one_hot(dims, d).float(), "... k d -> ... d k")


def matched_controls(
    target: Float[Tensor, "d r"], of: Moments, *, dims: bool, count: int, seed: int
) -> Controls:
    """The ``count`` subspaces most like ``target`` in variance and second moment, and orthogonal to it where there is room.

    For a target of dimensions (``dims``) the candidates are other dimensions: all of them, or random sets of the same
    size. Where there are fewer than ``count``, all are kept and random planes of the same rank fill up; for any other
    target all candidates are such planes.
    """
    generator = torch.Generator().manual_seed(seed)
    d, rank = target.shape
    sets = _other_dims(target, count, generator) if dims else torch.zeros(0, rank, dtype=torch.long)
    if len(sets) > count:
        sets = sets[_closest(one_hot(sets, d), target, of, count)]
    bases = one_hot(sets, d)
    if missing := count - len(sets):
        planes = _random_planes(target, of, POOL * missing, generator)
        bases = torch.cat([bases, planes[_closest(planes, target, of, missing)]])
    ratio = _variance(bases, of).median() / _variance(target[None], of)[0].clamp(min=1e-30)
    return Controls(bases, sets, float(ratio))


def _closest(bases: Tensor, target: Tensor, of: Moments, count: int) -> Int[Tensor, " chosen"]:
    distance = (_likeness(bases, of) - _likeness(target[None], of)).square().sum(dim=1)
    return distance.argsort(stable=True)[:count]


def _other_dims(target: Tensor, count: int, generator: torch.Generator) -> Int[Tensor, "set r"]:
    """Other single dimensions, or random sets of them; sets may overlap the target where hardly any others are left."""
    d, rank = target.shape
    inside = target.abs().sum(dim=1) > 0
    others = (~inside).nonzero()[:, 0]
    if rank == 1:
        return others[:, None]
    if 2 * rank > len(others):
        others = torch.arange(d)
    draws = torch.rand(POOL * count, len(others), generator=generator)
    sets = others[draws.topk(rank, dim=1).indices].sort(dim=1).values.unique(dim=0)
    return sets[~inside[sets].all(dim=1)]


def _random_planes(
    target: Tensor, of: Moments, count: int, generator: torch.Generator
) -> Float[Tensor, "plane d r"]:
    d, rank = target.shape
    if 2 * rank > d:
        raise UsageError(
            f"no controls of rank {rank} beside a target of rank {rank} in {d} dimensions; use controls=0"
        )
    values, vectors = torch.linalg.eigh(of.covariance.double())
    spread = (values.clamp(min=0.0) / values.max().clamp(min=1e-30)).sqrt().clamp(min=1e-6)
    draws = torch.randn(count, d, rank, generator=generator, dtype=torch.float64)
    tilt = torch.linspace(-TILT, TILT, count, dtype=torch.float64)
    weights = rearrange(spread ** tilt[:, None], "plane e -> plane e 1")
    draws = einsum(vectors, draws * weights, "d e, plane e r -> plane d r")
    # Where the target holds nearly all variance, draws lie nearly in it: only a basis that is orthonormal in double precision,
    # taken out twice, leaves what is beside it and not rounding.
    basis = torch.linalg.qr(target.double()).Q
    for _ in range(2):
        draws = torch.linalg.qr(draws - basis @ (basis.T @ draws)).Q
    return draws.float()


def _variance(bases: Tensor, of: Moments) -> Float[Tensor, " control"]:
    return (bases * (of.covariance @ bases)).sum(dim=(1, 2))


def _likeness(bases: Tensor, of: Moments) -> Float[Tensor, "control 2"]:
    variance = _variance(bases, of).clamp(min=1e-30)
    second = variance + (of.mean @ bases).square().sum(dim=1)
    return torch.stack([variance.log(), second.log()], dim=1)


@dataclass(frozen=True, eq=False)
class Ablations:
    """Ablations of one kind at one site: ``dims[control, k]`` or ``bases[control, d, r]`` (orthonormal columns)."""

    site: Site
    mode: Mode
    mean: Float[Tensor, " d"]
    dims: Int[Tensor, "control k"] | None = None
    bases: Float[Tensor, "control d r"] | None = None
    seed: int = 0

    def __len__(self) -> int:
        return len(self.dims) if self.dims is not None else len(self._bases)

    @property
    def _bases(self) -> Float[Tensor, "control d r"]:
        if self.bases is None:
            raise UsageError("an ablation needs dims or bases")
        return self.bases

    @property
    def width(self) -> int:
        """Numbers that one row's ablation takes."""
        return int(self.dims.shape[1] if self.dims is not None else self._bases[0].numel())

    def single(self, positions: Positions | None = None) -> Edit:
        """The first ablation, for every prompt."""
        if self.dims is not None:
            return self._edit(1, dims=self.dims[0], positions=positions)
        return self._edit(1, subspace=self._bases[0], positions=positions)

    def several(self, copies: int, positions: Positions | None = None) -> Edit:
        """Row by row: the rows of a batch are in ``copies`` equal blocks, and "prompt" c means ablation c."""
        if self.dims is not None:
            return self._edit(copies, dims=self.dims, positions=positions)
        return self._edit(copies, subspace=self._bases, positions=positions)

    def chosen(self, which: Int[Tensor, " chosen"], positions: Positions | None = None) -> Edit:
        """Some of the ablations, numbered in this order."""
        part = replace(
            self,
            dims=None if self.dims is None else self.dims[which],
            bases=None if self.bases is None else self.bases[which],
        )
        return part.several(1, positions)

    def _edit(self, copies: int, **part: Unpack[Part]) -> Edit:
        if self.mode == "mean":
            return edit_mean(self.site, self.mean, **part)
        if self.mode == "resample":
            return Edit("resample", Where(self.site, **part), lambda old, rows: self._others(old, copies))
        return edit_zero(self.site, **part)

    def _others(self, old: Float[Tensor, "row pos r"], copies: int) -> Float[Tensor, "row pos r"]:
        """Coordinates of another row of the same block: one random cycle, so that no row keeps its own."""
        blocks = rearrange(old, "(c row) pos r -> c row pos r", c=copies)
        order = torch.randperm(blocks.shape[1], generator=torch.Generator().manual_seed(self.seed))
        donor = torch.empty_like(order).scatter_(0, order, order.roll(1)).to(old.device)
        return rearrange(blocks[:, donor], "c row pos r -> (c row) pos r")


def run_ablations(
    model: Any,
    task: AnswerTask | SimilarityTask,
    ablations: Ablations,
    *,
    last_only: bool = False,
    relative: bool = False,
    advance: Callable[[int], None] | None = None,
) -> Float[Tensor, "control prompt candidate"]:
    """Scores of the task under every ablation; the same numbers as one ``intervene`` pass for each.

    ``relative``: up to a constant per prompt, which is all that margins and choices need and spares the unembedding of the vocabulary.
    """
    report = advance or (lambda done: None)
    with inference(model):
        if isinstance(task, SimilarityTask):
            return _run_similarity(model, task, ablations, last_only, report)
        read = _answers_only(model, task) if relative else None
        if ablations.mode != "resample" and can_branch(model, ablations.site):
            return _run_branches(model, task, ablations, last_only, report, read)
        if read is not None:
            return _run_choices(model, task, ablations, read, last_only, report)
        return _run_answers(model, task, ablations, last_only, report)


def _answers_only(model: Any, task: AnswerTask) -> Unembedding | None:
    """The unembedding of the plan's answers (edge by edge), where they are all that margins need and it is known to be linear."""
    if not task.plan.of_one_token:
        return None
    whole = unembedding_of(model, torch.tensor([task.plan.encodings[0].ids]))
    return None if whole is None else whole.of([edge.token for edge in task.plan.edges])


def _run_branches(
    model: Any,
    task: AnswerTask,
    ablations: Ablations,
    last_only: bool,
    advance: Callable[[int], None],
    read: Unembedding | None,
) -> Float[Tensor, "control prompt candidate"]:
    rows = max(1, min(batch_rows(model, task.plan), EDIT_BUDGET // ablations.width))
    table = run_branches(
        model, task.plan, ablations.site, ablations.chosen, len(ablations),
        last_only=last_only, rows=rows, advance=advance, read=read,
    )  # fmt: skip
    return table @ task.plan.incidence


def _run_choices(
    model: Any,
    task: AnswerTask,
    ablations: Ablations,
    read: Unembedding,
    last_only: bool,
    advance: Callable[[int], None],
) -> Float[Tensor, "control prompt candidate"]:
    """Logits of the answers, each a token, under every ablation."""
    plan = task.plan
    rows = max(1, min(stream_rows(model, plan), EDIT_BUDGET // ablations.width))
    table = torch.zeros(len(ablations), len(plan.encodings), len(plan.edges))
    # the same buckets as in whole passes: a resampled prompt takes from one of its bucket
    for bucket in plan.buckets(batch_rows(model, plan)):
        start, residual = resume(model, ablations.site, bucket.tokens)
        count = len(bucket.tokens)
        for chosen in torch.arange(len(ablations)).split(max(1, rows // count)):
            edit = ablations.several(len(chosen), bucket.last if last_only else None)
            rows_of = repeat(chosen, "c -> (c row)", row=count)
            logits = choice_logits(model, bucket, edit, rows_of, start, residual, read)
            table[chosen[:, None], bucket.prompt] = rearrange(
                logits.cpu(), "(c row) choice -> c row choice", row=count
            )
            advance(len(rows_of))
    return table @ plan.incidence


def _run_answers(
    model: Any, task: AnswerTask, ablations: Ablations, last_only: bool, advance: Callable[[int], None]
) -> Float[Tensor, "control prompt candidate"]:
    plan, rows = task.plan, batch_rows(model, task.plan)
    table = torch.zeros(len(ablations), len(plan.encodings), len(plan.edges))
    for bucket in plan.buckets(rows):
        start, residual = resume(model, ablations.site, bucket.tokens)
        count = len(bucket.tokens)
        size = max(1, min(rows, EDIT_BUDGET // ablations.width) // count)
        last = bucket.last if last_only else None
        for chosen in torch.arange(len(ablations)).split(size):
            edit = ablations.several(len(chosen), last)
            rows_of = repeat(chosen, "c -> (c row)", row=count)
            with serving(rows_of):
                logits = edited_logits(model, bucket, edit, rows_of, start, residual)
            edges, values, _ = plan.read(bucket, logits)
            values = rearrange(values.float().cpu(), "(c row) edge -> c row edge", row=count)
            table[chosen[:, None, None], bucket.prompt[:, None], edges] = values
            advance(len(rows_of))
    return table @ plan.incidence


def _run_similarity(
    model: Any, task: SimilarityTask, ablations: Ablations, last_only: bool, advance: Callable[[int], None]
) -> Float[Tensor, "control prompt candidate"]:
    vectors: Tensor | None = None
    for part in task.batches:
        count, length = part.tokens.shape
        edit_at = length - 1 if last_only else None
        for chosen in torch.arange(len(ablations)).split(max(1, SIMILARITY_ROWS // count)):
            rows_of = repeat(chosen, "c -> (c row)", row=count)
            edit = ablations.several(len(chosen), edit_at)
            tokens = repeat(part.tokens, "row pos -> (c row) pos", c=len(chosen))
            with serving(rows_of), hooked(model, [(edit.where.site, _at(edit, rows_of))]):
                output = rearrange(forward(model, tokens).float().cpu(), "(c row) d -> c row d", row=count)
            if vectors is None:
                vectors = torch.zeros(len(ablations), len(task.rows), output.shape[-1])
            vectors[chosen[:, None], part.rows] = output
            advance(len(rows_of))
    if vectors is None:
        raise UsageError("no prompts to embed")
    return torch.stack([task.scores_of(each).scores for each in vectors])


def _at(edit: Edit, rows_of: Tensor) -> HookFunction:
    return lambda value: edit.apply(value, rows_of)


def affordable(model: Any, task: AnswerTask | SimilarityTask, controls: int, *, start: int = 0) -> int:
    """How many prompts the controls can run on within ``FLOP_BUDGET`` (on a GPU: all of them), where passes begin at block ``start``."""
    count = len(task.rows)
    if isinstance(task, SimilarityTask) or device_of(model).type != "cpu":
        return count
    tokens = sum(len(e.ids) for e in task.plan.encodings) / count * len(task.plan.paths)
    words = 0 if task.plan.of_one_token else vocabulary_weights(model) * len(task.plan.paths)
    one = 2 * (max(1, block_weights(model, start)) * tokens + words)
    return max(min(FEWEST_PROMPTS, count), min(count, int(FLOP_BUDGET / (one * controls))))


def margins(
    scores: Float[Tensor, "control prompt candidate"], label: Int[Tensor, " prompt"]
) -> Float[Tensor, "control prompt"]:
    """Right candidate minus the mean of the others, for every control and prompt."""
    empty = torch.zeros(scores.shape[1:], dtype=torch.bool)
    return torch.stack([AnswerScores(each, empty, label).margin for each in scores])
