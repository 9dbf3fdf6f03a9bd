"""Speed and memory of the family-wise nulls of a value domain: months, 28 layers × 1024 dimensions, 1000
permutations, all k.

Run: python benchmarks/null_speed.py [--threads 2]. Writes benchmarks/results/null_speed.json. Aim: under 10 s
on 2 cores, 2 GB.
"""

import argparse
import json
import os
import platform
import resource
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from mechfourier.files import write_json
from mechfourier.stats.null import circle_null, dimension_null, label_orders
from mechfourier.stats.spectrum import cross_gram, shared_gram
from mechfourier.stats.value import analyse_value
from mechfourier.stats.verdict import verdict_value

RESULTS = Path(__file__).parent / "results" / "null_speed.json"


def timed(work: Callable[[], Any]) -> tuple[float, float, Any]:
    """Wall seconds, CPU seconds (they differ on a busy machine) and the result."""
    wall, cpu = time.perf_counter(), time.process_time()
    out = work()
    return time.perf_counter() - wall, time.process_time() - cpu, out


def straightforward(acts: torch.Tensor, orders: int) -> None:
    """The loop this replaces: one fit per permutation, layer and harmonic, on the same numbers."""
    mean = acts.mean(2)
    n = mean.shape[1]
    for index in label_orders(n, permutations=orders, seed=1).index:
        for layer in mean:
            y = layer[index] - layer.mean(0)
            for k in range(1, (n + 1) // 2):
                angle = 2 * torch.pi * k / n * torch.arange(n)
                x = torch.stack([torch.ones(n), angle.cos(), angle.sin()], 1)
                fit = x @ torch.linalg.lstsq(x, y).solution
                (1 - ((y - fit) ** 2).sum(0) / (y**2).sum(0)).max()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--layers", type=int, default=28)
    parser.add_argument("--width", type=int, default=1024)
    parser.add_argument("--permutations", type=int, default=1000)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    load = round(os.getloadavg()[0], 1)  # wall seconds count only where nothing else was running
    draw = torch.Generator().manual_seed(0)
    acts = torch.randn(options.layers, 12, 8, options.width, generator=draw)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    orders = label_orders(12, permutations=options.permutations)
    gram_wall, gram_cpu, gram = timed(lambda: shared_gram(cross_gram(acts)))
    whole_wall, whole_cpu, _ = timed(lambda: circle_null(gram, orders))
    dims_wall, dims_cpu, _ = timed(lambda: dimension_null(acts.mean(2), orders))
    few = max(1, options.permutations // 200)
    loop_wall, loop_cpu, _ = timed(lambda: straightforward(acts, few))
    all_wall, all_cpu, verdict = timed(
        lambda: verdict_value(analyse_value(acts, permutations=options.permutations)).word
    )
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    report = {
        "what": f"months (n = 12, 8 templates), {options.layers} layers x {options.width} dimensions, "
        f"{options.permutations} permutations, all k",
        "seconds": {
            "gram": round(gram_wall, 3),
            "null of planes": round(whole_wall, 3),
            "null of every dimension": round(dims_wall, 3),
            "both nulls": round(gram_wall + whole_wall + dims_wall, 3),
            "all of analyse_value": round(all_wall, 3),
            "straightforward loop, scaled up": round(loop_wall * options.permutations / few, 1),
        },
        "cpu_seconds": {
            "both nulls": round(gram_cpu + whole_cpu + dims_cpu, 3),
            "all of analyse_value": round(all_cpu, 3),
            "straightforward loop, scaled up": round(loop_cpu * options.permutations / few, 1),
        },
        "peak_memory_mb": round(after / 1024),
        "memory_above_the_activations_mb": round((after - before) / 1024),
        "verdict_on_noise": verdict,
        "threads": options.threads,
        "load_average_before": load,
        "torch": torch.__version__,
        "machine": platform.machine(),
    }
    print(json.dumps(report, indent=2))
    print("wrote", write_json(RESULTS, report))


if __name__ == "__main__":
    main()
