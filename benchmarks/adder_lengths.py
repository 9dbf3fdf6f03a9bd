"""Does the generalising adder add at lengths it never saw? The figures that docs/adder.md quotes, by greedy
decoding.

    mechfourier train adder --recipe generalising --seed 100 --out runs/adder-generalising-100   # and 101,
    102 python benchmarks/adder_lengths.py runs/adder-generalising-100 runs/adder-generalising-101 …

Writes benchmarks/results/adder_lengths.json after every run; runs that are in it already are measured again.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import torch

from mechfourier.files import write_json
from mechfourier.results.base import plain
from mechfourier.results.provenance import provenance
from mechfourier.toys.adder.accuracy import exact, share
from mechfourier.toys.adder.decode import decode_all
from mechfourier.toys.adder.draw import category, draw, unseen_batch
from mechfourier.toys.adder.source import open_adder, trained_digits
from mechfourier.toys.adder.task import join

RESULTS = Path(__file__).parent / "results" / "adder_lengths.json"
LENGTHS = (6, 8, 10, 15, 20, 30, 50, 100)
NAMES = ("equal lengths", "unequal lengths", "full-length carry chain", "full chain, unequal lengths")
SEED = 7_000_003  # of the problems; no training or evaluation draws from it


def generator(place: int) -> torch.Generator:
    return torch.Generator().manual_seed(SEED + place)


def row(name: str, digits: int, right: torch.Tensor) -> dict[str, Any]:
    found = share(name, name, right, a=digits, b=digits, unseen=True)
    return {
        "category": name,
        "digits": digits,
        "right": found.right,
        "total": found.total,
        "accuracy": found.accuracy,
        "low": found.low,
        "high": found.high,
    }


def measure(folder: str, samples: int) -> dict[str, Any]:
    model, config = open_adder(folder)
    known, limit = trained_digits(config), model.cfg.max_digits
    pairs = [(a, b) for a in range(1, known + 1) for b in range(1, known + 1)]
    inside = join([unseen_batch(240, generator(100 * a + b), len_a=a, len_b=b) for a, b in pairs])
    rows = [row(f"1 to {known} digits, held out", known, exact(model, inside))]
    for digits in [n for n in LENGTHS if limit is None or n <= limit]:
        for place, name in enumerate(NAMES):
            problems = category(name, samples, digits, generator(1000 * digits + place))
            rows.append(row(name, digits, exact(model, problems)))
    training = config.get("training", {})
    return {
        "run": Path(folder).name,
        "recipe": training.get("recipe", {}).get("name"),
        "seed": training.get("seed"),
        "shares": rows,
        **(speed(model) if limit is None else {}),
    }


def speed(model: Any) -> dict[str, Any]:
    """Greedy decoding of 10,000 twenty-digit problems: seconds of processor time, summed over threads."""
    source = model.cfg.format.source(draw(10_000, generator(0), len_a=20, len_b=20))
    cpu, wall = time.process_time(), time.perf_counter()
    decode_all(model, source)
    return {
        "decode_10000x20_cpu_seconds": round(time.process_time() - cpu, 2),
        "decode_10000x20_wall_seconds": round(time.perf_counter() - wall, 2),
        "threads": torch.get_num_threads(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", nargs="+")
    parser.add_argument("--samples", type=int, default=500, help="problems per category and length")
    options = parser.parse_args()
    kept = json.loads(RESULTS.read_text())["runs"] if RESULTS.exists() else []
    for folder in options.runs:
        found = plain(measure(folder, options.samples))
        kept = [run for run in kept if run["run"] != found["run"]] + [found]
        note = "exact match by greedy decoding; intervals: Wilson, 95 %"
        write_json(RESULTS, {"note": note, "runs": kept, "provenance": provenance()})
        for line in found["shares"]:
            print(
                f"{found['run']:<24}{line['category']:<32}{line['digits']:>4} digits {line['accuracy']:8.2%}"
                f"  [{line['low']:.2%}, {line['high']:.2%}] of {line['total']}",
                flush=True,
            )
        print({key: value for key, value in found.items() if key.startswith("decode")}, flush=True)


if __name__ == "__main__":
    main()
