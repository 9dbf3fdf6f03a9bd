"""The whole question at once: is this quantity on a circle, does the model use that circle, and how much?

Probe, then find the plane, turn it, ablate it, patch it; then the ladder of shares, and the map of where. The
first word of the verdict is the probe's; the second is given by this rule.

``used``: turning the planes by δ raises the score of the answer that is δ away over the other wrong answers
(its 95 % interval lies above 0) more than the same displacement does in each of at least 199 random planes
(p ≤ .005); or ablating them lowers the logit difference (its 95 % interval lies below 0) more than each of at
least 199 controls does (p ≤ .005), where the controls have as much variance as the planes (within a factor of
4; a large plane is missed for its size alone, by a layer norm for one). ``not used``: neither. So an unread
plane is called used at most once in a hundred. How much is no part of the rule: the share says it. ``not
tested``: the domain asks nothing that the model can read, or nothing turns.

Turns are judged by the model's own answers, right or wrong. A model that answers at chance is not judged by
an ablation, which is judged by right ones.

The prompts that chose the place are held out of every test at it. The intact model's answers, the activations
of a site and the donors are computed once (`experiment`).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from mechfourier._renamed import renamed
from mechfourier.causal.ablate import ablate
from mechfourier.causal.arms import ArmsResult, compared_arms
from mechfourier.causal.controls import N_CONTROLS
from mechfourier.causal.cost import affordable, bounded, fewer
from mechfourier.causal.experiment import POSITIONS, Experiment, shows_value
from mechfourier.causal.kept import Kept
from mechfourier.causal.patch import Coordinates, PatchResult, patched
from mechfourier.causal.plane import split
from mechfourier.causal.prefix_sharing import remembering
from mechfourier.causal.result import AblationResult, Certificate
from mechfourier.causal.rotate import RotationResult, rotation
from mechfourier.causal.screen import Candidate, candidates_at, choose
from mechfourier.causal.share import Rung, Share, UseShare, use_share
from mechfourier.causal.study_question import Unasked, choice_of, sites_of
from mechfourier.causal.subspaces import chosen_subspace, harmonics
from mechfourier.causal.usage import (
    FEWEST_CONTROLS,
    LEVEL,
    along_sentence,
    patch_reason,
    share_sentence,
    spans,
    usage_verdict,
    where_sentence,
)
from mechfourier.causal.where import UseMap, use_map
from mechfourier.domains.definition import Domain
from mechfourier.domains.definition import domain as find_domain
from mechfourier.domains.task_spec import NATIVE
from mechfourier.domains.tasks import TaskRow
from mechfourier.errors import NotExpressible, OutOfRange, UsageError
from mechfourier.hooks.site import Site, model_name
from mechfourier.models.interface import Model
from mechfourier.probes.probe import probe
from mechfourier.probes.result import ProbeResult
from mechfourier.results.base import Result
from mechfourier.stats.paired import chance_note
from mechfourier.stats.words import CIRCLES

if TYPE_CHECKING:
    import pandas as pd

    from mechfourier.hooks.store import ActivationStore

PATCHED = 1  # prompts per answer that the controls of the patch run on: they decide nothing


@dataclass(frozen=True)
class StudyResult(
    Result,
    kind="study",
    figure="mechfourier.figures.study:study_figure",
    part="mechfourier.figures.study:study_part",
):
    """``verdict`` is the probe's word, ``used`` the second word, by the rule of this module. ``site``,
    ``position`` and ``ks`` say which planes were tested, ``candidates`` what else there was; ``task`` is what
    was asked and ``tasks`` how the tasks looked at were answered (empty where there was no choice).
    ``share``: how much of the exact moves that the whole token's edit makes go through these planes,
    ``share_difference`` of its rise of the score difference, ``ladder`` every edit beside them, ``along``
    whether the circle is used as one or along a line (`share`); ``map``: layers by tokens (`where`);
    ``certificate``: what holds of the edits on this model. A part that was not run is None."""

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
    share: Share | None = None
    share_difference: Share | None = None
    ladder: tuple[Rung, ...] = ()
    along: str | None = None
    map: UseMap | None = None
    certificate: Certificate | None = None

    def ladder_frame(self) -> "pd.DataFrame":
        """One row per edit of the ladder: shares of exact moves, and rises of the score difference."""
        import pandas as pd

        return pd.DataFrame([vars(rung) for rung in self.ladder])

    def map_frame(self) -> "pd.DataFrame":
        """One row per site and token."""
        import pandas as pd

        return pd.DataFrame([vars(cell) for cell in (self.map.cells if self.map is not None else ())])

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
            rows.append(("rotate", "share of exact turns", r.paired_share, r.random_share, r.p_value))
            rows.append(("rotate", "rise of the answer δ away", r.directed, r.random_directed, r.directed_p))
        if (p := self.patch) is not None:
            rows.append(("patch", "share recovered", p.recovered, p.random_recovered, p.p_value))
        return pd.DataFrame(rows, columns=["intervention", "measure", "planes", "controls", "p"])

    def __str__(self) -> str:
        where = ""
        if self.site is not None:
            k = ", ".join(map(str, self.ks))
            where = f"; task {self.task}, tested at {self.site}, {self.position} token, k = {k}"
        head = f"{self.verdict}, {self.used}: {self.domain} in {self.model}{where}"
        short = [] if self.share is None else [self.sentence()]
        return "\n".join([head, *short, *(f"  - {reason}" for reason in self.reasons)])

    def sentence(self) -> str:
        """Where it is represented, where it is used, and how much: in one sentence."""
        layers = self.probe.word_layers()
        shape = (
            f"{self.verdict} at layer{'' if layers.isdigit() else 's'} {layers}" if layers else self.verdict
        )
        at = () if self.map is None or self.position is None else self.map.used(self.position)
        where = f"{self.used} at {spans(at)} of the {self.position} token" if at else self.used
        part = (
            "the circle carries"
            if self.verdict in CIRCLES
            else f"its planes (k = {', '.join(map(str, self.ks))}) carry"
        )
        share = f"{part} {self.share} of what the {self.position} token carries"
        if self.share is None or self.share.value is None:
            share = f"the {self.position} token carries nothing by itself"
        return f"{shape}; {where}: {share}"


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
    folder: str | Path | None = None,
    probed: ProbeResult | None = None,
) -> StudyResult:
    """Probe ``domain``, then test by ablation, rotation and patching whether the model uses what is seen.

    Without ``site`` the embedding and every ``resid_post`` are screened, each at the value's token and at the
    prompt's last (or ``position``), with the harmonics ``ks`` or those that stand out there
    (`fourier.key_freqs`): a few prompts are turned, and the earliest place within a fifth of the best is
    taken, at the value's token where anything turns there (where nothing turns: that of the strongest pull,
    or of the most power). Rotation, ablation, patch, ladder and map are then measured on the other prompts.
    ``task``: one of the domain's tasks by name (None: the best that the model answers above chance).
    ``n_controls`` (199 or more) per test, ``n_permutations`` of the probe; ``n_prompts`` and ``cycles`` of
    the grid, ``text`` as in ``ablate``. ``folder``: where finished parts are kept until the study is
    complete, so that the same call goes on with one that was interrupted.
    ``probed``: what ``probe`` found of the same model and domain, where that was asked already (the atlas).
    Raises what ``probe``, ``ablate`` and ``rotate`` raise.
    """
    if n_controls < FEWEST_CONTROLS:
        raise OutOfRange(
            f"n_controls is {n_controls}; a study needs {FEWEST_CONTROLS} or more, so that p can reach "
            f"{LEVEL}"
        )
    wanted = domain if isinstance(domain, Domain) else find_domain(domain)
    sites, texts = sites_of(model, site), None if text is None else tuple(text)
    options = (site, position, ks, task, n_prompts, cycles, n_controls, n_permutations, texts, seed)
    kept = Kept.of(folder, model, wanted, options)
    if probed is None:
        asks = {"n_permutations": n_permutations, "seed": seed, "store": store}
        probed = kept("probe", ProbeResult, lambda: probe(model, wanted, **asks))
    else:
        _check_same(probed, model, wanted)
    try:
        choice = choice_of(model, wanted, task)
        asked = Experiment.of(
            model, wanted, task=choice, cycles=cycles, n_prompts=n_prompts, seed=seed, store=store
        )
    except Unasked as error:
        return _untested(model, probed, str(error))
    except NotExpressible as error:
        return _untested(model, probed, f"the model cannot be asked: {error}")
    looked = (position,) if position else POSITIONS if shows_value(asked.design) else ("last",)
    found = _asked(asked, probed, sites, looked, harmonics(ks), n_controls, texts, kept)
    kept.finish()
    table = () if choice is None else choice.table
    return replace(found, accuracy=asked.baseline.accuracy, tasks=table)


def _check_same(probed: ProbeResult, model: Model, wanted: Domain) -> None:
    if (probed.model, probed.domain) != (model_name(model), wanted.name):
        raise UsageError(
            f"the probe given is of {probed.domain} in {probed.model}, and the study of {wanted.name} in "
            f"{model_name(model)}"
        )


def _asked(
    asked: Experiment,
    probed: ProbeResult,
    sites: tuple[Site, ...],
    positions: tuple[str, ...],
    ks: tuple[int, ...] | None,
    n_controls: int,
    text: tuple[str, ...] | None,
    kept: Kept,
) -> StudyResult:
    """The place chosen on some of the prompts, and every test of it on the others."""
    few, rest = split(asked)
    with remembering():
        listed = kept(
            "places",
            tuple[Candidate, ...],
            lambda: tuple(candidates_at(asked, few, sites, positions, ks)),
        )
        if not listed:
            return _untested(asked.model, probed, "no site has a usable harmonic plane")
        best = choose(listed, asked.design.n)
        return replace(_tested(rest, best, probed, sites, n_controls, text, kept), candidates=listed)


def _tested(
    rest: Experiment,
    best: Candidate,
    probed: ProbeResult,
    sites: tuple[Site, ...],
    n_controls: int,
    text: Sequence[str] | None,
    kept: Kept,
) -> StudyResult:
    """Every test of the best place, on prompts that did not choose it."""
    place = rest.at(best.site, best.position)
    turn = chosen_subspace(place.means, place.site, best.ks)
    chance = chance_note(rest.baseline.right, rest.design.n_answers)
    turned = kept("rotation", RotationResult, lambda: rotation(rest, place, turn, n_controls=n_controls))
    share = kept("share", UseShare, lambda: use_share(rest, place, turn.ks))
    ablation = None
    if chance is None:
        ablation = kept(
            "ablation", AblationResult, lambda: _ablation(rest, best, turn.basis, n_controls, text)
        )
    few = min(PATCHED * rest.design.n_answers, _affordable(rest, n_controls))
    part = Coordinates(turn.basis, f"the circle {turn.words}")
    moved = kept(
        "patch",
        PatchResult,
        lambda: patched(
            rest, place, part, n_controls=fewer(rest.model, rest.task, n_controls), control_prompts=few
        ),
    )
    arms = kept("arms", ArmsResult, lambda: compared_arms(rest, place, turn))
    where = kept("map", UseMap, lambda: use_map(rest, sites, turn.ks)) if len(sites) > 1 else None
    used, reasons = usage_verdict(ablation, turned)
    along = along_sentence(share, probed.verdict in CIRCLES)
    said = [share_sentence(share), along, where and where_sentence(where), chance]
    notes = [
        *probed.notes,
        *(note for part in (ablation, turned, moved, share) if part for note in part.notes),
    ]
    return StudyResult(
        **_about(rest.model, probed, used),
        reasons=(*probed.reasons, *reasons, *(text for text in said if text), patch_reason(moved)),
        notes=tuple(dict.fromkeys(notes)),
        accuracy=None,
        site=best.site,
        position=best.position,
        ks=turn.ks,
        candidates=(),
        ablation=ablation,
        rotation=turned,
        patch=moved,
        arms=arms,
        seed=rest.seed,
        task=rest.task.name,
        share=share.share,
        share_difference=share.share_difference,
        ladder=share.ladder,
        along=share.along,
        map=where,
        certificate=turned.certificate,
    )


def _ablation(
    rest: Experiment, best: Candidate, plane: Tensor, n_controls: int, text: Sequence[str] | None
) -> AblationResult:
    return ablate(
        rest,
        site=best.site,
        plane=plane,
        position=_ablated(rest, best.position),
        n_controls=n_controls,
        n_control_prompts=min(bounded(rest.model, rest.task, n_controls), _affordable(rest, n_controls)),
        text=text,
    )


def _about(model: Model, probed: ProbeResult, used: str) -> dict[str, Any]:
    """The fields that say what was studied, and both words."""
    return {
        "model": model_name(model),
        "domain": probed.domain,
        "n": probed.n,
        "unit": probed.unit,
        "verdict": probed.verdict,
        "used": used,
        "probe": probed if used == "not tested" else replace(probed, used=used),
    }


def _affordable(asked: Experiment, interventions: int) -> int:
    return affordable(asked.model, asked.task, interventions, least=asked.design.n_answers)


def _ablated(asked: Experiment, position: str) -> str:
    """Where the planes are ablated: with "a + b" at every token; where a question names other values too,
    only at the value that it asks about, as the planes are fitted there."""
    if position == "last":
        return "last"
    return "value" if asked.design.kind == "task" else "all"


def _untested(model: Model, probed: ProbeResult, reason: str) -> StudyResult:
    return StudyResult(
        **_about(model, probed, "not tested"),
        reasons=(*probed.reasons, f"use was not tested: {reason}"),
        notes=probed.notes,
        accuracy=None,
        site=None,
        position=None,
        ks=(),
        candidates=(),
        ablation=None,
        rotation=None,
        patch=None,
        arms=None,
        seed=0,
        task=None,
    )
