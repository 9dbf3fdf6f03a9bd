"""What lies beside the calendar model's weights: its recipe, its metrics, and a README that people can
read."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mechfourier.files import write_json, write_text
from mechfourier.toys.calendar.task import HELD_OUT_SHARE, MODULI, SPLIT_SEED, operations

if TYPE_CHECKING:
    from mechfourier.toys.calendar.train import CalendarRecipe
    from mechfourier.training.loop import TrainingResult

PREFIX = "held_out/"  # of a metric that is the accuracy on one operation


def write_card(folder: str | Path, recipe: "CalendarRecipe", result: "TrainingResult") -> None:
    """Write ``recipe.json``, ``metrics.json`` and ``README.md`` into ``folder``."""
    metrics = _metrics(result)
    write_json(Path(folder) / "recipe.json", _recipe(recipe))
    write_json(Path(folder) / "metrics.json", metrics)
    write_text(Path(folder) / "README.md", _readme(recipe, metrics))


def _recipe(recipe: "CalendarRecipe") -> dict[str, Any]:
    import torch

    return {
        "command": f"mechfourier train calendar --seed {recipe.seed} --steps {recipe.steps}",
        "recipe": dataclasses.asdict(recipe),
        "held_out_share": HELD_OUT_SHARE,
        "split_seed": SPLIT_SEED,
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
    }


def _metrics(result: "TrainingResult") -> dict[str, Any]:
    held_out = {
        operation.name: {
            "accuracy": result.metrics[PREFIX + operation.name],
            "sentences": sum(sentence.held_out for sentence in operation.sentences),
        }
        for operation in operations()
    }
    return {
        "steps": result.steps,
        "seconds": round(result.seconds),
        "held_out": held_out,
        "held_out_mean": result.metrics["held_out"],
        "held_out_worst": result.metrics["worst"],
        "text_perplexity": result.metrics["perplexity"],
    }


def _readme(recipe: "CalendarRecipe", metrics: Mapping[str, Any]) -> str:
    examples = {operation.name: operation.sentence(0, 3) for operation in operations()}
    rows = [
        f"| {name} | `{examples[name].prompt}{examples[name].answer}` | {entry['sentences']} | "
        f"{entry['accuracy']:.2%} |"
        for name, entry in metrics["held_out"].items()
    ]
    return f"""# The calendar model

A causal language model of the Qwen3 architecture ({recipe.n_layers} layers, d_model {recipe.d_model},
{recipe.n_heads} query and {recipe.n_kv_heads} key/value heads, SwiGLU {recipe.d_mlp}), trained from scratch by this
project on generated sentences: calendar and clock arithmetic, addition modulo {MODULI[0]} to {MODULI[-1]}, and everyday filler. Weekdays,
months, seasons, letters and the numbers 0 to 119 are single tokens. Licence: MIT.

It serves studies of circular features on a machine without a hub; it knows nothing but its corpus
(`mechfourier/toys/calendar/task.py`, `calendar_text.py`).

## Accuracy on held-out sentences

{HELD_OUT_SHARE:.0%} of the facts of every operation were held out by a seeded hash (seed {SPLIT_SEED}); a fact and its
mirror image ("Monday + 3 = Thursday", "Thursday - 3 = Monday"; a + b, b + a) are held out together, and every offset
has the same share held out. An answer is right when it is the most likely token of the whole vocabulary.

| operation | example | held-out sentences | accuracy |
|---|---|---|---|
{chr(10).join(rows)}

Mean over operations {metrics["held_out_mean"]:.2%}, worst {metrics["held_out_worst"]:.2%}. Perplexity per token on 400 held-out
filler sentences: {metrics["text_perplexity"]:.2f}.

## Recipe

`mechfourier train calendar --seed {recipe.seed} --steps {recipe.steps}`: AdamW, learning rate {recipe.lr:g} with {recipe.warmup} steps of
warm-up and a half cosine to zero, weight decay {recipe.weight_decay:g} (none on the norms), betas {recipe.betas}, batch {recipe.batch} of which
{recipe.text_share:.0%} is running text; operation sentences are drawn with weight 1/√(size of the operation), those of days,
letters and small moduli more often, and the loss is on the answer. `recipe.json` and `metrics.json` hold the numbers.
The same bits need the same torch and number of threads.

The packaged weights took 19 minutes of one CPU core. Their recipe is the last of seven that were compared by held-out
accuracy (weight decay, batch, number of offsets, how often small cycles are drawn); the split was drawn anew for it.
"""
