"""Clock or Pizza: the two measures of Zhong et al. (2023, arXiv 2306.17844, definitions 4.1 and 4.2).

*Gradient symmetricity*: over random triples (a, b, c) — c any residue, right or wrong — the mean cosine
between the gradients of the logit of c with respect to the embeddings of a and of b. The paper takes 100
triples of all p³; with so few its standard error is about 0.04 for a Clock, so here more are drawn and the
error is given. An untrained network has a symmetricity near 1, so a high value alone does not show a Pizza.

*Distance irrelevance*: of the logit of the *right* answer, L[a, b] at c = a + b: the standard deviation along
each line of constant a − b, averaged over the lines, by the standard deviation over all pairs. 1 where the
right logit depends on the sum only (Clock: the distance of the operands is irrelevant), small where it
depends on the distance. The authors' own table takes the logit of the best *wrong* answer instead
(`best_wrong_logits`), so both are given.
"""

from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mechfourier.errors import OutOfRange

Algorithm = Literal["clock", "pizza", "boundary", "not learned"]

# The paper calls distance irrelevance in [0, 0.4] typical of Pizzas and in [0.4, 1] of Clocks. A band about
# 0.4 and disagreement of the two measures are reported as the boundary that they are.
PIZZA_DISTANCE, CLOCK_DISTANCE = 0.35, 0.55
PIZZA_SYMMETRICITY, CLOCK_SYMMETRICITY = 0.95, 0.75
LEARNED_ACCURACY = 0.99


def random_triples(p: int, count: int, *, seed: int = 0) -> Int[Tensor, "triple 3"]:
    """``count`` triples (a, b, c), independent and uniform on 0..p−1."""
    return torch.randint(0, p, (count, 3), generator=torch.Generator().manual_seed(seed))


def gradient_cosines(
    grad_a: Float[Tensor, "triple d"], grad_b: Float[Tensor, "triple d"]
) -> Float[Tensor, " triple"]:
    """Cosine of the two gradients of every triple, in float64; 0 where one of them vanishes."""
    return torch.cosine_similarity(grad_a.double(), grad_b.double(), dim=1)


def mean_and_error(values: Float[Tensor, " sample"]) -> tuple[float, float]:
    """The mean and its standard error; the gradient symmetricity, from :func:`gradient_cosines`."""
    if len(values) < 2:
        raise OutOfRange("one triple gives no error estimate; draw at least 2")
    return float(values.mean()), float(values.std() / len(values) ** 0.5)


def distance_irrelevance(right_logits: Float[Tensor, "n n"]) -> float:
    """Of ``right_logits[a, b]``, the logit of the right answer of every pair; 0 for a constant table."""
    n = len(right_logits)
    table = right_logits.double()
    v = torch.arange(n, device=table.device)
    by_distance = table[v[None, :], (v[None, :] - v[:, None]) % n]  # [distance, a]
    spread = table.std(unbiased=False)
    return float(by_distance.std(1, unbiased=False).mean() / spread) if spread > 0 else 0.0


def right_logits(logits: Float[Tensor, "n n n"]) -> Float[Tensor, "n n"]:
    """``logits[a, b, (a + b) mod n]``."""
    n = len(logits)
    v = torch.arange(n, device=logits.device)
    return logits.gather(2, ((v[:, None] + v[None, :]) % n)[..., None])[..., 0]


def best_wrong_logits(logits: Float[Tensor, "n n n"]) -> Float[Tensor, "n n"]:
    """The highest of ``logits[a, b, c]`` over c ≠ (a + b) mod n."""
    n = len(logits)
    v = torch.arange(n, device=logits.device)
    right = ((v[:, None] + v[None, :]) % n)[..., None]
    return logits.scatter(2, right, -torch.inf).max(2).values


def classify(symmetricity: float, irrelevance: float, accuracy: float) -> Algorithm:
    """``clock``, ``pizza``, ``boundary`` where the two measures disagree or lie between, ``not learned``
    below 99 %.

    clock: distance irrelevance ≥ 0.55 and symmetricity ≤ 0.75; pizza: ≤ 0.35 and ≥ 0.95.
    """
    if accuracy < LEARNED_ACCURACY:
        return "not learned"
    if irrelevance <= PIZZA_DISTANCE and symmetricity >= PIZZA_SYMMETRICITY:
        return "pizza"
    if irrelevance >= CLOCK_DISTANCE and symmetricity <= CLOCK_SYMMETRICITY:
        return "clock"
    return "boundary"
