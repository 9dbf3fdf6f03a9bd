"""Bars of what edits, learns from and writes activations: interventions, dictionaries, captures."""

from benchmarks.bars.bar import Bar, Data, Figure, as_times


def _peaks(d: Data) -> Figure:
    small, large = d["peak_mib"]["500000"], d["peak_mib"]["2000000"]
    return large / small, f"{small:.0f} MiB for 500,000, {large:.0f} MiB for 2,000,000 tokens"


BARS: tuple[Bar, ...] = (
    Bar(
        "Interventions",
        "200 controls of an ablation, against whole forward passes",
        "ablate_speed",
        5,
        ">=",
        "5 times",
        lambda d: as_times(d["ratio_full_passes"]),
    ),
    Bar(
        "Interventions",
        "largest difference of the numbers",
        "ablate_speed",
        1e-4,
        "<=",
        "none but rounding",
        lambda d: (d["largest_difference"], f"{d['largest_difference']:.1g}"),
    ),
    Bar(
        "Dictionaries",
        "training from shards, against SAELens on a tensor in memory",
        "sae_speed",
        1.1,
        "<=",
        "1.1 times the time",
        lambda d: as_times(d["ratio_median"]),
    ),
    Bar("Dictionaries", "memory for four times the tokens", "sae_speed", 1.05, "<=", "the same", _peaks),
    Bar(
        "Capture",
        "calendar to disk, against a pass per document and a pickle per batch",
        "harvest_speed",
        1,
        ">=",
        "faster",
        lambda d: as_times(d["capture"][0]["ratio"]),
    ),
    Bar(
        "Capture",
        "blocks of Qwen3-0.6B's shape, the same",
        "harvest_speed",
        1,
        ">=",
        "faster",
        lambda d: as_times(d["capture"][1]["ratio"]),
    ),
    Bar(
        "Capture",
        "peak memory for eight times the tokens",
        "harvest_speed",
        1.05,
        "<=",
        "the same",
        lambda d: as_times(d["memory"]["peak_mebibytes"]["x8"] / d["memory"]["peak_mebibytes"]["x1"]),
    ),
)
