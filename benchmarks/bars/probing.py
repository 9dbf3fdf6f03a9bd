"""Bars of the probe, on the packaged model and on real ones."""

from collections.abc import Callable

from benchmarks.bars.bar import Bar, Data, Figure, as_mib, as_seconds, as_times


def _worst_real(field: str) -> Callable[[Data], Figure]:
    """The larger of the two models' figures, with both told."""

    def worst(d: Data) -> Figure:
        found = {name: model["summary"][field] for name, model in d["models"].items()}
        return max(found.values()), ", ".join(f"{value:.3g} ({name})" for name, value in found.items())

    return worst


def _real(model: str, field: str) -> Callable[[Data], Figure]:
    return lambda d: as_times(d["models"][model]["summary"][field])


BARS: tuple[Bar, ...] = (
    Bar(
        "Probe",
        "all layers of months (144 prompts), against one call per prompt",
        "probe_speed",
        8,
        ">=",
        "8 times (12 with shared beginnings)",
        lambda d: as_times(d["summary"]["times_faster_than_single_calls"]),
    ),
    Bar(
        "Probe",
        "the same, against one call per prompt and layer",
        "probe_speed",
        200,
        ">=",
        "200 times",
        lambda d: as_times(d["summary"]["times_faster_than_layer_scan"]),
    ),
    Bar(
        "Probe",
        "peak memory over the weights",
        "probe_speed",
        1024,
        "<=",
        "1 GiB",
        lambda d: as_mib(d["summary"]["peak_bytes_over_weights"] / 2**20),
    ),
    Bar(
        "Probe",
        "family-wise null, 1000 permutations, 28 × 1024, all k",
        "null_speed",
        10,
        "<=",
        "10 s on 2 cores",
        lambda d: as_seconds(d["cpu_seconds"]["both nulls"], d["seconds"]["both nulls"]),
    ),
    Bar(
        "Real models",
        "the command `probe`, months, against a Hugging Face script (load, one padded batch, save)",
        "real_speed",
        1.6,
        "<=",
        "1.6 times its time",
        _worst_real("wall_ratio"),
    ),
    Bar(
        "Real models",
        "the same without controls",
        "real_speed",
        1.25,
        "<=",
        "1.25 times",
        _worst_real("wall_ratio_no_controls"),
    ),
    Bar(
        "Real models",
        "the same, peak memory",
        "real_speed",
        1.5,
        "<=",
        "1.5 times its memory",
        _worst_real("memory_ratio"),
    ),
    Bar(
        "Real models",
        "peak memory over twice the weights, MiB",
        "real_speed",
        2048,
        "<=",
        "2 GB",
        _worst_real("peak_over_twice_the_weights_mib"),
    ),
    Bar(
        "Real models",
        "edits of a study, multiply-adds against a whole prompt for each, Gemma 3 270M (the least saving)",
        "edit_cost",
        5,
        ">=",
        "5 times fewer",
        lambda data: as_times(data["fewest"]),
    ),
    Bar(
        "Real models",
        "capture of every layer, against that script's forward pass, Gemma 3 270M",
        "real_speed",
        1.5,
        ">=",
        "1.5 times faster",
        _real("gemma3-270m", "capture_times_faster"),
    ),
    Bar(
        "Real models",
        "the same, Qwen2.5-Coder-0.5B",
        "real_speed",
        2,
        ">=",
        "2 times faster",
        _real("qwen2.5-0.5b", "capture_times_faster"),
    ),
    Bar(
        "Real models",
        "largest difference of the numbers, of a layer's largest",
        "real_speed",
        1e-4,
        "<=",
        "none but rounding",
        _worst_real("largest_difference"),
    ),
)
