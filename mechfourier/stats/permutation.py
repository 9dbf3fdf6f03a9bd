"""P-values of permutations, the one rule for all of them, and of many tests at once."""

from collections.abc import Sequence
from typing import overload

import numpy as np
from numpy import ndarray
from numpy.typing import ArrayLike
from torch import Tensor

TIE = 1e-9  # two statistics closer than this share of their size are a tie: float error, not evidence


@overload
def permutation_p(observed: float, null: "ArrayLike | Tensor", *, exact: bool = False) -> float: ...
@overload
def permutation_p(
    observed: "ndarray | Tensor", null: "ArrayLike | Tensor", *, exact: bool = False
) -> ndarray: ...
def permutation_p(
    observed: "float | ndarray | Tensor", null: "ArrayLike | Tensor", *, exact: bool = False
) -> float | ndarray:
    """(1 + #{null ≥ observed}) / (draws + 1), of every observed statistic; large statistics count against the
    null.

    ``null``: [draw], shared by all of ``observed`` (a family-wise null of maxima), or [draw, *observed].
    ``exact``: the null is every labelling, the true one among them, so p = #{null ≥ observed} / draws. Ties
    count against the observed statistic, and so does NaN on either side. Where small statistics are the
    evidence (errors), give both with a minus. A float for a float, else an array.
    """
    drawn = np.asarray(null, dtype=np.float64)
    value = np.asarray(observed, dtype=np.float64)
    if drawn.ndim == 1:
        drawn = drawn.reshape(-1, *[1] * value.ndim)
    size = np.abs(value)
    scale = np.maximum(size, np.median(np.abs(drawn), axis=0)) if len(drawn) else size
    band = np.where(np.isfinite(scale), TIE * scale, 0.0)
    count = (~(drawn < value - band)).sum(0)
    p = count / len(drawn) if exact else (1 + count) / (len(drawn) + 1)
    return float(p) if value.ndim == 0 else p


def holm(p_values: Sequence[float]) -> tuple[float, ...]:
    """Holm's step-down adjusted p-values (Holm 1979), in the order given."""
    p = np.asarray(p_values, dtype=float)
    order = np.argsort(p)
    adjusted = np.maximum.accumulate((len(p) - np.arange(len(p))) * p[order]).clip(max=1.0)
    out = np.empty_like(adjusted)
    out[order] = adjusted
    return tuple(out.tolist())
