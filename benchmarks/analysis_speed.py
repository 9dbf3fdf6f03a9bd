"""How long the full analysis of a p = 113 checkpoint takes, and the progress measures of 100 of them.

    OMP_NUM_THREADS=2 python benchmarks/analysis_speed.py

Bars: 5 s and 60 s on two cores. The checkpoints are mixtures of untrained and closed-form weights (the work
does not depend on the values). Processor seconds are given beside the wall clock, since another program may
hold the cores. Writes benchmarks/results/analysis_speed.json.
"""

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from mechfourier.files import write_json
from mechfourier.fourier.analytic import analytic_weights
from mechfourier.models.checkpoint import save_checkpoint
from mechfourier.toys.one_layer import analyze, progress_curves
from mechfourier.toys.one_layer.weights import OneLayerConfig, initial_weights
from mechfourier.training.run_folder import RunFolder

RESULTS = Path(__file__).parent / "results" / "analysis_speed.json"


def write_run(folder: Path, p: int, checkpoints: int) -> None:
    """A run folder of as many checkpoints, with a train/test split."""
    config = OneLayerConfig(p=p)
    final = {name: value.float() for name, value in analytic_weights(p).items()}
    start = initial_weights(config, seed=0)
    run = RunFolder(folder)
    for index in range(checkpoints):
        mix = index / max(1, checkpoints - 1)
        run.write_checkpoint({k: (1 - mix) * start[k] + mix * final[k] for k in final}, index)
    save_checkpoint(folder, final, {**config.to_dict(), "train_fraction": 0.3, "seed": 0})


def timed(work: Callable[[], Any]) -> dict[str, float]:
    wall, processor = time.perf_counter(), time.process_time()
    work()
    return {"seconds": time.perf_counter() - wall, "processor_seconds": time.process_time() - processor}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--p", type=int, default=113)
    parser.add_argument("--checkpoints", type=int, default=100)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "run"
        write_run(folder, options.p, options.checkpoints)
        first = timed(lambda: analyze(folder, over_run=False))  # includes the thresholds of untrained models
        again = timed(lambda: analyze(folder, over_run=False))
        curves = timed(lambda: progress_curves(folder))
    found = {
        "p": options.p,
        "threads": torch.get_num_threads(),
        "load_average": os.getloadavg()[0],
        "analysis": first,
        "analysis_again": again,
        "progress_measures": {"checkpoints": options.checkpoints, **curves},
    }
    write_json(RESULTS, found)
    for key in ("analysis", "analysis_again", "progress_measures"):
        print(
            f"{key:<18} {found[key]['seconds']:6.2f} s wall, {found[key]['processor_seconds']:6.2f} s of "
            f"processor"
        )
    print(f"{found['threads']} threads, load average {found['load_average']:.1f}")


if __name__ == "__main__":
    main()
