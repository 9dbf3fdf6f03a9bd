"""Matched controls: the same intervention on many other subspaces of the same site."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from einops import einsum, rearrange
from jaxtyping import Float, Int
from torch import Tensor

from mechfourier.causal.edits import one_hot
from mechfourier.domains.answers import AnswerScores
from mechfourier.errors import HookNeverFired, OutOfRange, UsageError
from mechfourier.hooks.edit import as_vectors
from mechfourier.hooks.run import StopForward, batches, forward, hooked, inference
from mechfourier.hooks.site import Site
from mechfourier.models.interface import Encoding, Model

N_CONTROLS = 200
POOL = 20  # candidates drawn per control, of which the best matched are kept
TILT = 2.0  # random directions have covariance Σ^tilt, -2 to 2: for small variances and large


@dataclass(frozen=True, eq=False)
class Moments:
    """Mean and covariance of the activations at a site, over the prompts and positions of a task."""

    mean: Float[Tensor, " d"]
    covariance: Float[Tensor, "d d"]


@dataclass(frozen=True, eq=False)
class Controls:
    """``bases[control, d, r]`` (orthonormal columns), of which the first ``n_dims`` are sets of single
    dimensions, listed in ``dims[n_dims, r]``. ``variance_ratio``: the median of the controls' variance over
    the target's."""

    bases: Float[Tensor, "control d r"]
    dims: Int[Tensor, "n_dims r"]
    variance_ratio: float

    @property
    def n_dims(self) -> int:
        return len(self.dims)


def moments(model: Model, prompts: Sequence[Encoding], site: Site, *, last_only: bool = False) -> Moments:
    """Moments of ``site`` over the prompts at all positions, or at their last one only.

    Heads lie side by side, as in an intervention. Raises ``UsageError`` where the width changes with the
    prompt.
    """
    vectors: list[Tensor] = []

    def keep(value: Tensor) -> None:
        found = as_vectors(site, value.detach())
        vectors.append(
            rearrange(found[:, -1:] if last_only else found, "row pos d -> (row pos) d").double().cpu()
        )
        raise StopForward

    count, total, square = 0, torch.zeros(()), torch.zeros(())
    with inference(model), hooked(model, [(site, keep)]):
        for batch in batches(model, [encoding.ids for encoding in prompts]):
            forward(model, batch.tokens)
            flat = _same_width(vectors, total, site)
            count, total, square = count + len(flat), total + flat.sum(dim=0), square + flat.T @ flat
    mean = total / count
    covariance = square / count - einsum(mean, mean, "d, e -> d e")
    return Moments(mean.float(), covariance.float())


def _same_width(vectors: list[Tensor], total: Tensor, site: Site) -> Float[Tensor, "sample d"]:
    if not vectors:
        raise HookNeverFired(f"{site} did not run; choose another site")
    flat = vectors.pop()
    if total.ndim and flat.shape[1] != len(total):
        raise UsageError(
            f"{site} is {len(total)} wide in one prompt and {flat.shape[1]} in another; choose a site of "
            "fixed width, "
            "for example resid_post"
        )
    return flat


def matched_controls(
    target: Float[Tensor, "d r"], of: Moments, *, dims: bool, count: int, seed: int
) -> Controls:
    """The ``count`` subspaces most like ``target`` in variance and second moment, and orthogonal to it where
    there is room.

    For a target of dimensions (``dims``) the candidates are other dimensions: all of them, or random sets of
    the same size. Where there are fewer than ``count``, all are kept and random planes of the same rank fill
    up; for any other target all candidates are such planes.
    """
    generator = torch.Generator().manual_seed(seed)
    d, rank = target.shape
    sets = _other_dims(target, count, generator) if dims else torch.zeros(0, rank, dtype=torch.long)
    if len(sets) > count:
        sets = sets[_closest(one_hot(sets, d), target, of, count)]
    bases = one_hot(sets, d)
    if missing := count - len(sets):
        planes = _random_planes(target, of, POOL * missing, generator)
        bases = torch.cat([bases, planes[_closest(planes, target, of, missing)]])
    ratio = _variance(bases, of).median() / _variance(target[None], of)[0].clamp(min=1e-30)
    return Controls(bases, sets, float(ratio))


def _closest(bases: Tensor, target: Tensor, of: Moments, count: int) -> Int[Tensor, " chosen"]:
    distance = (_likeness(bases, of) - _likeness(target[None], of)).square().sum(dim=1)
    return distance.argsort(stable=True)[:count]


def _other_dims(target: Tensor, count: int, generator: torch.Generator) -> Int[Tensor, "set r"]:
    """Other single dimensions, or random sets of them; sets may overlap the target where hardly any others
    are left."""
    d, rank = target.shape
    inside = target.abs().sum(dim=1) > 0
    others = (~inside).nonzero()[:, 0]
    if rank == 1:
        return others[:, None]
    if 2 * rank > len(others):
        others = torch.arange(d)
    draws = torch.rand(POOL * count, len(others), generator=generator)
    sets = others[draws.topk(rank, dim=1).indices].sort(dim=1).values.unique(dim=0)
    return sets[~inside[sets].all(dim=1)]


def _random_planes(
    target: Tensor, of: Moments, count: int, generator: torch.Generator
) -> Float[Tensor, "plane d r"]:
    d, rank = target.shape
    if 2 * rank > d:
        raise UsageError(
            f"no controls of rank {rank} beside a target of rank {rank} in {d} dimensions; use controls=0"
        )
    values, vectors = torch.linalg.eigh(of.covariance.double())
    spread = (values.clamp(min=0.0) / values.max().clamp(min=1e-30)).sqrt().clamp(min=1e-6)
    draws = torch.randn(count, d, rank, generator=generator, dtype=torch.float64)
    tilt = torch.linspace(-TILT, TILT, count, dtype=torch.float64)
    weights = rearrange(spread ** tilt[:, None], "plane e -> plane e 1")
    draws = einsum(vectors, draws * weights, "d e, plane e r -> plane d r")
    # Where the target holds nearly all variance, draws lie nearly in it: only a basis that is orthonormal in
    # double precision,
    # taken out twice, leaves what is beside it and not rounding.
    basis = torch.linalg.qr(target.double()).Q
    for _ in range(2):
        draws = torch.linalg.qr(draws - basis @ (basis.T @ draws)).Q
    return draws.float()


def _variance(bases: Tensor, of: Moments) -> Float[Tensor, " control"]:
    return (bases * (of.covariance @ bases)).sum(dim=(1, 2))


def _likeness(bases: Tensor, of: Moments) -> Float[Tensor, "control 2"]:
    variance = _variance(bases, of).clamp(min=1e-30)
    second = variance + (of.mean @ bases).square().sum(dim=1)
    return torch.stack([variance.log(), second.log()], dim=1)


def margins(
    scores: Float[Tensor, "control prompt candidate"], label: Int[Tensor, " prompt"]
) -> Float[Tensor, "control prompt"]:
    """Right candidate minus the mean of the others, for every control and prompt."""
    empty = torch.zeros(scores.shape[1:], dtype=torch.bool)
    return torch.stack([AnswerScores(each, empty, label).margin for each in scores])


def check_count(n_controls: int) -> None:
    """Raise ``OutOfRange`` for fewer than no controls."""
    if n_controls < 0:
        raise OutOfRange(f"n_controls is {n_controls}; give 0 for none, or {N_CONTROLS} and more")
