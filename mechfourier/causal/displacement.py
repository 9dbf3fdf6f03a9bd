"""Displacements between class means: what turning a whole token, or one circle of it, by δ steps adds.

A prompt of class c is given mean(c + δ) − mean(c), or the part of it that some harmonics hold: the activation
keeps all that the class means do not say. The parts of all harmonics add up to the whole.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mechfourier.causal.edits import EditedRows
from mechfourier.causal.experiment import SiteActivations
from mechfourier.fourier.bases import fourier_basis, frequency_rows
from mechfourier.hooks.edit import Edit, Where
from mechfourier.hooks.interventions import edit_add

KEPT_RANK = 1e-6  # singular values below this share of the largest are rounding


@dataclass(frozen=True, eq=False)
class Part:
    """A part of the class means: ``points[c]`` is that of class c, relative to the mean of all."""

    points: Float[Tensor, "n d"]

    def steps(self, label: Int[Tensor, " row"], delta: Int[Tensor, " row"]) -> Float[Tensor, "row d"]:
        """What moving these classes by ``delta`` steps round the values adds."""
        return self.points[(label + delta) % len(self.points)] - self.points[label]

    @property
    def basis(self) -> Float[Tensor, "d r"]:
        """An orthonormal basis of the span of the points."""
        left, size, _ = torch.linalg.svd(self.points.double().T, full_matrices=False)
        return left[:, size > KEPT_RANK * size.max().clamp(min=1e-30)].float()


def whole_part(means: Float[Tensor, "n d"]) -> Part:
    """Everything that the class means say."""
    return Part((means.double() - means.double().mean(dim=0)).float())


def harmonic_part(means: Float[Tensor, "n d"], ks: Sequence[int]) -> Part:
    """What the harmonics ``ks`` of the class means say."""
    rows = torch.cat([fourier_basis(len(means))[frequency_rows(len(means), k)] for k in ks])
    return Part((rows.T @ (rows @ means.double())).float())


def circle_and_line(
    means: Float[Tensor, "n d"], ks: Sequence[int], others: Sequence[int] = ()
) -> tuple[Part, Part] | None:
    """The class means as the circle ``ks`` beside a line, fitted together with the harmonics ``others``: a
    circle that is passed over in the order of its values is not taken for a line, nor a line for the
    harmonics that a saw tooth has. None where the values are too few."""
    n, number = len(means), torch.arange(len(means)).double()
    if 2 * len(dict.fromkeys([*ks, *others])) + 2 >= n:
        others = ()
    rows = torch.cat([fourier_basis(n)[frequency_rows(n, k)] for k in dict.fromkeys([*ks, *others])])
    design = torch.cat([torch.ones(1, n, dtype=torch.float64), number[None], rows]).T
    if design.shape[1] >= n:
        return None
    fitted = torch.linalg.lstsq(design, means.double()).solution
    line, own = (number - number.mean())[:, None] * fitted[1], 2 * len(ks)
    circle = rows[:own].T @ fitted[2 : 2 + own]
    return Part(circle.float()), Part(line.float())


def moved_rows(
    place: SiteActivations, prompt: Int[Tensor, " row"], steps: Float[Tensor, "row d"]
) -> EditedRows:
    """These prompts, each with its own step at the token of ``place``."""
    at = place.at[prompt]

    def edit_of(rows: Int[Tensor, " row"]) -> Edit:
        return edit_add(place.site, steps[rows], positions=at[rows])

    return EditedRows(place.site, prompt, edit_of, at, width=steps.shape[1])


def changed_rows(
    place: SiteActivations, edits: Sequence[tuple[Int[Tensor, " _"], Float[Tensor, "_ d"], float]]
) -> EditedRows:
    """Edits of several kinds in one run: of each the prompts, what their activation is set to or moved by, and
    the part of the old one that stays (1: moved; 0: set)."""
    prompt, vectors = torch.cat([edit[0] for edit in edits]), torch.cat([edit[1] for edit in edits])
    stays = torch.cat([torch.full((len(some), 1, 1), keep) for some, _, keep in edits])
    at = place.at[prompt]

    def edit_of(rows: Int[Tensor, " row"]) -> Edit:
        new, part = vectors[rows][:, None], stays[rows]

        def change(old: Float[Tensor, "row pos d"], which: Int[Tensor, " row"]) -> Float[Tensor, "row pos d"]:
            return part.to(old)[which] * old + new.to(old)[which]

        return Edit("move or set", Where(place.site, positions=at[rows]), change)

    return EditedRows(place.site, prompt, edit_of, at, width=vectors.shape[1])


def moved_rows_in(
    place: SiteActivations,
    prompt: Int[Tensor, " row"],
    coordinates: Float[Tensor, "row r"],
    bases: Float[Tensor, "which d r"],
    which: Int[Tensor, " row"],
) -> EditedRows:
    """The same with steps of equal length in other subspaces: ``coordinates`` in ``bases[which]``."""
    at = place.at[prompt]

    def edit_of(rows: Int[Tensor, " row"]) -> Edit:
        steps = torch.einsum("br,bdr->bd", coordinates[rows], bases[which[rows]])
        return edit_add(place.site, steps, positions=at[rows])

    return EditedRows(place.site, prompt, edit_of, at, width=bases.shape[1] * bases.shape[2])


def random_bases(target: Float[Tensor, "d r"], count: int, *, seed: int) -> Float[Tensor, "count d r"]:
    """Random subspaces of the same rank, orthogonal to ``target``."""
    d, rank = target.shape
    draws = torch.randn(count, d, rank, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    own = torch.linalg.qr(target.double()).Q
    if d >= 2 * rank:
        draws = draws - own @ (own.T @ draws)
    return torch.linalg.qr(draws).Q.float()
