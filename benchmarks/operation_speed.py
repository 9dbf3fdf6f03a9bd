"""Speed and memory of the operation test: months, 144 cells (12 × 12), 28 layers × 1024 dimensions, 1000
permutations, all k.

    python benchmarks/operation_speed.py [--threads 2]

Also a toy (one layer × 128), and the grid of four cycles (12 × 48), which is what ``probe`` uses by default.
Noise: every permutation and every surrogate is run in full. Writes benchmarks/results/operation_speed.json.
Aim: under 30 s on 2 cores and 2 GB; the toy under 1 s.
"""

import argparse
import os
import platform
import resource
import time
from pathlib import Path
from typing import Any

import torch

from mechfourier.files import write_json
from mechfourier.stats.operation import analyse_operation
from mechfourier.stats.operation_verdict import verdict_operation

RESULTS = Path(__file__).parent / "results" / "operation_speed.json"


def measured(layers: int, width: int, offsets: int, permutations: int) -> dict[str, Any]:
    """Wall and CPU seconds, and the memory above what was there before (MB, a high-water mark)."""
    draw = torch.Generator().manual_seed(0)
    acts = torch.randn(layers, 12, offsets, width, generator=draw)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    wall, cpu = time.perf_counter(), time.process_time()
    evidence = analyse_operation(acts, n=12, permutations=permutations, surrogates=max(99, permutations // 5))
    return {
        "cells": 12 * offsets,
        "verdict": verdict_operation(evidence).word,
        "layers": layers,
        "width": width,
        "permutations": permutations,
        "seconds": round(time.perf_counter() - wall, 2),
        "cpu_seconds": round(time.process_time() - cpu, 2),
        "memory_above_activations_mb": (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024,
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--permutations", type=int, default=1000)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    load = round(os.getloadavg()[0], 1)
    measured(1, 16, 12, 99)  # imports and first calls are not what is measured
    sizes = {"toy": (1, 128, 12), "months, one cycle": (28, 1024, 12), "months, four cycles": (28, 1024, 48)}
    found = {name: measured(*size, options.permutations) for name, size in sizes.items()}
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    write_json(
        RESULTS,
        {
            "sizes": found,
            "peak_memory_mb": peak,
            "threads": options.threads,
            "load_average_before": load,
            "torch": torch.__version__,
            "machine": platform.machine(),
        },
    )
    print(RESULTS.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
