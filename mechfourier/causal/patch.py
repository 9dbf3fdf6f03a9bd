"""Patching: give a prompt the activation of another that differs in the first operand only, and see which answer comes out.

A recipient (a, o) gets coordinates of its donor (a′, o). Where they carry what the model uses of a, the answer becomes
that of (a′, o). Activation patching: Vig et al. 2020; Heimersheim and Nanda 2024 on its pitfalls.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from mechfourier.causal.ablate import Dims, orthonormal
from mechfourier.causal.controls import matched_controls, one_hot
from mechfourier.causal.donors import Pairs, donor_rows, pairs_of
from mechfourier.causal.outcome import (
    RESAMPLES,
    AnswerTask,
    SimilarityTask,
    balanced_sample,
    bootstrap_mean,
    chance_note,
    task_name,
    task_of,
)
from mechfourier.causal.reading import Reading, harmonic_turn, read
from mechfourier.causal.rows import bounded, run_rows
from mechfourier.causal.tails import whole_pass_notes
from mechfourier.domains.definition import Domain
from mechfourier.domains.definition import domain as find_domain
from mechfourier.domains.task_spec import NATIVE
from mechfourier.errors import OutOfRange, UsageError
from mechfourier.hooks.edit import Edit
from mechfourier.hooks.interventions import edit_patch, intervene
from mechfourier.hooks.site import HEAD_KINDS, Site, model_name
from mechfourier.progress import progress
from mechfourier.results.base import Result

if TYPE_CHECKING:
    import pandas as pd

N_CONTROLS = 200
SMALL = 1e-9


@dataclass(frozen=True)
class PatchResult(Result, kind="patch", figure="mechfourier.figures.causal:patch_figure"):
    """What patching did. Donor difference: score of the donor's right answer minus that of the recipient's (nats; cosine for a
    model without logits). ``recovered``: (patched − recipient) / (donor − recipient) of its means, 1 where the patch does all
    that the whole donor prompt would, with a 95 % bootstrap interval over prompts; None where donor and recipient do not
    differ beyond noise (the 95 % interval of the mean of donor − recipient holds 0), so that there is nothing to divide by. ``success``: share of prompts whose best
    candidate is the donor's answer, ``success_before`` without a patch. ``random_recovered``: the mean over ``n_controls``
    subspaces of the same rank and like variance, orthogonal to the patched one; ``p_value`` is the share of them that recover
    at least as much (of the same prompts: ``paired_recovered``), or raise the difference at least as much where ``recovered`` is
    None. ``gap_ci``: the 95 % interval of the mean of donor − recipient."""

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

    def frame(self) -> "pd.DataFrame":
        """One row per condition: the recipient, the patch, the donor, and the random subspaces."""
        import pandas as pd

        rows = [
            {"condition": "recipient", "difference": self.difference_before, "recovered": 0.0},
            {"condition": f"patch {self.what}", "difference": self.difference, "recovered": self.recovered},
            {"condition": "donor", "difference": self.difference_donor, "recovered": 1.0},
        ]
        span = self.difference_donor - self.difference_before
        for value in self.control_recovered:
            rows.append(
                {
                    "condition": "random",
                    "difference": self.difference_before + value * span,
                    "recovered": value,
                }
            )
        return pd.DataFrame(rows)

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
            f"patching {self.what} at {self.site} ({self.position} token) of {self.model}, {self.domain}, task {self.task}: "
            f"{self.success:.1%} of {self.n_prompts} prompts take the donor's answer ({self.success_before:.1%} before); "
            f"{self.recovery()}"
        ]
        if self.random_recovered is not None:
            lines.append(
                f"{self.n_controls} random subspaces of like variance recover {self.random_recovered:.1%} on average, "
                f"{self.random_max:.1%} at most; p = {self.p_value:.2g}"
            )
        return "\n".join([*lines, *(f"note: {note}" for note in self.notes)])


def patch(
    model: Any,
    domain: Domain | str,
    *,
    site: Site | str,
    ks: int | Sequence[int] | None = None,
    subspace: Float[Tensor, "d *r"] | np.ndarray | None = None,
    dims: Dims | None = None,
    heads: Dims | None = None,
    position: str = "operand",
    task: str | None = None,
    samples: int | None = None,
    cycles: int = 1,
    controls: int = N_CONTROLS,
    seed: int = 0,
) -> PatchResult:
    """Patch coordinates at ``site`` from a donor prompt whose first operand is another, at the token of ``position``.

    The coordinates: the planes of harmonics ``ks``, a ``subspace`` ([d] or [d, r]), ``dims``, whole ``heads`` (sites with
    heads), or, with none of these, the whole activation (no controls then). ``position``: ``"operand"`` (the operand's
    last token) or ``"last"`` (the prompt's last token). ``task``: one of the domain's tasks by name (None: the best one that
    the model answers). ``samples``: as many prompts, balanced over the answers.

    Raises ``OutOfRange``, ``UnknownSite``, ``UsageError``, ``NotExpressible``, ``InterventionChangedNothing``.
    """
    if sum(part is not None for part in (ks, subspace, dims, heads)) > 1:
        raise UsageError("give one of ks, subspace, dims and heads, or none for the whole activation")
    if controls < 0:
        raise OutOfRange(f"controls is {controls}; give 0 for none, or {N_CONTROLS} and more")
    wanted = domain if isinstance(domain, Domain) else find_domain(domain)
    asked = task_of(model, wanted, task=task, cycles=cycles, samples=samples, seed=seed)
    place = read(model, asked, site, position)
    part = _part(model, place, ks, subspace, dims, heads)
    return patch_at(model, asked, place, part, controls=controls, seed=seed)


class Coordinates(NamedTuple):
    """``basis`` [d, r] of what is patched (None for the whole activation), in words, and whether it is single dimensions."""

    basis: Tensor | None
    what: str
    single: bool = False


def _part(
    model: Any, place: Reading, ks: Any, subspace: Any, dims: Dims | None, heads: Dims | None
) -> Coordinates:
    d = len(place.centre)
    if ks is not None:
        return plane_of(place, (ks,) if isinstance(ks, int) else tuple(ks))
    if subspace is not None:
        basis = orthonormal(torch.as_tensor(np.asarray(subspace), dtype=torch.float32), place.site, d)
        return Coordinates(basis, f"a subspace of rank {basis.shape[1]}")
    if heads is not None:
        return _heads(model, place, heads)
    if dims is not None:
        listed = _listed(dims, d, f"dimension {{}} of {place.site}")
        return Coordinates(
            one_hot(torch.tensor(listed), d), f"dimensions {', '.join(map(str, listed[:6]))}", True
        )
    return Coordinates(None, "everything")


def plane_of(place: Reading, ks: tuple[int, ...]) -> Coordinates:
    """The planes of these harmonics."""
    return Coordinates(harmonic_turn(place.means, ks).basis, f"the circle k = {', '.join(map(str, ks))}")


def _listed(numbers: Dims, size: int, what: str) -> list[int]:
    listed = [numbers] if isinstance(numbers, int) else [int(i) for i in numbers]
    if not listed or len(set(listed)) < len(listed):
        raise UsageError(f"{listed} must name at least one, and none twice")
    for i in listed:
        if not 0 <= i < size:
            raise OutOfRange(f"{what.format(i)}; it has {size} (0 to {size - 1})")
    return listed


def _heads(model: Any, place: Reading, heads: Dims) -> Coordinates:
    if place.site.kind not in HEAD_KINDS:
        raise UsageError(
            f"{place.site} has no heads; choose a site with heads, for example blocks.0.attn.hook_z"
        )
    d, per_head = len(place.centre), int(model.cfg.d_head)
    width = int(model.cfg.d_model) if place.site.kind == "result" else per_head
    listed = _listed(heads, d // width, f"head {{}} of {place.site}")
    index = torch.cat([torch.arange(h * width, (h + 1) * width) for h in listed])
    return Coordinates(one_hot(index, d), f"head {', '.join(map(str, listed))}", True)


def patch_at(
    model: Any,
    task: AnswerTask | SimilarityTask,
    place: Reading,
    part: Coordinates,
    *,
    controls: int = N_CONTROLS,
    control_samples: int | None = None,
    pairs: Pairs | None = None,
    seed: int = 0,
) -> PatchResult:
    """``patch`` with everything looked up; the controls run on at most ``control_samples`` prompts (``pairs``: the donors, where
    they have been drawn)."""
    pairs = pairs_of(model, task, place, seed=seed) if pairs is None else pairs
    edit = edit_patch(place.site, pairs.donors, subspace=part.basis, positions=place.at)
    with intervene(model, [edit]):
        after = task.score(model).scores
    base, top = pairs.difference(pairs.before.scores), pairs.difference(pairs.donor_scores)
    gain, gap = pairs.difference(after) - base, bootstrap_mean(top - base, seed=seed)
    defined = gap[0] > 0 or gap[1] < 0
    against = _controls(
        model,
        task,
        place,
        part,
        pairs,
        gain,
        top - base if defined else None,
        controls,
        control_samples,
        seed,
    )
    return PatchResult(
        model=model_name(model),
        domain=task.design.domain.name,
        n=task.design.n,
        site=str(place.site),
        position=place.position,
        what=part.what,
        rank=len(place.centre) if part.basis is None else part.basis.shape[1],
        outcome=pairs.before.outcome,
        n_prompts=len(task.rows),
        success=float(pairs.success(after).double().mean()),
        success_before=float(pairs.success(pairs.before.scores).double().mean()),
        difference=float((base + gain).double().mean()),
        difference_before=float(base.double().mean()),
        difference_donor=float(top.double().mean()),
        recovered=_ratio(gain, top - base) if defined else None,
        recovered_ci=ratio_interval(gain, top - base, seed=seed) if defined else None,
        **against,
        notes=(*_notes(task, pairs, against), *whole_pass_notes(model)),
        seed=seed,
        gap_ci=gap,
        task=task_name(task),
    )


def _ratio(gain: Tensor, span: Tensor) -> float:
    whole = float(span.double().mean())
    return float(gain.double().mean()) / whole if abs(whole) > 1e-9 else 0.0


def ratio_interval(
    gain: Float[Tensor, " prompt"], span: Float[Tensor, " prompt"], *, seed: int
) -> tuple[float, float]:
    """95 % percentile bootstrap interval of mean(gain) / mean(span), resampling prompts."""
    rng, above, below = np.random.default_rng(seed), gain.double().numpy(), span.double().numpy()
    draws = (rng.integers(len(above), size=len(above)) for _ in range(RESAMPLES))
    sums = np.array([(above[rows].sum(), below[rows].sum()) for rows in draws])
    ratio = sums[:, 0] / np.where(np.abs(sums[:, 1]) > 1e-9, sums[:, 1], np.inf)
    low, high = np.quantile(ratio, [0.025, 0.975])
    return float(low), float(high)


def _controls(
    model: Any,
    task: AnswerTask | SimilarityTask,
    place: Reading,
    part: Coordinates,
    pairs: Pairs,
    gain: Tensor,
    span: Tensor | None,
    count: int,
    most: int | None,
    seed: int,
) -> dict[str, Any]:
    """The same patch of random subspaces (or other dimensions): shares of ``span``, or p on the plain rise without one."""
    if count == 0 or part.basis is None:
        return dict(
            paired_recovered=None, random_recovered=None, random_max=None, p_value=None, n_controls=0,
            n_control_prompts=0, control_recovered=(), control_variance_ratio=None,
        )  # fmt: skip
    found = matched_controls(part.basis, place.moments, dims=part.single, count=count, seed=seed)
    few = bounded(model, task, count)
    chosen = balanced_sample(task.label, few if most is None else min(few, most), seed=seed)
    which = torch.arange(count).repeat_interleave(len(chosen))
    prompt = chosen.repeat(count)

    def edit_of(rows: Tensor) -> Edit:
        at = prompt[rows]
        return edit_patch(
            place.site, pairs.donors[at], subspace=found.bases[which[rows]], positions=place.at[at]
        )

    with progress("random subspaces", total=len(prompt)) as bar:
        scores = run_rows(
            model, task, prompt, edit_of, width=part.basis.numel(), at=place.at[prompt], advance=bar.advance
        )
    label, answer = pairs.before.label[prompt], pairs.answer[prompt]
    after = scores.gather(1, answer[:, None])[:, 0] - scores.gather(1, label[:, None])[:, 0]
    base = pairs.difference(pairs.before.scores)[prompt]
    rises = (after - base).double().reshape(count, len(chosen)).mean(dim=1)
    own, whole = (
        float(gain[chosen].double().mean()),
        1.0 if span is None else float(span[chosen].double().mean()),
    )
    if abs(whole) < SMALL:  # the few prompts of the controls may differ less than all do
        span = None
    shares = rises / whole if span is not None else rises
    own = own / whole if span is not None else own
    return dict(
        paired_recovered=None if span is None else own,
        random_recovered=None if span is None else float(shares.mean()),
        random_max=None if span is None else float(shares.max()),
        p_value=(1 + int((shares >= own - 1e-9).sum())) / (count + 1),
        n_controls=count,
        n_control_prompts=len(chosen),
        control_recovered=() if span is None else tuple(shares.tolist()),
        control_variance_ratio=found.variance_ratio,
    )


def _notes(task: AnswerTask | SimilarityTask, pairs: Pairs, against: dict[str, Any]) -> tuple[str, ...]:
    ratio = against["control_variance_ratio"]
    notes = [*task.notes, chance_note(pairs.before, task.design.n_answers)]
    if ratio is not None and not 0.5 <= ratio <= 2.0:
        notes.append(
            f"the random subspaces are no close match: their median variance is {ratio:.2g} times the patched one's"
        )
    return tuple(note for note in notes if note)


__all__ = [
    "Coordinates",
    "PatchResult",
    "Pairs",
    "donor_rows",
    "pairs_of",
    "patch",
    "patch_at",
    "plane_of",
    "ratio_interval",
]
