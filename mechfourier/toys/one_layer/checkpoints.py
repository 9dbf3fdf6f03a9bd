"""What changes over the checkpoints of a run: the tables of an animation."""

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from mechfourier.errors import UsageError, nearest
from mechfourier.fourier.circle import circularity_by_chance, project_circle
from mechfourier.fourier.dft import sum_line_share
from mechfourier.fourier.harmonics import fit_harmonic
from mechfourier.fourier.key_freqs import matrix_share
from mechfourier.fourier.progress import class_means, cross_entropy
from mechfourier.models.checkpoint import read_safetensors
from mechfourier.progress import tracked
from mechfourier.toys.one_layer.checkpoint_tables import logit_power, purest
from mechfourier.toys.one_layer.keys import find_key_frequencies
from mechfourier.toys.one_layer.source import Source, check_weights, open_source
from mechfourier.toys.one_layer.tensors import View, view
from mechfourier.training.run_folder import RunFolder

if TYPE_CHECKING:
    import pandas as pd

WHAT = ("circle", "sine", "sines", "spectrum", "logits")
SINES = 6
HISTORY = ("step", "train_loss", "test_loss", "train_accuracy", "test_accuracy")


@dataclass(frozen=True)
class Evolution:
    """One entry per checkpoint (first axis t). What was not asked for is empty.

    ``k``: the strongest frequency of the last W_E. ``embed_power[t, k − 1]``: power shares of W_E.
    ``circle[t, v]``: W_E's value v projected on the cosine and sine direction of ``k`` (not PCA, which mixes
    the planes of several frequencies), with ``circularity[t]`` beside ``circularity_chance``, that of random
    tables. ``profile[t, i, s]``: mean activation of neuron ``neurons[i]`` over the pairs with a + b = s,
    ``fitted`` its least-squares harmonic ``neuron_freqs[i]``, ``r2[t, i]`` how much of the profile that
    explains, ``sum_share[t, i]`` the share of the neuron's whole variance over (a, b) on that line.
    ``logit_power[t, ka, kb]`` as in ``Portrait``. ``history``: losses (nats) and accuracies at the steps
    evaluated.
    """

    name: str
    what: str
    n: int
    k: int
    key_freqs: tuple[int, ...]
    step: np.ndarray
    embed_power: np.ndarray
    circle: np.ndarray
    circularity: np.ndarray
    circularity_chance: float
    neurons: tuple[int, ...]
    neuron_freqs: tuple[int, ...]
    profile: np.ndarray
    fitted: np.ndarray
    r2: np.ndarray
    sum_share: np.ndarray
    logit_power: np.ndarray
    history: "pd.DataFrame"

    def frame(self) -> "pd.DataFrame":
        """One row per checkpoint: step, circularity, the power of W_E at k, and R² per neuron, with the
        metrics of the last evaluation."""
        import pandas as pd

        columns: dict[str, Any] = {
            "step": self.step,
            "circularity": self.circularity,
            f"embed power at k = {self.k}": self.embed_power[:, self.k - 1],
        }
        columns |= {f"R² of neuron {m}": self.r2[:, i] for i, m in enumerate(self.neurons) if len(self.r2)}
        table = pd.DataFrame(columns)
        if len(self.history):
            table = pd.merge_asof(table, self.history, on="step", direction="backward")
        return table


def evolution(source: Any, what: str = "circle", *, max_frames: int | None = None) -> Evolution:
    """The tables for ``what`` over the checkpoints of a run folder.

    ``max_frames`` takes as many checkpoints, evenly spread over their order. Raises ``UsageError`` for
    another ``what``, for a source without checkpoints, and for one with a single one; ``BadCheckpoint`` where
    checkpoints are of another model.
    """
    if what not in WHAT:
        raise UsageError(
            f"no animation {what!r}; closest: {nearest(what, WHAT)}. Choose one of {', '.join(WHAT)}"
        )
    run = open_source(source)
    _enough(run)
    with torch.no_grad():
        last = view(run.weights, run.config)
        keys = find_key_frequencies(last)
        k = max(
            keys.key, key=lambda f: float(keys.embed_share[f - 1]), default=int(keys.embed_share.argmax()) + 1
        )
        chosen = _choose_neurons(last, keys.key or (k,), what)
        per_step = _measure(last, what, k, chosen)
        rows, measured = [], []
        history = _history(source, run)
        for step, path in tracked(_thinned(run.checkpoints, max_frames), f"{what} over the checkpoints"):
            weights = read_safetensors(path)
            check_weights(weights, run.config, path)
            tables = view(weights, run.config)
            rows.append({"step": step, **per_step(tables)})
            if history is None:
                measured.append({"step": step, **_metrics(tables, run)})
    return _collect(run, what, k, keys.key, last, chosen, rows, _table(history, measured))


def _enough(run: Source) -> None:
    if not run.checkpoints:
        raise UsageError(
            f"{run.name} holds no checkpoints/step-….safetensors, so nothing changes in it; give the folder "
            f"of a training run "
            "(mechfourier train one-layer --out DIR)"
        )
    if len(run.checkpoints) == 1:
        raise UsageError(
            f"{run.name} holds one checkpoint (step {run.checkpoints[0][0]}), and an animation needs two; "
            "for pictures of one use: mechfourier report"
        )


def _thinned(checkpoints: tuple[tuple[int, Path], ...], count: int | None) -> list[tuple[int, Path]]:
    if count is None or count >= len(checkpoints):
        return list(checkpoints)
    if count < 2:
        raise UsageError(f"an animation of {count} frames does not move; ask for at least 2")
    keep = np.unique(np.linspace(0, len(checkpoints) - 1, count).round().astype(int))
    return [checkpoints[i] for i in keep]


def _choose_neurons(last: View, ks: tuple[int, ...], what: str) -> list[int]:
    """The neuron that depends most purely on a + b (``sine``), or those of every frequency in turn until
    there are ``SINES``."""
    if what not in ("sine", "sines"):
        return []
    share = sum_line_share(last.neurons)
    ordered = sorted(ks, key=lambda k: -float(share[k - 1].max()))
    if what == "sine":
        return purest(last, tuple(ordered[:1]), of_sum=True)
    return purest(last, tuple((ordered * SINES)[:SINES]), of_sum=True)


def _measure(last: View, what: str, k: int, chosen: list[int]) -> Callable[[View], Mapping[str, Any]]:
    """What one checkpoint adds. The spectrum of W_E is cheap and always there."""
    ks = [int(last.neuron_spectrum.share[:, m].argmax()) + 1 for m in chosen]

    def measure(tables: View) -> dict[str, Any]:
        circle = project_circle(tables.W_E, k)
        row = {
            "embed_power": matrix_share(tables.W_E).numpy(),
            "circle": circle.points.float().numpy(),
            "circularity": circle.circularity,
        }
        if chosen:
            row |= _profiles(tables.neurons[..., chosen], ks)
        if what == "logits":
            row["logit_power"] = logit_power(tables)
        return row

    return measure


def _profiles(grids: Tensor, ks: list[int]) -> dict[str, Any]:
    profile = class_means(grids)
    s = torch.arange(len(profile)).double()
    fits = [fit_harmonic(profile[:, [i]], k) for i, k in enumerate(ks)]
    share = sum_line_share(grids.double())
    return {
        "profile": profile.T.float().numpy(),
        "fitted": torch.cat([fit.predict(s) for fit in fits], 1).T.float().numpy(),
        "r2": np.array([float(fit.r2[0]) for fit in fits]),
        "sum_share": np.array([float(share[k - 1, i]) for i, k in enumerate(ks)]),
    }


def _history(source: Any, run: Source) -> "pd.DataFrame | None":
    """The metrics that the trainer wrote, or None where it wrote none."""
    folder = run.checkpoints[0][1].parent.parent
    frame = RunFolder(folder).read_metrics()
    if not set(HISTORY) <= set(frame.columns):
        return None
    return frame.loc[:, list(HISTORY)].dropna().reset_index(drop=True)


def _metrics(tables: View, run: Source) -> dict[str, float]:
    """Loss and accuracy of a checkpoint over the pairs trained on and the others (all pairs as test where
    that is unknown)."""
    answers = run.config.answers
    loss = cross_entropy(tables.all_logits, answers)
    right = (tables.all_logits.argmax(-1) == answers).double()
    train = torch.zeros_like(right, dtype=torch.bool) if run.train is None else run.train
    parts = {"train": train, "test": ~train}
    return {
        f"{name}_{part}": float(table[mask].mean())
        for part, mask in ((part, mask) for part, mask in parts.items())
        for name, table in (("loss", loss), ("accuracy", right))
    }


def _table(history: "pd.DataFrame | None", measured: list[dict[str, float]]) -> "pd.DataFrame":
    import pandas as pd

    if history is not None:
        return history
    frame = pd.DataFrame(measured)
    return frame.rename(
        columns={f"{m}_{p}": f"{p}_{m}" for m in ("loss", "accuracy") for p in ("train", "test")}
    )


def _collect(
    run: Source,
    what: str,
    k: int,
    key_freqs: tuple[int, ...],
    last: View,
    chosen: list[int],
    rows: list[dict[str, Any]],
    history: "pd.DataFrame",
) -> Evolution:
    arrays = {
        field.name: np.stack([row[field.name] for row in rows]) if field.name in rows[0] else np.empty(0)
        for field in dataclasses.fields(Evolution)
        if field.type is np.ndarray
    }
    frequency = last.neuron_spectrum.share.argmax(0) + 1
    return Evolution(
        name=run.name,
        what=what,
        n=last.n,
        k=k,
        key_freqs=key_freqs,
        circularity_chance=circularity_by_chance(last.n, last.W_E.shape[1]),
        neurons=tuple(chosen),
        neuron_freqs=tuple(int(frequency[m]) for m in chosen),
        history=history,
        **arrays,
    )
