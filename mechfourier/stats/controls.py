"""The untrained control: is the shape that a site shows already there with re-initialised weights?

The same prompts in the same architecture with random weights. Tokens that values share, and lengths, give
order to untrained activations too, so every word about a shape has to stand this comparison. The other
control (permuted labels) is part of the contest itself.
"""

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from numpy import ndarray
from torch import Tensor

from mechfourier.stats.permutation import permutation_p
from mechfourier.stats.shapes.families import family
from mechfourier.stats.shapes.tables import canonical_frame, cross_gram, distinct_templates, unbiased_mean

LEVEL = 0.05
CLEARLY = 0.5
"""Share of the trained model's evidence below which the control counts as lower."""


@dataclass(frozen=True)
class ControlEvidence:
    """The shapes of a site's word in the untrained model, at the same site.

    ``evidence``: share of the between-value power that they predict of values left out, at most 1;
    ``p_value``: the same for permuted labels; ``ratio``: over the trained model's evidence; ``lower``: no
    more than chance, or under one half of the trained model's.
    """

    evidence: float
    p_value: float
    ratio: float
    lower: bool


def control_evidence(
    control: Float[Tensor, "value template d"],
    shapes: Collection[str],
    evidence: float,
    *,
    permutations: int = 199,
    seed: int = 0,
) -> ControlEvidence:
    """``shapes``: names in the contest; ``evidence``: that of the trained model, above 0."""
    gram = _noise_free(control.detach().cpu().double().numpy())
    n = len(gram)
    rng = np.random.default_rng(seed)
    orders = np.concatenate([np.arange(n)[None], np.argsort(rng.random((permutations, n)), 1)])
    found = _predicted(gram[orders[:, :, None], orders[:, None, :]], shapes)
    p, share = permutation_p(float(found[0]), found[1:]), float(found[0])
    ratio = share / max(evidence, 1e-9)
    return ControlEvidence(share, p, ratio, lower=not (p < LEVEL and ratio >= CLEARLY))


def _predicted(grams: Float[ndarray, "b n n"], shapes: Collection[str]) -> Float[ndarray, " b"]:
    """Largest share that a design of ``shapes`` predicts, per Gram matrix."""
    n = grams.shape[-1]
    designs = family(n)
    members = [i for name in designs.names if name in shapes for i in designs.members(name)]
    total = np.einsum("bvv->b", grams)
    if not members or not (total > 0).all():
        return np.zeros(len(grams))
    errors = (grams.reshape(len(grams), -1) @ designs.forms(members).T).min(1)
    return np.minimum(1 - errors / (n / (n - 1) ** 2 * total), 1.0)


def _noise_free(acts: Float[ndarray, "value template d"]) -> Float[ndarray, "n n"]:
    """The Gram matrix of the values from products of different templates, in its canonical frame; of copies,
    one with its noise."""
    gram = cross_gram(acts / max(float(np.abs(acts).max()), 1e-300))
    kept = distinct_templates(gram)
    mean = gram[kept[0], kept[0]] if len(kept) == 1 else unbiased_mean(gram[np.ix_(kept, kept)])
    order = canonical_frame(mean).order
    return mean[np.ix_(order, order)]
