"""Rotation: turn the plane of a harmonic, and see whether the answer turns with it.

If a model reads a value off a circle, turning the circle by 2πkδ/n is telling it another value, and its answer moves by
exactly δ. Nothing but a used circle does that for every δ: an ablation shows that a plane matters, a rotation what for.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from mechfourier.causal.controls import matched_controls
from mechfourier.causal.outcome import (
    AnswerTask,
    SimilarityTask,
    balanced_sample,
    bootstrap_mean,
    chance_note,
    task_name,
    task_of,
)
from mechfourier.causal.reading import Reading, Turn, given_turn, harmonic_turn, key_harmonics, read
from mechfourier.causal.rows import bounded, control_pairs, run_rows
from mechfourier.causal.tails import whole_pass_notes
from mechfourier.domains.answers import AnswerScores
from mechfourier.domains.definition import Domain
from mechfourier.domains.definition import domain as find_domain
from mechfourier.domains.task_spec import NATIVE
from mechfourier.errors import OutOfRange, UsageError
from mechfourier.hooks.edit import Edit, Where
from mechfourier.hooks.site import Site, model_name
from mechfourier.progress import progress
from mechfourier.results.base import Result

if TYPE_CHECKING:
    import pandas as pd

N_CONTROLS = 200


@dataclass(frozen=True)
class RotationResult(
    Result, kind="rotation", command="rotate", figure="mechfourier.figures.causal:rotation_figure"
):
    """What turning did. ``hits[δ][s]``: share of prompts whose answer moved by s when the planes turned by δ (row 0, no
    turn, is what the model answers anyway). ``exact_share``: share of prompts and δ = 1..n−1 that moved by exactly δ, with
    a 95 % bootstrap interval over prompts. ``random_share``: the mean of that share over ``n_controls`` random sets of planes of
    the same rank, orthogonal to these, in which every prompt is displaced by exactly as much; ``random_max`` the largest. They
    are turned on ``n_control_pairs`` of the pairs of a prompt (of ``n_control_prompts``) and a δ, drawn at random, and
    ``p_value`` compares them with the planes' share on the very same pairs (``paired_share``).
    ``power_share``: share of the power between classes at these harmonics. A move counts from the model's own answer, and "by
    δ" is by as much as the right answer moves when the value is another by δ steps: where the values are no cycle, back to
    the first after the last."""

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

    def frame(self) -> "pd.DataFrame":
        """One row per δ and observed shift."""
        import pandas as pd

        rows = [
            {"delta": delta, "shift": shift, "share": share}
            for delta, row in enumerate(self.hits)
            for shift, share in enumerate(row)
        ]
        return pd.DataFrame(rows)

    def __str__(self) -> str:
        low, high = self.exact_ci
        lines = [
            f"turning k = {', '.join(map(str, self.ks))} at {self.site} ({self.position} token) of {self.model}, "
            f"{self.domain}, task {self.task}: {self.exact_share:.1%} of {self.n_prompts} prompts × {len(self.hits) - 1} turns move the answer by "
            f"exactly δ (95 % {low:.1%} to {high:.1%}; a guess {1 / len(self.hits[0]):.1%})"
        ]
        if self.random_share is not None:
            lines.append(
                f"the same displacement in {self.n_controls} random planes, on {self.n_control_pairs} of these pairs of a prompt "
                f"and δ: {self.random_share:.1%} on average, {self.random_max:.1%} at most; the planes there: "
                f"{self.paired_share:.1%} (p = {self.p_value:.2g})"
            )
        return "\n".join([*lines, *(f"note: {note}" for note in self.notes)])


def rotate(
    model: Any,
    domain: Domain | str,
    *,
    site: Site | str,
    k: int | None = None,
    ks: Sequence[int] | None = None,
    plane: Float[Tensor, "d two"] | np.ndarray | None = None,
    position: str = "operand",
    task: str | None = None,
    samples: int | None = None,
    cycles: int = 1,
    controls: int = N_CONTROLS,
    seed: int = 0,
) -> RotationResult:
    """Turn the planes of harmonics ``ks`` (or the one of ``k``) at ``site`` by 2πkδ/n for every δ, all of them together.

    The planes are those of the class means at ``position``: the first operand's values at its last token (``"operand"``),
    or the answers at the prompt's last token (``"last"``); what turns is the component relative to the mean of the class
    means. Without ``k`` and ``ks``: every harmonic with more power than chance gives (`fourier.key_freqs`).
    ``plane`` [d, 2] is a plane of one's own, turned as harmonic ``k`` (default 1).
    ``task``: one of the domain's tasks by name (None: the best one that the model answers). ``samples``: as many prompts,
    balanced over the answers (None: all, or as many as a few minutes allow). ``controls``: random planes (0 for none).

    Raises ``OutOfRange`` (harmonic, samples, a plane of another width), ``UnknownSite``, ``UsageError``, ``NotExpressible``,
    ``InterventionChangedNothing``.
    """
    _check(k, ks, plane, controls)
    asked = task_of(model, _domain(domain), task=task, cycles=cycles, samples=samples, seed=seed)
    place = read(model, asked, site, position)
    turn = chosen_turn(place, k, ks, plane)
    return rotate_at(model, asked, place, turn, samples=samples, controls=controls, seed=seed)


def _domain(domain: Domain | str) -> Domain:
    return domain if isinstance(domain, Domain) else find_domain(domain)


def _check(k: int | None, ks: Sequence[int] | None, plane: Any, controls: int) -> None:
    if k is not None and ks is not None:
        raise UsageError("give k for one harmonic or ks for several, not both")
    if plane is not None and ks is not None:
        raise UsageError("a plane of your own turns as one harmonic: give k, not ks")
    if controls < 0:
        raise OutOfRange(f"controls is {controls}; give 0 for none, or {N_CONTROLS} and more")


def chosen_turn(place: Reading, k: int | None, ks: Sequence[int] | None, plane: Any = None) -> Turn:
    """The planes that a call asked for."""
    n = len(place.means)
    wanted = tuple(ks) if ks is not None else (k,) if k is not None else None
    for each in wanted or ():
        if not 1 <= each < n / 2:
            raise OutOfRange(
                f"harmonic k = {each} of {n} values has no plane; k runs from 1 to {(n - 1) // 2}"
            )
    if plane is not None:
        return given_turn(place.means, plane, k or 1, place.site)
    return harmonic_turn(place.means, wanted or key_harmonics(place.means))


def rotate_at(
    model: Any,
    task: AnswerTask | SimilarityTask,
    place: Reading,
    turn: Turn,
    *,
    samples: int | None = None,
    controls: int = N_CONTROLS,
    seed: int = 0,
) -> RotationResult:
    """``rotate`` with everything looked up."""
    n = len(place.means)
    count = bounded(model, task, n - 1) if samples is None else samples
    prompts = balanced_sample(task.label, min(count, len(task.rows)), seed=seed)
    before = task.score(model)
    start = before.scores.argmax(dim=1)
    delta = torch.arange(1, n).repeat_interleave(len(prompts))
    shifts = turned(model, task, place, turn, prompts.repeat(n - 1), delta, start).reshape(n - 1, -1)
    exact = shifts == torch.arange(1, n)[:, None]
    hits = torch.nn.functional.one_hot(shifts, task.design.n_answers).double().mean(dim=1)
    against = _controls(model, task, place, turn, prompts, start, exact, controls, seed)
    return RotationResult(
        model=model_name(model),
        domain=task.design.domain.name,
        n=n,
        unit=task.design.domain.unit,
        site=str(place.site),
        position=place.position,
        ks=turn.ks,
        power_share=float(place.shares[[k - 1 for k in turn.ks]].sum()),
        outcome=before.outcome,
        n_prompts=len(prompts),
        accuracy=before.accuracy,
        hits=((1.0, *[0.0] * (hits.shape[1] - 1)), *(tuple(row) for row in hits.tolist())),
        exact_share=float(exact.double().mean()),
        exact_ci=bootstrap_mean(exact.double().mean(dim=0), seed=seed),
        **against,
        notes=(*_notes(task, before, len(prompts), against), *whole_pass_notes(model)),
        seed=seed,
        task=task_name(task),
    )


def turned(
    model: Any,
    task: AnswerTask | SimilarityTask,
    place: Reading,
    turn: Turn,
    prompt: Int[Tensor, " row"],
    delta: Int[Tensor, " row"],
    start: Int[Tensor, " prompt"],
) -> Int[Tensor, " row"]:
    """By how much the answer of the task's prompt ``prompt[row]`` moves from ``start`` when the planes turn by ``delta[row]``:
    ``delta[row]`` where it moves by exactly as much as the right answer would."""
    scores = turned_scores(model, task, place, turn, prompt, delta)
    return moves(task, place, prompt, delta, start[prompt], scores.argmax(dim=1))


def turned_scores(
    model: Any,
    task: AnswerTask | SimilarityTask,
    place: Reading,
    turn: Turn,
    prompt: Int[Tensor, " row"],
    delta: Int[Tensor, " row"],
) -> Float[Tensor, "row candidate"]:
    """Scores of the prompts ``prompt[row]`` when the planes turn by ``delta[row]``, each row's up to a number of its own."""
    maps = turn.maps(len(place.means))

    def edit_of(rows: Tensor) -> Edit:
        return _edit(place, turn.basis, maps[delta[rows]], place.at[prompt[rows]])

    with progress("turns", total=len(prompt)) as bar:
        return run_rows(
            model,
            task,
            prompt,
            edit_of,
            width=turn.basis.numel(),
            at=place.at[prompt],
            advance=bar.advance,
        )


def moves(
    task: AnswerTask | SimilarityTask,
    place: Reading,
    prompt: Int[Tensor, " row"],
    delta: Int[Tensor, " row"],
    start: Int[Tensor, " row"],
    answer: Int[Tensor, " row"],
) -> Int[Tensor, " row"]:
    """The steps from the answers ``start`` to ``answer``, counted so that ``delta`` is what a turn by ``delta`` should do."""
    expected = expected_move(task, place, prompt, delta, start)
    return (delta + task.design.shift(answer - start) - expected) % task.design.n_answers


def expected_move(
    task: AnswerTask | SimilarityTask,
    place: Reading,
    prompt: Int[Tensor, " row"],
    delta: Int[Tensor, " row"],
    start: Int[Tensor, " row"],
) -> Int[Tensor, " row"]:
    """The steps from the answers ``start`` to those that turns by ``delta`` should give."""
    design = task.design
    if place.position == "operand":
        return design.moved(task.rows[prompt], delta)
    return design.shift((start + delta) % len(place.means) - start)


def _edit(
    place: Reading,
    basis: Float[Tensor, "*row d r"],
    maps: Float[Tensor, "row r r"],
    at: Int[Tensor, " row"],
) -> Edit:
    """Apply a linear map per row to the coordinates in ``basis``, about the centre."""
    where = Where(place.site, subspace=basis, positions=at)

    def change(old: Float[Tensor, "row pos r"], rows: Int[Tensor, " row"]) -> Float[Tensor, "row pos r"]:
        width = place.centre.shape[0]
        middle = where.read(place.centre.to(old).expand(len(old), 1, width), rows)
        return middle + torch.einsum("bij,bpj->bpi", maps.to(old)[rows.to(old.device)], old - middle)

    return Edit("rotate", where, change)


def _controls(
    model: Any,
    task: AnswerTask | SimilarityTask,
    place: Reading,
    turn: Turn,
    prompts: Tensor,
    start: Tensor,
    exact: Tensor,
    count: int,
    seed: int,
) -> dict[str, Any]:
    """The same turns of random planes, one δ per prompt; and the planes' own share on those prompts and δ."""
    few = min(len(prompts), bounded(model, task, max(count, 1)))
    picked, delta = control_pairs(len(prompts), len(place.means), few, seed)
    own = float(exact[delta - 1, picked].double().mean())
    nothing = dict(random_share=None, random_max=None, p_value=None, n_control_pairs=0)
    if count == 0:
        return nothing | dict(paired_share=own, n_controls=0, n_control_prompts=0, control_shares=())
    found = matched_controls(turn.basis, place.moments, dims=False, count=count, seed=seed)
    maps = turn.maps(len(place.means))[delta]
    which = torch.arange(count).repeat_interleave(len(picked))
    pair = torch.arange(len(picked)).repeat(count)
    prompt = prompts[picked][pair]

    def edit_of(rows: Tensor) -> Edit:
        return _elsewhere(place, turn, found.bases[which[rows]], maps[pair[rows]], place.at[prompt[rows]])

    with progress("random planes", total=len(prompt)) as bar:
        scores = run_rows(
            model, task, prompt, edit_of, width=turn.basis.numel(), at=place.at[prompt], advance=bar.advance
        )
    moved = moves(task, place, prompt, delta[pair], start[prompt], scores.argmax(dim=1))
    shares = (moved == delta[pair]).double().reshape(count, -1).mean(dim=1)
    return dict(
        paired_share=own,
        random_share=float(shares.mean()),
        random_max=float(shares.max()),
        p_value=(1 + int((shares >= own - 1e-12).sum())) / (count + 1),
        n_controls=count,
        n_control_prompts=len(picked.unique()),
        n_control_pairs=len(picked),
        control_shares=tuple(shares.tolist()),
    )


def _elsewhere(
    place: Reading,
    turn: Turn,
    bases: Float[Tensor, "row d r"],
    maps: Float[Tensor, "row r r"],
    at: Int[Tensor, " row"],
) -> Edit:
    """The displacement that a turn would make, made in other planes.

    No other plane has the variance of a circle that holds most of it, so equal planes are not matched but equal steps.
    """

    def change(old: Float[Tensor, "row pos d"], rows: Int[Tensor, " row"]) -> Float[Tensor, "row pos d"]:
        rows = rows.to(old.device)
        seen = (old - place.centre.to(old)) @ turn.basis.to(old)
        step = torch.einsum("bij,bpj->bpi", maps.to(old)[rows], seen) - seen
        return old + torch.einsum("bpi,bdi->bpd", step, bases.to(old)[rows])

    return Edit("displace", Where(place.site, positions=at), change)


def _notes(
    task: AnswerTask | SimilarityTask, before: AnswerScores, used: int, against: dict[str, Any]
) -> tuple[str, ...]:
    count = against["n_controls"]
    notes = [*task.notes, chance_note(before, task.design.n_answers)]
    if used < len(task.rows):
        notes.append(f"{used} of the {len(task.rows)} prompts were used, balanced over the answers")
    if count < N_CONTROLS:
        notes.append(
            f"only {count} random planes: p cannot fall below {1 / (count + 1):.2g}"
            if count
            else "no random planes were turned: the share has nothing to be compared with"
        )
    return tuple(note for note in notes if note)
