"""Does the order of the tokens matter? The null of networks that learned nothing about it.

A network with random weights makes functions of every pair of tokens, and these are no white noise: cells that share a
token are alike. But its tokens are arbitrary, and so is their order: with the values dealt out anew among the tokens
(where the operands can be exchanged, the same way for both) its activations are as likely as they were. What has a
circle of the sum, or any function of it, loses that.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor

from mechfourier.stats.confounds import Grid, one_hot
from mechfourier.stats.permutation import permutation_p
from mechfourier.stats.specificity import Periods, plane_spectrum

DRAWS = 199
ORDERED = 0.02  # p up to which the order of the tokens is there; of 7 tokens 42 of 5,040 orders are like the true one
WIDTH = 128  # of more dimensions, as many random directions are looked at: the same in all draws, so that p is exact
ROUNDING = 1e-5
CHUNK = 2**23  # totals at a time, of all draws and dimensions


class Exchanged(NamedTuple):
    """Family-wise p over hook points, of the largest plane of the sum and of all functions of the sum."""

    plane: tuple[float, ...]
    profile: tuple[float, ...]


def exchanged_tokens(
    periods: Periods, scored: Sequence[Float[Tensor, "cell d"]], *, seed: int, draws: int = DRAWS
) -> Exchanged:
    """In how many of ``draws`` random orders of the tokens there is as much; ``scored``: the cells of every hook point.

    Tokens of the first operand alone are exchanged, which is exact whatever the second's are. Where both have
    numbers in common, a network that learned nothing may still read them alike, so that (2, 5) and (5, 2), which
    have one sum, are alike: these are exchanged in both operands together too, and the larger p counts.
    """
    generator = torch.Generator().manual_seed(seed)
    grid = periods.grid
    by_sum = _by_sum(periods)
    together = [True] if grid.exchangeable else [False, True] if len(_in_both(grid)) else [False]
    found = [
        _p_of(grid, by_sum, scored, _orders(grid, draws, both, generator), generator) for both in together
    ]
    plane, profile = ([max(p) for p in zip(*part, strict=True)] for part in zip(*found, strict=True))
    return Exchanged(tuple(plane), tuple(profile))


def _in_both(grid: Grid) -> Int[Tensor, " number"]:
    """Numbers that stand in either operand."""
    return torch.arange(max(grid.first_offset, 0), min(grid.n, grid.first_offset + grid.n_offsets))


def _orders(
    grid: Grid, draws: int, together: bool, generator: torch.Generator
) -> list[tuple[Tensor, Tensor]]:
    """The true order of the values and of the offsets, then random ones."""
    values, offsets = torch.arange(grid.n), torch.arange(grid.n_offsets)
    shared = _in_both(grid) if together else values[:0]
    alone = values[~torch.isin(values, shared)]
    found = [(values, offsets)]
    for _ in range(draws):
        dealt, second = values.clone(), offsets.clone()
        for part in (shared, alone):
            dealt[part] = part[torch.randperm(len(part), generator=generator)]
        second[shared - grid.first_offset] = dealt[shared] - grid.first_offset
        found.append((dealt, second))
    return found


def _p_of(
    grid: Grid,
    by_sum: "BySum",
    scored: Sequence[Float[Tensor, "cell d"]],
    orders: Sequence[tuple[Tensor, Tensor]],
    generator: torch.Generator,
) -> Exchanged:
    """Family-wise over hook points: every statistic in units of its spread over the random orders."""
    found = torch.stack(  # site draw two
        [_statistics(grid, by_sum, _looked_at(grid, cells, generator), orders) for cells in scored]
    )
    null = found[:, 1:]
    scale = null.std(1, keepdim=True).clamp_min(1e-12)
    above = (found - null.mean(1, keepdim=True)) / scale
    largest = above[:, 1:].amax(0)
    plane, profile = (permutation_p(above[:, 0, i], largest[:, i]).tolist() for i in range(2))
    return Exchanged(tuple(plane), tuple(profile))


def _looked_at(
    grid: Grid, cells: Float[Tensor, "cell d"], generator: torch.Generator
) -> Float[Tensor, "a o direction"]:
    """What functions of one operand leave, every dimension of unit norm; of many dimensions in random directions."""
    left = interaction(grid, cells)
    left = left / left.flatten(0, 1).norm(dim=0).clamp_min(ROUNDING * grid.cells**0.5)
    if left.shape[-1] > WIDTH:
        left = left @ torch.randn(left.shape[-1], WIDTH, generator=generator, dtype=left.dtype)
    return left.float()


def _statistics(
    grid: Grid,
    by_sum: "BySum",
    left: Float[Tensor, "a o d"],
    orders: Sequence[tuple[Tensor, Tensor]],
) -> Float[Tensor, "draw two"]:
    """The largest T of any harmonic and the energy of all functions of the sum, with the tokens in every order.

    Smooth functions of the sum count among the latter: that tokens have an order is what is asked.
    """
    cells, found = rearrange(left, "a o d -> (a o) d"), []
    size = max(1, CHUNK // (grid.n_sums * cells.shape[1]))
    for start in range(0, len(orders), size):
        part = orders[start : start + size]
        totals = torch.zeros(len(part), grid.n_sums, cells.shape[1])
        for total, (values, offsets) in zip(
            totals, part, strict=True
        ):  # of the cells that are dealt to a sum
            total.index_add_(0, (values.argsort()[:, None] + offsets.argsort()).flatten(), cells)
        planes = plane_spectrum(by_sum.waves, totals).amax(1)
        found.append(torch.stack([planes, (by_sum.functions @ totals).square().sum((1, 2))], 1))
    return torch.cat(found).double()


class BySum(NamedTuple):
    """What makes totals by sum (of cells without functions of one operand) the coordinates in the harmonics' planes, and in
    an orthonormal basis of all functions of the sum."""

    waves: Float[Tensor, "k 2 sum"]
    functions: Float[Tensor, "function sum"]


def _by_sum(periods: Periods) -> BySum:
    grid = periods.grid
    sums = interaction(grid, one_hot(grid.raw_sum)).flatten(0, 1)
    values, vectors = torch.linalg.eigh(sums.T @ sums)
    kept = values > ROUNDING * values[-1]
    functions = (vectors[:, kept] / values[kept].sqrt()).T
    waves = periods.harmonic_planes @ (grid.sum_basis.T @ sums) @ functions.T @ functions
    return BySum(waves.float(), functions.float())


def interaction(grid: Grid, cells: Float[Tensor, "cell d"]) -> Float[Tensor, "a o d"]:
    """What functions of one operand leave; where the operands can be exchanged, of the means of twins, without the cells
    that have none."""
    cube = rearrange(grid.folded(cells), "(a o) d -> a o d", a=grid.n)
    if not grid.exchangeable:
        return cube - cube.mean(0) - cube.mean(1, keepdim=True) + cube.mean((0, 1))
    twins = 1.0 - torch.eye(grid.n, dtype=cube.dtype)[:, :, None]
    rows = (cube * twins).sum(1)
    mean = rows.sum(0) / (grid.n * (grid.n - 1))
    own = (rows - (grid.n - 1) * mean) / max(grid.n - 2, 1)
    return (cube - mean - own[:, None] - own[None]) * twins
