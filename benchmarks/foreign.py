"""Does `import` take what is no such network, or read one wrongly? python benchmarks/foreign.py [--files 500] [--names 30]

Files that are none: random weights, embeddings in another order of the numbers, another task, the answers
turned by a constant, another modulus. Names: the packaged one-layer network in a layout drawn at random, with
names that say nothing, in another order, some tensors transposed; it must be read bit by bit, or refused. Goes
on where it stopped (``--restart`` begins anew). Counts: benchmarks/results/foreign.json.
"""

import argparse
import json
import sys
import time
from collections import Counter
from pathlib import Path

import torch
from torch import Tensor

from mechfourier.errors import MechFourierError
from mechfourier.files import write_json
from mechfourier.fourier.analytic import analytic_weights
from mechfourier.results.provenance import provenance
from mechfourier.toys.reading import read

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from foreign_layouts import packaged, respelled

RESULTS = Path(__file__).parent / "results" / "foreign.json"
KINDS = ("random weights", "other order", "other task", "turned answers", "other modulus")
State = dict[str, Tensor]


def network(p: int) -> State:
    exact = analytic_weights(
        p, d_model=48, n_heads=4, d_head=12, d_mlp=64, frequencies=(1, 2, 3) if p > 8 else (1, 2)
    )
    return {name: value.float() for name, value in exact.items()}


def _other_modulus(p: int, generator: torch.Generator) -> State:
    """Sums mod q < p in a vocabulary of p numbers, those from q on standing for their residue."""
    q = int(torch.randint(max(7, p - 6), p, (1,), generator=generator)) | 1
    q = q if q < p else p - 2
    state = network(q)
    embed, unembed = torch.zeros(p + 1, 48), torch.zeros(48, p)
    embed[:q], embed[q:p], embed[p] = (
        state["embed.W_E"][:q],
        state["embed.W_E"][: p - q],
        state["embed.W_E"][q],
    )
    unembed[:, :q] = state["unembed.W_U"]
    return state | {"embed.W_E": embed, "unembed.W_U": unembed}


def stranger(seed: int) -> tuple[str, State]:
    """The kind and the state dict of a file that is no network on the sum of its p numbers."""
    generator = torch.Generator().manual_seed(seed)
    kind = KINDS[seed % len(KINDS)]
    p = int(torch.randint(11, 40, (1,), generator=generator)) | 1
    state = network(p)
    if kind == "random weights":
        scale = 2 * torch.rand(1, generator=generator)
        state = {name: scale * torch.randn(each.shape, generator=generator) for name, each in state.items()}
    elif kind == "other order":
        state["embed.W_E"][:p] = state["embed.W_E"][:p][torch.randperm(p, generator=generator)]
        if seed % 2:
            state["unembed.W_U"] = state["unembed.W_U"][:, torch.randperm(p, generator=generator)]
    elif kind == "other task":
        times, plus = (int(torch.randint(low, p - 1, (1,), generator=generator)) for low in (2, 1))
        state["unembed.W_U"] = state["unembed.W_U"][:, (torch.arange(p) * times + plus) % p]
    elif kind == "turned answers":
        # not by p - 2: those are sums of the tokens from 1 on
        turn = int(torch.randint(1, p - 2, (1,), generator=generator))
        state["unembed.W_U"] = torch.roll(state["unembed.W_U"], turn, 1)
    else:
        state = _other_modulus(p, generator)
    return kind, state


def judged_stranger(seed: int) -> dict[str, object]:
    kind, state = stranger(seed)
    try:
        found = read(state)
    except MechFourierError as error:
        return {"kind": kind, "accepted": False, "why": str(error)[:200]}
    task = f"{found.config.task}, {found.facts['question']}"
    return {
        "kind": kind,
        "accepted": not found.refused,
        "accuracy": found.accuracy,
        "why": found.refused[:200] or task,
    }


def judged_name(seed: int, weights: State) -> dict[str, object]:
    try:
        found = read(respelled(weights, seed))
    except MechFourierError as error:
        return {"outcome": "refused", "why": str(error)[:200]}
    if found.refused:
        return {"outcome": "refused", "why": found.refused[:200]}
    same = all(torch.equal(found.weights[name], tensor) for name, tensor in weights.items())
    return {"outcome": "read right" if same else "read wrongly", "accuracy": found.accuracy}


def summary(kept: dict[str, dict[str, dict[str, object]]]) -> dict[str, object]:
    files, names = kept["files"].values(), kept["names"].values()
    return {
        "files": dict(Counter(str(each["kind"]) for each in files)),
        "accepted": dict(Counter(str(each["kind"]) for each in files if each["accepted"])),
        "names": dict(Counter(str(each["outcome"]) for each in names)),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description="Files that are no such network, and names that say nothing."
    )
    parser.add_argument("--files", type=int, default=500)
    parser.add_argument("--names", type=int, default=30)
    parser.add_argument("--restart", action="store_true")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    kept: dict[str, dict[str, dict[str, object]]] = {"files": {}, "names": {}}
    if RESULTS.is_file() and not asked.restart:
        kept = json.loads(RESULTS.read_text())["rows"]
    weights, started = packaged(), time.process_time()
    todo = [("names", seed) for seed in range(asked.names)] + [("files", seed) for seed in range(asked.files)]
    for part, seed in todo:
        if str(seed) not in kept[part]:
            kept[part][str(seed)] = judged_name(seed, weights) if part == "names" else judged_stranger(seed)
            write_json(RESULTS, {"summary": summary(kept), "rows": kept, "provenance": provenance()})
    print(json.dumps(summary(kept), indent=1), f"{time.process_time() - started:.0f} CPU-s", sep="\n")


if __name__ == "__main__":
    main()
