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
from collections.abc import Callable
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
    import torch

    from mechfourier.causal.displacement import moved_rows, whole_part
    from mechfourier.causal.engine import Engine
    from mechfourier.causal.experiment import Experiment
    from mechfourier.causal.prefix_sharing import remembering
    from mechfourier.causal.share import use_share
    from mechfourier.causal.where import use_map
    from mechfourier.hooks.interventions import edit_add, intervene
    from mechfourier.hooks.site import Site
    from mechfourier.models.registry import load

    model: Any = load(folder)
    asked = Experiment.of(model, domain)
    last, every = int(model.cfg.n_layers) - 1, torch.arange(len(asked))
    sites = [Site("resid_post", layer) for layer in sorted({0, last // 2, last})]
    place = asked.at_all(sites, asked.positions)[0]
    delta = torch.ones_like(every)
    steps = whole_part(place.means).steps(place.label, delta)
    engine = asked.engine.scores(moved_rows(place, every, steps))  # and the engine's checks of the model

    def whole() -> torch.Tensor:
        with intervene(model, [edit_add(place.site, steps, positions=place.at)]):
            return asked.task.score(model).scores

    edits = [0]
    scores = Engine.scores

    def counting(self: Engine, rows: Any, *more: Any, **options: Any) -> torch.Tensor:
        edits[0] += len(rows)
        return scores(self, rows, *more, **options)

    theirs, cost = counted(whole)
    found = {"whole": {key: value / len(asked) for key, value in cost.items()}}
    Engine.scores = counting
    for name, work in {
        "ladder": lambda: use_share(asked, place, KS),
        "map": lambda: use_map(asked, sites, KS),
    }.items():
        edits[0] = 0

        def once(work: Callable[[], Any] = work) -> None:
            with remembering():
                work()

        _, cost = counted(once)
        # two calls: one counted, one timed
        found[name] = {key: value / (edits[0] / 2) for key, value in cost.items()} | {"edits": edits[0] // 2}
        print(name, json.dumps(found[name]), file=sys.stderr, flush=True)
    Engine.scores = scores
    apart = (engine - engine.mean(1, keepdim=True)) - (theirs - theirs.mean(1, keepdim=True))
    return {
        "task": asked.task.name,
        "prompts": len(asked),
        "per_edit": found,
        "fewer": {n: found["whole"]["multiply_adds"] / found[n]["multiply_adds"] for n in ("ladder", "map")},
        "faster": {
            n: found["whole"]["processor_seconds"] / found[n]["processor_seconds"] for n in ("ladder", "map")
        },
        "largest_difference": float(apart.abs().max()),
    }


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
