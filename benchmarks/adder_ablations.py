"""The teaching table: the generalising recipe with one thing left out, and what is left of it at lengths it
never saw.

    python benchmarks/adder_ablations.py              # trains each variant (seed 100; about 2 core-minutes
    each) under runs/ python benchmarks/adder_ablations.py --runs DIR   # measures runs named
    adder-RECIPE-SEED that are there already

Writes benchmarks/results/adder_ablations.json after every variant.
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
from mechfourier.toys.adder.draw import category, unseen_batch
from mechfourier.toys.adder.source import open_adder
from mechfourier.toys.adder.train import train_adder

RESULTS = Path(__file__).parent / "results" / "adder_ablations.json"
VARIANTS = ("generalising", "no-padding", "no-sharpening", "no-chains", "coupled", "decoder-only")
LENGTHS = (6, 8, 10, 15, 20, 30, 50, 100)
NAMES = ("equal lengths", "unequal lengths", "full-length carry chain")
SEED = 9_000_011


def measure(folder: Path, samples: int) -> list[dict[str, Any]]:
    model, _ = open_adder(folder)
    limit = model.cfg.max_digits or max(LENGTHS)
    rows = [
        plain(
            share(
                "held out",
                "equal lengths",
                exact(model, unseen_batch(samples, _g(n, 0), len_a=n, len_b=n)),
                a=n,
                b=n,
                unseen=True,
            )
        )
        for n in (3, 5)
    ]
    for n in (n for n in LENGTHS if n <= limit):
        for i, name in enumerate(NAMES):
            right = exact(model, category(name, samples, n, _g(n, i + 1)))
            rows.append(plain(share("categories", name, right, a=n, b=n, unseen=True)))
    return rows


def _g(n: int, place: int) -> torch.Generator:
    return torch.Generator().manual_seed(SEED + 100 * n + place)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--seed", type=int, default=100)
    parser.add_argument("--samples", type=int, default=200)
    parser.add_argument("--only", nargs="*", default=list(VARIANTS))
    options = parser.parse_args()
    kept = json.loads(RESULTS.read_text())["variants"] if RESULTS.exists() else []
    for name in options.only:
        folder = options.runs / f"adder-{name}-{options.seed}"
        if not (folder / "model.safetensors").exists():
            start = time.process_time()
            train_adder(folder, settings=name, seed=options.seed, resume=True)
            print(f"{name}: {time.process_time() - start:.0f} s of processor time")
        found = {"recipe": name, "seed": options.seed, "shares": measure(folder, options.samples)}
        kept = [v for v in kept if (v["recipe"], v["seed"]) != (name, options.seed)] + [found]
        note = "exact match by greedy decoding, Wilson intervals"
        write_json(RESULTS, {"note": note, "variants": kept, "provenance": provenance()})
        cells = [s for s in found["shares"] if s["label"] == "equal lengths"]
        print(
            f"{name:<16}" + "  ".join(f"{s['a']}: {s['right'] / s['total']:.1%}" for s in cells), flush=True
        )


if __name__ == "__main__":
    main()
