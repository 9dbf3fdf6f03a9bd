"""The causal arms of Engels et al. 2024 (arXiv 2405.14860, "Not All Language Model Features Are Linear", section 5) in one call.

They ask of a circle whether it is enough (patch it alone) and whether it is needed (take it out, or leave nothing else).
Everything is relative to the mean activation: "zero" takes the component relative to the mean out.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor

from mechfourier.causal.outcome import (
    AnswerTask,
    SimilarityTask,
    bootstrap_mean,
    chance_note,
    task_name,
    task_of,
)
from mechfourier.causal.patch import Pairs, pairs_of
from mechfourier.causal.reading import Reading, Turn, read
from mechfourier.causal.rotate import chosen_turn
from mechfourier.causal.rows import EditOf, run_rows
from mechfourier.domains.definition import Domain
from mechfourier.domains.definition import domain as find_domain
from mechfourier.domains.task_spec import NATIVE
from mechfourier.errors import InterventionChangedNothing
from mechfourier.hooks.interventions import edit_mean, edit_patch
from mechfourier.hooks.site import Site, model_name
from mechfourier.results.base import Result

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Arm:
    """``donor``: share of prompts that take the donor's answer; ``own``: share that keep their own right answer;
    ``difference``: score of the donor's answer minus that of the own one, with its 95 % bootstrap interval."""

    name: str
    donor: float
    own: float
    difference: float
    difference_ci: tuple[float, float]


@dataclass(frozen=True)
class ArmsResult(Result, kind="arms", figure="mechfourier.figures.causal:arms_figure"):
    """All arms at one site; ``rank`` is that of the circle and of the principal components."""

    model: str
    domain: str
    n: int
    site: str
    position: str
    ks: tuple[int, ...]
    rank: int
    outcome: str
    n_prompts: int
    arms: tuple[Arm, ...]
    notes: tuple[str, ...]
    seed: int
    task: str = NATIVE

    def frame(self) -> "pd.DataFrame":
        """One row per arm."""
        import pandas as pd

        return pd.DataFrame(
            [
                {
                    "arm": arm.name,
                    "donor's answer": arm.donor,
                    "own answer": arm.own,
                    "difference": arm.difference,
                    "low": arm.difference_ci[0],
                    "high": arm.difference_ci[1],
                }
                for arm in self.arms
            ]
        )

    def __str__(self) -> str:
        head = (
            f"arms of the circle k = {', '.join(map(str, self.ks))} at {self.site} ({self.position} token) of {self.model}, "
            f"{self.domain}, task {self.task} ({self.n_prompts} prompts)"
        )
        return "\n".join(
            [head, self.frame().to_string(index=False, float_format=lambda v: f"{v:.3g}")]
            + [f"note: {note}" for note in self.notes]
        )


def arms(
    model: Any,
    domain: Domain | str,
    *,
    site: Site | str,
    k: int | None = None,
    ks: tuple[int, ...] | None = None,
    position: str = "operand",
    task: str | None = None,
    samples: int | None = None,
    cycles: int = 1,
    seed: int = 0,
) -> ArmsResult:
    """Before; patch the circle, as many principal components, everything; average-ablate; zero the circle, and all but it.

    Donors differ in the first operand. The circle is the planes of ``k`` or ``ks`` (without: as in ``rotate``); the
    principal components are those of the class means. ``task``: as in ``rotate``. Raises what ``rotate`` and ``patch`` raise.
    """
    wanted = domain if isinstance(domain, Domain) else find_domain(domain)
    asked = task_of(model, wanted, task=task, cycles=cycles, samples=samples, seed=seed)
    place = read(model, asked, site, position)
    return arms_at(model, asked, place, chosen_turn(place, k, ks), seed=seed)


def arms_at(
    model: Any,
    task: AnswerTask | SimilarityTask,
    place: Reading,
    turn: Turn,
    *,
    pairs: Pairs | None = None,
    seed: int = 0,
) -> ArmsResult:
    """``arms`` with everything looked up (``pairs``: the donors, where they have been drawn)."""
    pairs = pairs_of(model, task, place, seed=seed) if pairs is None else pairs
    measured = [_arm("before", pairs, pairs.before.scores, seed)]
    for name, edit_of in _edits(place, turn, pairs).items():
        measured.append(_arm(name, pairs, _scores(model, task, place, pairs, edit_of), seed))
    notes = (*task.notes, chance_note(pairs.before, task.design.n_answers))
    return ArmsResult(
        model=model_name(model),
        domain=task.design.domain.name,
        n=task.design.n,
        site=str(place.site),
        position=place.position,
        ks=turn.ks,
        rank=turn.basis.shape[1],
        outcome=pairs.before.outcome,
        n_prompts=len(task.rows),
        arms=tuple(measured),
        notes=tuple(note for note in notes if note),
        seed=seed,
        task=task_name(task),
    )


def _scores(
    model: Any, task: AnswerTask | SimilarityTask, place: Reading, pairs: Pairs, edit_of: EditOf
) -> Float[Tensor, "prompt candidate"]:
    prompts = torch.arange(len(task.rows))
    try:
        return run_rows(model, task, prompts, edit_of, width=len(place.centre) ** 2, at=place.at)
    except InterventionChangedNothing:
        # an arm may have nothing to change (no variance outside the circle); that is a result here
        return pairs.before.scores


def _edits(place: Reading, turn: Turn, pairs: Pairs) -> dict[str, EditOf]:
    site, mean, at, donors = place.site, place.centre, place.at, pairs.donors
    components, others = principal(place, turn.basis.shape[1]), complement(turn.basis)
    return {
        "patch circle": lambda r: edit_patch(site, donors[r], subspace=turn.basis, positions=at[r]),
        "patch PCA": lambda r: edit_patch(site, donors[r], subspace=components, positions=at[r]),
        "patch all": lambda r: edit_patch(site, donors[r], positions=at[r]),
        "average-ablate": lambda r: edit_mean(site, mean, positions=at[r]),
        "zero circle": lambda r: edit_mean(site, mean, subspace=turn.basis, positions=at[r]),
        "zero all but circle": lambda r: edit_mean(site, mean, subspace=others, positions=at[r]),
    }


def principal(place: Reading, rank: int) -> Float[Tensor, "d r"]:
    """The leading principal components of the class means (all directions are orthonormal, also past their rank)."""
    centred = (place.means - place.centre).double()
    return torch.linalg.svd(centred.T, full_matrices=True)[0][:, :rank].float()


def complement(basis: Float[Tensor, "d r"]) -> Float[Tensor, "d rest"]:
    """An orthonormal basis of all that is orthogonal to ``basis``."""
    return torch.linalg.svd(basis.double(), full_matrices=True)[0][:, basis.shape[1] :].float()


def _arm(name: str, pairs: Pairs, scores: Float[Tensor, "prompt candidate"], seed: int) -> Arm:
    difference = pairs.difference(scores)
    return Arm(
        name,
        float(pairs.success(scores).double().mean()),
        float((scores.argmax(dim=1) == pairs.before.label).double().mean()),
        float(difference.double().mean()),
        bootstrap_mean(difference, seed=seed),
    )
