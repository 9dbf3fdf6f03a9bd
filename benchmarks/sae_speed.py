"""Dictionaries trained from shards on disk beside ``SAETrainer`` on a tensor in memory, and memory against
the number of rows.

Both take the same steps with the same settings, in turns, in one process; CPU seconds, so that a busy machine
does not decide. What ours adds: reading and shuffling shards, held-out evaluations, metrics, the saved state.

    python benchmarks/sae_speed.py [--rounds 5] [--out benchmarks/results/sae_speed.json]
"""

import argparse
import contextlib
import io
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from mechfourier.files import write_json

SITE, D, WIDTH, BATCH, STEPS = "blocks.0.hook_resid_post", 128, 512, 512, 150
ROWS = 100_000


def activations(rows: int) -> Tensor:
    return torch.randn(rows, D, generator=torch.Generator().manual_seed(0)).relu()


def endless(acts: Tensor) -> Iterator[Tensor]:
    while True:
        yield from acts[torch.randperm(len(acts))].split(BATCH)[: len(acts) // BATCH]


def direct(acts: Tensor) -> float:
    """``SAETrainer.fit`` on a tensor that is in memory."""
    from sae_lens import SAETrainer

    from mechfourier.sae.settings import Dictionary, Schedule, build, trainer_config

    schedule = Schedule(tokens=STEPS * BATCH, batch=BATCH)
    trainer = SAETrainer(
        trainer_config(schedule, "cpu"), build(Dictionary(SITE, width=WIDTH), D, schedule, {}), endless(acts)
    )
    start = time.process_time()
    with contextlib.redirect_stderr(io.StringIO()):
        trainer.fit()
    return time.process_time() - start


def from_shards(folder: Path, acts: Tensor) -> float:
    """The training phase of ``mechfourier sae train``, from shards that are there."""
    from mechfourier.sae.settings import Dictionary, Schedule
    from mechfourier.sae.shards import Shards, Stream
    from mechfourier.sae.trainee import DictionariesTrainee
    from mechfourier.sae.training import EVALUATIONS
    from mechfourier.training.loop import run_training

    shards = Shards(folder / "shards", (SITE,), (D,), 0)
    shards.keep({SITE: part} for part in acts.split(shards.shard_rows))
    schedule = Schedule(tokens=STEPS * BATCH, batch=BATCH)
    start = time.process_time()
    trainee = DictionariesTrainee(
        {"speed": Dictionary(SITE, width=WIDTH)},
        Stream(shards, BATCH, seed=0),
        schedule,
        {SITE: acts[:4096]},
        plan={},
        metadata={},
    )
    every = max(1, trainee.blocks // EVALUATIONS)
    run_training(trainee, folder / "run", steps=trainee.blocks, evaluate_at=every, checkpoint_at=())
    trainee.finished()
    return time.process_time() - start


def peak_memory(rows: int) -> float:
    """MiB at most, of a process that writes ``rows`` activations and reads them once."""
    code = f"import benchmarks.sae_speed as b; b.write_and_read({rows})"
    here = Path(__file__).resolve().parents[1]
    done = subprocess.run([sys.executable, "-c", code], cwd=here, capture_output=True, text=True, check=True)
    return float(done.stdout)


def write_and_read(rows: int) -> None:
    from mechfourier.sae.shards import Shards, Stream

    with tempfile.TemporaryDirectory() as folder:
        shards = Shards(Path(folder), (SITE,), (D,), 0)
        size = shards.shard_rows
        shards.keep({SITE: torch.randn(size, D)} for _ in range(max(1, rows // size)))
        stream = Stream(shards, BATCH, seed=0)
        for _ in range(shards.rows // BATCH):
            next(stream)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--rows", type=int, nargs="*", default=[500_000, 1_000_000, 2_000_000])
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/sae_speed.json"))
    options = parser.parse_args()
    acts = activations(ROWS)
    direct(acts)  # the first run pays for imports
    times = []
    for number in range(options.rounds):
        with tempfile.TemporaryDirectory() as folder:
            times.append((direct(acts), from_shards(Path(folder), acts)))
        print(f"round {number}: direct {times[-1][0]:.2f} s, from shards {times[-1][1]:.2f} s", flush=True)
    ratios = sorted(ours / theirs for theirs, ours in times)
    found = {
        "activations_per_round": STEPS * BATCH,
        "d": D,
        "features": WIDTH,
        "threads": torch.get_num_threads(),
        "machine": f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores",
        "direct_cpu_s": [t for t, _ in times],
        "from_shards_cpu_s": [t for _, t in times],
        "ratio_median": ratios[len(ratios) // 2],
        "peak_mib": {str(rows): peak_memory(rows) for rows in options.rows},
    }
    print(json.dumps(found, indent=2))
    print("wrote", write_json(options.out, found))


if __name__ == "__main__":
    main()
