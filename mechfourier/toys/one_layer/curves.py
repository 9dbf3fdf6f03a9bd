"""Progress measures over every checkpoint of a run."""

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Bool
from torch import Tensor

from mechfourier.errors import UsageError
from mechfourier.fourier.key_freqs import matrix_share
from mechfourier.fourier.progress import fourier_gini, progress_measures, trig_share
from mechfourier.models.checkpoint import read_safetensors
from mechfourier.progress import tracked
from mechfourier.results.base import Result
from mechfourier.toys.one_layer.forward import Weights
from mechfourier.toys.one_layer.keys import find_key_frequencies
from mechfourier.toys.one_layer.source import open_source
from mechfourier.toys.one_layer.tensors import View, in_cyclic_order, view

if TYPE_CHECKING:
    import pandas as pd


@dataclasses.dataclass(frozen=True)
class ProgressCurves(
    Result,
    kind="progress-curves",
    figure="mechfourier.toys.one_layer.curve_figures:progress_figure",
    part="mechfourier.toys.one_layer.page:curves_part",
):
    """One entry per checkpoint and measure; losses in nats. ``key_freqs`` are those of the last checkpoint.

    ``embed_power[i]`` are the power shares of W_E at k = 1.. at checkpoint i; ``logit_share`` is the share of
    the logit variance in cos(w_k(a+b−c)) over the key frequencies. Train and test are NaN where the split is
    unknown.
    """

    name: str
    key_freqs: tuple[int, ...]
    step: tuple[int, ...]
    loss_train: tuple[float, ...]
    loss_test: tuple[float, ...]
    accuracy_train: tuple[float, ...]
    accuracy_test: tuple[float, ...]
    restricted_loss: tuple[float, ...]
    restricted_loss_train: tuple[float, ...]
    restricted_loss_test: tuple[float, ...]
    excluded_loss: tuple[float, ...]
    excluded_loss_train: tuple[float, ...]
    excluded_loss_test: tuple[float, ...]
    trig_loss: tuple[float, ...]
    trig_loss_train: tuple[float, ...]
    trig_loss_test: tuple[float, ...]
    loss: tuple[float, ...]
    accuracy: tuple[float, ...]
    logit_share: tuple[float, ...]
    gini_W_E: tuple[float, ...]
    gini_W_L: tuple[float, ...]
    sum_of_squares: tuple[float, ...]
    embed_power: tuple[tuple[float, ...], ...]

    def frame(self) -> "pd.DataFrame":
        """One row per checkpoint, one column per measure (the spectra are in ``embed_power``)."""
        import pandas as pd

        columns = [
            f.name
            for f in dataclasses.fields(self)
            if f.name not in ("name", "key_freqs", "embed_power", "weights", "unknown")
        ]
        return pd.DataFrame({column: getattr(self, column) for column in columns})

    def __str__(self) -> str:
        return f"{self.name}: {len(self.step)} checkpoints, steps {self.step[0]} to {self.step[-1]}"


def progress_curves(source: Any, *, key_freqs: Sequence[int] | None = None) -> ProgressCurves:
    """Progress measures of every checkpoint of a run folder, with the key frequencies of its last weights (or
    those given).

    Each checkpoint is a handful of matrix products over all questions; they are taken one after another so
    that the memory is that of one. Raises ``UsageError`` where the run kept no checkpoints.
    """
    run = open_source(source)
    if not run.checkpoints:
        raise UsageError(
            f"{run.name} holds no checkpoints/step-….safetensors; give the folder of a training run"
        )
    order = view(run.weights, run.config).labels
    ks = (
        tuple(key_freqs) if key_freqs is not None else find_key_frequencies(view(run.weights, run.config)).key
    )
    train = in_cyclic_order(run.train, order)
    rows = []
    for step, path in tracked(run.checkpoints, "progress measures", len(run.checkpoints)):
        rows.append({"step": step, **measure(read_safetensors(path), run.config, ks, train)})
    measures: dict[str, Any] = {name: tuple(row[name] for row in rows) for name in rows[0]}
    return ProgressCurves(run.name, ks, **measures)


def measure(
    weights: Weights, config: Any, ks: Sequence[int], train: Bool[Tensor, "n n"] | None
) -> dict[str, Any]:
    """The measures of one checkpoint, by the names of ``ProgressCurves``."""
    with torch.no_grad():
        tables = view(weights, config)
        return {
            **dataclasses.asdict(progress_measures(tables.logits, ks, train=train)),
            "logit_share": float(trig_share(tables.logits)[[k - 1 for k in ks]].sum()),
            **weight_measures(tables),
        }


def weight_measures(tables: View) -> dict[str, Any]:
    """Gini coefficients, the sum of squared weights and the spectrum of W_E."""
    return {
        "gini_W_E": fourier_gini(tables.W_E),
        "gini_W_L": fourier_gini(tables.W_L),
        "sum_of_squares": float(sum((w.double() ** 2).sum() for w in tables.weights.values())),
        "embed_power": tuple(matrix_share(tables.W_E).tolist()),
    }
