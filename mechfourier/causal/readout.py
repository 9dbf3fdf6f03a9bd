"""Ablations where the rest of the model is linear: the logits change by a rank-one update, so no forward pass
is needed.

In the one-layer transformer nothing but matrices follows the neurons: setting neuron u to its mean changes
the logits by (mean − post) · W_out[u] W_U.
"""

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from mechfourier.causal.edits import Ablations
from mechfourier.causal.task import AnswerTask, Task
from mechfourier.domains.answers import AnswerScores
from mechfourier.hooks.capture import capture
from mechfourier.hooks.run import has_hooks
from mechfourier.hooks.site import Site
from mechfourier.models.architectures import architecture_of
from mechfourier.models.interface import Model

CHUNK = 2**22  # logits changed at a time
SAFE = 1.001  # a change within rounding of the lead is computed


def readout(model: Model, task: Task, site: Site) -> Float[Tensor, "d candidate"] | None:
    """What one unit of each dimension of ``site`` adds to the candidates' logits; None where the way there is
    not linear.

    The model's `Architecture` knows the way (``readout``); with answers of one token. Foreign hooks may
    change what follows, so a hooked model has none.
    """
    record = architecture_of(model)
    if record is None or not record.readout or not isinstance(task, AnswerTask) or has_hooks(model):
        return None
    if task.plan.deepest > 0 or any(map(task.plan.continuing.get, task.plan.answers)):
        return None
    return record.part("readout")(model, site, [answer[0] for answer in task.plan.answers])


def through_readout(
    model: Model,
    task: AnswerTask,
    base: AnswerScores,
    ablations: Ablations,
    matrix: Float[Tensor, "d candidate"],
) -> tuple[Float[Tensor, "unit prompt"], Float[Tensor, " unit"]]:
    """Drops of the margin and accuracies of taking out each dimension, the same as by running the model.

    A margin is a difference of log-probabilities, in which the normaliser cancels: it is as linear as the
    logits.
    """
    values = capture(model, task.plan.encodings, [ablations.site], "last")[ablations.site]
    aim = ablations.mean if ablations.mode == "mean" else torch.zeros_like(ablations.mean)
    step = rearrange(aim - values, "prompt unit -> unit prompt")
    others = (matrix.sum(dim=1, keepdim=True) - matrix) / (matrix.shape[1] - 1)
    drops = -step * (matrix - others)[:, base.label]
    right = _still_right(base, step, matrix)
    return drops, right


def _still_right(
    base: AnswerScores, step: Float[Tensor, "unit prompt"], matrix: Float[Tensor, "unit candidate"]
) -> Float[Tensor, " unit"]:
    """Share of prompts right after each ablation. Where a unit cannot move any two candidates by as much as
    the right one is ahead or behind, the answer stays as it is and nothing is computed."""
    own = base.scores.gather(1, base.label[:, None])
    lead = (own - base.scores.scatter(1, base.label[:, None], -torch.inf).max(dim=1, keepdim=True).values)[
        :, 0
    ]
    reach = step.abs() * (matrix.amax(dim=1) - matrix.amin(dim=1))[:, None]
    right = (lead > 0).expand_as(step).clone()
    open_to_change = (reach * SAFE >= lead.abs()).nonzero()
    for unit, prompt in (part.unbind(1) for part in open_to_change.split(CHUNK // matrix.shape[1])):
        scores = base.scores[prompt] + step[unit, prompt][:, None] * matrix[unit]
        right[unit, prompt] = scores.argmax(dim=1) == base.label[prompt]
    return right.double().mean(dim=1)
