"""Other accounts of a number line: digits, number of digits, tens, logarithm, polynomial.

A function of the last digit is a sum of the periods 10, 5, 10/3, 2.5 and 2, so a model that has a vector per
digit token gives a helix of periods 2, 5 and 10 a high R² without any circle. A helix says something where it
explains numbers that were left out of the fit better than these rivals, with as few parameters, and where its
periods explain part of what each rival leaves.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray
from scipy.linalg import orth

from mechfourier.stats.permutation import permutation_p

SMALLEST_CLASS = 3  # a class of fewer numbers cannot be predicted where one of them is left out
RANK = 1e-9


@dataclass(frozen=True)
class Rival:
    """Another account of the same means. ``r2_held_out``: each number left out of its own fit.
    ``partial_r2``: of what the rival (with the line) leaves, the share that the periods explain, held out;
    ``p_partial``: its permutation p (residuals permuted, Freedman & Lane 1983)."""

    name: str
    parameters: int
    r2_held_out: float
    partial_r2: float
    p_partial: float


def rival_bases(
    values: Int[ndarray, " value"], polynomial: Float[ndarray, "value feature"]
) -> Mapping[str, Float[ndarray, "value _"]]:
    """The rivals by name, each with its constant; ``polynomial`` is one of as many parameters as the
    helix."""
    numbers = np.asarray(values).astype(int)
    one = np.ones((len(numbers), 1))
    last, tens = _classes(numbers % 10), _classes(numbers // 10 % 10)
    length = _classes(np.array([len(str(v)) for v in numbers]))
    # one place more for every digit that the numbers have
    places = [_classes(numbers // 10**place % 10) for place in range(len(str(int(numbers.max()))))]
    found = {
        "last digit + number of digits": np.hstack([one, last, length]),
        "tens digit + number of digits": np.hstack([one, tens, length]),
        "every digit + number of digits": np.hstack([one, *places, length]),
        "logarithm": np.hstack([one, np.log1p(numbers)[:, None]]),
        "polynomial of equal size": polynomial,
    }
    return {name: basis for name, basis in found.items() if basis.shape[1] > 1}


def _classes(labels: Int[ndarray, " value"]) -> Float[ndarray, "value label"]:
    """Indicators of all labels that enough numbers have."""
    kept = [label for label in np.unique(labels) if (labels == label).sum() >= SMALLEST_CLASS]
    return (labels[:, None] == np.array(kept, dtype=labels.dtype)[None]).astype(float)


def orthonormal(basis: Float[ndarray, "value feature"]) -> Float[ndarray, "value rank"]:
    """An orthonormal basis of the columns' span; columns that depend on others (a tens digit of 0, one digit)
    add nothing."""
    scale = np.linalg.norm(basis, axis=0)
    return orth(basis[:, scale > 0] / scale[scale > 0], rcond=RANK)


def residual_of(
    q: Float[ndarray, "value rank"], scores: Float[ndarray, "value component"]
) -> Float[ndarray, "value component"]:
    """What the orthonormal columns ``q`` leave of the scores."""
    return scores - q @ (q.T @ scores)


def press(q: Float[ndarray, "value rank"], scores: Float[ndarray, "value component"]) -> float:
    """Squared error of every number predicted from the others (PRESS: residuals over 1 − leverage, squared
    and summed)."""
    leverage = np.clip((q**2).sum(1), 0, 1 - 1e-9)
    return float(((residual_of(q, scores) ** 2).sum(1) / (1 - leverage) ** 2).sum())


def held_out_r2(basis: Float[ndarray, "value feature"], scores: Float[ndarray, "value component"]) -> float:
    """Leave-one-out R²: 1 − PRESS / PRESS of the mean."""
    mean = np.full((len(scores), 1), len(scores) ** -0.5)
    return 1 - press(orthonormal(basis), scores) / press(mean, scores)


def beside_rivals(
    values: Int[ndarray, " value"],
    scores: Float[ndarray, "value component"],
    helix: Float[ndarray, "value feature"],
    polynomial: Float[ndarray, "value feature"],
    orders: Int[ndarray, "draw value"],
) -> tuple[Rival, ...]:
    """Every rival, and what the helix's columns explain of what it leaves. ``orders``: permutations of the
    numbers, for the null."""
    line = helix[:, :2]
    found = []
    for name, basis in rival_bases(values, polynomial).items():
        with_line = np.hstack([basis, line])
        observed, null = _partial(with_line, np.hstack([with_line, helix]), scores, orders)
        p = permutation_p(observed, null)
        size = orthonormal(basis).shape[1]
        found.append(Rival(name, size, held_out_r2(basis, scores), observed, p))
    return tuple(found)


def _partial(
    small: Float[ndarray, "value feature"],
    large: Float[ndarray, "value feature2"],
    scores: Float[ndarray, "value component"],
    orders: Int[ndarray, "draw value"],
) -> tuple[float, Float[ndarray, " draw"]]:
    """1 − PRESS(large) / PRESS(small), and the same with the small model's residuals permuted over the
    numbers."""
    few, many = orthonormal(small), orthonormal(large)
    left = residual_of(few, scores)
    if (left**2).sum() <= RANK * (scores**2).sum() or many.shape[1] == few.shape[1]:
        return 0.0, np.zeros(len(orders))
    null = [1 - press(many, left[order]) / press(few, left[order]) for order in orders]
    return 1 - press(many, left) / press(few, left), np.array(null)
