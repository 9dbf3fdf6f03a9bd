"""What the shared recipe needs: each part left out in turn, trained on m ≤ 40, asked about 41..120.

    python benchmarks/miras_failures.py [--steps 1500]

Writes benchmarks/results/miras_failures.json after every variant and goes on where it stopped. ``held_out``: random questions of
15, 25, 35; ``beyond``: of 41..120; ``boundary``: those of 41..120 next to the wrap; answers among −1999..1999 and, with
``_nonnegative``, among 0..1999. The fixed-frequency network is asked at its own frequencies.
"""

import argparse
import dataclasses
import json
import tempfile
import time
from pathlib import Path

import torch

from mechfourier.files import write_json
from mechfourier.models.miras import ExtrapolatingTransformer, load_folder
from mechfourier.models.miras_config import ExtrapolatingConfig
from mechfourier.probes.miras.source import right
from mechfourier.tasks.universal import boundary, moduli, random_questions
from mechfourier.training.miras import train_miras
from mechfourier.training.miras_recipes import SHARED

RESULTS = Path(__file__).parent / "results" / "miras_failures.json"
BASE = ExtrapolatingConfig(scale=10.0)
VARIANTS = {
    "recipe": (BASE, {}),
    "fixed frequencies": (dataclasses.replace(BASE, draws=16), {"redraw": False}),
    "unscaled sizes": (dataclasses.replace(BASE, scale_min=1.0, scale_max=1.0), {}),
    "300 steps": (BASE, {"steps": 300}),
    "no candidates below 0": (BASE, {"negatives": False}),
    "no questions moved next to the wrap": (BASE, {"boundary_share": 0.0}),
}


def measured(model: ExtrapolatingTransformer) -> dict[str, float]:
    asked = {
        "held_out": torch.cat([random_questions(m, 300, seed=m) for m in (15, 25, 35)]),
        "beyond": torch.cat([random_questions(m, 100, seed=m) for m in range(41, 121, 4)]),
        "boundary": torch.cat([boundary(m) for m in range(41, 121, 8)]),
    }
    found = {}
    for name, questions in asked.items():
        found[name] = float(right(model, questions).double().mean())
        found[f"{name}_nonnegative"] = float(right(model, questions, negatives=False).double().mean())
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description="Leave parts of the shared recipe out.")
    parser.add_argument("--steps", type=int, default=1500)
    steps = parser.parse_args().steps
    rows = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    for name, (config, changes) in VARIANTS.items():
        if name in rows:
            continue
        recipe = dataclasses.replace(SHARED, **{"steps": steps, "evaluate_every": steps, **changes})
        started = time.process_time()
        with tempfile.TemporaryDirectory() as folder:
            train_miras(folder, config, moduli("all", largest=40), recipe, seed=0)
            model = load_folder(folder)
        assert isinstance(model, ExtrapolatingTransformer)
        rows[name] = {
            "steps": recipe.steps,
            **measured(model),
            "cpu_seconds": round(time.process_time() - started, 1),
        }
        write_json(RESULTS, rows)
        print(name, rows[name], flush=True)


if __name__ == "__main__":
    main()
