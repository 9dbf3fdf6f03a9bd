"""Bars of the one-layer networks: that they generalise, how they add, how fast they train."""

from collections.abc import Callable

from benchmarks.bars.bar import Bar, Data, Figure, as_seconds, as_share, as_times


def _of_p113(field: str) -> Callable[[Data], Figure]:
    return lambda d: as_share(d["by_p"]["113"][field])


def _generalised(d: Data) -> Figure:
    rows = d["by_p"].values()
    done, runs = sum(r["generalised"] for r in rows), sum(r["runs"] for r in rows)
    return done / runs, f"{done} of {runs} runs, {d['by_p']['113']['runs']} of them p = 113"


BARS: tuple[Bar, ...] = (
    Bar(
        "One layer",
        "test accuracy at the end, worst of all seeds, p = 113",
        "one_layer_seeds",
        0.999,
        ">=",
        "99.9 %",
        _of_p113("worst_test_accuracy"),
    ),
    Bar(
        "One layer",
        "test loss at the end, worst of all seeds",
        "one_layer_seeds",
        0.01,
        "<=",
        "0.01",
        lambda d: (d["by_p"]["113"]["worst_test_loss"], f"{d['by_p']['113']['worst_test_loss']:.2g}"),
    ),
    Bar(
        "One layer",
        "runs that generalise (p = 53, 59, 71, 97, 101, 113)",
        "one_layer_seeds",
        1,
        ">=",
        "all",
        _generalised,
    ),
    Bar(
        "One layer",
        "training, median of all seeds, p = 113",
        "one_layer_seeds",
        25,
        "<=",
        "25 s (stretch 10 s)",
        lambda d: as_seconds(d["by_p"]["113"]["median_cpu_seconds"], d["by_p"]["113"]["median_wall_seconds"]),
    ),
    Bar(
        "One layer",
        "live neurons with one frequency (≥ 85 %), median",
        "one_layer_seeds",
        0.9,
        ">=",
        "90 %",
        _of_p113("median_neuron_share_85"),
    ),
    Bar(
        "One layer",
        "frequencies that hold 90 % of W_E, median",
        "one_layer_seeds",
        6,
        "<=",
        "6",
        lambda d: (
            d["by_p"]["113"]["median_embed_freqs_for_90"],
            f"{d['by_p']['113']['median_embed_freqs_for_90']:g}",
        ),
    ),
    Bar(
        "One layer",
        "logit variance in cos(w(a + b − c)), median",
        "one_layer_seeds",
        0.9,
        ">=",
        "90 %",
        _of_p113("median_logit_share"),
    ),
    Bar(
        "One layer",
        "training step, against the straightforward one",
        "one_layer_speed",
        3.5,
        ">=",
        "3.5 times",
        lambda d: as_times(d["ratio_to_straightforward"]["fast"]["median"]),
    ),
    Bar(
        "One layer",
        "compiled step, against the straightforward one",
        "one_layer_speed",
        4.5,
        ">=",
        "4.5 times",
        lambda d: as_times(d["ratio_to_straightforward"]["fast compiled"]["median"]),
    ),
    Bar(
        "One layer",
        "analysis of a checkpoint, p = 113",
        "analysis_speed",
        5,
        "<=",
        "5 s on 2 cores",
        lambda d: as_seconds(d["analysis"]["processor_seconds"], d["analysis"]["seconds"]),
    ),
    Bar(
        "One layer",
        "progress measures over 100 checkpoints",
        "analysis_speed",
        60,
        "<=",
        "60 s",
        lambda d: as_seconds(d["progress_measures"]["processor_seconds"], d["progress_measures"]["seconds"]),
    ),
)
