"""What the models that read numbers by value reach beyond the moduli they were trained on.

    python benchmarks/miras_extrapolation.py RUN [RUN …] [--grids [--only M …]] [--far] [--draws N] [--name
    NAME]

Every RUN is a folder of ``mechfourier train miras``. Asked of each: whole grids of the held-out moduli, all
questions next to the wrap of 121..199 and of 251, 499 and 997 (``within_4_``: a + b − m from −4 to 4), and
10,000 random questions of those three; ``--grids`` adds the whole grids of
121..199 (2 million questions), ``--far`` 1999 and 4999 with a smaller scale floor. ``errors`` counts answers
that are not the best of 0..1999 (0..9999 for --far), ``errors_with_negatives`` of −1999..1999; nothing is
masked. Results: benchmarks/results/NAME.json, written after every part; a run goes on where it stopped.
"""

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from mechfourier.files import write_json
from mechfourier.results.provenance import machine, versions
from mechfourier.toys.universal import open_miras
from mechfourier.toys.universal.forward_pass import scores, with_negatives
from mechfourier.toys.universal.model import ExtrapolatingTransformer
from mechfourier.toys.universal.task import HELD_OUT, answers, boundary, grid, random_questions

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
        "questions": len(questions),
        "errors": errors,
        "errors_with_negatives": strict,
        "cpu_seconds": seconds,
    }


def quick(model: ExtrapolatingTransformer) -> dict[str, Any]:
    return {
        "held_out_grids": wrong(model, torch.cat([grid(m) for m in HELD_OUT])),
        "boundary_121_199": wrong(model, torch.cat([boundary(m) for m in NEAR])),
        **{f"boundary_{m}": wrong(model, boundary(m)) for m in BEYOND},
        **{f"within_4_{m}": wrong(model, boundary(m, -4, 4)) for m in BEYOND},
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


def parts(options: argparse.Namespace) -> dict[str, Callable[[ExtrapolatingTransformer], dict[str, Any]]]:
    """What is asked of every run: name of the part -> what measures it (its keys go into the run's row, grids
    below ``grids``)."""
    chosen: dict[str, Callable[[ExtrapolatingTransformer], dict[str, Any]]] = {"held_out_grids": quick}
    if options.far:
        chosen["boundary_4999_floor_0.05"] = far
    for m in options.only if options.grids else ():
        chosen[f"grid {m}"] = lambda model, m=m: {"grids": {str(m): wrong(model, grid(m))}}
    return chosen


def keep(path: Path, run: str, found: dict[str, Any]) -> dict[str, Any]:
    """Add what was found to the row of ``run``, reading the file anew: another process may measure another
    run beside this one."""
    rows: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    row = rows.setdefault(run, {})
    grids = row.get("grids", {}) | found.pop("grids", {})
    row |= found | ({"grids": grids} if grids else {})
    rows |= {"machine": machine(), "versions": versions()}
    write_json(path, rows)
    return row


def told(row: dict[str, Any]) -> str:
    """Errors, and in brackets those among negative candidates too, part by part."""
    said = [
        f"{k} {v['errors']} ({v['errors_with_negatives']})"
        for k, v in row.items()
        if isinstance(v, dict) and "errors" in v
    ]
    if grids := row.get("grids", {}).values():
        both = [sum(g[field] for g in grids) for field in ("errors", "errors_with_negatives")]
        said.append(f"{len(grids)} whole grids {both[0]} ({both[1]})")
    return ", ".join(said)


def main() -> None:
    parser = argparse.ArgumentParser(description="What models that read numbers by value reach.")
    parser.add_argument("runs", nargs="+")
    parser.add_argument("--grids", action="store_true")
    parser.add_argument("--only", type=int, nargs="+", default=list(NEAR), help="grids of these alone")
    parser.add_argument("--far", action="store_true")
    parser.add_argument("--draws", type=int, default=None)
    parser.add_argument("--name", default="miras_extrapolation")
    options = parser.parse_args()
    path = RESULTS / f"{options.name}.json"
    for run in options.runs:
        model = open_miras(run).model
        if options.draws is not None:
            model = model.with_values(model.cfg.n_values, draws=options.draws)
        name = f"{Path(run).name}, {model.cfg.draws} draws"
        row = keep(path, name, {"parameters": sum(p.numel() for p in model.parameters())})
        for part, measure in parts(options).items():
            if part not in row and part.removeprefix("grid ") not in row.get("grids", {}):
                row = keep(path, name, measure(model))
        print(f"{name}: {told(row)}", flush=True)


if __name__ == "__main__":
    main()
