"""Matched controls: the same ablation of many other subspaces, several of them in one forward pass.

Each row of a batch has an ablation of its own, and where the model allows it the pass starts at the cached residual
stream in front of the site instead of at the tokens. Memory does not grow with the number of controls.
"""

import contextlib
import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import torch
from einops import einsum, rearrange, repeat
from jaxtyping import Float, Int
from torch import Tensor

from mechfourier.causal.outcome import AnswerTask, SimilarityTask
from mechfourier.errors import InterventionChangedNothing, UsageError
from mechfourier.hooks.run import (
    UNEMBED,
    Batch,
    StopForward,
    forward,
    hooked,
    inference,
    logits_of,
    never_fired,
    served_rows,
)  # fmt: skip
from mechfourier.hooks.site import Site
from mechfourier.probes.answers import AnswerScores, Bucket, batch_rows

Mode = Literal["zero", "mean", "resample", "project-out"]
Where = Literal["all", "last"]

POOL = 20  # candidates drawn per control, of which the best matched are kept
TILT = (
    0.0,
    0.5,
    1.0,
    1.5,
)  # random directions are drawn with covariance Σ^tilt, so that some match a large variance


@dataclass(frozen=True, eq=False)
class Moments:
    """Mean and covariance of the activations at a site, over all prompts and positions of a task."""

    mean: Float[Tensor, " d"]
    covariance: Float[Tensor, "d d"]


@dataclass(frozen=True, eq=False)
class Controls:
    """``bases[control, r, d]`` (orthonormal rows) and how well they match: ``variance_ratio`` is the median of the
    controls' variance over the target's."""

    bases: Float[Tensor, "control r d"]
    n_dims: int
    variance_ratio: float


def moments(model: Any, task: AnswerTask | SimilarityTask, site: Site, where: Where = "all") -> Moments:
    """Moments of ``site`` over the task's prompts; raises ``UsageError`` where a site is not [row, pos, d]."""
    count, total, square = 0, torch.zeros(()), torch.zeros(())

    def add(value: Tensor) -> Tensor:
        nonlocal count, total, square
        _check_shape(value, site)
        chosen = value if where == "all" else value[:, -1:]
        flat = rearrange(chosen.detach().double().cpu(), "row pos d -> (row pos) d")
        count, total = count + len(flat), total + flat.sum(dim=0)
        square = square + flat.T @ flat
        raise StopForward

    with inference(model), hooked(model, [(site, add)]):
        for tokens in _prompt_tokens(task):
            forward(model, tokens)
    mean = total / count
    covariance = square / count - mean[:, None] * mean[None, :]
    return Moments(mean.float(), covariance.float())


def _check_shape(value: Tensor, site: Site) -> None:
    if value.ndim != 3:
        raise UsageError(
            f"{site} is {list(value.shape)}, not [row, pos, d]; controls need such a site, for example resid_post"
        )


def _prompt_tokens(task: AnswerTask | SimilarityTask) -> list[Tensor]:
    """The task's prompts as batches of equal length, without answers."""
    if isinstance(task, SimilarityTask):
        return [part.tokens for part in task.batches]
    by_length: dict[int, list[tuple[int, ...]]] = {}
    for encoding in task.plan.encodings:
        by_length.setdefault(len(encoding.ids), []).append(encoding.ids)
    return [torch.tensor(rows[i : i + 256]) for rows in by_length.values() for i in range(0, len(rows), 256)]


def one_hot(dims: tuple[int, ...], d: int) -> Float[Tensor, "r d"]:
    """The basis of a set of dimensions."""
    return torch.eye(d)[list(dims)]


def matched_controls(
    target: Float[Tensor, "r d"], of: Moments, *, dims: bool, count: int, seed: int
) -> Controls:
    """The ``count`` subspaces most like ``target`` in variance and second moment, and orthogonal to it.

    For a target of dimensions (``dims``) the candidates are other dimensions (all of them, or random sets of the same
    size); where there are too few, and for any other target, random planes of the same rank.
    """
    generator = torch.Generator().manual_seed(seed)
    rank, d = target.shape
    pool = _other_dims(target, count, generator) if dims else torch.zeros(0, rank, d)
    n_sets = len(pool)
    if n_sets < count:
        pool = torch.cat([pool, _random_planes(target, of, POOL * (count - n_sets), generator)])
    distance = (_likeness(pool, of) - _likeness(target[None], of)).square().sum(dim=1)
    if n_sets < count:  # keep all dimensions there are, and the best matched planes beside them
        distance[:n_sets] = -1.0
    chosen = distance.argsort(stable=True)[:count]
    bases = pool[chosen]
    ratio = _variance(bases, of).median() / _variance(target[None], of)[0].clamp(min=1e-30)
    return Controls(bases, int((chosen < n_sets).sum()), float(ratio))


def _other_dims(target: Tensor, count: int, generator: torch.Generator) -> Float[Tensor, "set r d"]:
    rank, d = target.shape
    others = (target.abs().sum(dim=0) == 0).nonzero()[:, 0]
    if rank > len(others):
        return torch.zeros(0, rank, d)
    if rank == 1:
        sets = others[:, None]
    else:
        draws = torch.rand(POOL * count, len(others), generator=generator)
        sets = others[draws.topk(rank, dim=1).indices].sort(dim=1).values.unique(dim=0)
    return torch.eye(d)[sets]


def _random_planes(
    target: Tensor, of: Moments, count: int, generator: torch.Generator
) -> Float[Tensor, "plane r d"]:
    rank, d = target.shape
    values, vectors = torch.linalg.eigh(of.covariance.double())
    spread = values.clamp(min=0.0).sqrt() / values.clamp(min=1e-30).max().sqrt()
    draws = torch.randn(count, rank, d, generator=generator, dtype=torch.float64)
    tilt = torch.tensor(TILT, dtype=torch.float64)[torch.arange(count) % len(TILT)]
    weights = spread.clamp(min=1e-9) ** tilt[:, None]
    draws = einsum(draws * weights[:, None], vectors, "plane r e, d e -> plane r d")
    basis = target.double()
    draws = draws - (draws @ basis.T) @ basis
    return rearrange(
        torch.linalg.qr(rearrange(draws, "plane r d -> plane d r")).Q, "plane d r -> plane r d"
    ).float()


def _variance(bases: Tensor, of: Moments) -> Float[Tensor, " control"]:
    return einsum(bases, of.covariance, bases, "c r d, d e, c r e -> c")


def _likeness(bases: Tensor, of: Moments) -> Float[Tensor, "control 2"]:
    variance = _variance(bases, of).clamp(min=1e-30)
    second = variance + (bases @ of.mean).square().sum(dim=1)
    return torch.stack([variance.log(), second.log()], dim=1)


def ablated_rows(
    value: Float[Tensor, "row pos d"],
    bases: Float[Tensor, "control r d"],
    mean: Float[Tensor, " d"],
    mode: Mode,
) -> Float[Tensor, "row pos d"]:
    """Rows in blocks, one per control (control-major): the coordinates of block c on ``bases[c]`` are replaced.

    By 0 (``zero``, ``project-out``), by those of ``mean``, or by those of the next row at the same position
    (``resample``).
    """
    blocks = rearrange(value, "(c row) pos d -> c row pos d", c=len(bases))
    old = einsum(blocks, bases, "c row pos d, c r d -> c row pos r")
    if mode == "mean":
        new = rearrange(einsum(bases, mean, "c r d, d -> c r"), "c r -> c 1 1 r").expand_as(old)
    elif mode == "resample":
        new = old.roll(1, dims=1)
    else:
        new = torch.zeros_like(old)
    changed = blocks + einsum(new - old, bases, "c row pos r, c r d -> c row pos d")
    return rearrange(changed, "c row pos d -> (c row) pos d")


@dataclass(frozen=True, eq=False)
class Ablations:
    """Everything that the runs of all controls share."""

    site: Site
    bases: Float[Tensor, "control r d"]
    mean: Float[Tensor, " d"]
    mode: Mode
    where: Where = "all"

    def edit(self, chosen: slice, last: int) -> Callable[[Tensor], Tensor]:
        """A hook that ablates block c of the rows by ``bases[chosen][c]``; ``last`` is the prompt's last position."""
        bases = self.bases[chosen]

        def change(value: Tensor) -> Tensor:
            _check_shape(value, self.site)
            local, mean = bases.to(value), self.mean.to(value)
            if self.where == "all":
                return ablated_rows(value, local, mean, self.mode)
            changed = value.clone()
            part = slice(last, last + 1)
            changed[:, part] = ablated_rows(value[:, part], local, mean, self.mode)
            return changed

        return change

    @contextlib.contextmanager
    def on(self, model: Any, last: Int[Tensor, " prompt"] | None = None) -> Iterator[None]:
        """The first ablation on every row of every pass; ``last`` holds the prompts' last positions for ``where="last"``.

        Raises ``HookNeverFired`` and ``InterventionChangedNothing`` at the end of a body that went well.
        """
        fired = changed = False

        def change(value: Tensor) -> Tensor:
            nonlocal fired, changed
            at = (
                0 if last is None else int(last[served_rows(len(value))[0]])
            )  # one length, so one position, per batch
            new = self.edit(slice(0, 1), at)(value)
            fired, changed = True, changed or not torch.equal(new, value)
            return new

        with hooked(model, [(self.site, change)]):
            yield
        if not fired:
            raise never_fired(model, [self.site])
        if not changed:
            raise InterventionChangedNothing(
                f"{self.mode} at {self.site} changed no activation: they have that value already; ablate something else"
            )


def run_ablations(
    model: Any,
    task: AnswerTask | SimilarityTask,
    ablations: Ablations,
    *,
    advance: Callable[[int], None] | None = None,
) -> Float[Tensor, "control prompt candidate"]:
    """Scores of the task under every ablation."""
    with inference(model):
        if isinstance(task, SimilarityTask):
            return _run_similarity(model, task, ablations, advance)
        return _run_answers(model, task, ablations, advance)


def _run_answers(
    model: Any, task: AnswerTask, ablations: Ablations, advance: Callable[[int], None] | None
) -> Float[Tensor, "control prompt candidate"]:
    plan, count = task.plan, len(ablations.bases)
    table = torch.zeros(count, len(plan.encodings), len(plan.edges))
    rows = batch_rows(model, plan)
    for bucket in plan.buckets(rows):
        start, residual = _resume(model, ablations.site, bucket.tokens)
        size = max(1, rows // len(bucket.tokens))
        for first in range(0, count, size):
            chosen = slice(first, min(first + size, count))
            logits = _logits(model, bucket, ablations, chosen, start, residual)
            edges, values, _ = plan.read(bucket, logits)
            values = rearrange(values.float().cpu(), "(c row) edge -> c row edge", row=len(bucket.tokens))
            table[chosen, bucket.prompt[:, None], edges] = values
            if advance:
                advance((chosen.stop - first) * len(bucket.tokens))
    return table @ plan.incidence


def _logits(
    model: Any,
    bucket: Bucket,
    ablations: Ablations,
    chosen: slice,
    start: int | None,
    residual: Tensor | None,
) -> Float[Tensor, "row keep vocab"]:
    """Logits of a bucket's sequences under each of the chosen ablations, control-major."""
    copies = chosen.stop - chosen.start
    edit = ablations.edit(chosen, bucket.tokens.shape[1] - bucket.keep)
    functions: list[tuple[Site, Callable[[Tensor], Tensor]]] = []
    if str(UNEMBED) in model.hook_dict:
        functions.append((UNEMBED, lambda value: value[:, -bucket.keep :]))
    if residual is None or start is None:
        tokens = repeat(bucket.tokens, "row pos -> (c row) pos", c=copies)
        with hooked(model, [(ablations.site, edit), *functions]):
            output = logits_of(model, forward(model, tokens))
    else:
        stream = repeat(residual, "row pos d -> (c row) pos d", c=copies)
        if _is_stream(ablations.site, start):
            stream = edit(stream)
        else:
            functions.append((ablations.site, edit))
        with hooked(model, functions):
            output = logits_of(model, forward(model, stream, start_at_layer=start))
    return (output if output.ndim == 3 else output[:, None])[:, -bucket.keep :].float()


def _is_stream(site: Site, start: int) -> bool:
    """The site is the residual stream in front of block ``start``."""
    return site in (Site("resid_post", start - 1) if start else None, Site("resid_pre", start))


def _resume(model: Any, site: Site, tokens: Int[Tensor, "row pos"]) -> tuple[int | None, Tensor | None]:
    """The block to start at and the residual stream in front of it; (None, None) where a pass starts at the tokens."""
    resumable = "start_at_layer" in inspect.signature(model.forward).parameters
    if not resumable or hasattr(model, "original_model") or site.layer is None or site.stack != "blocks":
        return None, None
    start = site.layer + 1 if site.kind == "resid_post" else site.layer
    front = Site("resid_pre", start) if start < int(model.cfg.n_layers) else Site("resid_post", start - 1)
    found: list[Tensor] = []

    def keep(value: Tensor) -> Tensor:
        found.append(value.detach().clone())
        raise StopForward

    with hooked(model, [(front, keep)]):
        forward(model, tokens)
    return start, found[0]


def _run_similarity(
    model: Any, task: SimilarityTask, ablations: Ablations, advance: Callable[[int], None] | None
) -> Float[Tensor, "control prompt candidate"]:
    count = len(ablations.bases)
    found: list[Tensor] = []
    for control in range(count):
        found.append(
            task.scores_of(_embedded(model, task.batches, ablations, control, len(task.rows))).scores
        )
        if advance:
            advance(len(task.rows))
    return torch.stack(found)


def _embedded(
    model: Any, parts: tuple[Batch, ...], ablations: Ablations, control: int, count: int
) -> Float[Tensor, "prompt d"]:
    rows: list[Tensor] = []
    for part in parts:
        edit = ablations.edit(slice(control, control + 1), part.tokens.shape[1] - 1)
        with hooked(model, [(ablations.site, edit)]):
            rows.append(forward(model, part.tokens).float().cpu())
    table = rows[0].new_zeros(count, rows[0].shape[1])
    table[torch.cat([part.rows for part in parts])] = torch.cat(rows)
    return table


def margins(
    scores: Float[Tensor, "control prompt candidate"], label: Int[Tensor, " prompt"]
) -> Float[Tensor, "control prompt"]:
    """Right candidate minus the mean of the others, for every control and prompt."""
    empty = torch.zeros(scores.shape[1:], dtype=torch.bool)
    return torch.stack([AnswerScores(each, empty, label).margin for each in scores])
