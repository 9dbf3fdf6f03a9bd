"""The tables behind the pictures of one checkpoint of the one-layer transformer, as arrays and frames."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from mechfourier.fourier.circle import project_circle
from mechfourier.fourier.dft import frequency_power, frequency_power_2d, sum_line_share
from mechfourier.fourier.neurons import CLUSTER_SHARE
from mechfourier.toys.one_layer.keys import find_key_frequencies
from mechfourier.toys.one_layer.source import open_source
from mechfourier.toys.one_layer.tensors import View, view

if TYPE_CHECKING:
    import pandas as pd

MAX_CIRCLES = 6
LOUD = 0.1


@dataclass(frozen=True)
class Portrait:
    """Pictures of one checkpoint; values are in cyclic order (tokens for addition, logarithms for
    multiplication).

    ``circles[i, v]``: W_E's value v in the plane of ``circle_freqs[i]`` (strongest first), with
    ``circularity[i]``. ``neurons[i, a, b]``: activation of neuron ``neuron_index[i]``, the purest of the
    frequency ``neuron_freq[i]``. ``attention[head, a, b]``: attention of the last position to the first
    operand. ``logit_power[ka, kb]``: share of the logits' variance (each pair's mean over answers taken off)
    at |k_a|, |k_b|. ``neuron_share[k − 1, m]``: share of neuron m's variance at k, ``write_share[k − 1, m]``
    share of the power of what it writes (its column of W_L); neurons are sorted by ``frequency[m]`` (0: none
    reaches the bar for a cluster), then by purity.
    """

    name: str
    n: int
    key_freqs: tuple[int, ...]
    circle_freqs: tuple[int, ...]
    circles: np.ndarray
    circularity: tuple[float, ...]
    neuron_index: tuple[int, ...]
    neuron_freq: tuple[int, ...]
    neurons: np.ndarray
    attention: np.ndarray
    logit_power: np.ndarray
    frequency: np.ndarray
    neuron_share: np.ndarray
    write_share: np.ndarray

    def circle_frame(self) -> "pd.DataFrame":
        """One row per frequency and value: x, y."""
        import pandas as pd

        k = np.repeat(self.circle_freqs, self.n)
        value = np.tile(np.arange(self.n), len(self.circle_freqs))
        flat = self.circles.reshape(-1, 2)
        return pd.DataFrame({"frequency": k, "value": value, "x": flat[:, 0], "y": flat[:, 1]})

    def neuron_frame(self) -> "pd.DataFrame":
        """One row per neuron, a and b: its activation."""
        return _grid_frame(self.neurons, self.neuron_index, "neuron", "activation")

    def attention_frame(self) -> "pd.DataFrame":
        """One row per head, a and b: its attention to a."""
        return _grid_frame(self.attention, tuple(range(len(self.attention))), "head", "attention")

    def logit_frame(self) -> "pd.DataFrame":
        """One row per pair of frequencies: share of the variance of the logits."""
        import pandas as pd

        ka, kb = np.indices(self.logit_power.shape)
        return pd.DataFrame({"k_a": ka.ravel(), "k_b": kb.ravel(), "share": self.logit_power.ravel()})

    def cluster_frame(self) -> "pd.DataFrame":
        """One row per frequency: neurons in its cluster, and their mean share of variance in and power out at
        it."""
        import pandas as pd

        rows = []
        for k in sorted(set(self.frequency.tolist())):
            members = self.frequency == k
            inside = self.neuron_share[k - 1, members].mean() if k else np.nan
            out = self.write_share[k - 1, members].mean() if k else np.nan
            rows.append((k, int(members.sum()), inside, out))
        return pd.DataFrame(rows, columns=["frequency", "neurons", "share of variance", "share written"])


def _grid_frame(grids: np.ndarray, names: tuple[int, ...], what: str, value: str) -> "pd.DataFrame":
    import pandas as pd

    index, a, b = np.indices(grids.shape)
    columns = {what: np.asarray(names, dtype=int)[index.ravel()], "a": a.ravel(), "b": b.ravel()}
    return pd.DataFrame({**columns, value: grids.ravel()})


def portrait(source: Any) -> Portrait:
    """The tables of a model, run folder, checkpoint or name; raises what ``open_source`` and ``view``
    raise."""
    opened = open_source(source)
    with torch.no_grad():
        return portrait_of(view(opened.weights, opened.config), opened.name)


def portrait_of(tables: View, name: str) -> Portrait:
    """The tables of a ``View``."""
    keys = find_key_frequencies(tables)
    strongest = sorted(keys.key, key=lambda k: -float(keys.embed_share[k - 1])) or [
        int(keys.embed_share.argmax()) + 1
    ]
    circles = [project_circle(tables.W_E, k) for k in strongest[:MAX_CIRCLES]]
    spectrum = tables.neuron_spectrum
    shown = purest(tables, tuple(strongest[:MAX_CIRCLES]))
    cluster = torch.where(spectrum.best_share >= CLUSTER_SHARE, spectrum.frequency, 0)
    order = np.lexsort((-spectrum.best_share.numpy(), cluster.numpy()))
    written = frequency_power(tables.W_L)[1:]
    written = written / written.sum(0).clamp_min(1e-30)
    return Portrait(
        name=name,
        n=tables.n,
        key_freqs=keys.key,
        circle_freqs=tuple(c.k for c in circles),
        circles=np.stack([c.points.numpy() for c in circles]),
        circularity=tuple(c.circularity for c in circles),
        neuron_index=tuple(shown),
        neuron_freq=tuple(int(spectrum.frequency[m]) for m in shown),
        neurons=tables.neurons[..., shown].permute(2, 0, 1).float().numpy(),
        attention=tables.pattern[:, tables.config.question.position("a")].float().numpy(),
        logit_power=logit_power(tables),
        frequency=cluster.numpy()[order],
        neuron_share=spectrum.share.float().numpy()[:, order],
        write_share=written.float().numpy()[:, order],
    )


def purest(tables: View, ks: tuple[int, ...], *, of_sum: bool = False) -> list[int]:
    """For each frequency the neuron with the largest share of variance at it (each neuron once).

    ``of_sum`` counts only the variance in cos and sin of 2πk(a + b)/n. Neurons with less than ``LOUD`` of the
    largest variance, whose part in the answer is small, are passed over where there are others.
    """
    spectrum, shown = tables.neuron_spectrum, []
    share = sum_line_share(tables.neurons) if of_sum else spectrum.share
    loud = spectrum.variance >= LOUD * spectrum.variance.max()
    score = share + loud.to(share.dtype)
    for k in ks:
        best = int(score[k - 1].argmax())
        if shown and not spectrum.live[best]:
            break
        score[:, best] = -1.0
        shown.append(best)
    return shown


def logit_power(tables: View) -> np.ndarray:
    """Share of the logits' variance at every pair of frequencies |k_a|, |k_b|; the constant is 0."""
    centred = tables.logits - tables.logits.mean(-1, keepdim=True)
    power = frequency_power_2d(centred).sum(-1)
    power[0, 0] = 0.0
    return (power / power.sum().clamp_min(1e-30)).float().numpy()
