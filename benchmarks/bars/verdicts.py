"""Bars of the test of operations, and of verdicts on data whose answer is known."""

from benchmarks.bars.bar import Bar, Data, Figure, as_mib, as_seconds


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


_OPERATION = "months, one cycle"
BARS: tuple[Bar, ...] = (
    Bar(
        "Operations",
        "plane test, months (144 cells), 28 × 1024, 1000 draws",
        "operation_speed",
        30,
        "<=",
        "30 s on 2 cores",
        lambda d: as_seconds(d["sizes"][_OPERATION]["cpu_seconds"], d["sizes"][_OPERATION]["seconds"]),
    ),
    Bar(
        "Operations",
        "the same, memory",
        "operation_speed",
        2048,
        "<=",
        "2 GB",
        lambda d: as_mib(d["peak_memory_mb"]),
    ),
    Bar(
        "Operations",
        "the same, one layer of 128 dimensions",
        "operation_speed",
        1,
        "<=",
        "1 s",
        lambda d: as_seconds(d["sizes"]["toy"]["cpu_seconds"], d["sizes"]["toy"]["seconds"]),
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
)
