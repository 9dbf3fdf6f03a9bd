"""The whole question at once: is this quantity on a circle, and does the model use that circle?

Probe, then find the plane, then ablate it, turn it, patch it. The first word of the verdict is the probe's;
the second is given by this rule.

``used``: turning the planes moves the answer by exactly δ more often than the same displacement does in each
of at least 199 random planes (p ≤ .005), and for at least a tenth of the prompts and twice as often as they
do on average; or ablating them lowers the logit difference (its 95 % interval lies below 0) more than each of
at least 199 controls does (p ≤ .005), where the controls have as much variance as the planes (within a factor
of 4; a large plane is missed for its size alone, by a layer norm for one). ``not used``: neither. ``not
tested``: the model answers none of the domain's tasks above chance (an intervention on what it cannot do
means nothing), or the domain asks nothing that it can read.

The prompts that chose the place are held out of every test at it. The intact model's answers, the activations
of a site and the donors are computed once (`experiment`).
"""

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from jaxtyping import Int
from torch import Tensor

from mechfourier._renamed import renamed
from mechfourier.causal.ablate import ablate
from mechfourier.causal.arms import ArmsResult, compared_arms
from mechfourier.causal.controls import N_CONTROLS
from mechfourier.causal.cost import affordable, bounded
from mechfourier.causal.experiment import POSITIONS, Experiment
from mechfourier.causal.patch import Coordinates, PatchResult, patched
from mechfourier.causal.prefix_sharing import remembering
from mechfourier.causal.result import AblationResult
from mechfourier.causal.rotate import RotationResult, rotation
from mechfourier.causal.screen import Candidate, candidates_at, choose
from mechfourier.causal.subspaces import chosen_subspace, harmonics
from mechfourier.causal.task import AnswerTask, has_logits
from mechfourier.causal.usage import FEWEST_CONTROLS, LEVEL, patch_reason, usage_verdict
from mechfourier.domains.definition import Domain
from mechfourier.domains.definition import domain as find_domain
from mechfourier.domains.sampling import balanced_sample
from mechfourier.domains.task_choice import Choice, choose_task
from mechfourier.domains.task_spec import NATIVE
from mechfourier.domains.tasks import TaskRow
from mechfourier.errors import NotExpressible, OutOfRange, UnknownSite, UsageError
from mechfourier.hooks.site import Site, find_site, model_name, select_sites
from mechfourier.models.interface import Model
from mechfourier.probes.probe import probe
from mechfourier.probes.result import ProbeResult
from mechfourier.results.base import Result
from mechfourier.stats.paired import chance_note

if TYPE_CHECKING:
    import pandas as pd

    from mechfourier.hooks.store import ActivationStore

SCREEN = 48
PATCHED = 3  # prompts per answer that the controls of the patch run on: they decide nothing


@dataclass(frozen=True)
class StudyResult(
    Result,
    kind="study",
    figure="mechfourier.figures.causal:study_figure",
    part="mechfourier.figures.causal:study_part",
):
    """``verdict`` is the probe's word, ``used`` the second word, by the rule of this module. ``site``,
    ``position`` and ``ks`` say which planes were tested, ``candidates`` what else there was; ``task`` is what
    was asked and ``tasks`` how the tasks looked at were answered (empty where there was no choice); a part
    that was not run is None."""

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
            k = ", ".join(map(str, self.ks))
            where = f"; task {self.task}, tested at {self.site}, {self.position} token, k = {k}"
        head = f"{self.verdict}, {self.used}: {self.domain} in {self.model}{where}"
        return "\n".join([head, *(f"  - {reason}" for reason in self.reasons)])


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


@renamed(samples="n_prompts", controls="n_controls", permutations="n_permutations")
def study(
    model: Model,
    domain: Domain | str,
    *,
    site: Site | str | None = None,
    position: str | None = None,
    ks: int | Sequence[int] | None = None,
    task: str | None = None,
    n_prompts: int | None = None,
    cycles: int = 1,
    n_controls: int = N_CONTROLS,
    n_permutations: int = 1000,
    text: Sequence[str] | None = None,
    seed: int = 0,
    store: "ActivationStore | None" = None,
) -> StudyResult:
    """Probe ``domain``, then test by ablation, rotation and patching whether the model uses what the probe
    sees.

    Without ``site`` the embedding and every ``resid_post`` are screened, each at the value's token and at the
    prompt's last (or ``position``), with the harmonics ``ks`` or those that stand out there
    (`fourier.key_freqs`): a few prompts are turned, and the earliest place within a fifth of the best is
    taken (where nothing turns: that of the strongest pull, or of the most power). Rotation, ablation and
    patch are then measured on the other prompts. ``task``: one of the domain's tasks by name (None: the best
    one that the model answers above chance). ``n_controls`` (199 or more) per test, ``n_permutations`` of the
    probe; ``n_prompts`` and ``cycles`` of the grid, ``text`` as in ``ablate``. Raises what ``probe``,
    ``ablate`` and ``rotate`` raise.
    """
    if n_controls < FEWEST_CONTROLS:
        raise OutOfRange(
            f"n_controls is {n_controls}; a study needs {FEWEST_CONTROLS} or more, so that p can reach "
            f"{LEVEL}"
        )
    wanted = domain if isinstance(domain, Domain) else find_domain(domain)
    sites = _sites(model, site)
    probed = probe(model, wanted, n_permutations=n_permutations, seed=seed, store=store)
    try:
        choice = _choice(model, wanted, task)
        if choice is not None and not choice.answered:
            return _untested(model, probed, choice.reason or "no task is answered", table=choice.table)
        asked = Experiment.of(
            model, wanted, task=choice, cycles=cycles, n_prompts=n_prompts, seed=seed, store=store
        )
    except _Unasked as error:
        return _untested(model, probed, str(error))
    except NotExpressible as error:
        return _untested(model, probed, f"the model cannot be asked: {error}")
    table = () if choice is None else choice.table
    accuracy = asked.baseline.accuracy
    if chance := chance_note(asked.baseline.right, asked.design.n_answers):
        return _untested(model, probed, chance, accuracy, table)
    few, rest = _split(asked)
    with remembering():
        listed = list(candidates_at(asked, few, sites, (position,) if position else POSITIONS, harmonics(ks)))
        if not listed:
            return _untested(model, probed, "no site has a usable harmonic plane", accuracy, table)
        found = _tested(rest, choose(listed, wanted.n), probed, n_controls, text)
    return replace(found, accuracy=accuracy, candidates=tuple(listed), tasks=table)


class _Unasked(Exception):
    """Why nothing can be asked."""


def _sites(model: Model, site: Site | str | None) -> tuple[Site, ...]:
    if site is not None:
        return (find_site(model, site),)
    found = list(select_sites(model, "resid_post"))
    with contextlib.suppress(UnknownSite):  # a model whose embedding has no hook point of that name
        found = [*select_sites(model, "embed"), *found]
    return tuple(found)


def _choice(model: Model, domain: Domain, task: str | None) -> Choice | None:
    """What to ask; None for a model without logits. Raises ``_Unasked`` where the domain asks nothing."""
    if not has_logits(model):
        if task is not None:
            raise UsageError(f"{model_name(model)} has no logits, so it is asked no task; leave task out")
        return None
    try:
        return choose_task(model, domain, task)
    except UsageError as error:
        if domain.tasks or domain.operation is not None:
            raise
        raise _Unasked(str(error)) from error


def _split(asked: Experiment) -> tuple[Int[Tensor, " screened"], Experiment]:
    """Prompts to screen with, and the experiment on the others (similarity tasks are not divided: they are
    small)."""
    count = len(asked)
    few = balanced_sample(asked.task.label, max(1, min(SCREEN, count // 4)), seed=asked.seed)
    if not isinstance(asked.task, AnswerTask):
        return few, asked
    others = torch.ones(count, dtype=torch.bool)
    others[few] = False
    return few, asked.subset(others.nonzero()[:, 0])


def _tested(
    rest: Experiment, best: Candidate, probed: ProbeResult, n_controls: int, text: Sequence[str] | None
) -> StudyResult:
    """Every test of the best place, on prompts that did not choose it."""
    place = rest.at(best.site, best.position)
    turn = chosen_subspace(place.means, place.site, best.ks)
    ablation = ablate(
        rest,
        site=place.site,
        plane=turn.basis,
        position=_ablated(rest, best.position),
        n_controls=n_controls,
        n_control_prompts=min(bounded(rest.model, rest.task, n_controls), _affordable(rest, n_controls)),
        text=text,
    )
    turned = rotation(rest, place, turn, n_controls=n_controls)
    part = Coordinates(turn.basis, f"the circle {turn.words}")
    few = min(PATCHED * rest.design.n_answers, _affordable(rest, n_controls))
    moved = patched(rest, place, part, n_controls=n_controls, control_prompts=few)
    used, reasons = usage_verdict(ablation, turned)
    notes = [*probed.notes, *ablation.notes, *turned.notes, *moved.notes]
    return StudyResult(
        model=model_name(rest.model),
        domain=probed.domain,
        n=probed.n,
        unit=probed.unit,
        verdict=probed.verdict,
        used=used,
        reasons=(*probed.reasons, *reasons, patch_reason(moved)),
        notes=tuple(dict.fromkeys(notes)),
        accuracy=None,
        site=best.site,
        position=best.position,
        ks=turn.ks,
        candidates=(),
        probe=replace(probed, used=used),
        ablation=ablation,
        rotation=turned,
        patch=moved,
        arms=compared_arms(rest, place, turn),
        seed=rest.seed,
        task=rest.task.name,
    )


def _affordable(asked: Experiment, interventions: int) -> int:
    return affordable(asked.model, asked.task, interventions, least=asked.design.n_answers)


def _ablated(asked: Experiment, position: str) -> str:
    """Where the planes are ablated: with "a + b" at every token; where a question names other values too,
    only at the value that it asks about, as the planes are fitted there."""
    if position == "last":
        return "last"
    return "value" if asked.design.kind == "task" else "all"


def _untested(
    model: Model,
    probed: ProbeResult,
    reason: str,
    accuracy: float | None = None,
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
