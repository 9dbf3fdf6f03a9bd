"""What every benchmark is held to: the bars of the project, each with the place in the committed JSON that
answers it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Data = dict[str, Any]
Figure = tuple[float, str]  # what is compared with the bar, and how it is told


@dataclass(frozen=True)
class Bar:
    """``figure(data)`` of ``results/FILE.json`` must be at least (``>=``) or at most (``<=``) ``limit``."""

    part: str
    what: str
    file: str
    limit: float
    sense: str
    held_to: str
    figure: Callable[[Data], Figure]

    def met(self, data: Data) -> bool:
        value = self.figure(data)[0]
        return value >= self.limit if self.sense == ">=" else value <= self.limit


def _times(value: float) -> Figure:
    return value, f"{value:,.0f} times" if value >= 1000 else f"{value:.3g} times"


def _mib(value: float) -> Figure:
    return value, f"{value:.0f} MiB"


def _share(value: float) -> Figure:
    return value, f"{100 * value:.4g} %"


def _seconds(processor: float, clock: float | None = None) -> Figure:
    told = f"{processor:.3g} s of processor time"
    return processor, told if clock is None else f"{told} ({clock:.3g} s by the clock)"


def _clock(value: float) -> Figure:
    return value, f"{value:.3g} s by the clock"


def _of_p113(field: str) -> Callable[[Data], Figure]:
    return lambda d: _share(d["by_p"]["113"][field])


def _generalised(d: Data) -> Figure:
    rows = d["by_p"].values()
    done, runs = sum(r["generalised"] for r in rows), sum(r["runs"] for r in rows)
    return done / runs, f"{done} of {runs} runs, {d['by_p']['113']['runs']} of them p = 113"


def _worst_false(d: Data) -> Figure:
    """The lower end of the worst generator's interval: 20 to 60 draws a generator cannot show 5 % any
    sharper."""
    rows = [g for g in d["generators"] if not g["planted"]]
    worst = max(rows, key=lambda g: g["low"])
    share = sum(g["circular"] for g in rows) / sum(g["trials"] for g in rows)
    naive = sum(g["naive"] for g in rows) / sum(g["trials"] for g in rows)
    told = (
        f"worst {worst['circular']} of {worst['trials']} ({worst['name']}, n = {worst['n']}; 95 % from "
        f"{100 * worst['low']:.1f} to {100 * worst['high']:.1f} %)"
    )
    return worst["low"], f"{told}, of all draws {100 * share:.2f} % (best R² alone: {100 * naive:.0f} %)"


def _random_circles(d: Data) -> Figure:
    worst = max(d["verdicts"], key=lambda name: d["verdicts"][name].get("circular", 0))
    count, every = (
        d["verdicts"][worst].get("circular", 0),
        sum(w.get("circular", 0) for w in d["verdicts"].values()),
    )
    return count / d[
        "draws"
    ], f"{count} of {d['draws']} ({worst}), {every} of {d['draws'] * len(d['verdicts'])} in all"


def _least_power(d: Data) -> Figure:
    rows = [g for g in d["generators"] if g["planted"] and g["n"] >= 12 and g["snr"] == 1.0]
    worst = min(rows, key=lambda g: g["circular"] / g["trials"])
    return (
        worst["circular"] / worst["trials"],
        f"at least {worst['circular']} of {worst['trials']} ({worst['kind']} {worst['name']}, n = "
        f"{worst['n']})",
    )


def _adder(shortest: int, longest: int) -> Callable[[Data], Figure]:
    def worst(d: Data) -> Figure:
        rows = [
            (s, r)
            for r in d["runs"]
            if r["recipe"] == "generalising"
            for s in r["shares"]
            if shortest <= s["digits"] <= longest
        ]
        share, run = min(rows, key=lambda pair: pair[0]["accuracy"])
        return (
            share["accuracy"],
            f"at least {share['right']} of {share['total']} in {len(rows)} categories of {len(d['runs'])} "
            f"seeds ({share['category']}, {share['digits']} digits, seed {run['seed']})",
        )

    return worst


def _decode(d: Data) -> Figure:
    slowest = max(d["runs"], key=lambda r: r["decode_10000x20_cpu_seconds"])
    return _seconds(slowest["decode_10000x20_cpu_seconds"], slowest["decode_10000x20_wall_seconds"])


def _miras(*parts: str, field: str = "errors") -> Callable[[Data], Figure]:
    """Errors of the packaged recipe's seeds, summed over parts and seeds."""

    def errors(d: Data) -> Figure:
        runs = {name: run for name, run in d.items() if name.startswith("miras-")}
        asked_of = [run for run in runs.values() if any(part in run for part in parts)]
        rows = [row for run in asked_of for part in parts for row in _rows(run.get(part, {}))]
        wrong, asked = sum(r[field] for r in rows), sum(r["questions"] for r in rows)
        return float(wrong), f"{wrong} of {asked:,} wrong, {len(asked_of)} seed{'s' * (len(asked_of) > 1)}"

    return errors


def _rows(part: Data) -> list[Data]:
    return [part] if "questions" in part else list(part.values())


def _peaks(d: Data) -> Figure:
    small, large = d["peak_mib"]["500000"], d["peak_mib"]["2000000"]
    return large / small, f"{small:.0f} MiB for 500,000, {large:.0f} MiB for 2,000,000 tokens"


def _worst_real(field: str) -> Callable[[Data], Figure]:
    """The larger of the two models' figures, with both told."""

    def worst(d: Data) -> Figure:
        found = {name: model["summary"][field] for name, model in d["models"].items()}
        return max(found.values()), ", ".join(f"{value:.3g} ({name})" for name, value in found.items())

    return worst


def _real(model: str, field: str) -> Callable[[Data], Figure]:
    return lambda d: _times(d["models"][model]["summary"][field])


_OPERATION = "months, one cycle"
BARS: tuple[Bar, ...] = (
    Bar(
        "Probe",
        "all layers of months (144 prompts), against one call per prompt",
        "probe_speed",
        8,
        ">=",
        "8 times (12 with shared beginnings)",
        lambda d: _times(d["summary"]["times_faster_than_single_calls"]),
    ),
    Bar(
        "Probe",
        "the same, against one call per prompt and layer",
        "probe_speed",
        200,
        ">=",
        "200 times",
        lambda d: _times(d["summary"]["times_faster_than_layer_scan"]),
    ),
    Bar(
        "Probe",
        "peak memory over the weights",
        "probe_speed",
        1024,
        "<=",
        "1 GiB",
        lambda d: _mib(d["summary"]["peak_bytes_over_weights"] / 2**20),
    ),
    Bar(
        "Probe",
        "family-wise null, 1000 permutations, 28 × 1024, all k",
        "null_speed",
        10,
        "<=",
        "10 s on 2 cores",
        lambda d: _seconds(d["cpu_seconds"]["both nulls"], d["seconds"]["both nulls"]),
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
        lambda data: _times(data["fewest"]),
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
    Bar(
        "Operations",
        "plane test, months (144 cells), 28 × 1024, 1000 draws",
        "operation_speed",
        30,
        "<=",
        "30 s on 2 cores",
        lambda d: _seconds(d["sizes"][_OPERATION]["cpu_seconds"], d["sizes"][_OPERATION]["seconds"]),
    ),
    Bar(
        "Operations",
        "the same, memory",
        "operation_speed",
        2048,
        "<=",
        "2 GB",
        lambda d: _mib(d["peak_memory_mb"]),
    ),
    Bar(
        "Operations",
        "the same, one layer of 128 dimensions",
        "operation_speed",
        1,
        "<=",
        "1 s",
        lambda d: _seconds(d["sizes"]["toy"]["cpu_seconds"], d["sizes"]["toy"]["seconds"]),
    ),
    Bar(
        "Planted data",
        "wrongly called circular, every generator and size",
        "planted",
        0.05,
        "<=",
        "no interval above 5 %",
        _worst_false,
    ),
    Bar(
        "Planted data",
        "power, worst planted circle (n ≥ 12, signal-to-noise 1)",
        "planted",
        0.95,
        ">=",
        "95 %",
        _least_power,
    ),
    Bar(
        "Random weights",
        "wrongly called circular, worst of eight architectures and questions (60 draws each, without the "
        "control)",
        "random_networks",
        0.05,
        "<=",
        "5 %",
        _random_circles,
    ),
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
        lambda d: _seconds(d["by_p"]["113"]["median_cpu_seconds"], d["by_p"]["113"]["median_wall_seconds"]),
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
        lambda d: _times(d["ratio_to_straightforward"]["fast"]["median"]),
    ),
    Bar(
        "One layer",
        "compiled step, against the straightforward one",
        "one_layer_speed",
        4.5,
        ">=",
        "4.5 times",
        lambda d: _times(d["ratio_to_straightforward"]["fast compiled"]["median"]),
    ),
    Bar(
        "One layer",
        "analysis of a checkpoint, p = 113",
        "analysis_speed",
        5,
        "<=",
        "5 s on 2 cores",
        lambda d: _seconds(d["analysis"]["processor_seconds"], d["analysis"]["seconds"]),
    ),
    Bar(
        "One layer",
        "progress measures over 100 checkpoints",
        "analysis_speed",
        60,
        "<=",
        "60 s",
        lambda d: _seconds(d["progress_measures"]["processor_seconds"], d["progress_measures"]["seconds"]),
    ),
    Bar(
        "Interventions",
        "200 controls of an ablation, against whole forward passes",
        "ablate_speed",
        5,
        ">=",
        "5 times",
        lambda d: _times(d["ratio_full_passes"]),
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
        lambda d: _times(d["ratio_median"]),
    ),
    Bar("Dictionaries", "memory for four times the tokens", "sae_speed", 1.05, "<=", "the same", _peaks),
    Bar(
        "Capture",
        "calendar to disk, against a pass per document and a pickle per batch",
        "harvest_speed",
        1,
        ">=",
        "faster",
        lambda d: _times(d["capture"][0]["ratio"]),
    ),
    Bar(
        "Capture",
        "blocks of Qwen3-0.6B's shape, the same",
        "harvest_speed",
        1,
        ">=",
        "faster",
        lambda d: _times(d["capture"][1]["ratio"]),
    ),
    Bar(
        "Capture",
        "peak memory for eight times the tokens",
        "harvest_speed",
        1.05,
        "<=",
        "the same",
        lambda d: _times(d["memory"]["peak_mebibytes"]["x8"] / d["memory"]["peak_mebibytes"]["x1"]),
    ),
    Bar(
        "Adder",
        "held-out pairs of 1 to 5 digits, worst seed",
        "adder_lengths",
        0.999,
        ">=",
        "99.9 %",
        _adder(1, 5),
    ),
    Bar(
        "Adder", "6 to 50 digits, worst category and seed", "adder_lengths", 0.99, ">=", "99 %", _adder(6, 50)
    ),
    Bar("Adder", "10,000 problems of twenty digits", "adder_lengths", 20, "<=", "20 s on 2 cores", _decode),
    Bar(
        "Every modulus",
        "held-out moduli, whole grids",
        "miras_extrapolation",
        0,
        "<=",
        "no error",
        _miras("held_out_grids"),
    ),
    Bar(
        "Every modulus",
        "whole grids of 121 to 199",
        "miras_extrapolation",
        0,
        "<=",
        "no error",
        _miras("grids"),
    ),
    Bar(
        "Every modulus",
        "next to the wrap, 121 to 199",
        "miras_extrapolation",
        0,
        "<=",
        "no error",
        _miras("boundary_121_199"),
    ),
    Bar(
        "Every modulus",
        "next to the wrap, 251, 499 and 997",
        "miras_extrapolation",
        0,
        "<=",
        "no error",
        _miras("boundary_251", "boundary_499", "boundary_997"),
    ),
    Bar(
        "Every modulus",
        "10,000 random pairs of 251, 499 and 997",
        "miras_extrapolation",
        0,
        "<=",
        "no error",
        _miras("random_251", "random_499", "random_997"),
    ),
    Bar(
        "Figures",
        "a report of 20 figures",
        "figures_speed",
        12,
        "<=",
        "12 MB",
        lambda d: (d["report"]["bytes"] / 1e6, f"{d['report']['bytes'] / 1e6:.1f} MB"),
    ),
    Bar(
        "Figures",
        "the same, opened in a browser",
        "figures_speed",
        2,
        "<=",
        "2 s",
        lambda d: _clock(d["report"]["seconds_to_first_screen"]),
    ),
    Bar(
        "Figures",
        "circle player of 200 checkpoints",
        "figures_speed",
        60,
        "<=",
        "60 s",
        lambda d: _clock(d["circle_player_of_200_checkpoints"]["seconds"]),
    ),
    Bar(
        "Figures",
        "video of 300 frames, 1280 × 720",
        "figures_speed",
        60,
        "<=",
        "60 s on 2 cores",
        lambda d: _clock(d["video_of_300_frames.mp4"]["seconds"]),
    ),
    Bar(
        "Start-up",
        "mechfourier --help",
        "startup",
        0.5,
        "<=",
        "0.5 s",
        lambda d: _seconds(d["help"]["processor_seconds"], d["help"]["seconds"]),
    ),
    Bar(
        "Start-up",
        "import mechfourier",
        "startup",
        0.2,
        "<=",
        "0.2 s",
        lambda d: _seconds(d["import"]["processor_seconds"], d["import"]["seconds"]),
    ),
)
