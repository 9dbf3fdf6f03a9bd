"""P-values that hold for a whole family of tests at once, by the largest statistic of each draw.

Westfall and Young 1993: every draw of the null is made for all tests together, each test's statistic is
measured in its own spread, and the largest of a draw stands for it.
"""

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from mechfourier.stats.permutation import permutation_p

FLIPS = 999


def largest_p(
    observed: Float[ndarray, " test"], null: Float[ndarray, "test draw"]
) -> Float[ndarray, " test"]:
    """Family-wise p of every test. ``null[:, i]`` is one draw of all tests, exchangeable with ``observed``
    where nothing is there; large values are evidence. A test without spread has p = 1."""
    pool = np.concatenate([observed[:, None], null], axis=1)
    spread = pool.std(axis=1, keepdims=True)
    size = np.abs(pool).max(axis=1, keepdims=True)
    flat = spread <= 1e-9 * np.maximum(size, 1e-30)
    standard = np.where(flat, 0.0, (pool - pool.mean(axis=1, keepdims=True)) / np.where(flat, 1.0, spread))
    p = permutation_p(standard[:, 0], standard[:, 1:].max(axis=0))
    return np.where(flat[:, 0], 1.0, p)


def sign_flip_p(
    values: Float[ndarray, "test unit"], *, seed: int, flips: int = FLIPS
) -> Float[ndarray, " test"]:
    """Family-wise p that the mean of a test's ``values`` is above 0: the signs of each unit (a prompt) are
    flipped at random, the same in all tests. Exact where the values are symmetric about 0 under the null."""
    signs = np.random.default_rng(seed).choice([-1.0, 1.0], size=(flips, values.shape[1]))
    square = np.square(values).sum(axis=1)
    scale = np.sqrt(np.where(square > 0, square, 1.0))[:, None]
    null = (values / scale) @ signs.T
    p = permutation_p((values / scale).sum(axis=1), null.max(axis=0))
    return np.where(square > 0, p, 1.0)
