"""Rotation: turn the plane of a harmonic, and see whether the answer turns with it.

If a model reads a value off a circle, turning the circle by 2πkδ/n is telling it another value, and its
answer moves by exactly δ. Nothing but a used circle does that for every δ: an ablation shows that a plane
matters, a rotation what for.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from mechfourier._renamed import renamed
from mechfourier.causal.certify import certified
from mechfourier.causal.controls import N_CONTROLS, check_count, matched_controls
from mechfourier.causal.cost import bounded, fewer
from mechfourier.causal.edits import EditedRows
from mechfourier.causal.effects import Effects, effects_of, moves
from mechfourier.causal.experiment import Experiment, SiteActivations
from mechfourier.causal.result import Certificate
from mechfourier.causal.subspaces import HarmonicSubspace, chosen_subspace
from mechfourier.domains.definition import Domain
from mechfourier.domains.reads import TokensRead
from mechfourier.domains.sampling import balanced_sample
from mechfourier.domains.task_spec import NATIVE
from mechfourier.errors import UsageError
from mechfourier.hooks.edit import Edit, Where
from mechfourier.hooks.site import Site
from mechfourier.models.interface import Model
from mechfourier.results.base import Result
from mechfourier.stats.paired import bootstrap_mean
from mechfourier.stats.permutation import permutation_p

if TYPE_CHECKING:
    import pandas as pd

PAIRS = 36  # (prompt, δ) pairs that random planes are turned on, where there are as many


@dataclass(frozen=True)
class RotationResult(
    Result, kind="rotation", command="rotate", figure="mechfourier.figures.causal:rotation_figure"
):
    """What turning did. ``hits[δ][s]``: share of prompts whose answer moved by s when the planes turned by δ
    (row 0, no turn, is what the model answers anyway). ``exact_share``: share of prompts and δ = 1..n−1 that
    moved by exactly δ, with a 95 % bootstrap interval over prompts. ``random_share``: the mean of that share
    over ``n_controls`` random sets of planes of the same rank, orthogonal to these, in which every prompt is
    displaced by exactly as much; ``random_max`` the largest. They are turned on ``n_control_pairs`` of the
    pairs of a prompt (of ``n_control_prompts``) and a δ, drawn at random, on which the planes' own share is
    ``paired_share``. ``p_value``: how many of them reach ``paired_share``. ``directed``: by how much the score
    of the answer δ away rises over the mean of the other wrong answers (nats; cosine), with its interval;
    ``random_directed`` and ``directed_p`` are of the same random planes and pairs. ``power_share``: share of
    the power between classes at these harmonics. A move counts from the model's own answer, right or wrong,
    and "by δ" is by as much as the right answer moves when the value is another by δ steps: where the values
    are no cycle, back to the first after the last."""

    model: str
    domain: str
    n: int
    unit: str
    site: str
    position: str
    ks: tuple[int, ...]
    power_share: float
    outcome: str
    n_prompts: int
    accuracy: float
    hits: tuple[tuple[float, ...], ...]
    exact_share: float
    exact_ci: tuple[float, float]
    paired_share: float
    random_share: float | None
    random_max: float | None
    p_value: float | None
    n_controls: int
    n_control_prompts: int
    control_shares: tuple[float, ...]
    notes: tuple[str, ...]
    seed: int
    n_control_pairs: int = 0
    task: str = NATIVE
    tokens: TokensRead | None = None
    directed: float | None = None
    directed_ci: tuple[float, float] | None = None
    random_directed: float | None = None
    directed_p: float | None = None
    certificate: Certificate | None = None

    def frame(self) -> "pd.DataFrame":
        """One row per δ and observed shift."""
        import pandas as pd

        rows = [
            (delta, shift, share) for delta, row in enumerate(self.hits) for shift, share in enumerate(row)
        ]
        return pd.DataFrame(rows, columns=["delta", "shift", "share"])

    def __str__(self) -> str:
        low, high = self.exact_ci
        lines = [
            f"turning k = {', '.join(map(str, self.ks))} at {self.site} ({self.position} token) of "
            f"{self.model}, {self.domain}, task {self.task}: {self.exact_share:.1%} of {self.n_prompts} "
            f"prompts × {len(self.hits) - 1} turns move the answer by exactly δ (95 % {low:.1%} to "
            f"{high:.1%}; a guess {1 / len(self.hits[0]):.1%})"
        ]
        if self.random_share is not None:
            lines.append(
                f"the same displacement in {self.n_controls} random planes, on {self.n_control_pairs} of "
                f"these pairs of a prompt and δ: {self.random_share:.1%} on average, {self.random_max:.1%} at "
                f"most; these planes on the same pairs {self.paired_share:.1%} (p = {self.p_value:.2g})"
            )
        if self.directed is not None and self.directed_ci is not None:
            lines.append(self.direction())
        return "\n".join([*lines, *(f"note: {note}" for note in self.notes)])

    def direction(self) -> str:
        """How much the answers rise that the turns should give, in words."""
        unit = "nats" if self.outcome == "log-probability" else "of cosine"
        low, high = self.directed_ci or (float("nan"), float("nan"))
        against = ""
        if self.random_directed is not None:
            against = f"; in random planes {self.random_directed:+.2g} (p = {self.directed_p:.2g})"
        return (
            f"the answer δ away rises by {self.directed:+.2g} {unit} over the other wrong answers "
            f"(95 % {low:+.2g} to {high:+.2g}){against}"
        )


@renamed(samples="n_prompts", controls="n_controls")
def rotate(
    model: Model | Experiment,
    domain: Domain | str | None = None,
    *,
    site: Site | str,
    k: int | None = None,
    ks: Sequence[int] | None = None,
    plane: Float[Tensor, "d two"] | np.ndarray | None = None,
    position: str = "value",
    task: str | None = None,
    n_prompts: int | None = None,
    cycles: int = 1,
    n_controls: int = N_CONTROLS,
    seed: int = 0,
) -> RotationResult:
    """Turn the planes of harmonics ``ks`` (or the one of ``k``) at ``site`` by 2πkδ/n for every δ, all of
    them together.

    The planes are those of the class means at ``position``: the values asked about at their last token
    (``"value"``), or the answers at the prompt's last token (``"last"``); what turns is the component
    relative to the mean of the class means. Without ``k`` and ``ks``: every harmonic with more power than
    chance gives (`fourier.key_freqs`). ``plane`` [d, 2] is a plane of one's own, turned as harmonic ``k``
    (default 1). ``task``: one of the domain's tasks by name (None: the best one that the model answers).
    ``n_prompts``: as many prompts, balanced over the answers (None: all, or as many as a few minutes allow).
    ``n_controls``: random planes (0 for none).

    Raises ``OutOfRange`` (harmonic, prompts, a plane of another width), ``UnknownSite``, ``UsageError``,
    ``NotExpressible``, ``InterventionChangedNothing``.
    """
    if k is not None and ks is not None:
        raise UsageError("give k for one harmonic or ks for several, not both")
    if plane is not None and ks is not None:
        raise UsageError("a plane of your own turns as one harmonic: give k, not ks")
    check_count(n_controls)
    asked = Experiment.of(model, domain, task=task, cycles=cycles, n_prompts=n_prompts, seed=seed)
    place = asked.at(site, position)
    turn = chosen_subspace(place.means, place.site, k if ks is None else ks, plane)
    return rotation(asked, place, turn, every=n_prompts is not None, n_controls=n_controls)


def rotation(
    asked: Experiment,
    place: SiteActivations,
    turn: HarmonicSubspace,
    *,
    every: bool = False,
    n_controls: int = N_CONTROLS,
) -> RotationResult:
    """``rotate`` with everything looked up; ``every`` prompt of the task, however long that takes."""
    n, task, seed = len(place.means), asked.task, asked.seed
    certificate = certified(asked, place, turn)
    count = len(asked) if every else bounded(asked.model, task, n - 1)
    prompts = balanced_sample(task.label, count, seed=seed)
    start = asked.baseline.scores.argmax(dim=1)
    delta = torch.arange(1, n).repeat_interleave(len(prompts))
    rows = prompts.repeat(n - 1)
    scores = turned_scores(asked, place, turn, rows, delta)
    shifts = moves(asked, place, rows, delta, start[rows], scores.argmax(dim=1)).reshape(n - 1, -1)
    found = effects_of(asked, place, rows, delta, scores)
    exact, directed = found.moved.reshape(n - 1, -1), found.directed.reshape(n - 1, -1)
    hits = torch.nn.functional.one_hot(shifts, asked.design.n_answers).double().mean(dim=1)
    return RotationResult(
        **asked.about(place.position) | {"n": n},
        unit=asked.design.domain.unit,
        site=str(place.site),
        position=place.position,
        ks=turn.ks,
        power_share=place.power(turn.ks),
        outcome=asked.baseline.outcome,
        n_prompts=len(prompts),
        accuracy=asked.baseline.accuracy,
        hits=((1.0, *[0.0] * (hits.shape[1] - 1)), *(tuple(row) for row in hits.tolist())),
        exact_share=float(exact.double().mean()),
        exact_ci=bootstrap_mean(exact.double().mean(dim=0), seed=seed),
        directed=float(directed.mean()),
        directed_ci=bootstrap_mean(directed.mean(dim=0), seed=seed),
        certificate=certificate,
        **_controls(asked, place, turn, prompts, found, n_controls),
        notes=tuple(_notes(asked, len(prompts), n_controls)),
    )


def turned_scores(
    asked: Experiment,
    place: SiteActivations,
    turn: HarmonicSubspace,
    prompt: Int[Tensor, " row"],
    delta: Int[Tensor, " row"],
) -> Float[Tensor, "row candidate"]:
    """Scores of the prompts ``prompt[row]`` when the planes turn by ``delta[row]``, each row's up to a number
    of its own."""
    maps, at = turn.maps(len(place.means))[delta], place.at[prompt]

    def edit_of(rows: Int[Tensor, " row"]) -> Edit:
        return _displaced(place, turn, turn.basis, maps[rows], at[rows])

    return asked.engine.scores(EditedRows(place.site, prompt, edit_of, at, width=turn.basis.numel()), "turns")


def _displaced(
    place: SiteActivations,
    turn: HarmonicSubspace,
    bases: Float[Tensor, "*row d r"],
    maps: Float[Tensor, "row r r"],
    at: Int[Tensor, " row"],
) -> Edit:
    """The displacement that a turn makes, in its own planes or in ``bases`` [row, d, r].

    No other plane has the variance of a circle that holds most of it, so not equal planes are matched but
    equal steps.
    """

    def change(old: Float[Tensor, "row pos d"], rows: Int[Tensor, " row"]) -> Float[Tensor, "row pos d"]:
        rows = rows.to(old.device)
        seen = (old - place.centre.to(old)) @ turn.basis.to(old)
        step = torch.einsum("bij,bpj->bpi", maps.to(old)[rows], seen) - seen
        to = bases.to(old)
        return old + (step @ to.T if to.ndim == 2 else torch.einsum("bpi,bdi->bpd", step, to[rows]))

    return Edit("rotate", Where(place.site, positions=at), change)


def _controls(
    asked: Experiment,
    place: SiteActivations,
    turn: HarmonicSubspace,
    prompts: Int[Tensor, " prompt"],
    own: Effects,
    count: int,
) -> dict[str, Any]:
    """The same displacements in random planes, on some pairs of a prompt and a δ; and what the planes
    themselves do on those."""
    few = min(len(prompts), bounded(asked.model, asked.task, max(count, 1)))
    pairs = fewer(asked.model, asked.task, PAIRS)
    picked, delta = control_pairs(len(prompts), len(place.means), min(few, pairs), asked.seed, pairs)
    same = (delta - 1) * len(prompts) + picked
    share, directed = float(own.moved[same].double().mean()), float(own.directed[same].mean())
    if count == 0:
        none = dict.fromkeys(["random_share", "random_max", "p_value"])
        counts = dict.fromkeys(["n_controls", "n_control_prompts", "n_control_pairs"], 0)
        return dict(paired_share=share, control_shares=(), **none, **counts)
    planes = matched_controls(turn.basis, place.moments, dims=False, count=count, seed=asked.seed)
    maps = turn.maps(len(place.means))[delta]
    which = torch.arange(count).repeat_interleave(len(picked))
    pair = torch.arange(len(picked)).repeat(count)
    prompt = prompts[picked][pair]
    at = place.at[prompt]

    def edit_of(rows: Int[Tensor, " row"]) -> Edit:
        return _displaced(place, turn, planes.bases[which[rows]], maps[pair[rows]], at[rows])

    edited = EditedRows(place.site, prompt, edit_of, at, width=turn.basis.numel())
    found = effects_of(asked, place, prompt, delta[pair], asked.engine.scores(edited, "random planes"))
    shares, others = (each.double().reshape(count, -1).mean(dim=1) for each in (found.moved, found.directed))
    return dict(
        paired_share=share,
        random_share=float(shares.mean()),
        random_max=float(shares.max()),
        p_value=permutation_p(share, shares),
        random_directed=float(others.mean()),
        directed_p=permutation_p(directed, others),
        n_controls=count,
        n_control_prompts=len(picked.unique()),
        n_control_pairs=len(picked),
        control_shares=tuple(shares.tolist()),
    )


def control_pairs(
    prompts: int, n: int, few: int, seed: int, pairs: int = PAIRS
) -> tuple[Int[Tensor, " pair"], Int[Tensor, " pair"]]:
    """Prompts and turns δ for the random planes: one random δ for each of ``few`` prompts, and more pairs of
    those prompts where they are fewer than ``pairs``. No pair twice."""
    generator = torch.Generator().manual_seed(seed)
    picked = torch.randperm(prompts, generator=generator)[:few].sort().values
    delta = torch.randint(1, n, (few,), generator=generator)
    if few >= pairs or n < 3:
        return picked, delta
    free = torch.ones(few, n - 1, dtype=torch.bool)
    free[torch.arange(few), delta - 1] = False
    others = free.nonzero()
    more = others[torch.randperm(len(others), generator=generator)[: pairs - few]]
    return torch.cat([picked, picked[more[:, 0]]]), torch.cat([delta, more[:, 1] + 1])


def _notes(asked: Experiment, used: int, count: int) -> list[str]:
    notes = asked.notes()
    if used < len(asked):
        notes.append(f"{used} of the {len(asked)} prompts were used, balanced over the answers")
    if count == 0:
        notes.append("no random planes were turned: the share has nothing to be compared with")
    elif count < N_CONTROLS:
        notes.append(f"only {count} random planes: p cannot fall below {1 / (count + 1):.2g}")
    return notes
