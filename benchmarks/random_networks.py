"""What the operation test says about networks that learned nothing: python benchmarks/random_networks.py
[--draws 60]

One-layer networks mod 11, 13 and 23 with random weights, and the packaged calendar's architecture
re-initialised, each asked *without* its control (which would be another such network). Counts of verdicts:
benchmarks/results/random_networks.json.
"""

import argparse
import collections
import time
from collections.abc import Iterable
from pathlib import Path

import torch

import mechfourier as mf
from mechfourier.files import write_json
from mechfourier.models.weights import reinitialised
from mechfourier.results.provenance import provenance
from mechfourier.toys.one_layer.model import OneLayerConfig, OneLayerTransformer

RESULTS = Path(__file__).parent / "results" / "random_networks.json"
MODULI, CALENDAR = (11, 13, 23), ("days", "months")


def verdicts(models: Iterable[object], domain: str, sites: str) -> dict[str, int]:
    words = (
        mf.probe(
            model, domain, sites=sites, design="operation", n_permutations=300, controls=False, seed=seed
        ).verdict
        for seed, model in enumerate(models)
    )
    return dict(collections.Counter(words))


def main() -> None:
    parser = argparse.ArgumentParser(description="Verdicts on networks that learned nothing.")
    parser.add_argument("--draws", type=int, default=60)
    draws = parser.parse_args().draws
    torch.set_num_threads(1)
    started, found = time.process_time(), {}
    for p in MODULI:
        for sites in ("resid_mid,resid_post", "mlp_post"):
            models = (OneLayerTransformer(OneLayerConfig(p=p), seed=1000 + seed) for seed in range(draws))
            found[f"one-layer, {sites}, mod-{p}"] = verdicts(models, f"mod-{p}", sites)
    calendar = mf.load("calendar")
    for domain in CALENDAR:
        models = (reinitialised(calendar, 1000 + seed) for seed in range(draws))
        found[f"calendar, resid_post, {domain}"] = verdicts(models, domain, "resid_post")
    seconds = round(time.process_time() - started, 1)
    origin = {"draws": draws, "cpu_seconds": seconds, "provenance": provenance()}
    write_json(RESULTS, origin | {"verdicts": found})
    for name, words in found.items():
        print(name, words)


if __name__ == "__main__":
    main()
