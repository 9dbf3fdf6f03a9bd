"""Where the planes of a circle are in a model, and what turning in them by any fraction of a step does."""

import contextlib
from collections.abc import Sequence

import torch
from einops import einsum, rearrange
from jaxtyping import Float, Int
from torch import Tensor

from mechfourier._arguments import checked
from mechfourier.causal.experiment import Experiment
from mechfourier.causal.screen import Candidate, candidates_at, choose
from mechfourier.causal.subspaces import HarmonicSubspace, key_harmonics
from mechfourier.causal.task import AnswerTask
from mechfourier.domains.definition import Domain
from mechfourier.domains.sampling import balanced_sample
from mechfourier.errors import OutOfRange, UnknownSite
from mechfourier.fourier.waves import harmonic_waves, waves
from mechfourier.hooks.site import Site, select_sites
from mechfourier.models.interface import Model
from mechfourier.probes.planes import HarmonicPlane, plane_of

SCREEN = 48  # prompts that choose a place, at most a quarter of them all


@checked
def plane(
    model: Model | Experiment,
    domain: Domain | str | None = None,
    *,
    site: Site | str,
    k: int | None = None,
    position: str = "value",
    task: str | None = None,
    seed: int = 0,
) -> HarmonicPlane:
    """The plane of harmonic ``k`` (None: the strongest) of the class means at ``site``, about which ``rotate`` turns: as
    an array, as a hook of TransformerLens, as decoder directions. Raises what ``rotate`` raises."""
    asked = Experiment.of(model, domain, task=task, seed=seed)
    at = asked.at(site, position)
    return plane_of(at.means, key_harmonics(at.means)[0] if k is None else k, str(at.site))


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
    """The embedding, where it has a hook point, and every ``resid_post``; of a decoder only its own: its tokens
    are those that are answered."""
    found = list(select_sites(model, "resid_post"))
    with contextlib.suppress(UnknownSite):  # a model whose embedding has no hook point of that name
        found = [*select_sites(model, "embed"), *found]
    return [site for site in found if site.stack == "decoder"] or found


def split(asked: Experiment, most: int = SCREEN) -> tuple[Int[Tensor, " screened"], Experiment]:
    """Prompts that choose a place, and the experiment on the others (similarity tasks are not divided: they are
    small)."""
    count = len(asked)
    few = balanced_sample(asked.task.label, max(1, min(most, count // 4)), seed=asked.seed)
    if count == 1 or not isinstance(asked.task, AnswerTask):
        return few, asked
    others = torch.ones(count, dtype=torch.bool)
    others[few] = False
    return few, asked.subset(others.nonzero()[:, 0])


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
