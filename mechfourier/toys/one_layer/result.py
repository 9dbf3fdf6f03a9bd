"""What the analysis of a one-layer transformer says."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mechfourier.results.base import plain
from mechfourier.toys.one_layer.curves import ProgressCurves
from mechfourier.toys.one_layer.phases import Phases
from mechfourier.toys.result import WrittenResult

if TYPE_CHECKING:
    import pandas as pd

FIRST = (
    "accuracy",
    "loss",
    "key_freqs",
    "embed_power",
    "unembed_power",
    "neuron_share_85",
    "logit_share",
    "restricted_loss",
    "excluded_loss",
    "gini_W_E",
    "gini_W_L",
    "gradient_symmetricity",
    "distance_irrelevance",
)
"""What ``mechfourier analyze --json`` prints first."""
DEFINITIONS = {
    "key_freqs": "significant in W_E and in W_L against untrained models (embed_threshold, w_l_threshold)",
    "used_freqs": "key_freqs, and those with 1 % of the logit variance, or with 1 % of W_L's power and ten times its "
    "median frequency's; *_used are the losses with this list",
    "distance_irrelevance": "of the logit of the right answer (Zhong et al. 2023, definition 4.2)",
    "distance_irrelevance_best_wrong": "of the highest logit of a wrong answer, as in the table of its authors",
    "gini_W_E": "over the norms of the n - 1 cosines and sines above frequency 0; gini_W_L likewise",
    "gini_W_E_by_frequency": "over the norms of the n // 2 frequencies; gini_W_L_by_frequency likewise",
    "excluded_loss": "over the training questions where the run says which those are, otherwise over all",
    "restricted_loss": "over all questions; *_train and *_test where the run says which those are",
    "neuron_share_85": "of the live neurons, those whose best frequency explains 85 % of their variance or more",
    "logit_share": "of the logit variance, after each question's mean over answers is taken off",
}
"""What ``mechfourier analyze --json`` says beside the numbers whose names have more than one meaning."""


@dataclass(frozen=True)
class Cluster:
    """The neurons that frequency ``frequency`` explains to 85 % or more (0: neurons of no cluster).

    ``right_logit``: what they add to the right logit above the mean over answers, averaged over all
    questions. ``loss_without``: the loss when each of them is held at its mean over all questions (nats).
    """

    frequency: int
    size: int
    right_logit: float
    loss_without: float


@dataclass(frozen=True)
class Baseline:
    """The same numbers for an untrained model of the same shape: what each of them is worth."""

    neuron_share_85: float
    logit_share: float
    gini_W_E: float
    gini_W_L: float
    gradient_symmetricity: float
    distance_irrelevance: float
    distance_irrelevance_best_wrong: float = math.nan
    gini_W_E_by_frequency: float = math.nan
    gini_W_L_by_frequency: float = math.nan


@dataclass(frozen=True)
class HeadSpectrum:
    """One head. ``ov_power``: power shares of W_E W_V W_O at k = 1..⌊n/2⌋. The rest describes its attention
    from the last position to the first operand: mean, standard deviation over the questions, and where that
    variance lies."""

    head: int
    ov_power: tuple[float, ...]
    pattern_mean: float
    pattern_std: float
    a_only: tuple[float, ...]
    b_only: tuple[float, ...]
    sum: tuple[float, ...]
    difference: tuple[float, ...]
    rest: float


@dataclass(frozen=True)
class OneLayerAnalysis(
    WrittenResult, kind="one-layer-analysis", part="mechfourier.toys.one_layer.page:analysis_part"
):
    """Everything that is known of one checkpoint. Losses are in nats; lists over frequencies start at k = 1.

    ``embed_power``, ``unembed_power``, ``w_l_power``: shares of the power of W_E, W_U and W_L = W_out W_U
    above frequency 0. ``key_freqs``: significant in W_E *and* W_L (``embed_threshold``, ``w_l_threshold``:
    the largest share that 95 % of untrained models stay under), or, with ``key_rule`` = logits, where the
    model uses all frequencies alike and none stands out in the weights, those whose cos(2πk(a+b−c)/n) is
    significant in the logits. ``neuron_share_85`` (90, 95): part of the live neurons whose best frequency
    explains that much. ``logit_share``: share of the logit variance in cos(2πk(a+b−c)/n) over the key
    frequencies. ``w_l_rank``: singular values that hold 99 % of W_L's power (its mean over answers taken
    off); ``w_l_residual``: Frobenius norm of W_L outside the key frequencies, relative. ``excluded_loss`` is
    over the training pairs where they are known, over all pairs otherwise; ``restricted_loss`` and
    ``trig_loss`` are over all pairs. ``*_train``, ``*_test`` are NaN (null in JSON) where the split is
    unknown. ``gradient_symmetricity`` has the standard error ``symmetricity_error``; ``algorithm`` is clock,
    pizza, boundary or not learned. ``DEFINITIONS`` has those of which the literature has two.
    """

    name: str
    task: str
    p: int
    n: int
    accuracy: float
    loss: float
    accuracy_train: float
    accuracy_test: float
    loss_train: float
    loss_test: float
    key_freqs: tuple[int, ...]
    key_rule: str
    embed_threshold: float
    w_l_threshold: float
    embed_power: tuple[float, ...]
    unembed_power: tuple[float, ...]
    w_l_power: tuple[float, ...]
    heads: tuple[HeadSpectrum, ...]
    n_neurons: int
    n_live: int
    neuron_share_85: float
    neuron_share_90: float
    neuron_share_95: float
    neuron_frequency: tuple[int, ...]
    neuron_best_share: tuple[float, ...]
    clusters: tuple[Cluster, ...]
    direct_right_logit: float
    logit_share: float
    logit_share_by_freq: tuple[float, ...]
    trig_amplitude: tuple[float, ...]
    logit_sum_line: tuple[float, ...]
    logit_difference_line: tuple[float, ...]
    logit_a_only: float
    logit_b_only: float
    logit_rest: float
    neuron_lines: dict[str, float]
    w_l_singular_values: tuple[float, ...]
    w_l_rank: int
    w_l_residual: float
    restricted_loss: float
    restricted_loss_train: float
    restricted_loss_test: float
    excluded_loss: float
    excluded_loss_train: float
    excluded_loss_test: float
    trig_loss: float
    trig_loss_train: float
    trig_loss_test: float
    gini_W_E: float
    gini_W_L: float
    sum_of_squares: float
    gradient_symmetricity: float
    symmetricity_error: float
    distance_irrelevance: float
    algorithm: str
    untrained: Baseline
    curves: ProgressCurves | None
    phases: Phases | None
    used_freqs: tuple[int, ...] = ()
    restricted_loss_used: float = math.nan
    excluded_loss_used: float = math.nan
    trig_loss_used: float = math.nan
    gini_W_E_by_frequency: float = math.nan
    gini_W_L_by_frequency: float = math.nan
    distance_irrelevance_best_wrong: float = math.nan

    def summary(self) -> dict[str, Any]:
        """What ``mechfourier analyze --json`` prints: everything, and what the names mean."""
        whole = plain(self)
        return {**{key: whole[key] for key in FIRST}, **whole, "definitions": DEFINITIONS}

    def tables(self) -> "dict[str, pd.DataFrame]":
        """The run's progress measures, where there are any."""
        return {} if self.curves is None else {"progress": self.curves.frame()}

    def frame(self) -> "pd.DataFrame":
        """One row per frequency: powers, logit share and amplitude, neurons in its cluster, whether it is
        key."""
        import pandas as pd

        size = {cluster.frequency: cluster.size for cluster in self.clusters}
        frequency = range(1, len(self.embed_power) + 1)
        return pd.DataFrame(
            {
                "frequency": frequency,
                "key": [k in self.key_freqs for k in frequency],
                "embed_power": self.embed_power,
                "unembed_power": self.unembed_power,
                "w_l_power": self.w_l_power,
                "logit_share": self.logit_share_by_freq,
                "trig_amplitude": self.trig_amplitude,
                "neurons": [size.get(k, 0) for k in frequency],
            }
        )

    def plot(self) -> Any:
        """Bars of the three spectra over the frequencies."""
        import plotly.graph_objects as go

        frame = self.frame()
        figure = go.Figure()
        for column, title in (("embed_power", "W_E"), ("unembed_power", "W_U"), ("w_l_power", "W_L")):
            figure.add_bar(x=frame["frequency"], y=frame[column], name=title)
        return figure.update_layout(
            xaxis_title=f"frequency (cycles per {self.n} values)",
            yaxis_title="share of power",
            template="plotly_white",
        )

    def __str__(self) -> str:
        return "\n".join(_sentences(self))


def _sentences(r: OneLayerAnalysis) -> list[str]:
    base = r.untrained
    keys = ", ".join(map(str, r.key_freqs)) or "none"
    rows = [
        f"{r.name}: {r.task} mod {r.p}, accuracy {r.accuracy:.2%}, loss {r.loss:.3g} (all {r.p**2} "
        f"questions)",
        f"key frequencies   {keys}   ({_rule(r)})",
        f"power at them     W_E {_at(r.embed_power, r):.1%}, W_U {_at(r.unembed_power, r):.1%}, W_L "
        f"{_at(r.w_l_power, r):.1%};"
        f" W_L rank {r.w_l_rank} (99 %), residual {r.w_l_residual:.2%}",
        f"neurons           {r.n_live} of {r.n_neurons} live; one frequency explains 85 % of "
        f"{r.neuron_share_85:.1%}, "
        f"90 % of {r.neuron_share_90:.1%}, 95 % of {r.neuron_share_95:.1%}   (untrained: 85 % of "
        f"{base.neuron_share_85:.1%})",
        f"logits            {r.logit_share:.1%} of their variance is cos(w_k(a+b−c))   (untrained "
        f"{base.logit_share:.2%})",
        f"losses            restricted {r.restricted_loss:.3g}, excluded {r.excluded_loss:.3g}, trig "
        f"{r.trig_loss:.3g}",
        *_used_lines(r),
        f"sparsity (Gini)   W_E {r.gini_W_E:.3f}, W_L {r.gini_W_L:.3f} over cosines and sines   (untrained "
        f"{base.gini_W_E:.3f}, {base.gini_W_L:.3f}); {r.gini_W_E_by_frequency:.3f}, {r.gini_W_L_by_frequency:.3f} over "
        "frequencies",
        f"algorithm         {r.algorithm}: gradient symmetricity {r.gradient_symmetricity:.4f} ± "
        f"{r.symmetricity_error:.4f} "
        f"(untrained {base.gradient_symmetricity:.4f}), distance irrelevance {r.distance_irrelevance:.2f} "
        f"(untrained {base.distance_irrelevance:.2f}) of the right logit, {r.distance_irrelevance_best_wrong:.2f} of the "
        "best wrong one",
    ]
    rows += [_cluster_line(cluster) for cluster in r.clusters]
    rows.append(f"direct path       right logit {r.direct_right_logit:+.2f}")
    return rows + ([str(r.phases)] if r.phases is not None else [])


def _used_lines(r: OneLayerAnalysis) -> list[str]:
    """The longer list of frequencies, where it is longer."""
    more = [k for k in r.used_freqs if k not in r.key_freqs]
    if not more:
        return []
    shares = ", ".join(
        f"{k} (W_L {r.w_l_power[k - 1]:.2%}, logits {r.logit_share_by_freq[k - 1]:.2%})" for k in more
    )
    return [
        f"also used         {shares}; with these: restricted {r.restricted_loss_used:.3g}, excluded "
        f"{r.excluded_loss_used:.3g}, trig {r.trig_loss_used:.3g}"
    ]


def _rule(r: OneLayerAnalysis) -> str:
    if r.key_rule == "given":
        return "as given"
    if r.key_rule == "logits":
        return "all frequencies are used alike; these are significant in the logits against untrained models"
    return (
        f"share of power above {r.embed_threshold:.2%} in W_E and {r.w_l_threshold:.2%} in W_L; "
        "95 % of untrained models stay under"
    )


def _at(power: tuple[float, ...], r: OneLayerAnalysis) -> float:
    return sum(power[k - 1] for k in r.key_freqs)


def _cluster_line(cluster: Cluster) -> str:
    name = f"cluster k = {cluster.frequency}" if cluster.frequency else "no cluster"
    return (
        f"{name:<18}{cluster.size} neurons, right logit {cluster.right_logit:+.2f}, "
        f"loss without them {cluster.loss_without:.3g}"
    )
