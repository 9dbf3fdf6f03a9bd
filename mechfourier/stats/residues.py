"""Residue classes of a number line: how well numbers with the same remainder lie together, and how much of the
power between numbers has a given period.

A spike of the spectrum at period T says that *something* repeats every T numbers. Any vector per digit gives spikes
at 10, 5, 10/3, 2.5 and 2 at once. The separability κ asks for more: that the classes modulo T lie apart, compared with
how far the numbers scatter within them.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray

from mechfourier.stats.helix import helix_basis
from mechfourier.stats.permutation import permutation_p
from mechfourier.stats.rivals import orthonormal, residual_of

BLOCK = 2**24


@dataclass(frozen=True)
class Separability:
    """``kappa``: scatter between the classes modulo ``modulus`` over the scatter within them (traces).
    ``null_mean``, ``null_upper``: mean and 95 % point of κ where the numbers change places; ``p_value`` one-sided."""

    modulus: int
    kappa: float
    null_mean: float
    null_upper: float
    p_value: float


def separability(
    means: Float[ndarray, "value d"],
    values: Int[ndarray, " value"],
    modulus: int,
    *,
    n_permutations: int = 1000,
    seed: int = 0,
) -> Separability | None:
    """κ of the residue classes modulo ``modulus`` after the line through the numbers is taken out; None where fewer
    than two classes, or no class, have two numbers, or nothing is left.

    The null exchanges what the line leaves (Freedman & Lane 1983).
    """
    numbers = np.asarray(values).astype(int)
    label = np.unique(numbers % modulus, return_inverse=True)[1]
    sizes = np.bincount(label)
    if len(sizes) < 2 or sizes.max() < 2 or modulus < 2:
        return None
    rest = _without_line(means, numbers)
    power = float((rest**2).sum())
    if power <= 1e-18 * max(float((means**2).sum()), 1e-300):
        return None
    rng = np.random.default_rng([seed, modulus])
    orders = np.stack([np.arange(len(label)), *(rng.permutation(len(label)) for _ in range(n_permutations))])
    between = np.concatenate([_between(rest, part, sizes) for part in _blocks(label[orders], rest.shape[1])])
    kappa = between / np.maximum(power - between, 1e-12 * power)
    own, null = float(kappa[0]), kappa[1:]
    return Separability(
        modulus, own, float(null.mean()), float(np.quantile(null, 0.95)), permutation_p(own, null)
    )


def _blocks(labels: Int[ndarray, "draw value"], width: int) -> Iterator[Int[ndarray, "part value"]]:
    size = max(1, BLOCK // (labels.shape[1] * max(width, int(labels.max()) + 1)))
    for start in range(0, len(labels), size):
        yield labels[start : start + size]


def _between(
    rest: Float[ndarray, "value c"], labels: Int[ndarray, "draw value"], sizes: Int[ndarray, " label"]
) -> Float[ndarray, " draw"]:
    """Scatter between the classes: Σ over them of the squared length of their sum, over their size."""
    member = (labels[:, None] == np.arange(len(sizes))[None, :, None]).astype(float)
    return (((member @ rest) ** 2).sum(-1) / sizes).sum(-1)


def _without_line(
    means: Float[ndarray, "value d"], values: Int[ndarray, " value"]
) -> Float[ndarray, "value c"]:
    """What a constant and a line leave, in the numbers' own principal components (same distances, fewer columns)."""
    centred = np.asarray(means, np.float64) - np.mean(means, 0)
    u, s, _ = np.linalg.svd(centred, full_matrices=False)
    line = orthonormal(helix_basis(values.astype(float), []))
    return residual_of(line, u * s)


def period_shares(
    means: Float[ndarray, "value d"], values: Int[ndarray, " value"], periods: Sequence[float]
) -> Float[ndarray, " period"]:
    """Share of the power that the line leaves which one period alone explains (in sample), per period; 0 where
    nothing is left. Chance is two parameters' worth, 2 / (values − 2)."""
    numbers = np.asarray(values).astype(int)
    rest = _without_line(means, numbers)
    power = float((rest**2).sum())
    if power <= 1e-18 * max(float((np.asarray(means) ** 2).sum()), 1e-300):
        return np.zeros(len(periods))
    line = orthonormal(helix_basis(numbers.astype(float), []))
    shares = []
    for period in periods:
        wave = helix_basis(numbers.astype(float), [period])[:, 2:]
        q = orthonormal(residual_of(line, wave))
        shares.append(float(((q.T @ rest) ** 2).sum() / power))
    return np.array(shares)


def token_statistics(
    values: Int[ndarray, " value"], tokens: Int[ndarray, " value"] | None = None
) -> Float[ndarray, "value feature"]:
    """What is known of numbers without any text: how often each digit stands in them, how many digits and tokens
    they have, and their logarithm; every column of variance 1, constant ones left out."""
    texts = [str(int(v)) for v in values]
    columns = [np.array([text.count(str(digit)) for text in texts]) for digit in range(10)]
    columns += [np.array([len(text) for text in texts]), np.log1p(np.asarray(values, np.float64))]
    if tokens is not None:
        columns.append(np.asarray(tokens))
    table = np.stack(columns, 1).astype(np.float64)
    spread = table.std(0)
    return (table - table.mean(0))[:, spread > 0] / spread[spread > 0]
