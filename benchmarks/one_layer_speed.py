"""The fast training step against the straightforward one, side by side in one run, forward, backward and
optimiser.

    OMP_NUM_THREADS=2 python benchmarks/one_layer_speed.py          # add --compile to measure torch.compile
    too

The two alternate, so that a busy machine slows both; ratios are of medians and of minima. The straightforward
step is benchmarks/baselines/one_layer.py (all three positions, log-softmax in float64), as in the published
code. Writes benchmarks/results/one_layer_speed.json.
"""

import argparse
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parent))

from baselines import one_layer as straightforward

from mechfourier.files import write_json
from mechfourier.toys.one_layer.fast_step import FastLogits, cross_entropy
from mechfourier.toys.one_layer.task import split, tokens_of
from mechfourier.toys.one_layer.weights import OneLayerConfig, initial_weights

RESULTS = Path(__file__).parent / "results" / "one_layer_speed.json"
Loss = Callable[[dict[str, Tensor]], Tensor]


def weights_of(config: OneLayerConfig, dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    return {k: v.requires_grad_() for k, v in initial_weights(config, seed=0, dtype=dtype).items()}


def step_of(config: OneLayerConfig, loss: Loss) -> Callable[[], None]:
    """One optimiser step, as a function without arguments."""
    weights = weights_of(config)
    optimizer = torch.optim.AdamW(
        list(weights.values()), lr=1e-3, weight_decay=1.0, betas=(0.9, 0.98), fused=True
    )

    def step() -> None:
        optimizer.zero_grad()
        loss(weights).backward()
        optimizer.step()

    return step


def alternate(steps: dict[str, Callable[[], None]], rounds: int) -> dict[str, list[float]]:
    """Milliseconds per step, one of each in turn."""
    times: dict[str, list[float]] = {name: [] for name in steps}
    for index in range(rounds + 3):
        for name, step in steps.items():
            start = time.perf_counter()
            step()
            if index >= 3:
                times[name].append(1000 * (time.perf_counter() - start))
    return times


def gradient_error(config: OneLayerConfig, losses: tuple[Loss, Loss], dtype: torch.dtype) -> float:
    """Largest relative difference of any parameter's gradient (norm of the difference over norm)."""
    weights = weights_of(config, dtype)
    first, second = (torch.autograd.grad(loss(weights), list(weights.values())) for loss in losses)
    return max(float((a - b).norm() / a.norm()) for a, b in zip(first, second, strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--p", type=int, default=113)
    parser.add_argument("--compile", action="store_true")
    options = parser.parse_args()
    config, data = OneLayerConfig(p=options.p), split("add", options.p, train_fraction=0.3, seed=0)
    tokens, logits = tokens_of(data.train_pairs, options.p), FastLogits(config, data.train_pairs)

    def slow(weights: dict[str, Tensor]) -> Tensor:
        return straightforward.loss(weights, tokens, data.train_answers)

    def fast(weights: dict[str, Tensor]) -> Tensor:
        return cross_entropy(logits(weights), data.train_answers)

    steps = {"straightforward": step_of(config, slow), "fast": step_of(config, fast)}
    if options.compile:
        steps["straightforward compiled"] = step_of(config, torch.compile(slow))
        steps["fast compiled"] = step_of(config, torch.compile(fast))
    load = os.getloadavg()[0]
    times = alternate(steps, options.rounds)
    base = times["straightforward"]
    report = {
        "p": options.p,
        "pairs": len(tokens),
        "rounds": options.rounds,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "machine": platform.machine(),
        "load_average": [round(load, 1), round(os.getloadavg()[0], 1)],
        "gradient_error": {
            str(dtype).removeprefix("torch."): gradient_error(config, (slow, fast), dtype)
            for dtype in (torch.float32, torch.float64)
        },
        "milliseconds": {n: {"median": statistics.median(t), "min": min(t)} for n, t in times.items()},
        "ratio_to_straightforward": {
            n: {"median": statistics.median(base) / statistics.median(t), "min": min(base) / min(t)}
            for n, t in times.items()
        },
    }
    write_json(RESULTS, report)
    print(report)


if __name__ == "__main__":
    main()
