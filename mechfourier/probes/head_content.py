"""Fourier content of attention heads over the (a, offset) grid, beside what an even spread and permuted
offsets give."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from mechfourier.fourier.dft import line_power
from mechfourier.stats.permutation import permutation_p

MOST_DRAWS = 200


@dataclass(frozen=True)
class HeadFourier:
    """Fourier content of one head over the (a, offset) grid, as shares of its variance over the cells, in [0,
    1].

    ``what``: ``"z"`` (the head's output, summed over its dimensions) or the attention to a role.
    ``sum_line``: functions of (a + offset) mod n, of which ``best_k`` holds ``best_share``; ``a_only`` and
    ``offset_only``: functions of one operand's residue; ``rest``: everything else. ``even``: the share of
    ``sum_line`` if the variance were spread evenly over all functions of the grid; ``chance``: its mean with
    the offsets permuted; ``p_value``: family-wise over all heads of the same ``what``."""

    layer: int
    head: int
    what: str
    sum_line: float
    a_only: float
    offset_only: float
    rest: float
    best_k: int
    best_share: float
    even: float = 0.0
    chance: float = 0.0
    p_value: float = 1.0


def head_content(
    grid: Float[Tensor, "site a o head d"],
    layers: Sequence[int],
    what: str,
    *,
    permutations: int = 500,
    seed: int = 0,
) -> list[HeadFourier]:
    """Power on the lines of the 2-D spectrum, summed over a head's dimensions, as shares of the variance over
    cells, with its null.

    The null permutes the offsets (at most 200 times): it keeps what is a function of one operand, and how
    much is of both.
    """
    n, offsets = grid.shape[1:3]
    observed = torch.stack([_sum_share(_centred(site), _classes(n, offsets)) for site in grid])
    chance, p = _null(grid, observed, draws=min(permutations, MOST_DRAWS), seed=seed)
    even = (n - 1) / (n * offsets - 1)
    rows = []
    for s, (site, layer) in enumerate(zip(grid, layers, strict=True)):
        rows += _content(site.double(), layer, what, even, chance[s].tolist(), p[s].tolist())
    return rows


def _classes(n: int, offsets: int, order: Tensor | None = None) -> Float[Tensor, "label cell"]:
    """Rows that average the cells of every class (a + offset) mod n, scaled to length 1."""
    o = torch.arange(offsets) if order is None else order
    label = ((torch.arange(n)[:, None] + o) % n).flatten()
    return torch.nn.functional.one_hot(label, n).T.float() / offsets**0.5


def _centred(site: Float[Tensor, "a o head d"]) -> Float[Tensor, "cell head d"]:
    flat = rearrange(site.float(), "a o head d -> (a o) head d")
    return flat - flat.mean(0)


def _sum_share(
    cells: Float[Tensor, "cell head d"], classes: Float[Tensor, "label cell"]
) -> Float[Tensor, " head"]:
    """Share of a head's variance that is a function of the class: (a + offset) mod n."""
    held = torch.tensordot(classes, cells, dims=1).pow(2).sum((0, 2))
    total = cells.pow(2).sum((0, 2))
    return torch.where(total > 0, held / total.clamp_min(torch.finfo(total.dtype).tiny), 0.0)


def _null(
    grid: Float[Tensor, "site a o head d"], observed: Float[Tensor, "site head"], *, draws: int, seed: int
) -> tuple[Float[Tensor, "site head"], Float[Tensor, "site head"]]:
    """Mean share with permuted offsets, and the family-wise p of the excess in standard deviations of that
    head's null."""
    n, offsets = grid.shape[1:3]
    draw = torch.Generator().manual_seed(seed)
    maps = [_classes(n, offsets, torch.randperm(offsets, generator=draw)) for _ in range(draws)]
    stacked = torch.cat(maps)
    null = torch.stack([_null_shares(_centred(site), stacked, n) for site in grid])
    mean, spread = null.mean(1), null.std(1)
    floor = 1e-6 + 1e-4 * mean
    scored = (null - mean[:, None]) / (spread + floor)[:, None]
    best = scored.amax((0, 2))
    z = (observed - mean) / (spread + floor)
    return mean, torch.as_tensor(permutation_p(z, best))


def _null_shares(
    cells: Float[Tensor, "cell head d"], maps: Float[Tensor, "row cell"], n: int
) -> Float[Tensor, "draw head"]:
    """``_sum_share`` of one site for every draw, whose class rows lie one under the other in ``maps``."""
    total = cells.pow(2).sum((0, 2)).clamp_min(torch.finfo(cells.dtype).tiny)
    held = [
        torch.tensordot(rows, cells, dims=1).pow(2).sum(-1).unflatten(0, (-1, n)).sum(1)
        for rows in maps.split(n * max(1, 2**25 // (n * cells[0].numel())))
    ]
    return torch.cat(held) / total


def _content(
    grid: Float[Tensor, "a o head d"],
    layer: int,
    what: str,
    even: float,
    chance: Sequence[float],
    p: Sequence[float],
) -> list[HeadFourier]:
    power = line_power(grid)
    line, a, o = (part.sum(-1) for part in (power.sum, power.a_only, power.b_only))
    total = ((grid - grid.mean((0, 1))) ** 2).sum((0, 1, 3))
    varies = total > 1e-12 * (grid**2).sum((0, 1, 3)).clamp_min(1e-30)
    share = torch.where(varies, 1.0 / total.clamp_min(1e-30), 0.0)
    line, a, o = line * share, a.sum(0) * share, o.sum(0) * share
    return [
        HeadFourier(
            layer=layer,
            head=h,
            what=what,
            sum_line=float(line[:, h].sum()),
            a_only=float(a[h]),
            offset_only=float(o[h]),
            rest=float((1 - line[:, h].sum() - a[h] - o[h]).clamp_min(0)) if varies[h] else 0.0,
            best_k=1 + int(line[:, h].argmax()),
            best_share=float(line[:, h].max()),
            even=even,
            chance=float(chance[h]) if varies[h] else 0.0,
            p_value=float(p[h]) if varies[h] else 1.0,
        )
        for h in range(grid.shape[2])
    ]
