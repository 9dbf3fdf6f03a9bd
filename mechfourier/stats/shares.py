"""Where the variance over an operation grid lies: the lines of its 2-D DFT, and how much of it is token
identity.
"""

from dataclasses import dataclass

import torch
from einops import rearrange
from jaxtyping import Float
from scipy.special import betainc
from torch import Tensor

from mechfourier.stats.confounds import Grid


@dataclass(frozen=True)
class Shares:
    """Shares of the variance that add up to 1, the straight part of the main effects, and the p of the main
    effects.
    """

    sum_line: float
    a_only: float
    offset_only: float
    rest: float
    magnitude: float
    main_p: float


def variance_shares(grid: Grid, cells: Float[Tensor, "cell d"]) -> Shares:
    """Shares over the whole cycles of the offsets, where the lines of the DFT are orthogonal.

    The sum line (k, k·cycles) of the 2-D DFT holds exactly the variance of the class means, the a-only line
    that of the means over offsets, the offset-only line that of the means over a (Parseval).
    """
    cube = rearrange(cells, "(a o) d -> a o d", a=grid.n)[:, : grid.full_cycles * grid.n]
    cube = cube - cube.mean((0, 1))
    whole = float((cube**2).sum())
    if whole <= 0:
        return Shares(0.0, 0.0, 0.0, 0.0, 0.0, 1.0)
    over_a, over_o = cube.mean(1), cube.mean(0)
    label = rearrange(grid.label, "(a o) -> a o", a=grid.n)[:, : cube.shape[1]].reshape(-1)
    classes = torch.zeros(grid.n, cube.shape[2], dtype=cube.dtype).index_add_(0, label, cube.flatten(0, 1))
    parts = [
        float((classes**2).sum()) / cube.shape[1],
        float((over_a**2).sum()) * cube.shape[1],
        float((over_o**2).sum()) * grid.n,
    ]
    main = parts[1] + parts[2]
    rows, dof = cube.shape[0] + cube.shape[1] - 2, cube.shape[0] * cube.shape[1] - 1
    noise = (whole - main) / (dof - rows)
    straight = _straight(over_a) * cube.shape[1] + _straight(over_o) * grid.n - 2 * noise
    clear = max(main - rows * noise, 0.0)
    shares = [part / whole for part in parts]
    return Shares(
        *shares,
        rest=max(0.0, 1 - sum(shares)),
        magnitude=min(1.0, max(straight, 0.0) / clear) if clear > 0 else 0.0,
        main_p=_main_p(grid, cube),
    )


def _straight(means: Float[Tensor, "level d"]) -> float:
    """Energy of the straight line through means of consecutive integers."""
    line = torch.arange(len(means), dtype=means.dtype)
    line = line - line.mean()
    return float((line @ means).pow(2).sum() / (line @ line))


def _main_p(grid: Grid, cube: Float[Tensor, "a o d"]) -> float:
    """p of the main effects against the rest, as a rotation test by its first two moments (of twins' means,
    see ``Grid.exchangeable``).
    """
    values, offsets = cube.shape[:2]
    rows, dof = values + offsets - 2, values * offsets - 1
    if grid.exchangeable:
        rows, dof = values - 1, grid.free_cells - 1
    flat = grid.folded(cube.flatten(0, 1))
    cube = rearrange(flat, "(a o) d -> a o d", a=values)
    main = float((cube.mean(1) ** 2).sum()) * offsets + float((cube.mean(0) ** 2).sum()) * values
    gram = flat.T @ flat if flat.shape[1] < flat.shape[0] else flat @ flat.T
    return moment_p(main, float((flat**2).sum()), float((gram * gram).sum()), rows, dof)


def moment_p(energy: float, total: float, square: float, rows: int, dof: int) -> float:
    """P that a random frame of ``rows`` in ``dof`` dimensions takes up ``energy`` of a Gram matrix with trace
    ``total`` and squared Frobenius norm ``square``.

    The share of the trace is taken as Beta with its exact mean and variance (Haar measure): exact for one
    direction, and for many the normal law.
    """
    if total <= 0 or dof <= rows or rows <= 0:
        return 1.0
    mean = rows / dof
    spread = max(square - total**2 / dof, 1e-12 * total**2) / total**2
    variance = 2 * rows * (dof - rows) / (dof * (dof - 1) * (dof + 2)) * spread
    size = mean * (1 - mean) / variance - 1
    return float(betainc(size * (1 - mean), size * mean, min(max(1 - energy / total, 0.0), 1.0)))
