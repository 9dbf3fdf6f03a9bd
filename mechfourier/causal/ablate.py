"""Ablation: take a dimension, several, or a subspace out of a site, and see what the model can no longer do."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, get_args

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from mechfourier.causal.branches import can_branch, start_layer
from mechfourier.causal.controls import (
    Ablations,
    Controls,
    Mode,
    Moments,
    affordable,
    margins,
    matched_controls,
    moments,
    one_hot,
    run_ablations,
)
from mechfourier.causal.outcome import (
    AnswerTask,
    SimilarityTask,
    balanced_sample,
    bootstrap_mean,
    chance_note,
    mcnemar,
    standardised,
    task_name,
    task_of,
)
from mechfourier.causal.result import AblationResult, Performance
from mechfourier.causal.suffix import starts_inside
from mechfourier.causal.tails import whole_pass_notes
from mechfourier.causal.text import TextEffect, text_effect, text_for
from mechfourier.domains.answers import AnswerScores
from mechfourier.domains.definition import Domain
from mechfourier.domains.task_choice import Choice
from mechfourier.errors import OutOfRange, UsageError, nearest
from mechfourier.hooks.interventions import intervene
from mechfourier.hooks.site import HEAD_KINDS, Site, find_site, model_name
from mechfourier.progress import progress

MODES: tuple[str, ...] = get_args(Mode)
N_CONTROLS = 200
Dims = int | Sequence[int]


def ablate(
    model: Any,
    domain: Domain,
    *,
    site: Site | str,
    dims: Dims | None = None,
    head: int | None = None,
    subspace: Float[Tensor, "d *r"] | np.ndarray | None = None,
    mode: str = "mean",
    positions: str = "all",
    task: str | Choice | None = None,
    samples: int | None = None,
    cycles: int = 1,
    controls: int = N_CONTROLS,
    control_samples: int | None = None,
    text: Sequence[str] | None = None,
    seed: int = 0,
) -> AblationResult:
    """Ablate ``dims`` (of the site's last axis), a whole ``head`` (of a site with heads, as ``z``) or a ``subspace`` ([d] or [d, r]: its
    columns span it), and measure task and text.

    ``mode``: ``"zero"``, ``"mean"`` (the mean over all prompts and positions of the task), ``"resample"`` (from another
    prompt), ``"project-out"`` (the same as zero, in the words of subspaces). ``positions``: ``"all"``, ``"last"`` for the prompt's
    last token only, or ``"operand"`` for that of the value asked about (its mean is then that of the class means there;
    held-out text is always changed everywhere). ``task``: one of the domain's tasks by name (None: the best one that the model answers); all its prompts
    (``cycles`` of offsets in arithmetic), or ``samples`` of them, balanced over the answers; a model without logits is judged by
    similarity. ``controls=0`` runs none; they run on ``control_samples`` of
    the prompts, balanced (None: all, or on a CPU as many as a few minutes allow), and are compared with the target's effect on
    those. ``text=()`` measures no perplexity.

    Raises ``OutOfRange`` (dimension, samples), ``UnknownSite``, ``UsageError``, ``NotExpressible``,
    ``HookNeverFired`` and ``InterventionChangedNothing``.
    """
    last_only = _choice("positions", positions, ("all", "last", "operand")) == "last"
    how = _choice("mode", mode, MODES)
    if positions == "operand" and how == "resample":
        raise UsageError(
            "resample takes activations of the same position; use mode='mean' with positions='operand'"
        )
    at = find_site(model, site)
    asked = task_of(model, domain, task=task, cycles=cycles, samples=samples, seed=seed)
    where = _where(model, asked, at, positions)
    around = moments(model, asked, at, last_only=last_only) if where is None else where.moments
    edited = asked.last if last_only else None if where is None else where.at
    if head is not None:
        dims = _head_dims(model, at, head, dims, subspace)
    target = _target(at, dims, subspace, len(around.mean), Ablations(at, how, around.mean, seed=seed))
    before = asked.score(model)
    with intervene(model, [target.single(edited)]):
        after = asked.score(model)
    effect, reason = _text(model, target, text)
    against = _controls(
        model, asked, target, around, before, after, controls, control_samples, last_only, edited
    )
    notes = [*asked.notes, chance_note(before, asked.design.n_answers), reason, against.note]
    notes += whole_pass_notes(model)
    return AblationResult(
        model=model_name(model),
        domain=domain.name,
        n=domain.n,
        site=str(at),
        dims=None if target.dims is None else tuple(target.dims[0].tolist()),
        rank=target.width if target.dims is not None else target.width // len(around.mean),
        mode=how,
        positions=positions,
        n_prompts=len(asked.rows),
        cycles=asked.design.cycles,
        notes=tuple(note for note in notes if note),
        seed=seed,
        task=task_name(asked),
        **_task_part(asked, before, after, effect, seed),
        **_text_part(effect, before, after, seed),
        **against.part(),
    )


def _choice(option: str, value: str, known: Sequence[str]) -> Any:
    if value not in known:
        raise UsageError(f"{option} {value!r} is not known; closest: {nearest(value, known)}")
    return value


def _head_dims(model: Any, site: Site, head: int, dims: Dims | None, subspace: Any) -> Sequence[int]:
    """The dimensions of one head where heads lie side by side."""
    if dims is not None or subspace is not None:
        raise UsageError(f"head {head} is itself what to ablate; leave dims and subspace out")
    if site.kind not in HEAD_KINDS:
        raise UsageError(f"{site} has no heads; choose a site with heads, for example blocks.0.attn.hook_z")
    grouped = getattr(model.cfg, "n_key_value_heads", None) if site.kind in ("k", "v") else None
    count = grouped or model.cfg.n_heads
    if not 0 <= head < count:
        raise OutOfRange(f"head {head} of {site}; it has {count} (0 to {count - 1})")
    width = model.cfg.d_model if site.kind == "result" else model.cfg.d_head
    return range(head * width, (head + 1) * width)


def _target(site: Site, dims: Dims | None, subspace: Any, d: int, plain: Ablations) -> Ablations:
    """``plain`` with the dimensions or the orthonormal basis to ablate."""
    if (dims is None) == (subspace is None):
        raise UsageError("give one of dims, head or subspace, for example dims=8")
    if subspace is not None:
        basis = orthonormal(torch.as_tensor(np.asarray(subspace), dtype=torch.float32), site, d)
        return replace(plain, bases=basis[None])
    listed = (dims,) if isinstance(dims, int) else tuple(int(i) for i in dims or ())
    if not listed:
        raise UsageError("dims is empty; name at least one dimension")
    for i in listed:
        if not 0 <= i < d:
            raise OutOfRange(f"dimension {i} of {site}; it has {d} (0 to {d - 1})")
    if len(set(listed)) < len(listed):
        raise UsageError(f"dimensions {list(listed)} name one twice")
    return replace(plain, dims=torch.tensor([listed]))


def orthonormal(columns: Tensor, site: Site, d: int) -> Float[Tensor, "d r"]:
    """A basis of the columns' span; raises ``OutOfRange`` where they are no vectors of ``site``, ``UsageError`` for zeros."""
    columns = columns[:, None] if columns.ndim == 1 else columns
    if columns.ndim != 2 or len(columns) != d:
        raise OutOfRange(
            f"the subspace is {list(columns.shape)}, and {site} has {d} dimensions: it must be [{d}, r]"
        )
    left, singular, _ = torch.linalg.svd(columns.double(), full_matrices=False)
    rank = int((singular > 1e-6 * singular.max()).sum()) if singular.numel() and singular.max() > 0 else 0
    if rank == 0:
        raise UsageError("the subspace is zero; give at least one direction")
    return left[:, :rank].float()


def _text(model: Any, target: Ablations, text: Sequence[str] | None) -> tuple[TextEffect | None, str | None]:
    sentences, reason = text_for(model) if text is None else (tuple(text), "no perplexity: no text was given")
    if not sentences:
        return None, reason
    edit = target.single()
    # Whether anything changed has been checked on the task; a text may be too short for a resample to find a donor.
    return text_effect(model, sentences, lambda: intervene(model, [edit], must_change=False)), None


@dataclass(frozen=True)
class _Against:
    p: float | None = None
    changes: tuple[float, ...] = ()
    n_dims: int = 0
    ratio: float | None = None
    prompts: int = 0
    note: str | None = None

    def part(self) -> dict[str, Any]:
        return {
            "p_controls": self.p,
            "n_controls": len(self.changes),
            "n_control_dims": self.n_dims,
            "control_changes": self.changes,
            "control_variance_ratio": self.ratio,
            "n_control_prompts": self.prompts,
        }


def _controls(
    model: Any,
    task: AnswerTask | SimilarityTask,
    target: Ablations,
    around: Moments,
    before: AnswerScores,
    after: AnswerScores,
    count: int,
    samples: int | None,
    last_only: bool,
    edited: Int[Tensor, " prompt"] | None,
) -> _Against:
    """The same ablation of ``count`` matched subspaces of the same site."""
    if count < 0:
        raise OutOfRange(f"controls is {count}; give 0 for none, or {N_CONTROLS} and more")
    if count == 0:
        return _Against(note="no controls were run: the effect may be that of any dimension")
    basis = one_hot(target.dims[0], len(around.mean)) if target.bases is None else target.bases[0]  # type: ignore[index]
    found = matched_controls(basis, around, dims=target.dims is not None, count=count, seed=target.seed)
    all_dims = found.n_dims == len(found.bases)
    every = replace(target, dims=found.dims if all_dims else None, bases=None if all_dims else found.bases)
    part, chosen = _control_prompts(model, task, count, samples, target)
    with progress("controls", total=len(every) * _sequences(part)) as bar:
        scores = _run(model, part, every, None if edited is None else edited[chosen], last_only, bar.advance)
    changes = margins(scores, part.label).double().mean(dim=1) - before.margin[chosen].double().mean()
    own = float((after.margin - before.margin)[chosen].double().mean())
    p = (1 + int((changes <= own).sum())) / (len(changes) + 1)
    note = _control_note(found, len(changes), len(chosen), len(task.rows))
    return _Against(p, tuple(changes.tolist()), found.n_dims, found.variance_ratio, len(chosen), note)


def _where(model: Any, task: AnswerTask | SimilarityTask, site: Site, positions: str) -> Any:
    """The activations at the value asked about, where that is what is ablated."""
    from mechfourier.causal.reading import read

    return read(model, task, site, "operand") if positions == "operand" else None


def _run(
    model: Any,
    task: AnswerTask | SimilarityTask,
    every: Ablations,
    edited: Int[Tensor, " prompt"] | None,
    last_only: bool,
    advance: Callable[[int], None],
) -> Float[Tensor, "control prompt candidate"]:
    """Scores under every ablation. Where one token of each prompt is changed only those from there on run, except that a model
    whose passes can begin at a block shares more at the last token."""
    from mechfourier.causal.rows import run_rows

    if edited is None or every.mode == "resample" or (last_only and can_branch(model, every.site)):
        return run_ablations(model, task, every, last_only=last_only, relative=True, advance=advance)
    count = len(task.rows)
    which, prompt = torch.arange(len(every)).repeat_interleave(count), torch.arange(count).repeat(len(every))
    at = edited[prompt]
    scores = run_rows(
        model,
        task,
        prompt,
        lambda rows: every.chosen(which[rows], at[rows]),
        width=every.width,
        at=at,
        advance=advance,
    )
    return scores.unflatten(0, (len(every), count))


def _control_prompts(
    model: Any, task: AnswerTask | SimilarityTask, controls: int, samples: int | None, target: Ablations
) -> tuple[AnswerTask | SimilarityTask, Int[Tensor, " chosen"]]:
    """The part of the task that the controls run on, and its prompts' numbers in the task."""
    if isinstance(task, SimilarityTask):
        return task, torch.arange(len(task.rows))
    wanted = samples
    if wanted is None:
        start = start_layer(target.site) if target.site.stack == "blocks" and starts_inside(model) else 0
        wanted = affordable(model, task, controls, start=start)
    chosen = balanced_sample(task.label, wanted, seed=target.seed)
    return (task if len(chosen) == len(task.rows) else task.subset(chosen)), chosen


def _control_note(found: Controls, count: int, prompts: int, of: int) -> str | None:
    notes = []
    if prompts < of:
        notes.append(
            f"the controls ran on {prompts} of the {of} prompts and are compared with the effect on those "
            "(control_samples)"
        )
    if not 0.5 <= found.variance_ratio <= 2.0:
        notes.append(
            f"the controls are no close match: their median variance is {found.variance_ratio:.2g} times the target's"
        )
    if count < N_CONTROLS:
        notes.append(f"only {count} controls: p cannot fall below {1 / (count + 1):.2g}")
    return "; ".join(notes) or None


def _sequences(task: AnswerTask | SimilarityTask) -> int:
    return task.plan.n_sequences if isinstance(task, AnswerTask) else len(task.rows)


def _task_part(
    task: AnswerTask | SimilarityTask,
    before: AnswerScores,
    after: AnswerScores,
    effect: TextEffect | None,
    seed: int,
) -> dict[str, Any]:
    p, lost, gained = mcnemar(before.right, after.right)
    perplexity = (None, None) if effect is None else effect.perplexity
    change = after.margin - before.margin
    return {
        "outcome": before.outcome,
        "base": _performance(before, task, perplexity[0]),
        "ablated": _performance(after, task, perplexity[1]),
        "logit_diff_change": float(change.double().mean()),
        "logit_diff_ci": bootstrap_mean(change, seed=seed),
        "mcnemar_p": p,
        "became_wrong": lost,
        "became_right": gained,
    }


def _text_part(
    effect: TextEffect | None, before: AnswerScores, after: AnswerScores, seed: int
) -> dict[str, Any]:
    if effect is None:
        return {"kl": None, "kl_ci": None, "specificity": None}
    task_effect = -standardised(after.margin - before.margin, before.margin)
    return {
        "kl": effect.mean_kl,
        "kl_ci": effect.kl_interval(seed=seed),
        "specificity": task_effect - effect.effect,
    }


def _performance(
    scores: AnswerScores, task: AnswerTask | SimilarityTask, perplexity: float | None
) -> Performance:
    wraps = task.design.wraps[task.rows]
    return Performance(
        accuracy=scores.accuracy,
        logit_diff=scores.logit_diff,
        greedy_accuracy=scores.greedy_accuracy,
        perplexity=perplexity,
        accuracy_wrap=_share(scores.right[wraps]),
        accuracy_no_wrap=_share(scores.right[~wraps]) if bool(wraps.any()) else None,
    )


def _share(right: Tensor) -> float | None:
    return float(right.double().mean()) if len(right) else None
