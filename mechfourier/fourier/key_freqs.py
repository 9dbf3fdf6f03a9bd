"""Key frequencies: those that an untrained model would not have.

The rule. Let q_k be the share of frequency k in the power of a weight matrix over the values (its constant
component left out). In an untrained model the rows are exchangeable, so every frequency is as good as any
other, and the largest q_k of a draw says what chance alone gives. A frequency is *significant* where q_k
exceeds the ``level`` quantile of that largest share over many untrained draws (so a whole untrained spectrum
is falsely marked with probability 1 − level), and *key* where it is significant in the matrix that reads the
operands (W_E) and in the one that writes the answer (W_L = W_out W_U): it takes both to be used.

A trained network's spectrum is empty where it is not used, so a frequency may be used with less power than an
untrained one has at its largest. *Used* frequencies are the longer list: those that hold 1 % of the logit
variance, or 1 % of W_L's power and ten times what its median frequency has.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from mechfourier.errors import OutOfRange
from mechfourier.fourier.bases import n_frequencies
from mechfourier.fourier.dft import frequency_power
from mechfourier.fourier.progress import trig_basis

LEVEL = 0.95
USED_SHARE, USED_ABOVE_MEDIAN = 0.01, 10.0


def null_threshold(null_shares: Float[Tensor, "draw freq"], *, level: float = LEVEL) -> float:
    """The ``level`` quantile, over untrained draws, of the largest share of any frequency.

    The quantile is the ⌈level·(draws+1)⌉-th smallest, so that a false mark has probability ≤ 1 − level
    exactly; raises ``OutOfRange`` where there are too few draws for that.
    """
    if not 0 < level < 1:
        raise OutOfRange(f"the level must lie between 0 and 1, not at {level}")
    largest = null_shares.max(1).values.sort().values
    rank = -(-round(level * (len(largest) + 1) * 1e9) // 10**9)  # ceiling, free of rounding
    if rank > len(largest):
        raise OutOfRange(
            f"{len(largest)} untrained draws are too few for level {level}; use "
            f"{round(level / (1 - level))} or more"
        )
    return float(largest[rank - 1])


def gaussian_null(
    n: int, d: int, *, draws: int = 199, seed: int = 0, mixing: Float[Tensor, "d e"] | None = None
) -> Float[Tensor, "draw freq"]:
    """Power shares of ``draws`` untrained matrices [n, d]: independent normal entries, times ``mixing`` if
    given.

    ``mixing`` stands for a second untrained factor, as W_out in W_L = W_out W_U.
    """
    generator = torch.Generator().manual_seed(seed)
    draw = torch.randn(n, draws, d, generator=generator, dtype=torch.float64)
    if mixing is not None:
        # the power of y @ mixing needs only a square root of mixing @ mixing.T, which is d × d
        values, vectors = torch.linalg.eigh(mixing.double() @ mixing.double().T)
        draw = draw @ (vectors * values.clamp_min(0).sqrt())
    power = frequency_power(draw)[1:].sum(-1)
    return (power / power.sum(0)).T


def matrix_share(y: Float[Tensor, "n d"]) -> Float[Tensor, " freq"]:
    """Share of the power of all columns together at k = 1..⌊n/2⌋ (row 0 is k = 1); 0 for a constant
    matrix."""
    power = frequency_power(y.double())[1:].sum(1)
    total = power.sum()
    return power / total if total > 0 else power


def answer_share(by_sum: Float[Tensor, "*draw n n"]) -> Float[Tensor, "*draw freq"]:
    """Share of cos(2πk(s−c)/n), k = 1..⌊n/2⌋, in a table ``[s, c]`` whose rows and columns were centred."""
    n = by_sum.shape[-1]
    table = by_sum.double()
    table = (
        table
        - table.mean(-1, keepdim=True)
        - table.mean(-2, keepdim=True)
        + table.mean((-1, -2), keepdim=True)
    )
    v = torch.arange(n, device=by_sum.device)
    profile = table[..., v[None, :], (v[None, :] - v[:, None]) % n].mean(-1)  # over s, for each s − c
    power = (profile @ trig_basis(n, range(1, n_frequencies(n) + 1)).T) ** 2 * n
    return power / (table**2).sum((-1, -2))[..., None].clamp_min(1e-300)


def answer_null(
    reading: Float[Tensor, "n d"], *, draws: int = 199, seed: int = 0
) -> Float[Tensor, "draw freq"]:
    """:func:`answer_share` of untrained networks: ``reading[s]`` is one's mean residual vector per sum, W_U is
    drawn anew."""
    n, d = reading.shape
    unembed = torch.randn(draws, d, n, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return answer_share(reading.double() @ unembed)


def significant(shares: Float[Tensor, " freq"], threshold: float) -> tuple[int, ...]:
    """The frequencies whose share exceeds ``threshold``, strongest first."""
    order = shares.argsort(descending=True)
    return tuple(int(i) + 1 for i in order if shares[i] > threshold)


def used_frequencies(
    w_l: Float[Tensor, " freq"], logits: Float[Tensor, " freq"], key: Sequence[int]
) -> tuple[int, ...]:
    """The key frequencies and those with 1 % of the logit variance, or with 1 % of W_L's power and ten times
    its median; ascending."""
    outlying = (w_l >= USED_SHARE) & (w_l >= USED_ABOVE_MEDIAN * w_l.median())
    chosen = torch.nonzero(outlying | (logits.to(w_l) >= USED_SHARE)).flatten() + 1
    return tuple(sorted({*chosen.tolist(), *key}))


def key_frequencies(reading: Sequence[int], writing: Sequence[int]) -> tuple[int, ...]:
    """Frequencies significant in both, in ascending order."""
    return tuple(sorted(set(reading) & set(writing)))
