"""Progress measures of a network that learns (a + b) mod n, from its logits ``L[a, b, c]`` (Nanda et al.
2023, section 5).

All are functions of cos and sin of 2πk(a+b)/n. The projection of the logits on functions of a + b is their
mean over the n pairs of equal sum, a table ``[s, c]``; every measure is a filter of that table along s.

- *restricted loss*: the loss when the logits keep only their mean over all pairs and the key frequencies of a
  + b;
- *excluded loss*: the loss when the key frequencies of a + b are taken away and all the rest is kept;
- *trig loss*: the loss when the logits are replaced by Σ_k α_k cos(2πk(a+b−c)/n), α_k by least squares.

Losses are cross-entropies in nats, computed in float64.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mechfourier.errors import OutOfRange
from mechfourier.fourier.bases import fourier_basis, frequency_rows, n_frequencies
from mechfourier.fourier.dft import frequency_power
from mechfourier.fourier.waves import harmonic_waves


def sums(n: int, device: torch.device | None = None) -> Int[Tensor, "n n"]:
    """(a + b) mod n for every pair."""
    v = torch.arange(n, device=device)
    return (v[:, None] + v[None, :]) % n


def class_means(y: Float[Tensor, "n n *rest"]) -> Float[Tensor, "n *rest"]:
    """Mean of ``y[a, b]`` over the n pairs with a + b = s: its projection on functions of the sum."""
    n = len(y)
    v = torch.arange(n, device=y.device)
    return y[v[None, :], (v[:, None] - v[None, :]) % n].mean(1)


def _rows(n: int, ks: Sequence[int]) -> Tensor:
    """The basis rows of the frequencies ``ks`` (each counted once)."""
    if any(not 1 <= k <= n_frequencies(n) for k in ks):
        raise OutOfRange(f"key frequencies {list(ks)} must lie in 1..{n_frequencies(n)} for n = {n}")
    basis = fourier_basis(n)
    return torch.cat([basis[:0], *(basis[frequency_rows(n, k)] for k in sorted(set(ks)))])


def key_part(by_sum: Float[Tensor, "n *rest"], ks: Sequence[int]) -> Float[Tensor, "n *rest"]:
    """The part of ``by_sum[s]`` at the frequencies ``ks``."""
    rows = _rows(len(by_sum), ks).to(by_sum)
    return torch.tensordot(rows.T @ rows, by_sum, dims=1)


def cross_entropy(
    logits: Float[Tensor, "*batch c"], answers: Int[Tensor, " *batch"]
) -> Float[Tensor, " *batch"]:
    """−log softmax at the answer, per row, in nats; float64."""
    logits = logits.double()
    return logits.logsumexp(-1) - logits.gather(-1, answers[..., None])[..., 0]


def trig_basis(n: int, ks: Sequence[int]) -> Float[Tensor, "k n"]:
    """√(2/n)·cos(2πke/n) for e = 0..n−1 (rows of length 1; (−1)^e/√n at Nyquist)."""
    rows = harmonic_waves(n, list(ks))[..., 0].T
    return rows / torch.linalg.norm(rows, dim=1, keepdim=True)


def _by_difference(by_sum: Float[Tensor, "n n"]) -> Float[Tensor, " n"]:
    """Mean over s of the table at c = s − e, for every e: its projection on functions of s − c."""
    n = len(by_sum)
    v = torch.arange(n, device=by_sum.device)
    return by_sum[v[None, :], (v[None, :] - v[:, None]) % n].mean(1)


def trig_amplitudes(logits: Float[Tensor, "n n n"]) -> Float[Tensor, " freq"]:
    """Least-squares α_k in L ≈ Σ_k α_k cos(2πk(a+b−c)/n), for k = 1..⌊n/2⌋, from all n³ logits."""
    n = len(logits)
    profile = _by_difference(class_means(logits).double())
    ks = range(1, n_frequencies(n) + 1)
    rows = trig_basis(n, ks).to(profile.device)
    return (rows @ profile) * rows[:, 0]  # rows[:, 0] = 1/‖cos‖


def trig_share(logits: Float[Tensor, "n n n"]) -> Float[Tensor, " freq"]:
    """Share of the logit variance in cos(2πk(a+b−c)/n), for k = 1..⌊n/2⌋.

    The variance is over all (a, b, c) after the mean over c is taken from every pair, which the softmax does
    not see.
    """
    n = len(logits)
    profile = _by_difference(class_means(logits).double())
    rows = trig_basis(n, range(1, n_frequencies(n) + 1)).to(profile.device)
    power = (rows @ (profile - profile.mean())) ** 2 * n * n
    total = _variance_over_answers(logits)
    return power / total if total > 0 else torch.zeros_like(power)


def _variance_over_answers(logits: Tensor) -> float:
    """Sum of squares about each pair's mean over c; accumulated per row so that no float64 copy is made."""
    return float(logits.var(-1, unbiased=False).double().sum() * logits.shape[-1])


@dataclass(frozen=True)
class Progress:
    """The measures of one checkpoint; ``*_train`` and ``*_test`` are over the pairs trained on and the
    others."""

    loss_train: float
    loss_test: float
    accuracy_train: float
    accuracy_test: float
    restricted_loss_train: float
    restricted_loss_test: float
    excluded_loss_train: float
    excluded_loss_test: float
    trig_loss_train: float
    trig_loss_test: float
    restricted_loss: float
    excluded_loss: float
    trig_loss: float
    loss: float
    accuracy: float


def progress_measures(
    logits: Float[Tensor, "n n n"], ks: Sequence[int], *, train: Bool[Tensor, "n n"] | None = None
) -> Progress:
    """All measures that come from logits; ``ks`` are the key frequencies, ``train[a, b]`` marks the training
    pairs.

    Without ``train`` the train and test values are NaN. An empty ``ks`` is allowed: then the restricted
    logits are constant in (a, b) and nothing is excluded.
    """
    n, s = len(logits), sums(len(logits), logits.device)
    by_sum = class_means(logits)
    key = key_part(by_sum, ks)
    kept = key + by_sum.mean(0)
    trig = _trig_table(by_sum.double(), ks)
    answers = torch.arange(n, device=logits.device)
    loss = cross_entropy(logits, s)
    right = (logits.argmax(-1) == s).double()
    tables = {
        "loss": loss,
        "accuracy": right,
        "excluded_loss": cross_entropy(logits - key[s], s),
        "restricted_loss": cross_entropy(kept, answers)[s],
        "trig_loss": cross_entropy(trig, answers)[s],
    }
    values = {name: float(table.mean()) for name, table in tables.items()}
    for part, mask in (("train", train), ("test", None if train is None else ~train)):
        for name, table in tables.items():
            values[f"{name}_{part}"] = math.nan if mask is None else float(table[mask].mean())
    return Progress(**values)


def _trig_table(by_sum: Float[Tensor, "n n"], ks: Sequence[int]) -> Float[Tensor, "n n"]:
    """Σ_k α_k cos(2πk(s−c)/n) for the key frequencies, as a table [s, c]."""
    n = len(by_sum)
    profile = _by_difference(by_sum)
    rows = trig_basis(n, sorted(set(ks))).to(profile)
    v = torch.arange(n, device=by_sum.device)
    return (rows.T @ (rows @ profile))[(v[:, None] - v[None, :]) % n]


def gini(norms: Float[Tensor, "*batch x"]) -> Float[Tensor, " *batch"]:
    """Gini coefficient over the last axis of non-negative values: 0 where all are equal, (m−1)/m where one of
    m holds all.

    Raises ``OutOfRange`` for a negative value. All-zero rows give 0.
    """
    if bool((norms < 0).any()):
        raise OutOfRange("the Gini coefficient needs values of at least 0; pass norms or powers")
    ordered = norms.double().sort(-1).values
    m = ordered.shape[-1]
    weight = (2 * torch.arange(1, m + 1, device=norms.device) - m - 1).double()
    total = ordered.sum(-1)
    return torch.where(total > 0, (ordered @ weight) / (m * total.clamp_min(1e-300)), 0.0)


def fourier_gini(y: Float[Tensor, "n d"], *, by_frequency: bool = False) -> float:
    """Gini coefficient of the norms of the Fourier components of ``y`` (first axis: the values): the n − 1
    cosines and sines that are not constant, or the ⌊n/2⌋ frequencies."""
    if by_frequency:
        return float(gini(frequency_power(y.double())[1:].sum(1).sqrt()))
    n = len(y)
    components = fourier_basis(n, dtype=y.dtype).to(y.device)[1:] @ y
    return float(gini(torch.linalg.norm(components, dim=1)))
