"""Do two sets of distances between the same values agree? Mantel's test (1967, Cancer Research 27).

n values have n(n − 1)/2 pairs, which are not independent: seven values have 21, and a correlation of .9 between
two sets of distances may be chance. So the null exchanges the values of one side: all n! orders where they are few,
else a random draw of them.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import permutations

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray

from mechfourier.errors import OutOfRange
from mechfourier.stats.permutation import permutation_p

EXACT = 5040  # orders of seven values: up to here all of them are tried
BLOCK = 2**24  # numbers in one block of permuted distances
RESAMPLES = 1000


@dataclass(frozen=True)
class Mantel:
    """``r``: Pearson correlation of the distances, per site. ``low``, ``high``: its 95 % interval (bootstrap over
    the values; pairs of a value with itself left out). ``p_value``: per site, one-sided, family-wise over the
    sites. ``null_upper``: the 95 % point of the largest r of any site under the null. ``exact``: all ``n_orders``
    orders of the values were tried."""

    r: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    p_value: tuple[float, ...]
    null_upper: float
    n_orders: int
    exact: bool


def mantel(
    first: Float[ndarray, "site n n"],
    second: Float[ndarray, "site n n"],
    *,
    n_permutations: int = 1000,
    seed: int = 0,
) -> Mantel:
    """Correlation of two sets of distances at every site, with the null of exchanged values.

    Raises ``OutOfRange`` for fewer than 4 values, distances that are not finite or do not differ.
    """
    n = first.shape[-1]
    if n < 4:
        raise OutOfRange(
            f"{n} values have {n * (n - 1) // 2} distances; a correlation needs 4 values or more"
        )
    if not (np.isfinite(first).all() and np.isfinite(second).all()):
        raise OutOfRange("the distances hold NaN or infinity")
    upper = np.triu_indices(n, 1)
    a, b = _standard(first[:, *upper]), _standard(second[:, *upper])
    observed = (a * b).sum(1)
    exact = math.factorial(n) <= EXACT
    orders = _orders(n, n_permutations, exact, seed)
    null = np.concatenate([_permuted(first, b, part, upper) for part in orders])
    largest = null.max(1)
    low, high = _interval(first, second, seed)
    return Mantel(
        tuple(observed.tolist()),
        tuple(low.tolist()),
        tuple(high.tolist()),
        tuple(permutation_p(observed, largest, exact=exact).tolist()),
        float(np.quantile(largest, 0.95)),
        len(null),
        exact,
    )


def distances(points: Float[ndarray, "*site n d"]) -> Float[ndarray, "*site n n"]:
    """Euclidean distances between the values."""
    square = (points**2).sum(-1)
    gram = points @ np.swapaxes(points, -1, -2)
    return np.sqrt(np.maximum(square[..., :, None] + square[..., None, :] - 2 * gram, 0.0))


def _standard(pairs: Float[ndarray, "site pair"]) -> Float[ndarray, "site pair"]:
    """Centred, and of length 1; raises ``OutOfRange`` where all distances are the same."""
    centred = pairs - pairs.mean(1, keepdims=True)
    length = np.linalg.norm(centred, axis=1, keepdims=True)
    if (length <= 1e-9 * np.abs(pairs).max(initial=1e-300)).any():
        raise OutOfRange("all values are equally far apart here: there is nothing to correlate")
    return centred / length


def _orders(n: int, count: int, exact: bool, seed: int) -> Iterator[Int[ndarray, "order n"]]:
    """Orders of the values, in blocks that fit the memory."""
    size = max(1, BLOCK // n**2)
    if exact:
        everything = np.array(list(permutations(range(n))))
    else:
        rng = np.random.default_rng(seed)
        everything = np.stack([rng.permutation(n) for _ in range(count)])
    for start in range(0, len(everything), size):
        yield everything[start : start + size]


def _permuted(
    first: Float[ndarray, "site n n"],
    b: Float[ndarray, "site pair"],
    orders: Int[ndarray, "order n"],
    upper: tuple[ndarray, ndarray],
) -> Float[ndarray, "order site"]:
    """The correlation under every order."""
    rows, columns = orders[:, upper[0]], orders[:, upper[1]]
    return np.stack(
        [_standard_rows(site[rows, columns]) @ own for site, own in zip(first, b, strict=True)], 1
    )


def _standard_rows(pairs: Float[ndarray, "order pair"]) -> Float[ndarray, "order pair"]:
    centred = pairs - pairs.mean(1, keepdims=True)
    return centred / np.maximum(np.linalg.norm(centred, axis=1, keepdims=True), 1e-300)


def _interval(
    first: Float[ndarray, "site n n"], second: Float[ndarray, "site n n"], seed: int
) -> tuple[Float[ndarray, " site"], Float[ndarray, " site"]]:
    """95 % percentile interval over resampled values: weights instead of copies, pairs of one value left out."""
    n = first.shape[-1]
    rng = np.random.default_rng([seed, 1])
    upper = np.triu_indices(n, 1)
    count = rng.multinomial(n, np.full(n, 1 / n), size=RESAMPLES)
    weight = (count[:, upper[0]] * count[:, upper[1]]).astype(np.float64)
    weight = weight[(weight > 0).sum(1) >= 3]
    weight /= weight.sum(1, keepdims=True)
    x, y = first[:, *upper], second[:, *upper]
    mx, my = weight @ x.T, weight @ y.T
    cov = weight @ (x * y).T - mx * my
    vx, vy = weight @ (x**2).T - mx**2, weight @ (y**2).T - my**2
    r = cov / np.sqrt(np.maximum(vx * vy, 1e-300))
    low, high = np.quantile(r, [0.025, 0.975], axis=0)
    return low, high
