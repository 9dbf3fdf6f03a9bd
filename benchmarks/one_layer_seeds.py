"""Does the fast recipe always generalise, how soon, and how clean is what it learns? Every seed, every
figure.

    python benchmarks/one_layer_seeds.py            # p = 113 seeds 100–109; 53, 59, 71, 97, 101 seeds 100–102
    python benchmarks/one_layer_seeds.py --p 23 199 # other moduli, seeds 100–102
    python benchmarks/one_layer_seeds.py --p 113 --seeds 777 1000-1049   # fresh seeds, 12 minutes of a core

Writes benchmarks/results/one_layer_seeds.json after every run and goes on where it stopped.
"""

import argparse
import itertools
import json
import os
import statistics
import tempfile
import time
from pathlib import Path

import torch

from mechfourier.files import write_json
from mechfourier.fourier.key_freqs import matrix_share
from mechfourier.fourier.neurons import CLUSTER_SHARE, grid_of, neuron_spectrum
from mechfourier.fourier.progress import trig_share
from mechfourier.models.checkpoint import load_checkpoint
from mechfourier.results.provenance import provenance
from mechfourier.toys.one_layer.fast_step import FastLogits
from mechfourier.toys.one_layer.task import all_pairs
from mechfourier.toys.one_layer.train import embed_freqs, train_one_layer
from mechfourier.toys.one_layer.weights import OneLayerConfig

RESULTS = Path(__file__).parent / "results" / "one_layer_seeds.json"
HELD_TO = [(113, seed) for seed in range(100, 110)] + [
    (p, s) for p in (53, 59, 71, 97, 101) for s in (100, 101, 102)
]


@torch.no_grad()
def quality(folder: Path) -> dict[str, float]:
    """Purity of the neurons, sparsity of W_E, and how much of the logits is cos(w_k(a+b−c))."""
    weights, values = load_checkpoint(folder)
    config = OneLayerConfig.from_dict(values)
    p = config.p
    forward = FastLogits(config, all_pairs(p))
    neurons = neuron_spectrum(grid_of(forward.neurons(weights).double(), p))
    power = matrix_share(weights["embed.W_E"][:p]).sort(descending=True).values
    terms = trig_share(grid_of(forward(weights).double(), p))
    return {
        "live_neurons": int(neurons.live.sum()),
        "neuron_share_85": neurons.share_above(CLUSTER_SHARE),
        "embed_freqs_for_90": len(embed_freqs(weights, p)),
        "embed_power_of_6": float(power[:6].sum()),
        "logit_share": float(terms.sum()),
        "logit_share_of_6": float(terms.sort(descending=True).values[:6].sum()),
    }


def one(p: int, seed: int) -> dict[str, object]:
    with tempfile.TemporaryDirectory() as folder:
        cpu, load = time.process_time(), os.getloadavg()[0]
        result = train_one_layer(folder, p=p, seed=seed)
        cpu = time.process_time() - cpu
        return {
            "p": p,
            "seed": seed,
            "outcome": result.outcome,
            "test_accuracy": result.test_accuracy,
            "test_loss": result.test_loss,
            "generalised_at": result.generalised_at,
            "epochs": result.epochs,
            "wall_seconds": round(result.seconds, 2),
            "cpu_seconds": round(cpu, 2),
            "threads": torch.get_num_threads(),
            "load_average": [round(load, 1), round(os.getloadavg()[0], 1)],
            **quality(Path(folder)),
        }


def summary(runs: list[dict]) -> dict[str, object]:
    by_p = {}
    for p in sorted({run["p"] for run in runs}):
        here = [run for run in runs if run["p"] == p]
        numbers = (
            "epochs",
            "wall_seconds",
            "cpu_seconds",
            "test_loss",
            "neuron_share_85",
            "embed_freqs_for_90",
            "logit_share",
        )
        by_p[str(p)] = {
            "runs": len(here),
            "generalised": sum(run["outcome"] == "generalised" for run in here),
            "worst_test_accuracy": min(run["test_accuracy"] for run in here),
            "worst_test_loss": max(run["test_loss"] for run in here),
            **{f"median_{name}": statistics.median(run[name] for run in here) for name in numbers},
        }
    return by_p


def span(text: str) -> range:
    """The seeds "777" or "1000-1049"."""
    first, _, last = text.partition("-")
    return range(int(first), int(last or first) + 1)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--p", type=int, nargs="*", default=[])
    parser.add_argument("--seeds", type=span, nargs="*", default=[range(100, 103)], help="like 777 1000-1049")
    parser.add_argument("--again", action="store_true", help="forget the results that are there")
    options = parser.parse_args()
    runs = [] if options.again or not RESULTS.exists() else json.loads(RESULTS.read_text())["runs"]
    seeds = itertools.chain(*options.seeds)
    wanted = list(itertools.product(options.p, seeds)) or HELD_TO
    for p, seed in wanted:
        if any((run["p"], run["seed"]) == (p, seed) for run in runs):
            continue
        runs.append(one(p, seed))
        print(runs[-1], flush=True)
        note = (
            "wall_seconds depend on the load average noted beside them; cpu_seconds are summed over threads"
        )
        origin = {key: value for key, value in provenance().items() if key in ("machine", "versions")}
        load = statistics.median(run["load_average"][0] for run in runs)
        about = {"note": note, "recipe": "fast", **origin, "load_average": load}
        write_json(RESULTS, {**about, "by_p": summary(runs), "runs": runs})


if __name__ == "__main__":
    main()
