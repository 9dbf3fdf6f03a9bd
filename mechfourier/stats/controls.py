"""The controls that run by default: re-initialised weights, a control task, held-out templates.

The control task (random relabellings of the values) is the permutation null itself, and the selectivity of
:class:`mechfourier.stats.subspace.SubspaceProbe`; held-out templates are in every statistic, since powers are
taken between different templates. What is left is the re-initialised model, on the same prompts.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from mechfourier.stats.copies import distinct, distinct_gram, template_groups
from mechfourier.stats.null import LabelPermutations, circle_null, circle_scores
from mechfourier.stats.spectrum import constant_sites, cross_gram

CLEARLY = 0.5


@dataclass(frozen=True)
class ControlEvidence:
    """The re-initialised model: its best circle score over sites and k, the family-wise p, and its excess over chance
    as a share of the trained model's (``ratio``). ``lower``: that share is under one half."""

    score: float
    p_value: float
    ratio: float
    lower: bool


def control_evidence(
    control: Float[Tensor, "site value template d"] | None, orders: LabelPermutations, excess: float
) -> ControlEvidence | None:
    """Run the circle test on the control. ``excess``: the trained model's best score less the mean of its null maxima."""
    if control is None:
        return None
    flat = constant_sites(control)
    control = torch.where(flat[:, None, None, None], torch.zeros_like(control), control)
    cross = cross_gram(control)
    gram = distinct_gram(cross, [distinct(template_groups(each)) for each in cross])
    best = circle_scores(gram).max()
    null = circle_null(gram, orders)[0].amax(1)
    over = float(best - null.mean())
    ratio = over / excess if excess > 0 else math.inf
    return ControlEvidence(
        score=float(best),
        p_value=float(orders.p_value(best, null)),
        ratio=ratio,
        lower=ratio < CLEARLY,
    )
