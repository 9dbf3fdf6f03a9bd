"""Patching: give a prompt the activation of another that differs in the value asked about only, and see which
answer comes out.

A recipient (a, o) gets coordinates of its donor (a′, o). Where they carry what the model uses of a, the
answer becomes that of (a′, o). Activation patching: Vig et al. 2020; Heimersheim and Nanda 2024 on its
pitfalls.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from mechfourier._renamed import renamed
from mechfourier.causal.certify import certified
from mechfourier.causal.controls import N_CONTROLS, check_count, matched_controls
from mechfourier.causal.cost import bounded
from mechfourier.causal.edits import Dims, EditedRows, head_dims, listed_dims, one_hot, orthonormal
from mechfourier.causal.experiment import Experiment, Pairs, SiteActivations
from mechfourier.causal.result import Certificate
from mechfourier.causal.subspaces import harmonic_subspace, harmonics
from mechfourier.domains.definition import Domain
from mechfourier.domains.reads import TokensRead
from mechfourier.domains.sampling import balanced_sample
from mechfourier.domains.task_spec import NATIVE
from mechfourier.errors import UsageError
from mechfourier.hooks.edit import Edit
from mechfourier.hooks.interventions import edit_patch
from mechfourier.hooks.site import Site
from mechfourier.models.interface import Model
from mechfourier.results.base import Result
from mechfourier.stats.paired import bootstrap_mean, ratio, ratio_interval
from mechfourier.stats.permutation import permutation_p

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class PatchResult(Result, kind="patch", figure="mechfourier.figures.causal:patch_figure"):
    """What patching did. Donor difference: score of the donor's right answer minus that of the recipient's
    (nats; cosine for a model without logits). ``recovered``: (patched − recipient) / (donor − recipient) of
    its means, 1 where the patch does all that the whole donor prompt would, with a 95 % bootstrap interval
    over prompts; None where donor and recipient do not differ beyond noise (the 95 % interval of the mean of
    donor − recipient holds 0), so that there is nothing to divide by. ``success``: share of prompts whose
    best candidate is the donor's answer, ``success_before`` without a patch. ``random_recovered``: the mean
    over ``n_controls`` subspaces of the same rank and like variance, orthogonal to the patched one;
    ``p_value`` is the share of them that recover at least as much (of the same prompts,
    as a share of the donor − recipient of all: ``paired_recovered``), or raise the difference at least as much where ``recovered`` is None. ``gap_ci``:
    the 95 % interval of the mean of donor − recipient."""

    model: str
    domain: str
    n: int
    site: str
    position: str
    what: str
    rank: int
    outcome: str
    n_prompts: int
    success: float
    success_before: float
    difference: float
    difference_before: float
    difference_donor: float
    recovered: float | None
    recovered_ci: tuple[float, float] | None
    paired_recovered: float | None
    random_recovered: float | None
    random_max: float | None
    p_value: float | None
    n_controls: int
    n_control_prompts: int
    control_recovered: tuple[float, ...]
    control_variance_ratio: float | None
    notes: tuple[str, ...]
    seed: int
    gap_ci: tuple[float, float] | None = None
    task: str = NATIVE
    tokens: TokensRead | None = None
    certificate: Certificate | None = None

    def frame(self) -> "pd.DataFrame":
        """One row per condition: the recipient, the patch, the donor, and the random subspaces."""
        import pandas as pd

        span = self.difference_donor - self.difference_before
        rows = [
            ("recipient", self.difference_before, 0.0),
            (f"patch {self.what}", self.difference, self.recovered),
            ("donor", self.difference_donor, 1.0),
            *(("random", self.difference_before + share * span, share) for share in self.control_recovered),
        ]
        return pd.DataFrame(rows, columns=["condition", "difference", "recovered"])

    def recovery(self) -> str:
        """The share recovered in words, with its interval; or why there is none."""
        if self.recovered is None or self.recovered_ci is None:
            gap = self.difference_donor - self.difference_before
            unit = "nats" if self.outcome == "log-probability" else "of cosine"
            within = "" if self.gap_ci is None else f" (95 % {self.gap_ci[0]:+.3g} to {self.gap_ci[1]:+.3g})"
            return f"share recovered not defined: donor and recipient differ by {gap:+.3g} {unit}{within}"
        low, high = self.recovered_ci
        return f"{self.recovered:.1%} of the donor's difference recovered (95 % {low:.1%} to {high:.1%})"

    def __str__(self) -> str:
        lines = [
            f"patching {self.what} at {self.site} ({self.position} token) of {self.model}, {self.domain}, "
            f"task {self.task}: "
            f"{self.success:.1%} of {self.n_prompts} prompts take the donor's answer "
            f"({self.success_before:.1%} before); "
            f"{self.recovery()}"
        ]
        if self.random_recovered is not None:
            lines.append(
                f"{self.n_controls} random subspaces of like variance recover {self.random_recovered:.1%} on "
                "average, "
                f"{self.random_max:.1%} at most; p = {self.p_value:.2g}"
            )
        return "\n".join([*lines, *(f"note: {note}" for note in self.notes)])


@renamed(samples="n_prompts", controls="n_controls", subspace="plane", heads="head")
def patch(
    model: Model | Experiment,
    domain: Domain | str | None = None,
    *,
    site: Site | str,
    ks: int | Sequence[int] | None = None,
    plane: Float[Tensor, "d *r"] | np.ndarray | None = None,
    dims: Dims | None = None,
    head: Dims | None = None,
    position: str = "value",
    task: str | None = None,
    n_prompts: int | None = None,
    cycles: int = 1,
    n_controls: int = N_CONTROLS,
    seed: int = 0,
) -> PatchResult:
    """Patch coordinates at ``site`` from a donor prompt that asks about another value, at the token of
    ``position``.

    The coordinates: the planes of harmonics ``ks``, a ``plane`` or any subspace ([d] or [d, r]), ``dims``,
    one whole ``head`` or several (sites with heads), or, with none of these, the whole activation (no
    controls then). ``position``: ``"value"`` (the value's last token) or ``"last"`` (the prompt's last
    token). ``task``: one of the domain's tasks by name (None: the best one that the model answers).
    ``n_prompts``: as many prompts, balanced over the answers.

    Raises ``OutOfRange``, ``UnknownSite``, ``UsageError``, ``NotExpressible``,
    ``InterventionChangedNothing``.
    """
    if sum(part is not None for part in (ks, plane, dims, head)) > 1:
        raise UsageError("give one of ks, plane, dims and head, or none for the whole activation")
    check_count(n_controls)
    asked = Experiment.of(model, domain, task=task, cycles=cycles, n_prompts=n_prompts, seed=seed)
    place = asked.at(site, position)
    part = _part(asked.model, place, harmonics(ks), plane, dims, head)
    return patched(asked, place, part, n_controls=n_controls)


class Coordinates(NamedTuple):
    """``basis`` [d, r] of what is patched (None for the whole activation), in words, and whether it is single
    dimensions."""

    basis: Tensor | None
    what: str
    single: bool = False


def _part(
    model: Model,
    place: SiteActivations,
    ks: tuple[int, ...] | None,
    plane: Any,
    dims: Dims | None,
    head: Dims | None,
) -> Coordinates:
    d = len(place.centre)
    if ks is not None:
        turn = harmonic_subspace(place.means, ks)
        return Coordinates(turn.basis, f"the circle {turn.words}")
    if plane is not None:
        basis = orthonormal(plane, place.site, d)
        return Coordinates(basis, f"a subspace of rank {basis.shape[1]}")
    if head is not None:
        heads = [head] if isinstance(head, int) else list(head)
        return Coordinates(
            one_hot(head_dims(model, place.site, heads, d), d), f"head {', '.join(map(str, heads))}", True
        )
    if dims is not None:
        chosen = listed_dims(dims, place.site, d)
        return Coordinates(one_hot(chosen, d), f"dimensions {', '.join(map(str, chosen[:6].tolist()))}", True)
    return Coordinates(None, "everything")


def patched(
    asked: Experiment,
    place: SiteActivations,
    part: Coordinates,
    *,
    n_controls: int = N_CONTROLS,
    control_prompts: int | None = None,
) -> PatchResult:
    """``patch`` with everything looked up; the controls run on at most ``control_prompts`` prompts."""
    pairs, seed, certificate = asked.pairs(place), asked.seed, certified(asked, place)
    every = torch.arange(len(asked))
    after = asked.engine.scores(_patches(place, pairs, every, part.basis), "patches")
    base, top = pairs.difference(pairs.before.scores), pairs.difference(pairs.donor_scores)
    gain, gap = pairs.difference(after) - base, bootstrap_mean(top - base, seed=seed)
    span = top - base if gap[0] > 0 or gap[1] < 0 else None
    few = min(bounded(asked.model, asked.task, max(n_controls, 1)), control_prompts or len(asked))
    against = _controls(asked, place, part, pairs, gain, span, n_controls, few)
    return PatchResult(
        **asked.about(place.position),
        site=str(place.site),
        position=place.position,
        what=part.what,
        rank=len(place.centre) if part.basis is None else part.basis.shape[1],
        outcome=pairs.before.outcome,
        n_prompts=len(asked),
        success=float(pairs.success(after).double().mean()),
        success_before=float(pairs.success(pairs.before.scores).double().mean()),
        difference=float((base + gain).double().mean()),
        difference_before=float(base.double().mean()),
        difference_donor=float(top.double().mean()),
        recovered=None if span is None else ratio(gain, span),
        recovered_ci=None if span is None else ratio_interval(gain, span, seed=seed),
        **against,
        notes=tuple(_notes(asked, against["control_variance_ratio"])),
        gap_ci=gap,
        certificate=certificate,
    )


def _patches(
    place: SiteActivations,
    pairs: Pairs,
    prompt: Int[Tensor, " row"],
    basis: Float[Tensor, "*row d r"] | None,
    which: Int[Tensor, " row"] | None = None,
) -> EditedRows:
    """These prompts with the coordinates of their donors: in ``basis``, in ``basis[which[row]]``, or
    everything."""
    at = place.at[prompt]

    def edit_of(rows: Int[Tensor, " row"]) -> Edit:
        own = basis if basis is None or which is None else basis[which[rows]]
        return edit_patch(place.site, pairs.donors[prompt[rows]], subspace=own, positions=at[rows])

    width = 1 if basis is None else basis.shape[-2] * basis.shape[-1]
    return EditedRows(place.site, prompt, edit_of, at, width=width)


def _controls(
    asked: Experiment,
    place: SiteActivations,
    part: Coordinates,
    pairs: Pairs,
    gain: Float[Tensor, " prompt"],
    span: Float[Tensor, " prompt"] | None,
    count: int,
    few: int,
) -> dict[str, Any]:
    """The same patch of random subspaces (or other dimensions): shares of ``span``, or p on the plain rise
    without one."""
    if count == 0 or part.basis is None:
        none = dict.fromkeys(["paired_recovered", "random_recovered", "random_max", "p_value"])
        return dict(
            **none, n_controls=0, n_control_prompts=0, control_recovered=(), control_variance_ratio=None
        )
    found = matched_controls(part.basis, place.moments, dims=part.single, count=count, seed=asked.seed)
    chosen = balanced_sample(asked.task.label, few, seed=asked.seed)
    prompt, which = chosen.repeat(count), torch.arange(count).repeat_interleave(len(chosen))
    scores = asked.engine.scores(_patches(place, pairs, prompt, found.bases, which), "random subspaces")
    label, answer = pairs.before.label[prompt], pairs.answer[prompt]
    after = scores.gather(1, answer[:, None])[:, 0] - scores.gather(1, label[:, None])[:, 0]
    base = pairs.difference(pairs.before.scores)[prompt]
    rises = (after - base).double().reshape(count, len(chosen)).mean(dim=1)
    # of all prompts: the few of the controls may hardly differ from their donors
    whole = 0.0 if span is None else float(span.double().mean())
    defined = span is not None
    shares, own = (values / (whole if defined else 1.0) for values in (rises, gain[chosen].double().mean()))
    return dict(
        paired_recovered=float(own) if defined else None,
        random_recovered=float(shares.mean()) if defined else None,
        random_max=float(shares.max()) if defined else None,
        p_value=permutation_p(float(own), shares),
        n_controls=count,
        n_control_prompts=len(chosen),
        control_recovered=tuple(shares.tolist()) if defined else (),
        control_variance_ratio=found.variance_ratio,
    )


def _notes(asked: Experiment, variance_ratio: float | None) -> list[str]:
    notes = asked.notes()
    if variance_ratio is not None and not 0.5 <= variance_ratio <= 2.0:
        notes.append(
            f"the random subspaces are no close match: their median variance is {variance_ratio:.2g} times "
            "the patched one's"
        )
    return notes
