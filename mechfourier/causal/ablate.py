"""Ablation: take a dimension, several, or a subspace out of a site, and see what the model can no longer
do."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, get_args

import numpy as np
from jaxtyping import Float, Int
from torch import Tensor

from mechfourier._renamed import renamed
from mechfourier.causal.certify import certified_site
from mechfourier.causal.controls import (
    N_CONTROLS,
    Controls,
    Moments,
    check_count,
    margins,
    matched_controls,
)
from mechfourier.causal.cost import affordable
from mechfourier.causal.edits import (
    Ablations,
    Dims,
    Mode,
    head_dims,
    known,
    listed_dims,
    one_hot,
    orthonormal,
    position_of,
)
from mechfourier.causal.experiment import Experiment
from mechfourier.causal.result import AblationResult, Performance
from mechfourier.causal.subspaces import chosen_subspace, harmonics
from mechfourier.causal.suffix import start_layer, starts_inside
from mechfourier.causal.task import Task
from mechfourier.causal.text import TextEffect, text_effect, text_for
from mechfourier.domains.answers import AnswerScores
from mechfourier.domains.definition import Domain
from mechfourier.domains.sampling import balanced_sample
from mechfourier.domains.task_choice import Choice
from mechfourier.errors import UsageError
from mechfourier.hooks.interventions import intervene
from mechfourier.hooks.site import Site, find_site
from mechfourier.models.interface import Model
from mechfourier.stats.paired import bootstrap_mean, mcnemar, standardised
from mechfourier.stats.permutation import permutation_p

MODES: tuple[str, ...] = get_args(Mode)
WHERE = ("all", "last", "value")


@renamed(
    samples="n_prompts",
    controls="n_controls",
    positions="position",
    subspace="plane",
    control_samples="n_control_prompts",
)
def ablate(
    model: Model | Experiment,
    domain: Domain | str | None = None,
    *,
    site: Site | str,
    dims: Dims | None = None,
    head: Dims | None = None,
    plane: Float[Tensor, "d *r"] | np.ndarray | None = None,
    ks: int | Sequence[int] | None = None,
    mode: str = "mean",
    position: str = "all",
    task: str | Choice | None = None,
    n_prompts: int | None = None,
    cycles: int = 1,
    n_controls: int = N_CONTROLS,
    n_control_prompts: int | None = None,
    text: Sequence[str] | None = None,
    seed: int = 0,
) -> AblationResult:
    """Ablate ``dims`` (of the site's last axis), a whole ``head`` (of a site with heads, as ``z``), a
    ``plane`` or any subspace ([d] or [d, r]: its columns span it) or the planes of the harmonics ``ks``, and
    measure task and text.

    ``mode``: ``"zero"``, ``"mean"`` (the mean over all prompts and positions of the task), ``"resample"``
    (from another prompt), ``"project-out"`` (the same as zero, in the words of subspaces). ``position``:
    ``"all"``, ``"last"`` for the prompt's last token only, or ``"value"`` for that of the value asked about
    (its mean is then that of the class means there; held-out text is always changed everywhere). ``task``:
    one of the domain's tasks by name (None: the best one that the model answers); all its prompts (``cycles``
    of offsets in arithmetic), or ``n_prompts`` of them, balanced over the answers; a model without logits is
    judged by similarity. ``n_controls=0`` runs none; they run on ``n_control_prompts`` of the prompts,
    balanced (None: all, or on a CPU as many as a few minutes allow), and are compared with the target's
    effect on those. ``text=()`` measures no perplexity.

    Raises ``OutOfRange`` (dimension, prompts), ``UnknownSite``, ``UsageError``, ``NotExpressible``,
    ``HookNeverFired`` and ``InterventionChangedNothing``.
    """
    position = position_of(position, WHERE)
    known("mode", mode, MODES)
    if sum(part is not None for part in (dims, head, plane, ks)) != 1:
        raise UsageError("give one of dims, head, plane or ks, for example dims=8")
    if position == "value" and mode == "resample":
        raise UsageError(
            "resample takes activations of the same position; use mode='mean' with position='value'"
        )
    check_count(n_controls)
    found = find_site(model.model if isinstance(model, Experiment) else model, site)
    asked = Experiment.of(model, domain, task=task, cycles=cycles, n_prompts=n_prompts, seed=seed)
    around, edited = _around(asked, found, position)
    how: Any = mode
    target = Ablations(found, how, around.mean, seed=asked.seed)
    if ks is not None:
        place = asked.at(found, "last" if position == "last" else "value")
        plane = chosen_subspace(place.means, found, harmonics(ks)).basis
    target = _target(asked.model, target, dims, head, plane)
    return ablation(asked, target, around, position, edited, n_controls, n_control_prompts, text)


def _around(asked: Experiment, site: Site, position: str) -> tuple[Moments, Int[Tensor, " prompt"] | None]:
    """The moments of what is ablated, and the token of each prompt (None: all)."""
    if position == "value":
        place = asked.at(site, "value")
        return place.moments, place.at
    last_only = position == "last"
    return asked.moments(site, last_only=last_only), asked.task.last if last_only else None


def _target(model: Model, plain: Ablations, dims: Dims | None, head: Dims | None, plane: Any) -> Ablations:
    """``plain`` with the dimensions or the orthonormal basis to ablate."""
    site, d = plain.site, len(plain.mean)
    if plane is not None:
        return replace(plain, bases=orthonormal(plane, site, d)[None])
    if head is not None:
        return replace(plain, dims=head_dims(model, site, head, d)[None])
    return replace(plain, dims=listed_dims(() if dims is None else dims, site, d)[None])


def ablation(
    asked: Experiment,
    target: Ablations,
    around: Moments,
    position: str,
    edited: Int[Tensor, " prompt"] | None,
    n_controls: int,
    n_control_prompts: int | None,
    text: Sequence[str] | None,
) -> AblationResult:
    """``ablate`` with everything looked up; ``edited``: the token of every prompt that is changed (None:
    all)."""
    before, task, certificate = asked.baseline, asked.task, certified_site(asked, target.site)
    with intervene(asked.model, [target.single(edited)]):
        after = task.score(asked.model)
    effect, reason = _text(asked.model, target, text)
    against, note = _controls(asked, target, around, after, n_controls, n_control_prompts, edited)
    notes = [*asked.notes(), reason, note]
    return AblationResult(
        **asked.about(position),
        site=str(target.site),
        dims=None if target.dims is None else tuple(target.dims[0].tolist()),
        rank=target.width if target.dims is not None else target.width // len(around.mean),
        mode=target.mode,
        positions=position,
        n_prompts=len(asked),
        cycles=asked.design.cycles,
        notes=tuple(note for note in notes if note),
        certificate=certificate,
        **_effects(task, before, after, effect, asked.seed),
        **against,
    )


def _text(
    model: Model, target: Ablations, text: Sequence[str] | None
) -> tuple[TextEffect | None, str | None]:
    sentences, reason = text_for(model) if text is None else (tuple(text), "no perplexity: no text was given")
    if not sentences:
        return None, reason
    edit = target.single()
    # Whether anything changed has been checked on the task; a text may be too short for a resample to find a
    # donor.
    return text_effect(model, sentences, lambda: intervene(model, [edit], must_change=False)), None


def _controls(
    asked: Experiment,
    target: Ablations,
    around: Moments,
    after: AnswerScores,
    count: int,
    n_prompts: int | None,
    edited: Int[Tensor, " prompt"] | None,
) -> tuple[dict[str, Any], str | None]:
    """The same ablation of ``count`` matched subspaces of the same site, and a note on them."""
    if count == 0:
        none = dict(p_controls=None, n_controls=0, n_control_dims=0, control_changes=(), n_control_prompts=0)
        return none | {
            "control_variance_ratio": None
        }, "no controls were run: the effect may be that of any dimension"
    single = target.dims is not None
    basis = target.parts[0] if target.dims is None else one_hot(target.dims[0], len(around.mean))
    found = matched_controls(basis, around, dims=single, count=count, seed=target.seed)
    all_dims = found.n_dims == len(found.bases)
    every = replace(target, dims=found.dims if all_dims else None, bases=None if all_dims else found.bases)
    chosen = _control_prompts(asked, count, n_prompts, target)
    part = asked.subset(chosen)
    scores = part.ablated(every, "controls", None if edited is None else edited[chosen])
    base = asked.baseline.margin
    changes = margins(scores, part.task.label).double().mean(dim=1) - base[chosen].double().mean()
    own = float((after.margin - base)[chosen].double().mean())
    against = dict(
        p_controls=permutation_p(-own, -changes),
        n_controls=count,
        n_control_dims=found.n_dims,
        control_changes=tuple(changes.tolist()),
        control_variance_ratio=found.variance_ratio,
        n_control_prompts=len(chosen),
    )
    return against, _control_note(found, count, len(chosen), len(asked))


def _control_prompts(
    asked: Experiment, n_controls: int, n_prompts: int | None, target: Ablations
) -> Int[Tensor, " chosen"]:
    """The numbers of the prompts that the controls run on."""
    inside = target.site.stack == "blocks" and starts_inside(asked.model)
    start = start_layer(target.site) if inside else 0
    wanted = affordable(asked.model, asked.task, n_controls, start=start) if n_prompts is None else n_prompts
    return balanced_sample(asked.task.label, wanted, seed=target.seed)


def _control_note(found: Controls, count: int, prompts: int, of: int) -> str | None:
    notes = []
    if prompts < of:
        notes.append(
            f"the controls ran on {prompts} of the {of} prompts and are compared with the effect on those "
            "(n_control_prompts)"
        )
    if not 0.5 <= found.variance_ratio <= 2.0:
        notes.append(
            f"the controls are no close match: their median variance is {found.variance_ratio:.2g} times the "
            "target's"
        )
    if count < N_CONTROLS:
        notes.append(f"only {count} controls: p cannot fall below {1 / (count + 1):.2g}")
    return "; ".join(notes) or None


def _effects(
    task: Task, before: AnswerScores, after: AnswerScores, effect: TextEffect | None, seed: int
) -> dict[str, Any]:
    """What the ablation does to the task and to text, as the fields of the result."""
    p, lost, gained = mcnemar(before.right, after.right)
    perplexity = (None, None) if effect is None else effect.perplexity
    change = after.margin - before.margin
    drop = -standardised(change, before.margin)
    return {
        "outcome": before.outcome,
        "base": _performance(before, task, perplexity[0]),
        "ablated": _performance(after, task, perplexity[1]),
        "logit_diff_change": float(change.double().mean()),
        "logit_diff_ci": bootstrap_mean(change, seed=seed),
        "mcnemar_p": p,
        "became_wrong": lost,
        "became_right": gained,
        "kl": None if effect is None else effect.mean_kl,
        "kl_ci": None if effect is None else effect.kl_interval(seed=seed),
        "specificity": None if effect is None else drop - effect.effect,
    }


def _performance(scores: AnswerScores, task: Task, perplexity: float | None) -> Performance:
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
