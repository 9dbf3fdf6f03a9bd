"""The full planted benchmark: every generator at every size, the naive method beside ours.

    OMP_NUM_THREADS=1 python benchmarks/planted.py [--trials 60] [--seed 0] [--restart]

Writes benchmarks/results/planted.json after every cell, so that an interrupted run goes on where it stopped,
and the table docs/planted.md at the end (or with --table from what is there).
"""

import argparse
import dataclasses
import datetime
import json
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import torch

from mechfourier.files import write_json, write_text
from mechfourier.progress import tracked
from mechfourier.results.provenance import provenance
from mechfourier.stats.planted import OPERATIONS
from mechfourier.stats.planted_values import VALUES
from mechfourier.stats.validate import Cell, CellResult, Validation, full_cells, run_cell, summary

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "planted.json"
TABLE = ROOT / "docs" / "planted.md"
BIG = 20
SEVERAL = 20  # values, above which the bootstraps of a draw take seconds


def trials_of(cell: Cell, trials: int) -> int:
    """Fewer draws where one takes seconds."""
    slow = cell.d_model * cell.layers > 64 or (cell.kind == "value" and cell.n > SEVERAL)
    return min(trials, BIG) if slow else trials


def load(seed: int, restart: bool) -> dict[str, CellResult]:
    """Results of an earlier run with the same seed, by cell."""
    if restart or not RESULTS.is_file():
        return {}
    kept = json.loads(RESULTS.read_text(encoding="utf-8"))
    if kept["seed"] != seed:
        return {}
    rows = Validation.from_json(json.dumps(kept)).generators
    names = [field.name for field in dataclasses.fields(Cell)]
    return {Cell(**{name: getattr(row, name) for name in names}).key: row for row in rows}


def save(results: dict[str, CellResult], seed: int) -> None:
    """Write what there is, with the date."""
    order = {cell.key: index for index, cell in enumerate(full_cells())}
    rows = [results[key] for key in sorted(results, key=lambda key: order.get(key, len(order)))]
    origin = {"date": datetime.date.today().isoformat(), "provenance": provenance()}
    write_json(RESULTS, origin | summary(rows, seed=seed).to_dict())


def percent(count: int, trials: int) -> str:
    return f"{100 * count / trials:.0f}"


def table(rows: Sequence[CellResult], seed: int, date: str) -> str:
    """The page for people."""
    older = OLDER if date < CONTEST else ""
    parts = [HEAD.format(seed=seed, date=date, draws=sum(row.trials for row in rows), older=older)]
    parts.append(_lost(rows))
    for kind, generators in (("operation", OPERATIONS), ("value", VALUES)):
        base = [
            row for row in rows if row.kind == kind and row.snr == 1 and row.d_model == 64 and row.layers == 1
        ]
        base = [row for row in base if kind == "value" or row.cycles > 1]
        parts += [
            f"\n## {kind.capitalize()} domains, d 64, one layer, signal-to-noise 1\n",
            _grid(base, generators),
        ]
        rest = [row for row in rows if row.kind == kind and row not in base]
        parts += [f"\n## {kind.capitalize()} domains, other sizes\n", _list(rest)]
    return "\n".join(parts) + "\n"


def _grid(rows: Sequence[CellResult], generators: Sequence) -> str:
    found: dict[str, dict[int, CellResult]] = defaultdict(dict)
    for row in rows:
        found[row.name][row.n] = row
    sizes = sorted({row.n for row in rows})
    head = "| generator | " + " | ".join(f"n = {n}" for n in sizes) + " | called |"
    lines = [head, "|---" * (len(sizes) + 2) + "|"]
    for generator in generators:
        cells = [found[generator.name].get(n) for n in sizes]
        if not any(cells):
            continue
        words: dict[str, int] = defaultdict(int)
        for row in filter(None, cells):
            for word, count in row.words.items():
                words[word] += count
        name = f"**{generator.name}**" if generator.circular else generator.name
        called = ", ".join(
            f"{word} {count}" for word, count in sorted(words.items(), key=lambda item: -item[1])
        )
        lines.append(f"| {name}: {generator.what} | " + " | ".join(map(_entry, cells)) + f" | {called} |")
    return "\n".join(lines)


def _entry(row: CellResult | None) -> str:
    if row is None:
        return ""
    mark = "" if row.passed else " ✗"
    return (
        f"{percent(row.circular, row.trials)} [{100 * row.low:.0f}, {100 * row.high:.0f}] · "
        f"{percent(row.naive, row.trials)}{mark}"
    )


def _list(rows: Sequence[CellResult]) -> str:
    lines = [
        "| generator | n | cycles | layers | d | snr | draws | circular · naive |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in sorted(rows, key=lambda r: (r.layers, r.d_model, r.cycles, r.snr, not r.planted, r.name, r.n)):
        name = f"**{row.name}**" if row.planted else row.name
        lines.append(
            f"| {name} | {row.n} | {row.cycles} | {row.layers} | {row.d_model} | {row.snr:.3g} | "
            f"{row.trials} | {_entry(row)} |"
        )
    return "\n".join(lines)


def _lost(rows: Sequence[CellResult]) -> str:
    outside = [row for row in rows if not row.passed]
    weak = [row for row in rows if row.planted and row.passed and row.rate < 0.95]
    naive = [row for row in rows if not row.planted]
    fooled = sum(row.naive > 0.05 * row.trials for row in naive)
    ours = sum(row.circular for row in naive)
    lines = [
        f"- Over all look-alikes, {ours} of {sum(row.trials for row in naive)} draws were called circular; "
        f"the naive method calls "
        f"more than 5 % of the draws a circle in {fooled} of {len(naive)} rows.",
        *(f"- Outside its bar: {_told(row)}." for row in outside),
        *(f"- Power is lost: {_told(row)}." for row in weak),
    ]
    return "\n".join(lines)


def _told(row: CellResult) -> str:
    size = (
        f"n = {row.n}, {row.layers} layer{'s' * (row.layers > 1)}, d {row.d_model}, signal-to-noise "
        f"{row.snr:.3g}"
    )
    cycles = f", {row.cycles} cycle{'s' * (row.cycles > 1)}" if row.kind == "operation" else ""
    return f"{row.kind} {row.name} at {size}{cycles}: {row.circular} of {row.trials} called circular"


HEAD = """# The planted benchmark

Activations with a known answer, and how often each is called a circle. {draws} draws, seed {seed}, {date}. Made by
`python benchmarks/planted.py`; the quick version is `mechfourier validate` (20 draws).

An entry reads: percent called `circular` by mechfourier [95 % Wilson interval] · percent called a circle by the best R² over dimensions
and harmonics (> 0.9), the method that is often published. **Bold** generators are circles: there, more is better. ✗ marks an
entry outside its bar: false `circular` at most 5 % everywhere, circles found in at least 95 % from n = 12 and a signal-to-noise
ratio of 1 on. The ratio is the power of the planted
signal over the power of the noise, over all dimensions: at 1 in 64 dimensions a circle has 32 times the variance of the
noise along its two directions, at 1/32 = 0.03125 the same. Operations have four cycles of offsets up to n = 12 and three above; values have 8 templates. Circles are
planted in one layer, drawn at random; look-alikes in every layer. How the verdicts are reached: [statistics](statistics.md).
{older}
## In short
"""
CONTEST = "2026-11-29"
OLDER = """
**These draws are older than the contest of shapes**: words and rates of value domains are those of the rules of version 0.1, and lists began at the first value. The rates of the rules that hold now are in
[the contest of shapes](shapes.md); this page is written anew by `python benchmarks/planted.py --restart`.
"""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--trials", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--restart", action="store_true")
    parser.add_argument(
        "--table", action="store_true", help="only write the table from the results there are"
    )
    options = parser.parse_args()
    torch.set_num_threads(1)
    results = load(options.seed, options.restart)
    todo = [] if options.table else [cell for cell in full_cells() if cell.key not in results]
    for cell in tracked(todo, "planted", len(todo)):
        results[cell.key] = run_cell(cell, trials=trials_of(cell, options.trials), seed=options.seed)
        save(results, options.seed)
    kept = json.loads(RESULTS.read_text(encoding="utf-8"))
    write_text(TABLE, table(list(results.values()), options.seed, kept["date"]))


if __name__ == "__main__":
    main()
