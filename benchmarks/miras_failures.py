"""What the shared recipe needs: each part left out in turn, trained on m ≤ 20 (without 15), asked about 15
and 21..120.

    python benchmarks/miras_failures.py [--steps 4000] [--seeds 0 1 2] [--only VARIANT …]

Here the recipe was chosen: a network that was trained to 20 has to go six times as far at 120. Writes
benchmarks/results/miras_failures.json after every run and goes on where it stopped. Errors among −1999..1999
and, with ``_nonnegative``, among 0..1999. ``held_out``: the whole grid of 15; ``beyond``: random questions of
21..120; ``near_120``: all questions of 120 with a + b − m from −4 to 4, and how surely they are answered:
``margin`` is the least difference of the logits of the right answer and of that without (or with) the wrap,
over the largest logit; below 0 it is an error. The fixed-frequency network is asked at its own frequencies.
"""

import argparse
import dataclasses
import json
import math
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mechfourier.files import write_json
from mechfourier.toys.universal.config import ExtrapolatingConfig
from mechfourier.toys.universal.forward_pass import scores, with_negatives
from mechfourier.toys.universal.model import ExtrapolatingTransformer, load_folder
from mechfourier.toys.universal.recipes import plan
from mechfourier.toys.universal.source import right
from mechfourier.toys.universal.task import boundary, grid, random_questions
from mechfourier.toys.universal.train import train_miras

RESULTS = Path(__file__).parent / "results" / "miras_failures.json"
LARGEST, ASKED = 20, 120
PLAN = plan("shared", largest=LARGEST)
BASE = PLAN.config
assert isinstance(BASE, ExtrapolatingConfig)
CONTENT = dataclasses.replace(BASE, by_position=False)
Variant = tuple[ExtrapolatingConfig, dict[str, Any]]
VARIANTS: dict[str, Variant] = {
    "recipe": (BASE, {}),
    "sizes not moved": (BASE, {"shift": 0.0}),
    "first block compares numbers": (CONTENT, {}),
    "both of these": (CONTENT, {"shift": 0.0}),
    "sizes moved by all from the start": (BASE, {"shift_start": 1.0}),
    "fixed frequencies": (dataclasses.replace(BASE, draws=16), {"redraw": False}),
    "unscaled sizes": (dataclasses.replace(BASE, scale_min=1.0, scale_max=1.0), {}),
    "300 steps": (BASE, {"steps": 300}),
    "no candidates below 0": (BASE, {"negatives": False}),
    "no questions moved next to the wrap": (BASE, {"boundary_share": 0.0}),
}


@torch.no_grad()
def margin(model: ExtrapolatingTransformer, questions: Tensor) -> float:
    """The least (right logit − the other) / largest |logit|; the other is a + b where the question wraps,
    else a + b − m."""
    least, last = math.inf, model.cfg.n_values - 1
    for part in questions.split(128):
        logits = scores(model.written(model.table[part], model.sizes(part)), with_negatives(model.table))
        plain = part[:, 1] + part[:, 2]
        wrapped = plain - part[:, 0]
        right = torch.where(plain >= part[:, 0], wrapped, plain)
        row = torch.arange(len(part))
        apart = logits[row, right + last] - logits[row, plain + wrapped - right + last]
        least = min(least, float((apart / logits.abs().amax(1)).min()))
    return least


def measured(model: ExtrapolatingTransformer) -> dict[str, float]:
    asked = {
        "held_out": grid(15),
        "beyond": torch.cat([random_questions(m, 100, seed=m) for m in range(LARGEST + 1, ASKED + 1)]),
        f"near_{ASKED}": boundary(ASKED, -4, 4),
    }
    found: dict[str, float] = {}
    for name, questions in asked.items():
        found[f"{name}_questions"] = len(questions)
        found[name] = int((~right(model, questions)).sum())
        found[f"{name}_nonnegative"] = int((~right(model, questions, negatives=False)).sum())
    return found | {"margin": round(margin(model, asked[f"near_{ASKED}"]), 3)}


def trained(variant: Variant, steps: int, seed: int) -> dict[str, Any]:
    """Train one variant and measure it."""
    config, changes = variant
    recipe = dataclasses.replace(PLAN.recipe, **{"steps": steps, "evaluate_every": steps, **changes})
    started = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        train_miras(folder, config, PLAN.split, recipe, seed=seed)
        model = load_folder(folder)
    assert isinstance(model, ExtrapolatingTransformer)
    seconds = round(time.process_time() - started, 1)
    return {"seed": seed, "steps": recipe.steps, **measured(model), "cpu_seconds": seconds}


def main() -> None:
    parser = argparse.ArgumentParser(description="Leave parts of the shared recipe out.")
    parser.add_argument("--steps", type=int, default=4000)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument(
        "--only", nargs="+", default=list(VARIANTS), choices=list(VARIANTS), metavar="VARIANT"
    )
    options = parser.parse_args()
    for seed in options.seeds:
        for name in options.only:
            rows = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
            if any(row["seed"] == seed for row in rows.get(name, [])):
                continue
            row = trained(VARIANTS[name], options.steps, seed)
            rows = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
            rows.setdefault(name, []).append(row)
            write_json(RESULTS, rows)
            print(name, row, flush=True)


if __name__ == "__main__":
    main()
