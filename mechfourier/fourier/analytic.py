"""Closed-form weights of a one-layer transformer that answers (a + b) mod p, for any p.

For each frequency k a set of neurons with phases (φ, ψ) computes relu(cos(2πka/p − φ) + cos(2πkb/p − ψ)) and
writes cos(2πkc/p − φ − ψ) to the answers (Gromov 2023, arXiv 2301.02679, with squares in place of relu).
Summed over phases that are spread evenly, all that is left is a positive multiple of cos(2πk(a + b − c)/p).

``clock``: one group of heads attends to a, another to b, so each operand has its own phase; the logit of an
answer depends on a + b − c only. ``pizza``: attention is uniform, so φ = ψ, and |cos(πk(a − b)/p)| stays as a
factor (Zhong et al. 2023); at even p some pairs then have no answer, so p must be odd.
"""

import math
from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from mechfourier.errors import OutOfRange, UsageError
from mechfourier.fourier.waves import harmonic_waves

Style = Literal["clock", "pizza"]
SHARPNESS = (
    40.0  # attention score of the chosen position over the others; e^−40 leaks less than float32 resolves
)
MARGIN = (
    20.0  # smallest gap between the right logit and any other, in nats, before the aliasing of the phases
)


def choose_frequencies(p: int, count: int = 5, *, style: Style = "clock", seed: int = 0) -> tuple[int, ...]:
    """The ``count`` (at most ⌊(p−1)/2⌋) frequencies with the widest margin among 500 random sets,
    ascending."""
    possible = (p - 1) // 2
    if possible < 1:
        raise OutOfRange(f"p = {p} has no frequency with two phases; choose p >= 3")
    count = min(count, possible)
    generator = torch.Generator().manual_seed(seed)
    order = torch.rand(500, possible, generator=generator).argsort(1)[:, :count] + 1
    sets = sorted({tuple(sorted(row)) for row in order.tolist()})
    return max(sets, key=lambda ks: margin(p, ks, style=style))


def margin(p: int, ks: Sequence[int], *, style: Style = "clock") -> float:
    """The smallest gap of Σ_k A_k(a−b)·cos(2πk(a+b−c)/p) between c = a + b and any other c; A_k is 1 or
    |cos(πk(a−b)/p)|."""
    k = torch.tensor(list(ks))
    distance = torch.arange(p if style == "pizza" else 1)
    amplitude = torch.cos(torch.outer(distance, k).double() * (math.pi / p)).abs()
    gap = 1 - harmonic_waves(p, list(ks))[1:, :, 0].T
    return float((amplitude @ gap).min())


def phases(count: int, *, style: Style = "clock") -> Float[Tensor, "phase 2"]:
    """``count`` phase pairs (φ, ψ), evenly spread: on the circle φ = ψ (pizza), or a lattice on the torus
    (clock)."""
    turn = torch.arange(count, dtype=torch.float64) * (2 * math.pi / count)
    return torch.stack([turn, turn * (1 if style == "pizza" else _lattice_step(count))], 1)


def _lattice_step(count: int) -> int:
    """The step g for which the shortest alias i + g·j ≡ 0 (mod count) that disturbs the sum is longest."""
    reach = torch.arange(-count, count + 1)
    i, j = torch.meshgrid(reach, reach, indexing="ij")
    size = (i.abs() + j.abs()).double()
    # a wave (i, j) of relu(cos x + cos y) has i + j even or is one of (±1, 0), (0, ±1); (1, 1) is wanted
    disturbing = ((i + j) % 2 == 0) | (size == 1)
    best = {
        g: float(size[disturbing & (((i - 1) + g * (j - 1)) % count == 0) & ~((i == 1) & (j == 1))].min())
        for g in range(2, max(3, count // 2))
    }
    return max(best, key=lambda g: best[g])


def analytic_weights(
    p: int,
    *,
    frequencies: Sequence[int] | None = None,
    style: Style = "clock",
    d_model: int = 128,
    n_heads: int = 4,
    d_head: int = 32,
    d_mlp: int = 512,
    n_ctx: int = 3,
    act: str = "relu",
) -> dict[str, Tensor]:
    """Weights by TransformerLens name (float64, no biases) for a one-layer model of these sizes; positions
    are [a, b, =] or [a, b].

    The residual stream holds, in this order: the operands' circles (2 dimensions per frequency), a's circles
    and b's circles at the last position, the answer's circles, and three dimensions that tell the positions
    apart. Raises ``OutOfRange`` where the sizes do not hold that, or the frequencies leave two answers tied.
    """
    ks = tuple(frequencies) if frequencies is not None else choose_frequencies(p, style=style)
    _check(p, ks, style, act)
    width, per_frequency = 2 * len(ks), d_mlp // len(ks)
    groups, heads = _check_sizes(width, per_frequency, d_model, n_heads, d_head)
    per_frequency -= per_frequency % 2 == 0  # an odd number of phases aliases at twice its frequency only
    waves = _circles(p, ks)
    pair = phases(per_frequency, style=style)
    embed = torch.zeros(p + (n_ctx == 3), d_model, dtype=torch.float64)
    embed[:p, :width] = waves
    w_pos = torch.zeros(n_ctx, d_model, dtype=torch.float64)
    w_pos[0, 4 * width], w_pos[1, 4 * width + 1], w_pos[-1, 4 * width + 2] = 1.0, 1.0, 1.0
    w_in, w_out = _mlp(len(ks), pair, d_model, d_mlp, scale=n_ctx / 2 if style == "pizza" else 1)
    unembed = torch.zeros(d_model, p, dtype=torch.float64)
    unembed[3 * width : 4 * width] = waves.T
    gain = _gain(pair, act) * per_frequency
    unembed *= MARGIN / (margin(p, ks, style=style) * gain)
    names = ("W_Q", "W_K", "W_V", "W_O")
    attention = _attention(width, groups, heads, style, d_model, n_heads, d_head)
    return {
        "embed.W_E": embed,
        "pos_embed.W_pos": w_pos,
        **{f"blocks.0.attn.{name}": value for name, value in zip(names, attention, strict=True)},
        "blocks.0.mlp.W_in": w_in,
        "blocks.0.mlp.W_out": w_out,
        "unembed.W_U": unembed,
    }


def _check(p: int, ks: tuple[int, ...], style: Style, act: str) -> None:
    if style not in ("clock", "pizza"):
        raise UsageError(f"no style {style!r}; choose clock or pizza")
    if act not in ("relu", "square"):
        raise UsageError(f"no closed form is known for the activation {act!r}; choose relu or square")
    if style == "pizza" and act != "relu":
        raise UsageError(
            "the closed form of a Pizza needs relu (squares lose the |cos|); choose act relu or style clock"
        )
    if style == "pizza" and p % 2 == 0:
        raise OutOfRange(
            f"a Pizza cannot tell c from c + {p // 2} when a − b = {p // 2}; choose an odd p or style clock"
        )
    if not ks or any(not 1 <= k <= (p - 1) // 2 for k in ks):
        raise OutOfRange(
            f"frequencies {list(ks)} must lie in 1..{(p - 1) // 2} for p = {p}, at least one of them"
        )
    if margin(p, ks, style=style) < 1e-6:
        raise OutOfRange(f"the frequencies {list(ks)} leave two answers mod {p} tied; add one coprime to {p}")


def _check_sizes(width: int, per_frequency: int, d_model: int, n_heads: int, d_head: int) -> tuple[int, int]:
    """The heads per operand and the dimensions that each of them copies."""
    groups = n_heads // 2
    copied = -(-width // groups) if groups else 0
    if d_model < 4 * width + 3 or not groups or copied > d_head or per_frequency < 7:
        raise OutOfRange(
            f"{width // 2} frequencies need d_model >= {4 * width + 3} (here {d_model}), 2 heads or more "
            f"with "
            f"n_heads//2 · d_head >= {width} (here {groups * d_head}) and 7 neurons each (here "
            f"{per_frequency}); "
            "take fewer frequencies or a wider model"
        )
    return groups, copied


def _circles(p: int, ks: Sequence[int]) -> Float[Tensor, "p width"]:
    """cos(2πkv/p), sin(2πkv/p) for every k, in pairs."""
    return harmonic_waves(p, list(ks)).flatten(1)


def _attention(
    width: int, groups: int, copied: int, style: Style, d_model: int, n_heads: int, d_head: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """W_Q, W_K, W_V, W_O: heads 0..groups−1 carry a's circles, the next ``groups`` heads b's."""
    w_q, w_k, w_v = (torch.zeros(n_heads, d_model, d_head, dtype=torch.float64) for _ in range(3))
    w_o = torch.zeros(n_heads, d_head, d_model, dtype=torch.float64)
    for head in range(2 * groups):
        operand, part = divmod(head, groups)
        if style == "clock":
            w_q[head, 4 * width + 2, 0] = SHARPNESS * math.sqrt(d_head)
            w_k[head, 4 * width + operand, 0] = 1.0
        source = torch.arange(part * copied, min((part + 1) * copied, width))
        slot = torch.arange(len(source))
        w_v[head, source, slot] = 1.0
        w_o[head, slot, (1 + operand) * width + source] = 1.0
    return w_q, w_k, w_v, w_o


def _mlp(
    n_freqs: int, pair: Float[Tensor, "phase 2"], d_model: int, d_mlp: int, *, scale: float
) -> tuple[Float[Tensor, "d m"], Float[Tensor, "m d"]]:
    """W_in reads cos(x − φ) + cos(y − ψ) off the two circles of each frequency; W_out writes the angle φ +
    ψ."""
    width, count = 2 * n_freqs, len(pair)
    w_in = torch.zeros(d_model, d_mlp, dtype=torch.float64)
    w_out = torch.zeros(d_mlp, d_model, dtype=torch.float64)
    total = pair.sum(1)
    for i in range(n_freqs):
        neurons = slice(i * count, (i + 1) * count)
        for operand in (0, 1):
            row, angle = (1 + operand) * width + 2 * i, pair[:, operand]
            w_in[row, neurons], w_in[row + 1, neurons] = scale * torch.cos(angle), scale * torch.sin(angle)
        column = 3 * width + 2 * i
        w_out[neurons, column], w_out[neurons, column + 1] = torch.cos(total), torch.sin(total)
    return w_in, w_out


def _gain(pair: Float[Tensor, "phase 2"], act: str) -> float:
    """What one neuron adds on average to cos(x + y − z) at its peak, over a fine grid of x − y.

    For a Pizza this is the value at x = y, where |cos((x − y)/2)| is 1.
    """
    same = bool(torch.equal(pair[:, 0], pair[:, 1]))
    fine = torch.arange(0, 2 * math.pi, 2 * math.pi / 720, dtype=torch.float64)
    if same:
        drive, wave = 2 * torch.cos(fine), torch.cos(2 * fine)
    else:
        drive, wave = (
            torch.cos(fine)[:, None] + torch.cos(fine)[None, :],
            torch.cos(fine[:, None] + fine[None, :]),
        )
    response = drive.clamp_min(0) if act == "relu" else drive**2
    return float((response * wave).mean())
