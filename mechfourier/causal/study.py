"""The whole question at once: is this quantity on a circle, and does the model use that circle?

Probe, then find the plane, then ablate it, turn it, patch it. The first word of the verdict is the probe's; the second is
given by this rule.

``used``: turning the planes moves the answer by exactly δ more often than the same displacement does in each of at least
199 random planes (p ≤ .005), and for at least a tenth of the prompts and twice as often as they do on average; or ablating
them lowers the logit difference (its 95 % interval lies below 0) more than each of at least 199 controls does (p ≤ .005),
where the controls have as much variance as the planes (within a factor of 4; a large plane is missed for its size alone,
by a layer norm for one). ``not used``: neither. ``not tested``: the model answers none of the domain's tasks above chance (an
intervention on what it cannot do means nothing), or the domain asks nothing that it can read.
"""

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Int
from torch import Tensor

from mechfourier.causal.ablate import ablate
from mechfourier.causal.arms import ArmsResult, arms_at
from mechfourier.causal.donors import pairs_of
from mechfourier.causal.outcome import (
    AnswerTask,
    SimilarityTask,
    balanced_sample,
    chance_note,
    has_logits,
    task_name,
    task_of,
)
from mechfourier.causal.patch import Coordinates, PatchResult, patch_at
from mechfourier.causal.reading import POSITIONS, Turn, read
from mechfourier.causal.result import AblationResult
from mechfourier.causal.rotate import (
    RotationResult,
    chosen_turn,
    rotate_at,
)
from mechfourier.causal.rows import bounded, prompts_within
from mechfourier.causal.screen import Candidate, candidates_at, choose
from mechfourier.causal.tails import remembering
from mechfourier.causal.usage import FEWEST_CONTROLS, LEVEL, patch_reason, second_word
from mechfourier.domains.definition import Domain
from mechfourier.domains.definition import domain as find_domain
from mechfourier.domains.task_choice import Choice, choose_task
from mechfourier.domains.task_spec import NATIVE
from mechfourier.domains.tasks import TaskRow
from mechfourier.errors import NotExpressible, OutOfRange, UnknownSite, UsageError
from mechfourier.hooks.site import Site, find_site, model_name, select_sites
from mechfourier.probes.probe import probe
from mechfourier.probes.result import ProbeResult
from mechfourier.results.base import Result

if TYPE_CHECKING:
    import pandas as pd

    from mechfourier.hooks.store import ActivationStore

N_CONTROLS = 200
SCREEN = 48
CONTROL_FLOPS = 1e13  # for the controls of ablation and patch if they ran whole prompts on a CPU: two minutes or so on two cores


@dataclass(frozen=True)
class StudyResult(
    Result,
    kind="study",
    figure="mechfourier.figures.causal:study_figure",
    part="mechfourier.figures.causal:study_part",
):
    """``verdict`` is the probe's word, ``used`` the second word, by the rule of this module. ``site``, ``position`` and ``ks``
    say which planes were tested, ``candidates`` what else there was; ``task`` is what was asked and ``tasks`` how the tasks looked at
    were answered (empty where there was no choice); a part that was not run is None."""

    model: str
    domain: str
    n: int
    unit: str
    verdict: str
    used: str
    reasons: tuple[str, ...]
    notes: tuple[str, ...]
    accuracy: float | None
    site: str | None
    position: str | None
    ks: tuple[int, ...]
    candidates: tuple[Candidate, ...]
    probe: ProbeResult
    ablation: AblationResult | None
    rotation: RotationResult | None
    patch: PatchResult | None
    arms: ArmsResult | None
    seed: int
    task: str | None = NATIVE
    tasks: tuple[TaskRow, ...] = ()

    def frame(self) -> "pd.DataFrame":
        """One row per intervention: what the planes do, what the controls do, and p."""
        import pandas as pd

        rows = []
        if (a := self.ablation) is not None:
            changes = a.control_changes
            rows.append(
                ("ablate", "change of logit difference", a.logit_diff_change, _mean(changes), a.p_controls)
            )
        if (r := self.rotation) is not None:
            rows.append(("rotate", "share of exact turns", r.exact_share, r.random_share, r.p_value))
        if (p := self.patch) is not None:
            rows.append(("patch", "share recovered", p.recovered, p.random_recovered, p.p_value))
        return pd.DataFrame(rows, columns=["intervention", "measure", "planes", "controls", "p"])

    def __str__(self) -> str:
        where = ""
        if self.site is not None:
            where = f"; task {self.task}, tested at {self.site}, {self.position} token, k = {', '.join(map(str, self.ks))}"
        head = f"{self.verdict}, {self.used}: {self.domain} in {self.model}{where}"
        return "\n".join([head, *(f"  - {reason}" for reason in self.reasons)])


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def study(
    model: Any,
    domain: Domain | str,
    *,
    site: Site | str | None = None,
    position: str | None = None,
    ks: Sequence[int] | None = None,
    task: str | None = None,
    samples: int | None = None,
    cycles: int = 1,
    controls: int = N_CONTROLS,
    permutations: int = 1000,
    text: Sequence[str] | None = None,
    seed: int = 0,
    store: "ActivationStore | None" = None,
) -> StudyResult:
    """Probe ``domain``, then test by ablation, rotation and patching whether the model uses what the probe sees.

    Without ``site`` the embedding and every ``resid_post`` are screened, each at the operand's token and at the prompt's last
    (or ``position``), with the harmonics ``ks`` or those that stand out there (`fourier.key_freqs`): a few prompts are turned,
    and the earliest place within a fifth of the best is taken (where nothing turns: that of the strongest pull, or of the most power).
    The rotation is then measured on the other prompts. ``task``: one of the domain's tasks by name (None: the best one that the
    model answers above chance). ``controls`` (199 or more) per test, ``permutations`` of the probe;
    ``samples`` and ``cycles`` of the grid, ``text`` as in ``ablate``. Raises what ``probe``, ``ablate`` and ``rotate`` raise.
    """
    if controls < FEWEST_CONTROLS:
        raise OutOfRange(
            f"controls is {controls}; a study needs {FEWEST_CONTROLS} or more, so that p can reach {LEVEL}"
        )
    wanted = domain if isinstance(domain, Domain) else find_domain(domain)
    sites = _sites(model, site)
    probed = probe(model, wanted, n_permutations=permutations, seed=seed, store=store)
    choice = _choice(model, wanted, task)
    if isinstance(choice, str):
        return _untested(model, probed, choice, None)
    if choice is not None and not choice.answered:
        return _untested(model, probed, choice.reason or "no task is answered", None, choice.table)
    table = () if choice is None else choice.table
    found = _task(model, wanted, choice, samples, cycles, seed)
    if isinstance(found, str):
        return _untested(model, probed, found, None, table)
    asked, accuracy, chance = found
    if chance is not None:
        return _untested(model, probed, chance, accuracy, table)
    few, rest = _split(asked, seed)
    with remembering():
        listed = list(
            candidates_at(model, asked, few, sites, (position,) if position else POSITIONS, ks, seed)
        )
    if not listed:
        return _untested(model, probed, "no site has a usable harmonic plane", accuracy, table)
    best = choose(listed, wanted.n)
    place = read(model, rest, best.site, best.position)
    turn = chosen_turn(place, None, best.ks)
    ablation = ablate(
        model,
        wanted,
        site=best.site,
        subspace=turn.basis,
        mode="mean",
        positions=_ablated(asked, best.position),
        task=choice,
        samples=samples,
        cycles=cycles,
        controls=controls,
        control_samples=min(
            bounded(model, asked, controls), prompts_within(model, asked, controls, CONTROL_FLOPS)
        ),
        text=text,
        seed=seed,
    )
    rotation = rotate_at(model, rest, place, turn, controls=controls, seed=seed)
    result = _result(model, asked, probed, accuracy, best, listed, turn, ablation, rotation, controls, seed)
    return replace(result, tasks=table)


def _sites(model: Any, site: Site | str | None) -> tuple[Site, ...]:
    if site is not None:
        return (find_site(model, site),)
    found = list(select_sites(model, "resid_post"))
    with contextlib.suppress(UnknownSite):  # a model whose embedding has no hook point of that name
        found = [*select_sites(model, "embed"), *found]
    return tuple(found)


def _choice(model: Any, domain: Domain, task: str | None) -> Choice | str | None:
    """What to ask; None for a model without logits; or, in words, why nothing can be asked."""
    if not has_logits(model):
        if task is not None:
            raise UsageError(f"{model_name(model)} has no logits, so it is asked no task; leave task out")
        return None
    try:
        return choose_task(model, domain, task)
    except NotExpressible as error:
        return f"the model cannot be asked: {error}"
    except UsageError as error:
        if domain.tasks or domain.operation is not None:
            raise
        return str(error)


def _task(
    model: Any, domain: Domain, choice: Choice | None, samples: int | None, cycles: int, seed: int
) -> tuple[AnswerTask | SimilarityTask, float, str | None] | str:
    """The task with the model's accuracy and whether that is chance; or why there is none."""
    try:
        task = task_of(model, domain, task=choice, cycles=cycles, samples=samples, seed=seed)
    except NotExpressible as error:
        return f"the model cannot be asked: {error}"
    before = task.score(model)
    return task, before.accuracy, chance_note(before, task.design.n_answers)


def _ablated(task: AnswerTask | SimilarityTask, position: str) -> str:
    """Where the planes are ablated: with "a + b" at every token; where a question names other values too, only at the value that
    it asks about, as the planes are fitted there."""
    if position == "last":
        return "last"
    return "operand" if task.design.kind == "task" else "all"


def _split(
    task: AnswerTask | SimilarityTask, seed: int
) -> tuple[Int[Tensor, " screened"], AnswerTask | SimilarityTask]:
    """Prompts to screen with, and the task on the others (similarity tasks are not divided: they are small)."""
    count = len(task.rows)
    few = balanced_sample(task.label, max(1, min(SCREEN, count // 4)), seed=seed)
    if isinstance(task, SimilarityTask):
        return few, task
    others = torch.ones(count, dtype=torch.bool)
    others[few] = False
    return few, task.subset(others.nonzero()[:, 0])


def _result(
    model: Any,
    task: AnswerTask | SimilarityTask,
    probed: ProbeResult,
    accuracy: float,
    best: Candidate,
    listed: list[Candidate],
    turn: Turn,
    ablation: AblationResult,
    rotation: RotationResult,
    controls: int,
    seed: int,
) -> StudyResult:
    place = read(model, task, best.site, best.position)
    part = Coordinates(turn.basis, f"the circle k = {', '.join(map(str, turn.ks))}")
    few = prompts_within(model, task, controls, CONTROL_FLOPS)
    pairs = pairs_of(model, task, place, seed=seed)
    patched = patch_at(
        model, task, place, part, controls=controls, control_samples=few, pairs=pairs, seed=seed
    )
    used, reasons = second_word(ablation, rotation)
    reasons = [*probed.reasons, *reasons, patch_reason(patched)]
    notes = [*probed.notes, *ablation.notes, *rotation.notes, *patched.notes]
    return StudyResult(
        model=model_name(model),
        domain=probed.domain,
        n=probed.n,
        unit=probed.unit,
        verdict=probed.verdict,
        used=used,
        reasons=tuple(reasons),
        notes=tuple(dict.fromkeys(notes)),
        accuracy=accuracy,
        site=best.site,
        position=best.position,
        ks=turn.ks,
        candidates=tuple(listed),
        probe=replace(probed, used=used),
        ablation=ablation,
        rotation=rotation,
        patch=patched,
        arms=arms_at(model, task, place, turn, pairs=pairs, seed=seed),
        seed=seed,
        task=task_name(task),
    )


def _untested(
    model: Any,
    probed: ProbeResult,
    reason: str,
    accuracy: float | None,
    table: tuple[TaskRow, ...] = (),
) -> StudyResult:
    return StudyResult(
        model=model_name(model),
        domain=probed.domain,
        n=probed.n,
        unit=probed.unit,
        verdict=probed.verdict,
        used="not tested",
        reasons=(*probed.reasons, f"use was not tested: {reason}"),
        notes=probed.notes,
        accuracy=accuracy,
        site=None,
        position=None,
        ks=(),
        candidates=(),
        probe=probed,
        ablation=None,
        rotation=None,
        patch=None,
        arms=None,
        seed=0,
        task=None,
        tasks=table,
    )
