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
    first: Float[ndarray, "*split site n n"],
    second: Float[ndarray, "*split site n n"],
    *,
    n_permutations: int = 1000,
    seed: int = 0,
) -> Mantel:
    """Correlation of two sets of distances at every site, with the null of exchanged values; of several ``split``s of
    the same values (halves of the data) the mean correlation.

    Raises ``OutOfRange`` for fewer than 4 values, distances that are not finite or do not differ.
    """
    n = first.shape[-1]
    if n < 4:
        raise OutOfRange(
            f"{n} values have {n * (n - 1) // 2} distances; a correlation needs 4 values or more"
        )
    if not (np.isfinite(first).all() and np.isfinite(second).all()):
        raise OutOfRange("the distances hold NaN or infinity")
    one, two = (side[None] if side.ndim == 3 else side for side in (first, second))
    upper = np.triu_indices(n, 1)
    b = _standard(two[..., *upper])
    observed = (_standard(one[..., *upper]) * b).sum(-1).mean(0)
    exact = math.factorial(n) <= EXACT
    orders = _orders(n, n_permutations, exact, seed)
    null = np.concatenate([_permuted(one, b, part, upper) for part in orders])
    largest = null.max(1)
    low, high = _interval(one[..., *upper], two[..., *upper], upper, seed)
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


def _standard(pairs: Float[ndarray, "*lead pair"]) -> Float[ndarray, "*lead pair"]:
    """Centred, and of length 1; raises ``OutOfRange`` where all distances are the same."""
    centred = pairs - pairs.mean(-1, keepdims=True)
    length = np.linalg.norm(centred, axis=-1, keepdims=True)
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
    first: Float[ndarray, "split site n n"],
    b: Float[ndarray, "split site pair"],
    orders: Int[ndarray, "order n"],
    upper: tuple[ndarray, ndarray],
) -> Float[ndarray, "order site"]:
    """The correlation under every order."""
    rows, columns = orders[:, upper[0]], orders[:, upper[1]]
    found = np.zeros((len(orders), first.shape[1]))
    for split, site in np.ndindex(*first.shape[:2]):
        found[:, site] += _standard(first[split, site][rows, columns]) @ b[split, site]
    return found / len(first)


def _interval(
    x: Float[ndarray, "split site pair"],
    y: Float[ndarray, "split site pair"],
    upper: tuple[ndarray, ndarray],
    seed: int,
) -> tuple[Float[ndarray, " site"], Float[ndarray, " site"]]:
    """95 % percentile interval over resampled values: weights instead of copies, pairs of one value left out."""
    n = int(upper[1].max()) + 1
    rng = np.random.default_rng([seed, 1])
    count = rng.multinomial(n, np.full(n, 1 / n), size=RESAMPLES)
    weight = (count[:, upper[0]] * count[:, upper[1]]).astype(np.float64)
    weight = weight[(weight > 0).sum(1) >= 3]
    weight /= weight.sum(1, keepdims=True)
    means = [side @ weight.T for side in (x, y, x * y, x**2, y**2)]
    cov = means[2] - means[0] * means[1]
    spread = (means[3] - means[0] ** 2) * (means[4] - means[1] ** 2)
    r = (cov / np.sqrt(np.maximum(spread, 1e-300))).mean(0)
    low, high = np.quantile(r, [0.025, 0.975], axis=-1)
    return low, high
