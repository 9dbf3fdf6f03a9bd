"""Are many small one-layer runs faster as one stacked step than one after the other? (On a CPU only for
moduli below 23.)

    python benchmarks/stacked_speed.py [--threads 1]

R runs of the fast recipe, each with its own split and weights: one step of all with stacked parameters
(``torch.func.vmap`` over the fast step, its gathers folded into one, one backward pass), against R steps,
side by side. Gradients are compared. Writes benchmarks/results/stacked_speed.json.
"""

import argparse
import os
import time
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from mechfourier.files import write_json
from mechfourier.results.provenance import machine, versions
from mechfourier.toys.one_layer.fast_step import FastLogits, Rows, _Mix, cross_entropy
from mechfourier.toys.one_layer.recipes import default_train_fraction, recipe
from mechfourier.toys.one_layer.task import split
from mechfourier.toys.one_layer.train import OneLayerConfig, OneLayerTrainee

RESULTS = Path(__file__).parent / "results" / "stacked_speed.json"


class StackedMix(torch.autograd.Function):
    """``mix`` with a rule for vmap: all runs' tables are rows of one."""

    @staticmethod
    def forward(table: Tensor, share: Tensor, rows: Rows) -> Tensor:
        return F.embedding_bag(rows.index, table, per_sample_weights=share, mode="sum")

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, Rows], output: Tensor) -> None:
        ctx.save_for_backward(*inputs[:2])
        ctx.rows = inputs[2]

    backward = _Mix.backward

    @staticmethod
    def vmap(info: Any, in_dims: Any, table: Tensor, share: Tensor, rows: Rows) -> tuple[Tensor, int]:
        mixed: Any = StackedMix.apply(table.flatten(0, 1), share.flatten(0, 1), rows)
        return mixed.unflatten(0, (info.batch_size, -1)), 0


def stacked_rows(pairs: Tensor, p: int, n_heads: int) -> Rows:
    each = [Rows.of(one, p, n_heads) for one in pairs]
    n = len(each[0].offsets)
    index = torch.cat([rows.index + i * n for i, rows in enumerate(each)])
    counts = torch.bincount(index.flatten(), minlength=n * len(each))
    order = index.flatten().argsort(stable=True)
    return Rows(index, order, order // index.shape[1], counts.cumsum(0) - counts)


class Stacked:
    """The gradients of several runs in one pass."""

    def __init__(self, runs: list[OneLayerTrainee]) -> None:
        self.runs, self.config = runs, runs[0].model
        self.pairs = torch.stack([run.train.pairs for run in runs])
        self.answers = torch.cat([run.train_answers for run in runs])
        self.rows = stacked_rows(self.pairs, self.config.p, self.config.n_heads)

    def _logits(self, weights: dict[str, Tensor], pairs: Tensor) -> Tensor:
        one = FastLogits.__new__(FastLogits)
        one.config, one.pairs, one.rows = self.config, pairs, self.rows
        return one(weights)

    def gradients(self) -> list[Tensor]:
        names = list(self.runs[0].parameters)
        weights = {
            n: torch.stack([r.parameters[n].detach() for r in self.runs]).requires_grad_() for n in names
        }
        logits = torch.func.vmap(self._logits)(weights, self.pairs)
        loss = cross_entropy(logits.flatten(0, 1), self.answers) * len(self.runs)
        return list(torch.autograd.grad(loss, list(weights.values())))

    def step(self, index: int) -> None:
        gradients = self.gradients()
        for i, run in enumerate(self.runs):
            scale, decay = run.schedule(index)
            run.optimizer.step([g[i] for g in gradients], lr_scale=scale, weight_decay=decay)


def _run(p: int, seed: int) -> OneLayerTrainee:
    data = split("add", p, train_fraction=default_train_fraction(p), seed=seed)
    return OneLayerTrainee(OneLayerConfig(p=p), data, recipe("fast", p), seed=seed)


def _single(run: OneLayerTrainee) -> tuple[Tensor, ...]:
    return torch.autograd.grad(
        cross_entropy(run.train(run.parameters), run.train_answers), list(run.parameters.values())
    )


def measure(p: int, count: int, steps: int, rounds: int) -> dict[str, Any]:
    """Milliseconds of processor time per run and step, both ways in turn; the ratio is the median of the
    rounds'."""
    from mechfourier.toys.one_layer import fast_step

    runs = [_run(p, seed) for seed in range(count)]
    plain = [_single(run) for run in runs]
    fast_step._Mix = StackedMix
    stack = Stacked(runs)
    errors = [
        float((together[i] - alone).abs().max() / alone.abs().max().clamp_min(1e-12))
        for i in range(count)
        for together, alone in zip(stack.gradients(), plain[i], strict=True)
    ]
    together, alone = [], []
    for _ in range(rounds):
        for times, work in (
            (together, lambda i: stack.step(i)),
            (alone, lambda i: [r.step(i) for r in runs]),
        ):
            began = time.process_time()
            for index in range(steps):
                work(index)
            times.append(1e3 * (time.process_time() - began) / steps / count)
    ratios = sorted(a / t for a, t in zip(alone, together, strict=True))
    return {
        "p": p,
        "runs": count,
        "ms_stacked": round(min(together), 2),
        "ms_alone": round(min(alone), 2),
        "ratio": round(ratios[len(ratios) // 2], 2),
        "ratios": [round(r, 2) for r in ratios],
        "largest_relative_gradient_difference": max(errors),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    cells = [measure(p, count, 16, options.rounds) for p in (11, 23, 53) for count in (4, 16)]
    found = {
        "cells": cells,
        "load_average": round(os.getloadavg()[0], 1),
        "machine": machine(),
        "versions": versions(),
    }
    write_json(RESULTS, found)
    print(RESULTS.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
