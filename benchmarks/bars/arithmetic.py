"""Bars of the networks that add long numbers or any modulus: their errors and their speed."""

from collections.abc import Callable

from benchmarks.bars.bar import Bar, Data, Figure, as_seconds


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
    return as_seconds(slowest["decode_10000x20_cpu_seconds"], slowest["decode_10000x20_wall_seconds"])


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


BARS: tuple[Bar, ...] = (
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
)
