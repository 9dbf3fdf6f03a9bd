"""Does the order of the tokens matter? The null of networks that learned nothing about it.

A network with random weights makes functions of every pair of tokens, and these are no white noise: cells that share a
token are alike. But its tokens are arbitrary, so that their order is: with the values dealt out anew among the tokens
(where the operands can be exchanged, the same way for both) its activations are as likely as they were. What has a
circle of the sum, or any function of it, loses that.
"""

from dataclasses import dataclass

import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor

from mechfourier.stats.confounds import Grid
from mechfourier.stats.permutation import permutation_p
from mechfourier.stats.specificity import Periods, plane_spectrum

DRAWS = 199
WIDTH = 128  # of more dimensions, as many random directions are looked at: the same in all draws, so that p is exact
ROUNDING = 1e-5


@dataclass(frozen=True)
class Exchanged:
    """Family-wise p over hook points, of the largest plane of the sum and of all functions of the sum."""

    plane: tuple[float, ...]
    profile: tuple[float, ...]


def exchanged_tokens(
    periods: Periods, scored: Float[Tensor, "site cell d"], *, seed: int, draws: int = DRAWS
) -> Exchanged:
    """How many of ``draws`` orders of the tokens have as much; the first is the true one."""
    generator = torch.Generator().manual_seed(seed)
    n = periods.grid.n
    orders = torch.stack([torch.arange(n), *(torch.randperm(n, generator=generator) for _ in range(draws))])
    found = torch.stack([_statistics(periods, cells, orders, generator) for cells in scored])  # site draw two
    null = found[:, 1:]
    scale = null.std(1, keepdim=True).clamp_min(1e-12)
    above = (found - null.mean(1, keepdim=True)) / scale
    largest = above[:, 1:].amax(0)
    plane, profile = (permutation_p(above[:, 0, i], largest[:, i]).tolist() for i in range(2))
    return Exchanged(tuple(plane), tuple(profile))


def _statistics(
    periods: Periods,
    cells: Float[Tensor, "cell d"],
    orders: Int[Tensor, "draw n"],
    generator: torch.Generator,
) -> Float[Tensor, "draw two"]:
    """The largest T of any harmonic and the energy of all functions of the sum, with the tokens in every order."""
    grid = periods.grid
    left = interaction(grid, cells)
    if left.shape[-1] > WIDTH:
        left = left @ torch.randn(left.shape[-1], WIDTH, generator=generator, dtype=left.dtype)
    basis, waves = grid.sum_basis.T.float(), periods.harmonic_planes.float()
    left, found = left.float(), []
    for order in orders:
        dealt = left[order][:, order] if grid.exchangeable else left[order]
        profile = basis @ rearrange(dealt, "a o d -> (a o) d")
        found.append(torch.stack([plane_spectrum(waves, profile).max(), profile.square().sum()]))
    return torch.stack(found).double()


def interaction(grid: Grid, cells: Float[Tensor, "cell d"]) -> Float[Tensor, "a o d"]:
    """What functions of one operand leave, at unit norm per dimension; where the operands can be exchanged, of the means
    of twins, without the cells that have none."""
    cube = rearrange(grid.folded(cells), "(a o) d -> a o d", a=grid.n)
    if grid.exchangeable:
        twins = 1.0 - torch.eye(grid.n, dtype=cube.dtype)[:, :, None]
        rows = (cube * twins).sum(1)
        mean = rows.sum(0) / (grid.n * (grid.n - 1))
        own = (rows - (grid.n - 1) * mean) / max(grid.n - 2, 1)
        left = (cube - mean - own[:, None] - own[None]) * twins
    else:
        left = cube - cube.mean(0) - cube.mean(1, keepdim=True) + cube.mean((0, 1))
    norm = left.flatten(0, 1).norm(dim=0)
    alive = norm > ROUNDING * grid.cells**0.5
    return left * (alive / torch.where(alive, norm, 1.0))
