"""Take one checkpoint of the one-layer transformer apart completely."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from mechfourier._arguments import checked
from mechfourier.errors import UsageError
from mechfourier.fourier.clock_pizza import (
    best_wrong_logits,
    classify,
    distance_irrelevance,
    gradient_cosines,
    mean_and_error,
    random_triples,
    right_logits,
)
from mechfourier.fourier.dft import LinePower, line_power
from mechfourier.fourier.key_freqs import matrix_share, used_frequencies
from mechfourier.fourier.neurons import cluster_sum
from mechfourier.fourier.progress import (
    cross_entropy,
    fourier_gini,
    key_part,
    progress_measures,
    trig_amplitudes,
    trig_share,
)
from mechfourier.toys.one_layer.curves import ProgressCurves, progress_curves, weight_measures
from mechfourier.toys.one_layer.forward import operand_gradients
from mechfourier.toys.one_layer.keys import KeyFrequencies, find_key_frequencies
from mechfourier.toys.one_layer.phases import Phases, find_phases
from mechfourier.toys.one_layer.result import Baseline, Cluster, HeadSpectrum, OneLayerAnalysis
from mechfourier.toys.one_layer.source import Source, open_source
from mechfourier.toys.one_layer.tensors import View, in_cyclic_order, view
from mechfourier.toys.one_layer.weights import initial_weights

TRIPLES = (
    2000  # for the gradient symmetricity: a standard error below 0.01, where 100 as published gives 0.04
)


@checked
def analyze(
    source: Any, *, key_freqs: Sequence[int] | None = None, over_run: bool = True, seed: int = 0
) -> OneLayerAnalysis:
    """The full analysis of a one-layer transformer.

    ``source``: a model, a run or checkpoint folder, a checkpoint file, or a registered name. ``key_freqs``
    replaces the key frequencies found; ``over_run`` measures every checkpoint of a run as well. ``seed``
    draws the untrained baseline and the triples of the gradient symmetricity. Computed in the dtype of the
    weights, losses in float64. Raises ``UsageError`` for another kind of model or a task that is no addition
    on a cycle.
    """
    model = open_source(source)
    with torch.no_grad():
        tables = view(model.weights, model.config)
        keys = find_key_frequencies(tables)
        ks = keys.key if key_freqs is None else tuple(sorted(set(key_freqs)))
        curves = progress_curves(model, key_freqs=ks) if over_run and model.checkpoints else None
        values = {
            "name": model.name,
            "task": model.config.task,
            "p": model.config.p,
            "n": tables.n,
            **_answers(tables),
            **_spectra(tables, keys, ks),
            **_neurons(tables),
            **_logits(tables, ks),
            **_losses(tables, ks, model),
            **_used(tables, keys, ks, model),
            **_weights(tables),
            **_algorithm(tables, seed),
        }
        baseline = _untrained(tables, ks, seed)
    values["algorithm"] = classify(
        values["gradient_symmetricity"], values["distance_irrelevance"], values["accuracy"]
    )
    return OneLayerAnalysis(**values, untrained=baseline, curves=curves, phases=_phases(curves))


def _phases(curves: ProgressCurves | None) -> Phases | None:
    if curves is None or len(curves.step) < 3 or math.isnan(curves.loss_test[-1]):
        return None
    return find_phases(curves)


def _answers(tables: View) -> dict[str, float]:
    """Accuracy and loss over all p² questions of the task itself, not only those of the cycle."""
    answers = tables.config.answers
    logits = tables.all_logits
    return {
        "accuracy": float((logits.argmax(-1) == answers).double().mean()),
        "loss": float(cross_entropy(logits, answers).mean()),
    }


def _spectra(tables: View, keys: KeyFrequencies, ks: tuple[int, ...]) -> dict[str, Any]:
    w_l = tables.W_L.double()
    centred = w_l - w_l.mean(0)
    singular = torch.linalg.svdvals(centred)
    power = (singular**2).cumsum(0) / (singular**2).sum().clamp_min(1e-300)
    outside = torch.linalg.norm(centred - key_part(centred, ks)) / torch.linalg.norm(centred).clamp_min(
        1e-300
    )
    return {
        "key_freqs": ks,
        "key_rule": keys.rule if ks == keys.key else "given",
        "embed_threshold": keys.embed_threshold,
        "w_l_threshold": keys.w_l_threshold,
        "embed_power": _floats(keys.embed_share),
        "unembed_power": _floats(matrix_share(tables.W_U)),
        "w_l_power": _floats(keys.w_l_share),
        "heads": _heads(tables),
        "w_l_singular_values": _floats(singular),
        "w_l_rank": int((power < 0.99).sum()) + 1,
        "w_l_residual": float(outside),
    }


def _heads(tables: View) -> tuple[HeadSpectrum, ...]:
    to_a = rearrange(tables.pattern[:, tables.config.question.position("a")].double(), "head a b -> a b head")
    lines = line_power(to_a).share()
    return tuple(
        HeadSpectrum(
            head=head,
            ov_power=_floats(matrix_share(tables.head_output[:, head])),
            pattern_mean=float(to_a[..., head].mean()),
            pattern_std=float(to_a[..., head].std(unbiased=False)),
            a_only=_floats(lines.a_only[:, head]),
            b_only=_floats(lines.b_only[:, head]),
            sum=_floats(lines.sum[:, head]),
            difference=_floats(lines.difference[:, head]),
            rest=float(lines.rest[head]),
        )
        for head in range(to_a.shape[-1])
    )


def _neurons(tables: View) -> dict[str, Any]:
    spectrum = tables.neuron_spectrum
    return {
        "n_neurons": len(spectrum.variance),
        "n_live": int(spectrum.live.sum()),
        "neuron_share_85": spectrum.share_above(0.85),
        "neuron_share_90": spectrum.share_above(0.90),
        "neuron_share_95": spectrum.share_above(0.95),
        "neuron_frequency": tuple(spectrum.frequency.tolist()),
        "neuron_best_share": _floats(spectrum.best_share),
        "neuron_lines": _whole(line_power(tables.neurons)),
        **_clusters(tables),
    }


def _whole(lines: LinePower) -> dict[str, float]:
    """Shares of the variance of all columns together."""
    variance = float((lines.total - lines.constant).sum())
    if variance <= 0:
        return dict.fromkeys(("sum", "difference", "a_only", "b_only", "rest"), 0.0)
    parts = {"sum": lines.sum, "difference": lines.difference, "a_only": lines.a_only, "b_only": lines.b_only}
    return {name: float(part.sum()) / variance for name, part in (*parts.items(), ("rest", lines.rest))}


def _clusters(tables: View) -> dict[str, Any]:
    """Logit attribution: what every cluster adds to the right answer, and the loss with it held at its
    mean."""
    n = tables.n
    logits = rearrange(tables.logits, "a b c -> (a b) c")
    v = torch.arange(n)
    answers = ((v[:, None] + v[None, :]) % n).flatten()
    flat = rearrange(tables.neurons, "a b m -> (a b) m")
    groups = tables.neuron_spectrum.clusters()
    written = cluster_sum(flat, tables.W_L.T, groups)
    clusters = []
    for k, part in sorted(written.items()):
        size = len(groups[k]) if k else flat.shape[1] - sum(map(len, groups.values()))
        without = float(cross_entropy(logits - part + part.mean(0), answers).mean())
        clusters.append(Cluster(k, size, _right(part, answers), without))
    direct = tables.labels.answers(tables.labels.grid(tables.direct))
    return {"clusters": tuple(clusters), "direct_right_logit": _right(direct.flatten(0, 1), answers)}


def _right(part: Float[Tensor, "pair c"], answers: Tensor) -> float:
    """The right logit above the mean over answers, averaged over the questions."""
    return float((part.gather(1, answers[:, None])[:, 0] - part.mean(1)).double().mean())


def _logits(tables: View, ks: tuple[int, ...]) -> dict[str, Any]:
    centred = tables.logits - tables.logits.mean(-1, keepdim=True)  # the softmax does not see the mean
    share = trig_share(tables.logits)
    lines = line_power(centred)
    whole = _whole(lines)
    variance = (lines.total - lines.constant).sum().clamp_min(1e-30)
    return {
        "logit_share": float(share[[k - 1 for k in ks]].sum()),
        "logit_share_by_freq": _floats(share),
        "trig_amplitude": _floats(trig_amplitudes(tables.logits)),
        "logit_sum_line": _floats(lines.sum.sum(1) / variance),
        "logit_difference_line": _floats(lines.difference.sum(1) / variance),
        "logit_a_only": whole["a_only"],
        "logit_b_only": whole["b_only"],
        "logit_rest": whole["rest"],
    }


def _losses(tables: View, ks: tuple[int, ...], model: Source) -> dict[str, float]:
    train = in_cyclic_order(model.train, tables.labels)
    found = progress_measures(tables.logits, ks, train=train)
    names = ("restricted_loss", "excluded_loss", "trig_loss", "accuracy", "loss")
    values = {
        f"{name}_{part}": getattr(found, f"{name}_{part}") for name in names for part in ("train", "test")
    }
    excluded = found.excluded_loss if train is None else found.excluded_loss_train
    return values | {
        "restricted_loss": found.restricted_loss,
        "excluded_loss": excluded,
        "trig_loss": found.trig_loss,
    }


def _used(tables: View, keys: KeyFrequencies, ks: tuple[int, ...], model: Source) -> dict[str, Any]:
    """The longer list of frequencies, and the losses with it."""
    used = used_frequencies(keys.w_l_share, trig_share(tables.logits), ks)
    losses = _losses(tables, used, model)
    names = ("restricted_loss", "excluded_loss", "trig_loss")
    return {"used_freqs": used, **{f"{name}_used": losses[name] for name in names}}


def _weights(tables: View) -> dict[str, float]:
    measured = weight_measures(tables)
    return {
        **{name: measured[name] for name in ("gini_W_E", "gini_W_L", "sum_of_squares")},
        "gini_W_E_by_frequency": fourier_gini(tables.W_E, by_frequency=True),
        "gini_W_L_by_frequency": fourier_gini(tables.W_L, by_frequency=True),
    }


def _algorithm(tables: View, seed: int) -> dict[str, float]:
    """Both measures in the tokens' own terms: the right answer of (a, b), distances on the cycle."""
    order, triples = tables.labels, random_triples(tables.n, TRIPLES, seed=seed)
    tokens = torch.stack([order.a[triples[:, 0]], order.b[triples[:, 1]], order.c[triples[:, 2]]], 1)
    cosines = gradient_cosines(*operand_gradients(tables.weights, tables.config, tokens))
    mean, error = mean_and_error(cosines)
    return {
        "gradient_symmetricity": mean,
        "symmetricity_error": error,
        "distance_irrelevance": distance_irrelevance(right_logits(tables.logits)),
        "distance_irrelevance_best_wrong": distance_irrelevance(best_wrong_logits(tables.logits)),
    }


def _untrained(tables: View, ks: tuple[int, ...], seed: int) -> Baseline:
    """The same measures on newly drawn weights."""
    if seed < 0:
        raise UsageError(f"seed {seed} is negative; choose 0 or more")
    fresh = view(initial_weights(tables.config, seed=seed), tables.config)
    algorithm = _algorithm(fresh, seed)
    return Baseline(
        neuron_share_85=fresh.neuron_spectrum.share_above(0.85),
        logit_share=float(trig_share(fresh.logits)[[k - 1 for k in ks]].sum()),
        gini_W_E=fourier_gini(fresh.W_E),
        gini_W_L=fourier_gini(fresh.W_L),
        gradient_symmetricity=algorithm["gradient_symmetricity"],
        distance_irrelevance=algorithm["distance_irrelevance"],
        distance_irrelevance_best_wrong=algorithm["distance_irrelevance_best_wrong"],
        gini_W_E_by_frequency=fourier_gini(fresh.W_E, by_frequency=True),
        gini_W_L_by_frequency=fourier_gini(fresh.W_L, by_frequency=True),
    )


def _floats(values: Tensor) -> tuple[float, ...]:
    return tuple(values.double().tolist())
