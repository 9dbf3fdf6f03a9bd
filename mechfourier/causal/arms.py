"""The causal arms of Engels et al. 2024 (arXiv 2405.14860, "Not All Language Model Features Are Linear",
section 5) in one call.

They ask of a circle whether it is enough (patch it alone) and whether it is needed (take it out, or leave
nothing else). Everything is relative to the mean activation: "zero" takes the component relative to the mean
out.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float, Int
from scipy.linalg import null_space
from torch import Tensor

from mechfourier._renamed import renamed
from mechfourier.causal.edits import EditedRows
from mechfourier.causal.experiment import Experiment, Pairs, SiteActivations
from mechfourier.causal.subspaces import HarmonicSubspace, chosen_subspace
from mechfourier.domains.definition import Domain
from mechfourier.domains.reads import TokensRead
from mechfourier.domains.task_spec import NATIVE
from mechfourier.hooks.edit import Edit
from mechfourier.hooks.interventions import edit_mean, edit_patch
from mechfourier.hooks.site import Site
from mechfourier.models.interface import Model
from mechfourier.results.base import Result
from mechfourier.stats.paired import bootstrap_mean

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Arm:
    """``donor``: share of prompts that take the donor's answer; ``own``: share that keep their own right
    answer; ``difference``: score of the donor's answer minus that of the own one, with its 95 % bootstrap
    interval."""

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
    tokens: TokensRead | None = None

    def frame(self) -> "pd.DataFrame":
        """One row per arm."""
        import pandas as pd

        columns = ["arm", "donor's answer", "own answer", "difference", "low", "high"]
        rows = [(arm.name, arm.donor, arm.own, arm.difference, *arm.difference_ci) for arm in self.arms]
        return pd.DataFrame(rows, columns=columns)

    def __str__(self) -> str:
        head = (
            f"arms of the circle k = {', '.join(map(str, self.ks))} at {self.site} ({self.position} token) "
            "of "
            f"{self.model}, "
            f"{self.domain}, task {self.task} ({self.n_prompts} prompts)"
        )
        table = self.frame().to_string(index=False, float_format=lambda v: f"{v:.3g}")
        return "\n".join([head, table, *(f"note: {note}" for note in self.notes)])


@renamed(samples="n_prompts")
def arms(
    model: Model | Experiment,
    domain: Domain | str | None = None,
    *,
    site: Site | str,
    k: int | None = None,
    ks: Sequence[int] | None = None,
    position: str = "value",
    task: str | None = None,
    n_prompts: int | None = None,
    cycles: int = 1,
    seed: int = 0,
) -> ArmsResult:
    """Before; patch the circle, as many principal components, everything; average-ablate; zero the circle,
    and all but it.

    Donors differ in the value asked about. The circle is the planes of ``k`` or ``ks`` (without: as in
    ``rotate``); the principal components are those of the class means. ``task``: as in ``rotate``. Raises
    what ``rotate`` and ``patch`` raise.
    """
    asked = Experiment.of(model, domain, task=task, cycles=cycles, n_prompts=n_prompts, seed=seed)
    place = asked.at(site, position)
    return compared_arms(asked, place, chosen_subspace(place.means, place.site, k if ks is None else ks))


def compared_arms(asked: Experiment, place: SiteActivations, turn: HarmonicSubspace) -> ArmsResult:
    """``arms`` with everything looked up."""
    pairs, seed = asked.pairs(place), asked.seed
    measured = [_arm("before", pairs, pairs.before.scores, seed)]
    for name, edit_of in _edits(place, turn, pairs).items():
        rows = EditedRows(
            place.site, torch.arange(len(asked)), edit_of, place.at, width=len(place.centre) ** 2
        )
        # an arm may have nothing to change (no variance outside the circle); that is a result here
        measured.append(_arm(name, pairs, asked.engine.scores(rows, name, must_change=False), seed))
    return ArmsResult(
        **asked.about(place.position),
        site=str(place.site),
        position=place.position,
        ks=turn.ks,
        rank=turn.basis.shape[1],
        outcome=pairs.before.outcome,
        n_prompts=len(asked),
        arms=tuple(measured),
        notes=tuple(asked.notes()),
    )


def _edits(
    place: SiteActivations, turn: HarmonicSubspace, pairs: Pairs
) -> dict[str, Callable[[Int[Tensor, " row"]], Edit]]:
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


def principal(place: SiteActivations, rank: int) -> Float[Tensor, "d r"]:
    """The leading principal components of the class means (all directions are orthonormal, also past their
    rank)."""
    centred = (place.means - place.centre).double()
    return torch.linalg.svd(centred.T, full_matrices=True)[0][:, :rank].float()


def complement(basis: Float[Tensor, "d r"]) -> Float[Tensor, "d rest"]:
    """An orthonormal basis of all that is orthogonal to ``basis``."""
    return torch.from_numpy(null_space(basis.double().numpy().T)).float()


def _arm(name: str, pairs: Pairs, scores: Float[Tensor, "prompt candidate"], seed: int) -> Arm:
    difference = pairs.difference(scores)
    return Arm(
        name,
        float(pairs.success(scores).double().mean()),
        float((scores.argmax(dim=1) == pairs.before.label).double().mean()),
        float(difference.double().mean()),
        bootstrap_mean(difference, seed=seed),
    )
