"""Ablations where the rest of the model is linear: the logits change by a rank-one update, so no forward pass is needed.

In the one-layer transformer nothing but matrices follows the neurons: setting neuron u to its mean changes the logits by
(mean − post) · W_out[u] W_U.
"""

from collections.abc import Callable
from typing import Any

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from mechfourier.causal.controls import Ablations
from mechfourier.causal.outcome import AnswerTask, SimilarityTask
from mechfourier.hooks.capture import capture
from mechfourier.hooks.run import has_hooks
from mechfourier.hooks.site import Site
from mechfourier.probes.answers import AnswerScores

CHUNK = 2**21  # logits changed at a time: small enough to stay in the cache


def readout(model: Any, task: AnswerTask | SimilarityTask, site: Site) -> Float[Tensor, "d candidate"] | None:
    """What one unit of each dimension of ``site`` adds to the candidates' logits; None where the way there is not linear.

    Known for the one-layer transformer (no norm), after its neurons, with answers of one token. Foreign hooks may change
    what follows, so a hooked model has none.
    """
    from mechfourier.models.one_layer import OneLayerTransformer

    if not isinstance(model, OneLayerTransformer) or not isinstance(task, AnswerTask) or has_hooks(model):
        return None
    if site.kind not in ("mlp_post", "mlp_out", "resid_post") or task.plan.deepest > 0:
        return None
    if any(map(task.plan.continuing.get, task.plan.answers)):
        return None
    unembed = model.W_U[:, [answer[0] for answer in task.plan.answers]].detach()
    matrix = model.blocks[0].mlp.W_out.detach() @ unembed if site.kind == "mlp_post" else unembed  # type: ignore[union-attr]
    return matrix.float().cpu()


def through_readout(
    model: Any,
    task: AnswerTask,
    base: AnswerScores,
    ablations: Ablations,
    matrix: Float[Tensor, "d candidate"],
    advance: Callable[[int], None] = lambda done: None,
) -> tuple[Float[Tensor, "unit prompt"], Float[Tensor, " unit"]]:
    """Drops of the margin and accuracies of taking out each dimension, the same as by running the model.

    A margin is a difference of log-probabilities, in which the normaliser cancels: it is as linear as the logits.
    """
    values = capture(model, task.plan.encodings, [ablations.site], "last")[ablations.site]
    aim = ablations.mean if ablations.mode == "mean" else torch.zeros_like(ablations.mean)
    step = rearrange(aim - values, "prompt unit -> unit prompt")
    others = (matrix.sum(dim=1, keepdim=True) - matrix) / (matrix.shape[1] - 1)
    drops = -step * (matrix - others)[:, base.label]
    size = max(1, CHUNK // base.scores.numel())
    right = []
    for by, along in zip(step.split(size), matrix.split(size), strict=True):
        logits = base.scores + by[:, :, None] * along[:, None, :]
        right.append((logits.argmax(dim=2) == base.label).double().mean(dim=1))
        advance(len(by))
    return drops, torch.cat(right)
