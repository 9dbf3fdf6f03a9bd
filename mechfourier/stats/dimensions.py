"""The basis dimensions that a harmonic fits best, and what that is worth after the same search with permuted labels."""

import math
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from mechfourier.stats.null import LabelPermutations, dimension_null, dimension_r2


@dataclass(frozen=True)
class Dimension:
    """One basis dimension: the harmonic that fits its template mean best, the R² usually published, and its
    worth."""

    dim: int
    k: int
    r2: float
    p_value: float


def best_dimensions(
    mean: Float[Tensor, "site value d"], orders: LabelPermutations, *, skip: bool
) -> tuple[list[tuple[Dimension, ...]], float]:
    """The three best dimensions of every site with family-wise p over all sites, dimensions and harmonics."""
    if skip:
        return [()] * len(mean), math.nan
    r2 = dimension_r2(mean)
    null = dimension_null(mean, orders).amax(1).double()
    best = r2.max(1)
    top = best.values.topk(min(3, r2.shape[-1]), dim=1)
    # float32 in the null: ties with the observed order must count against it
    p = orders.p_value(top.values - 1e-5, null)
    rows = [
        tuple(
            Dimension(int(dim), int(best.indices[i, dim]) + 1, float(value), float(worth))
            for dim, value, worth in zip(top.indices[i], top.values[i], p[i], strict=True)
        )
        for i in range(len(r2))
    ]
    return rows, float(p.min())
