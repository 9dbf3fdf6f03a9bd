"""The planes of a circle at one place of a model, to be used elsewhere: as arrays, as an edit, as a
TransformerLens hook."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from einops import einsum, rearrange
from jaxtyping import Float, Int
from torch import Tensor

from mechfourier.causal.experiment import Experiment, SiteActivations
from mechfourier.causal.screen import Candidate, candidates_at, choose
from mechfourier.causal.subspaces import HarmonicSubspace, chosen_subspace
from mechfourier.domains.definition import Domain
from mechfourier.domains.sampling import balanced_sample
from mechfourier.errors import OutOfRange, UnknownSite
from mechfourier.fourier.waves import harmonic_waves, waves
from mechfourier.hooks.edit import Edit, Positions, Where
from mechfourier.hooks.site import Site, select_sites
from mechfourier.models.interface import Model

SCREEN = 48  # prompts that choose a place, at most a quarter of them all


@dataclass(frozen=True, eq=False)
class Plane:
    """The planes of harmonics at ``site`` for the ``n`` values of ``domain``, about ``centre``.

    ``turn`` holds them with the ellipse of each harmonic. Only for the model that it was fitted on.
    """

    model: str
    domain: str
    site: Site
    position: str
    n: int
    turn: HarmonicSubspace
    centre: Float[Tensor, " d"]

    @property
    def ks(self) -> tuple[int, ...]:
        """The harmonics."""
        return self.turn.ks

    def arrays(self) -> dict[int, Float[np.ndarray, "d 2"]]:
        """An orthonormal basis ``[d, 2]`` of every harmonic's plane; the first column points at value 0."""
        images = (self.turn.basis @ self.turn.shape).double()
        pairs = rearrange(images, "d (k two) -> k d two", two=2)
        found = {}
        for k, pair in zip(self.ks, pairs, strict=True):
            basis, upper = torch.linalg.qr(pair)
            found[k] = (basis * upper.diagonal().sign()).numpy()
        return found

    def edit(self, steps: float | Float[Tensor, " prompt"], positions: Positions | None = None) -> Edit:
        """Turn by ``steps`` values (fractions too; one number, or one per prompt) at ``positions`` (None:
        every token)."""
        turns = torch.as_tensor(steps, dtype=torch.float64)
        maps = maps_at(self.turn, self.n, turns.reshape(-1))

        def change(old: Float[Tensor, "row pos d"], rows: Int[Tensor, " row"]) -> Float[Tensor, "row pos d"]:
            chosen = maps[rows.cpu()] if turns.ndim else maps.expand(len(old), -1, -1)
            seen = (old - self.centre.to(old)) @ self.turn.basis.to(old)
            step = einsum(chosen.to(old), seen, "row i j, row pos j -> row pos i") - seen
            return old + step @ self.turn.basis.T.to(old)

        return Edit("rotate", Where(self.site, positions=positions), change)

    def rotate_hook(
        self, steps: float, positions: Positions | None = None
    ) -> tuple[str, Callable[..., Tensor]]:
        """The turn by ``steps`` values as ``(name, function)`` for TransformerLens:
        ``model.run_with_hooks(tokens, fwd_hooks=[plane.rotate_hook(2)])``."""
        edit = self.edit(steps, positions)

        def function(value: Tensor, hook: Any = None) -> Tensor:
            del hook
            return edit.apply(value, torch.arange(len(value)))

        return str(self.site), function


def plane(
    model: Model | Experiment,
    domain: Domain | str | None = None,
    *,
    site: Site | str,
    k: int | Sequence[int] | None = None,
    position: str = "value",
    task: str | None = None,
    seed: int = 0,
) -> Plane:
    """The planes of harmonics ``k`` (None: those that stand out) of the class means at ``site``, as
    ``rotate`` turns them. Raises what ``rotate`` raises."""
    asked = Experiment.of(model, domain, task=task, seed=seed)
    at = asked.at(site, position)
    return plane_at(asked, at, chosen_subspace(at.means, at.site, k))


def plane_at(asked: Experiment, at: SiteActivations, turn: HarmonicSubspace) -> Plane:
    """``plane`` with everything looked up."""
    about = asked.about(at.position)
    return Plane(about["model"], about["domain"], at.site, at.position, len(at.means), turn, at.centre)


def maps_at(turn: HarmonicSubspace, n: int, steps: Float[Tensor, " row"]) -> Float[Tensor, "row r r"]:
    """What turning by ``steps`` values does to coordinates: ``turn.maps`` at fractions of a step."""
    turns = steps.double()[:, None] * torch.tensor(turn.ks).double() / n
    cos, sin = waves(turns).unbind(-1)
    blocks = torch.stack([torch.stack([cos, -sin], -1), torch.stack([sin, cos], -1)], -2)
    eye = torch.eye(len(turn.ks), dtype=torch.float64)
    whole = rearrange(einsum(blocks, eye, "row k i j, k l -> row k i l j"), "row k i l j -> row (k i) (l j)")
    shape = turn.shape.double()
    return torch.linalg.solve(shape, shape @ whole, left=False).float()


def curve(
    means: Float[Tensor, "n d"], ks: Sequence[int], at: Float[Tensor, " row"]
) -> Float[Tensor, "row d"]:
    """The closed curve of harmonics ``ks`` through the class means, about their centre, at fractional values
    ``at``. With every harmonic up to n/2 it passes through all class means."""
    n = len(means)
    centred = means.double() - means.double().mean(0)
    share = torch.tensor([1.0 if 2 * k == n else 2.0 for k in ks], dtype=torch.float64) / n
    images = einsum(harmonic_waves(n, list(ks)), centred, share, "n k two, n d, k -> k two d")
    there = waves(at.double()[:, None] * torch.tensor(list(ks)).double() / n)
    return einsum(there, images, "row k two, k two d -> row d").float()


def stream_sites(model: Model) -> list[Site]:
    """The embedding, where it has a hook point, and every ``resid_post``."""
    found = list(select_sites(model, "resid_post"))
    try:
        return [*select_sites(model, "embed"), *found]
    except UnknownSite:
        return found


def split(asked: Experiment) -> tuple[Int[Tensor, " screened"], Experiment]:
    """Prompts that choose a place, and the experiment on the others."""
    count = len(asked)
    few = balanced_sample(asked.task.label, max(1, min(SCREEN, count // 4)), seed=asked.seed)
    others = torch.ones(count, dtype=torch.bool)
    others[few] = False
    return few, asked.subset(others.nonzero()[:, 0]) if count > 1 else asked


def find_place(
    asked: Experiment, position: str, ks: Sequence[int] | None
) -> tuple[Candidate, Experiment, tuple[str, ...]]:
    """The place where turns move the answer best, by the rule of ``study``, the experiment on the prompts
    that did not choose it, and what is to be said about it."""
    few, rest = split(asked)
    found = list(candidates_at(asked, few, stream_sites(asked.model), [position], ks))
    if not found:
        raise OutOfRange("no site has a usable harmonic plane; name one with site, or choose another domain")
    best = choose(found, asked.design.n)
    said = (
        f"{best.site} was chosen among {len(found)} sites on {len(few)} prompts "
        f"({best.moved:.0%} of their answers moved with the turn); all numbers are of the others"
    )
    return best, rest, (said,)
