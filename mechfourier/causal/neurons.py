"""Every neuron of a model as it writes to the choices' logits: its activation by answer, and its output row through the
frozen final norm and the unembedding."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy import ndarray
from torch import Tensor

from mechfourier.causal.attribution import AnswerStream
from mechfourier.causal.number_questions import NumberQuestions
from mechfourier.causal.parts import reach
from mechfourier.errors import HookNeverFired, UsageError
from mechfourier.hooks.capture import capture
from mechfourier.hooks.site import Site, layer_ranges, model_name
from mechfourier.models.interface import Model


@dataclass(frozen=True, eq=False)
class Neurons:
    """Neuron u is ``index[u]`` of ``layer[u]``. The logits that it adds, averaged over the prompts of each answer, are
    ``means[answer, u] · rows[u, choice]``; ``mean``: its mean activation at the last token, all answers alike;
    ``unsplit``: layers whose neurons do not add up to what their MLP writes."""

    layer: Int[ndarray, " unit"]
    index: Int[ndarray, " unit"]
    means: Float[ndarray, "n unit"]
    rows: Float[ndarray, "unit choice"]
    mean: Float[ndarray, " unit"]
    unsplit: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.layer)

    @cached_property
    def size(self) -> Float[ndarray, " unit"]:
        """How much each neuron moves the choices against each other between the answers (length of its logits)."""
        acts, rows = self.means - self.means.mean(0), self.rows - self.rows.mean(1, keepdims=True)
        return np.linalg.norm(acts, axis=0) * np.linalg.norm(rows, axis=1)

    def own_lead(self, units: Sequence[int]) -> Float[ndarray, " chosen"]:
        """By how much these neurons raise the right answer over the mean of all choices, at all periods (nats)."""
        at = np.asarray(units, dtype=int)
        rows = self.rows[at] - self.rows[at].mean(1, keepdims=True)
        return np.einsum("nu,un->u", self.means[:, at], rows) / len(self.means)


def count_neurons(model: Any) -> int:
    """How many neurons the hook points of a model show; raises ``UsageError`` where it has none."""
    total = sum(matrix.shape[0] for _, matrix, _ in _layers(model))
    if not total:
        raise UsageError(
            f"{model_name(model)} shows no MLP neurons (no mlp.hook_post with an output matrix), so none can be credited"
        )
    return total


def _layers(model: Any) -> list[tuple[int, Tensor, Tensor | None]]:
    """Layer, output matrix [neuron, d] and bias of every MLP with a hook point behind its activation."""
    found = []
    for layer in range(int(model.cfg.n_layers)):
        mlp = getattr(model.blocks[layer], "mlp", None)
        matrix, bias = getattr(mlp, "W_out", None), getattr(mlp, "b_out", None)
        if isinstance(matrix, Tensor) and matrix.ndim == 2 and str(_site(layer)) in model.hook_dict:
            found.append((layer, matrix, bias if isinstance(bias, Tensor) else None))
    return found


def _site(layer: int) -> Site:
    return Site("mlp_post", layer)


def neurons_of(model: Model, asked: NumberQuestions, stream: AnswerStream) -> Neurons:
    """All neurons, from one pass over the prompts."""
    layers = _layers(model)
    sites = [_site(layer) for layer, _, _ in layers]
    try:
        found = capture(model, asked.asked.encodings, sites, stream.at).values
    except HookNeverFired:  # a layer of another kind has hook points that do not run
        found = {}
    table: list[tuple[int, ndarray, ndarray, ndarray]] = []
    unsplit: list[int] = []
    weights = asked.weights / len(asked)
    for (layer, matrix, bias), site in zip(layers, sites, strict=True):
        acts = found[site].double() if site in found else None
        part = None if acts is None else _written(model, stream, layer, acts, matrix, bias)
        if acts is None or part is None:
            unsplit.append(layer)
            continue
        scaled, rows = part
        means = torch.zeros(len(asked.numbers), scaled.shape[1], dtype=torch.float64)
        means.index_add_(0, asked.asked.right, scaled * (weights * len(asked.numbers))[:, None])
        mean = (acts * weights[:, None]).sum(0)
        table.append((layer, means.float().numpy(), rows.float().numpy(), mean.float().numpy()))
    if not table:
        raise UsageError(
            f"the neurons of {model_name(model)} do not add up to what its MLPs write to the residual stream, so none "
            "can be credited"
        )
    return Neurons(
        np.concatenate([np.full(means.shape[1], layer) for layer, means, _, _ in table]),
        np.concatenate([np.arange(means.shape[1]) for _, means, _, _ in table]),
        np.concatenate([means for _, means, _, _ in table], axis=1),
        np.concatenate([rows for _, _, rows, _ in table]),
        np.concatenate([mean for _, _, _, mean in table]),
        tuple(unsplit),
    )


def _written(
    model: Any,
    stream: AnswerStream,
    layer: int,
    acts: Float[Tensor, "prompt neuron"],
    matrix: Tensor,
    bias: Tensor | None,
) -> tuple[Float[Tensor, "prompt neuron"], Float[Tensor, "neuron choice"]] | None:
    """The activations over the scales of the norms behind them, and every neuron's row of the logits."""
    part = stream.parts.get(f"mlp {layer}")
    weights = matrix.detach().double().cpu()
    if part is None or acts.ndim != 2 or acts.shape[1] != len(weights):
        return None
    together = acts @ weights + (0.0 if bias is None else bias.detach().double().cpu())
    way = reach(model, model.blocks[layer], together, part)
    if way is None:
        return None
    columns = way.gain[:, None] * stream.columns
    if way.centred:
        columns = columns - columns.mean(dim=0)
    return acts / (way.scale * stream.scale)[:, None], weights @ columns


def unsplit_note(layers: Sequence[int]) -> str | None:
    """Where neurons are missing."""
    if not layers:
        return None
    return f"not split into neurons: the MLPs of layers {layer_ranges(sorted(layers))}"
