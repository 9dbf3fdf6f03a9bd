"""The subspace probe: read the angle of a value from the whole activation, on values and templates it was not
fitted on.

Ridge regression of [cos 2πkv/n, sin 2πkv/n] on the template-mean activations, in its dual form (so only Gram
matrices are needed). Every prediction leaves out its value *and* its template: with more dimensions than
values, a plane that draws a perfect circle through the values it was fitted on always exists, and says
nothing.
"""

import math
from dataclasses import dataclass

import torch
from einops import einsum, rearrange
from jaxtyping import Float, Int
from torch import Tensor

from mechfourier.fourier.waves import waves
from mechfourier.stats.permutation import permutation_p
from mechfourier.stats.threads import one_thread

PENALTIES = (0.003, 0.03, 0.3, 3.0)  # ridge, as multiples of the mean eigenvalue of the training Gram matrix


@dataclass(frozen=True)
class SubspaceProbe:
    """``r2``: held-out R² of [cos, sin] (0 = as good as the mean); ``error``: mean circular error in steps of
    the domain; ``null_error``: the same for permuted labels (mean, and the 5 % quantile in ``null_low``);
    ``p_value`` of the error. ``selectivity`` = null_error − error: task against control task (random
    relabellings), in steps."""

    k: int
    r2: float
    error: float
    null_error: float
    null_low: float
    p_value: float
    selectivity: float


def prediction_weights(cross: Float[Tensor, "t u n n2"]) -> Float[Tensor, "penalty t n n2"]:
    """A[penalty, t, v, w]: the weight of the target of value w in the prediction for value v read in template
    t.

    Fitted on the other templates' means of the other values; A[…, v, v] = 0 and rows sum to 1. One eigendecomposition per template
    serves all values: a ridge without value v is the one of all values less a multiple of row v of its inverse (the block inverse,
    as for leave-one-out residuals), so the cost is n³ and not n⁴.
    """
    count, n = cross.shape[0], cross.shape[-1]
    others = (1 - torch.eye(count, dtype=cross.dtype)) / (count - 1)
    train = einsum(others, cross, others, "h t, t u v w, h u -> h v w")
    test = einsum(others, cross, "h t, h t v w -> h v w")
    penalty = einsum(
        torch.tensor(PENALTIES, dtype=cross.dtype), _mean_eigenvalues_without(train), "p, h v -> p h v"
    )[..., None]
    centred = (
        train
        - train.mean(-1, keepdim=True)
        - train.mean(-2, keepdim=True)
        + train.mean((-2, -1), keepdim=True)
    )
    with one_thread():
        size, axes = torch.linalg.eigh(centred)
    shrink = 1 / (size.clamp_min(0)[:, None] + penalty)  # [penalty, template, value, axis]
    # the value read, from the mean of its template's other values
    seen = (n * test - test.sum(-2, keepdim=True)) / (n - 1)
    fitted = einsum(
        (seen - seen.mean(-1, keepdim=True)) @ axes, shrink, axes, "h v i, p h v i, h w i -> p h v w"
    )
    # row v of the inverse of the system of all values, times the penalty
    inverse = einsum(axes, shrink * penalty, axes, "h v i, p h v i, h w i -> p h v w") - 1 / n
    at = torch.arange(n)
    ratio = fitted[..., at, at] / inverse[..., at, at]
    weights = fitted - ratio[..., None] * inverse + 1 / (n - 1)
    weights[..., at, at] = 0.0
    return weights


def _mean_eigenvalues_without(train: Float[Tensor, "h n n"]) -> Float[Tensor, "h n"]:
    """The mean eigenvalue of each centred Gram matrix without each of its values."""
    n = train.shape[-1]
    own, rows = torch.diagonal(train, dim1=-2, dim2=-1), train.sum(-1)
    left = train.sum((-2, -1))[:, None] - 2 * rows + own  # the sum of the matrix without row and column
    trace = own.sum(-1, keepdim=True) - own - left / (n - 1)
    # a value that alone carries all variation leaves none: no division by zero, and no weight
    floor = torch.finfo(train.dtype).eps * own.mean(-1, keepdim=True)
    return torch.where(floor > 0, (trace / (n - 1)).clamp_min(floor), 1.0)


def circle_targets(n: int, k: int, order: Int[Tensor, "b n"]) -> Float[Tensor, "b n two"]:
    """[cos, sin] of 2πk·label/n for every order of the labels."""
    return waves(k * order.double() / n)


def held_out_scores(
    weights: Float[Tensor, "penalty t n n2"], targets: Float[Tensor, "b n two"]
) -> tuple[Float[Tensor, " b"], Float[Tensor, " b"]]:
    """Held-out R² and mean circular error (turns) per labelling, at the penalty that suits that labelling
    best."""
    n = targets.shape[1]
    guess = einsum(weights, targets, "p t v w, b w c -> p b t v c")
    truth = targets[None, :, None]
    missed = ((guess - truth) ** 2).sum((2, 3, 4))
    baseline = ((targets - targets.mean(1, keepdim=True)) ** 2).sum((1, 2)) * (n / (n - 1)) ** 2
    r2 = 1 - missed / (baseline * weights.shape[1])
    turn = torch.atan2(guess[..., 1], guess[..., 0]) - torch.atan2(truth[..., 1], truth[..., 0])
    error = (torch.remainder(turn / (2 * math.pi) + 0.5, 1.0) - 0.5).abs().mean((2, 3))
    best = r2.argmax(0, keepdim=True)
    return r2.gather(0, best)[0], error.gather(0, best)[0]


def subspace_probe(
    cross: Float[Tensor, "t u n n2"], k: int, orders: Int[Tensor, "b n"], *, order_k: Int[Tensor, " b"]
) -> SubspaceProbe:
    """Probe one site at harmonic ``k`` beside permuted labels, each at the harmonic ``order_k`` selected for
    it."""
    n = cross.shape[-1]
    weights = prediction_weights(cross)
    r2, error = held_out_scores(weights, circle_targets(n, k, torch.arange(n)[None]))
    targets = waves(order_k[:, None] * orders.double() / n)
    null = torch.cat([held_out_scores(weights, part)[1] for part in targets.split(64)])
    steps = n / k
    return SubspaceProbe(
        k=k,
        r2=float(r2[0]),
        error=float(error[0]) * steps,
        null_error=float(null.mean()) * steps,
        null_low=float(torch.quantile(null, 0.05)) * steps,
        p_value=permutation_p(-float(error[0]), -null),
        selectivity=float(null.mean() - error[0]) * steps,
    )


def circle_positions(
    cross: Float[Tensor, "t u n n2"], k: int
) -> tuple[Float[Tensor, "n two"], Float[Tensor, "t n two"]]:
    """Held-out positions of the values in the fitted plane: their mean over templates, and per template. For
    drawing."""
    n = cross.shape[-1]
    weights = prediction_weights(cross)
    targets = circle_targets(n, k, torch.arange(n)[None])
    guess = rearrange(einsum(weights, targets, "p t v w, b w c -> p b t v c"), "p 1 t v c -> p t v c")
    missed = ((guess - targets[0]) ** 2).sum((1, 2, 3))
    chosen = guess[missed.argmin()]
    return chosen.mean(0), chosen
