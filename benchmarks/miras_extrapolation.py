"""What the models that read numbers by value reach beyond the moduli they were trained on.

    python benchmarks/miras_extrapolation.py RUN [RUN …] [--grids [--only M …]] [--far] [--draws N] [--name NAME]

Every RUN is a folder of ``mechfourier train miras``. Asked of each: whole grids of the held-out moduli, all questions next to
the wrap of 121..199 and of 251, 499 and 997, and 10,000 random questions of those three; ``--grids`` adds the whole grids of
121..199 (2 million questions), ``--far`` 1999 and 4999 with a smaller scale floor. ``errors`` counts answers that
are not the best of 0..1999 (0..9999 for --far), ``errors_with_negatives`` of −1999..1999; nothing is masked.
Results: benchmarks/results/NAME.json, written after every part.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import torch

from mechfourier.files import write_json
from mechfourier.models.miras import ExtrapolatingTransformer
from mechfourier.models.miras_forward import scores, with_negatives
from mechfourier.probes.miras import open_miras
from mechfourier.tasks.universal import HELD_OUT, answers, boundary, grid, random_questions

RESULTS = Path(__file__).parent / "results"
NEAR, BEYOND, FAR = range(121, 200), (251, 499, 997), (1999, 4999)


@torch.no_grad()
def wrong(model: ExtrapolatingTransformer, questions: torch.Tensor) -> dict[str, float]:
    """Errors among the candidates 0..n − 1 and among −(n − 1)..n − 1, from one pass."""
    started, errors, strict, last = time.process_time(), 0, 0, model.cfg.n_values - 1
    candidates = with_negatives(model.table)
    for part in questions.split(128):
        logits = scores(model.written(model.table[part], model.sizes(part)), candidates)
        right = answers(part)
        errors += int((logits[:, last:].argmax(1) != right).sum())
        strict += int((logits.argmax(1) - last != right).sum())
    seconds = round(time.process_time() - started, 1)
    return {
        "questions": len(questions), "errors": errors, "errors_with_negatives": strict, "cpu_seconds": seconds,
    }  # fmt: skip


def quick(model: ExtrapolatingTransformer) -> dict[str, Any]:
    return {
        "held_out_grids": wrong(model, torch.cat([grid(m) for m in HELD_OUT])),
        "boundary_121_199": wrong(model, torch.cat([boundary(m) for m in NEAR])),
        **{f"boundary_{m}": wrong(model, boundary(m)) for m in BEYOND},
        **{f"random_{m}": wrong(model, random_questions(m, 10_000, seed=m)) for m in BEYOND},
    }


def far(model: ExtrapolatingTransformer) -> dict[str, Any]:
    found = {}
    for floor in (0.05, 0.025, 0.0125):
        wide = model.with_values(10_000, scale_min=floor)
        for m in FAR:
            found[f"boundary_{m}_floor_{floor}"] = wrong(wide, boundary(m))
            found[f"random_{m}_floor_{floor}"] = wrong(wide, random_questions(m, 2000, seed=m))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description="What models that read numbers by value reach.")
    parser.add_argument("runs", nargs="+")
    parser.add_argument("--grids", action="store_true")
    parser.add_argument("--only", type=int, nargs="+", default=list(NEAR), help="grids of these alone")
    parser.add_argument("--far", action="store_true")
    parser.add_argument("--draws", type=int, default=None)
    parser.add_argument("--name", default="miras_extrapolation")
    arguments = parser.parse_args()
    path = RESULTS / f"{arguments.name}.json"
    rows: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    for run in arguments.runs:
        model = open_miras(run).model
        if arguments.draws is not None:
            model = model.with_values(model.cfg.n_values, draws=arguments.draws)
        draws = model.cfg.draws
        row = rows.setdefault(f"{Path(run).name}, {draws} draws", {})
        row["parameters"] = sum(p.numel() for p in model.parameters())
        if "held_out_grids" not in row:
            row |= quick(model)
            write_json(path, rows)
        if arguments.far and not any("floor" in key for key in row):
            row |= far(model)
            write_json(path, rows)
        grids = row.setdefault("grids", {}) if arguments.grids else {}
        for m in arguments.only if arguments.grids else ():
            if str(m) not in grids:
                grids[str(m)] = wrong(model, grid(m))
                write_json(path, rows)
        print(run, json.dumps({k: v for k, v in row.items() if k != "grids"}))
        if grids:
            print(
                "whole grids:",
                sum(g["errors"] for g in grids.values()),
                "errors,",
                sum(g["errors_with_negatives"] for g in grids.values()),
                "with negatives, in",
                len(grids),
                "moduli",
            )


if __name__ == "__main__":
    main()
