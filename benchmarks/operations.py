"""How often each word is given to operation grids with a known answer, and how uniform the p-values of noise
are.

    OMP_NUM_THREADS=1 python benchmarks/operations.py [--trials 100] [--seed 0] [--only NAME …] [--restart]

Writes benchmarks/results/operations.json after every cell, so that an interrupted run goes on where it
stopped.
"""

import argparse
import dataclasses
import datetime
import json
from collections.abc import Sequence
from pathlib import Path

import torch

from mechfourier.files import write_json
from mechfourier.progress import tracked
from mechfourier.results.provenance import provenance
from mechfourier.stats.planted import OPERATIONS
from mechfourier.stats.planted_operations import FURTHER
from mechfourier.stats.validate import Cell, CellResult, Validation, run_cell, summary

RESULTS = Path(__file__).parent / "results" / "operations.json"
SIZES = ((12, 4), (7, 4), (23, 3), (24, 3))
"""n, and cycles of offsets."""


def cells(only: Sequence[str] = ()) -> list[Cell]:
    """Circles at all sizes; what is none at n = 7, 12 and 23."""
    generators = [g for g in (*FURTHER, *OPERATIONS) if not only or g.name in only]
    return [
        Cell("operation", g.name, n, cycles)
        for n, cycles in SIZES
        for g in generators
        if g.circular or n != 24
    ]


def load(seed: int) -> dict[str, CellResult]:
    """Results of an earlier run with the same seed, by cell."""
    if not RESULTS.is_file():
        return {}
    text = RESULTS.read_text(encoding="utf-8")
    rows = Validation.from_json(text).generators if json.loads(text)["seed"] == seed else ()
    names = [field.name for field in dataclasses.fields(Cell)]
    return {Cell(**{name: getattr(row, name) for name in names}).key: row for row in rows}


def told(rows: Sequence[CellResult]) -> str:
    """False and missed circles in one paragraph."""
    false = [row for row in rows if not row.planted]
    lines = [
        f"look-alikes: {sum(r.circular for r in false)} of {sum(r.trials for r in false)} draws called "
        f"circular; "
        f"{sum(not r.passed for r in false)} of {len(false)} generators and sizes above 5 %"
    ]
    lines += [f"  {r.name} n = {r.n}: {r.circular} of {r.trials}" for r in false if not r.passed]
    lines += [
        f"  {r.name} n = {r.n}: found in {r.circular} of {r.trials} ({r.words})"
        for r in rows
        if r.planted and r.rate < 0.95
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--trials", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="*", default=(), help="generators to run (again)")
    parser.add_argument("--restart", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    results = {} if options.restart else load(options.seed)
    for cell in tracked(cells(options.only), "operations"):
        if cell.key in results and not options.only:
            continue
        results[cell.key] = run_cell(cell, trials=options.trials, seed=options.seed)
        rows = summary(results.values(), seed=options.seed)
        origin = {"date": datetime.date.today().isoformat(), "provenance": provenance()}
        write_json(RESULTS, origin | rows.to_dict())
    print(told(list(results.values())))


if __name__ == "__main__":
    main()
