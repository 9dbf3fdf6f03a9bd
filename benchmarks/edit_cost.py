"""What edits of a study cost, against a whole prompt for each: multiply-adds counted, and seconds, in one run.

    python benchmarks/edit_cost.py                      # Gemma 3 270M, successor of the months; minutes
    python benchmarks/edit_cost.py --model FOLDER --out /tmp/trial.json

``ladder`` and ``map``: those of ``study`` (`use_share` at the value's token after the first block, `use_map`
over three blocks), with everything that they run once for all edits (the tokens before an edit, passes of the
last tokens, the answers' logits only). ``whole``: one edit of every prompt at the same token as a hook, every
prompt from its first token on, the vocabulary's logits at the last one; every edit of the others would cost
as much. Multiply-adds are those that PyTorch counts (``FlopCounterMode``, halved); seconds are the
processor's, of a second call without the counter. Writes benchmarks/results/edit_cost.json.
"""

import argparse
import json
import os
import platform
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results" / "edit_cost.json"
KS = (1, 2)


def counted(work: Callable[[], Any]) -> tuple[Any, dict[str, float]]:
    """What ``work`` gives, its multiply-adds, and its seconds without the counter."""
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        value = work()
    start = time.process_time()
    work()
    seconds = time.process_time() - start
    return value, {"multiply_adds": counter.get_total_flops() / 2, "processor_seconds": seconds}


def measure(folder: str, domain: str) -> dict[str, Any]:
    """Both ways, per edited prompt."""
    from mechfourier.causal.experiment import Experiment
    from mechfourier.hooks.site import Site
    from mechfourier.models.registry import load

    model: Any = load(folder)
    asked = Experiment.of(model, domain)
    last = int(model.cfg.n_layers) - 1
    sites = [Site("resid_post", layer) for layer in sorted({0, last // 2, last})]
    place = asked.at_all(sites, asked.positions)[0]
    engine, theirs, cost = compared(asked, place)
    found = {"whole": {key: value / len(asked) for key, value in cost.items()}, **parts(asked, sites, place)}
    apart = (engine - engine.mean(1, keepdim=True)) - (theirs - theirs.mean(1, keepdim=True))
    return {
        "task": asked.task.name,
        "prompts": len(asked),
        "per_edit": found,
        "fewer": ratios(found, "multiply_adds"),
        "faster": ratios(found, "processor_seconds"),
        "largest_difference": float(apart.abs().max()),
    }


def compared(asked: Any, place: Any) -> tuple[Any, Any, dict[str, float]]:
    """One edit of every prompt: the engine's scores, those of whole prompts, and what the latter cost."""
    import torch

    from mechfourier.causal.displacement import moved_rows, whole_part
    from mechfourier.hooks.interventions import edit_add, intervene

    every = torch.arange(len(asked))
    steps = whole_part(place.means).steps(place.label, torch.ones_like(every))
    engine = asked.engine.scores(moved_rows(place, every, steps))  # and the engine's checks of the model

    def whole() -> torch.Tensor:
        with intervene(asked.model, [edit_add(place.site, steps, positions=place.at)]):
            return asked.task.score(asked.model).scores

    return engine, *counted(whole)


def parts(asked: Any, sites: list[Any], place: Any) -> dict[str, dict[str, float]]:
    """What an edit of the study's ladder and of its map costs."""
    from mechfourier.causal.prefix_sharing import remembering
    from mechfourier.causal.share import use_share
    from mechfourier.causal.where import use_map

    def ladder() -> None:
        with remembering():
            use_share(asked, place, KS)

    def map_of_use() -> None:
        with remembering():
            use_map(asked, sites, KS)

    found = {}
    for name, work in {"ladder": ladder, "map": map_of_use}.items():
        with edits_counted() as edits:
            _, cost = counted(work)
        per_call = edits[0] // 2  # two calls: one counted, one timed
        found[name] = {key: value / (edits[0] / 2) for key, value in cost.items()} | {"edits": per_call}
        print(name, json.dumps(found[name]), file=sys.stderr, flush=True)
    return found


@contextmanager
def edits_counted() -> Iterator[list[int]]:
    """How many edited prompts the engine is asked for meanwhile."""
    from mechfourier.causal.engine import Engine

    edits, scores = [0], Engine.scores

    def counting(self: Engine, rows: Any, *more: Any, **options: Any) -> Any:
        edits[0] += len(rows)
        return scores(self, rows, *more, **options)

    Engine.scores = counting
    try:
        yield edits
    finally:
        Engine.scores = scores


def ratios(found: dict[str, dict[str, float]], unit: str) -> dict[str, float]:
    """How many times as much a whole prompt costs."""
    return {name: found["whole"][unit] / found[name][unit] for name in ("ladder", "map")}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="gemma3-270m")
    parser.add_argument("--domain", default="months")
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    import torch

    found = measure(options.model, options.domain)
    result = {
        "model": Path(options.model).name,
        "domain": options.domain,
        **found,
        "fewest": min(found["fewer"].values()),
        "machine": {
            "processor": platform.processor() or platform.machine(),
            "cores": os.cpu_count(),
            "threads": torch.get_num_threads(),
        },
        "torch": torch.__version__,
        "load_average": list(os.getloadavg()),
    }
    options.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
