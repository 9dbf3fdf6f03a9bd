"""The controls of an ablation study on a Qwen3-0.6B-shaped model, against one full forward pass for each.

    python benchmarks/ablate_speed.py --tokenizer ../shared/data/qwen3-0.6b          # about ten minutes, 2.4
    GB of disk python benchmarks/ablate_speed.py --tokenizer … --layers 4 --part 20 --out /tmp/small.json
    # a trial

A dimension of ``blocks.7.hook_resid_post`` on all 529 questions "a + b mod 23 =", at all positions. The cost
of both ways is proportional to the number of controls, so one and then two of them are run, and the ratio is
that of 201 passes; that of whole passes is proportional to the prompts too, so they run on every
``--part``-th. Compared, in one process:
- ``ours``: ``Experiment.ablated``, per control (the passes up to the edited layer are shared by all of them
  and counted apart, as ``shared``);
- ``full passes``: one intervention each, every question with every continuation that its answers need, from
  the tokens on, the unembedding at the read positions only: the same numbers;
- ``prompts only``: the questions alone, without continuations, from the tokens on (not enough to score
  answers of two digits). Writes benchmarks/results/ablate_speed.json.
"""

import argparse
import json
import os
import platform
import sys
import tempfile
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results" / "ablate_speed.json"
CONTROLS = 200
sys.path.insert(0, str(Path(__file__).parent))


def said(what: str, work: Any) -> tuple[float, Any]:
    """``timed``, and the time on standard error as soon as it is there."""
    from probe_speed import timed

    seconds, found = timed(work)
    sys.stderr.write(f"{what}: {seconds:.1f} s\n")
    return seconds, found


def measure(folder: Path, part: int, layer: int) -> dict[str, Any]:
    """Seconds of each way, and the largest difference of their scores (nats)."""
    import torch

    from mechfourier.causal.edits import Ablations
    from mechfourier.causal.experiment import Experiment
    from mechfourier.causal.task import AnswerTask, task_of
    from mechfourier.domains.definition import domain
    from mechfourier.hooks.interventions import intervene
    from mechfourier.hooks.run import batches, inference, last_logits
    from mechfourier.hooks.site import Site
    from mechfourier.models.registry import load

    model: Any = load(str(folder))
    site = Site("resid_post", layer)
    task = task_of(model, domain("mod-23"))
    if not isinstance(task, AnswerTask):
        raise TypeError("a language model was expected")
    asked = Experiment(model, task)
    around = asked.moments(site)
    dims = torch.arange(2)[:, None] + 8
    few = torch.arange(len(task.rows))[::part]
    some, scale = task.subset(few), len(task.rows) / len(few)

    def ours(which: torch.Tensor) -> torch.Tensor:
        return asked.ablated(Ablations(site, "mean", around.mean, dims=which), "controls")

    def full(which: torch.Tensor) -> torch.Tensor:
        with intervene(model, [Ablations(site, "mean", around.mean, dims=which).single()]):
            return some.score(model).scores

    def prompts_only() -> None:
        with inference(model):
            for batch in batches(model, [e.ids for e in some.plan.encodings]):
                last = torch.full((len(batch.rows),), batch.tokens.shape[1] - 1)
                last_logits(model, lambda tokens=batch.tokens: model(tokens), last)

    one, first = said("one control", lambda: ours(dims[:1]))
    two, _ = said("two controls", lambda: ours(dims))
    whole, reference = said("one full pass", lambda: full(dims[:1]))
    alone, _ = said("one pass of the prompts only", prompts_only)
    each, whole, alone = two - one, whole * scale, alone * scale
    study = one + CONTROLS * each
    return {
        "prompts": len(task.rows),
        "sequences": task.plan.n_sequences,
        "layer": layer,
        "layers": model.cfg.n_layers,
        "part": part,
        "seconds": {
            "ours_per_control": each,
            "shared": one - each,
            "full_pass": whole,
            "prompts_only": alone,
        },
        "ratio_full_passes": (1 + CONTROLS) * whole / study,
        "ratio_prompts_only": (1 + CONTROLS) * alone / study,
        "largest_difference": float((first[0, few] - reference).abs().max()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tokenizer", type=Path, required=True)
    parser.add_argument("--layers", type=int, default=None)
    parser.add_argument("--layer", type=int, default=7)
    parser.add_argument("--part", type=int, default=4)
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    import torch
    from probe_speed import write_model

    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "qwen3-random"
        write_model(folder, options.tokenizer, options.layers)
        found = measure(folder, options.part, min(options.layer, (options.layers or 28) - 1))
    found["machine"] = {
        "cpus": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "load_average": os.getloadavg()[0],
        "python": platform.python_version(),
        "torch": str(torch.__version__),
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    sys.stdout.write(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
