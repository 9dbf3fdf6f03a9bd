"""``mechfourier train calendar``: the embedded calendar model, from scratch."""

from pathlib import Path
from typing import Annotated

import typer

from mechfourier.cli.common import SEED, STEPS, emit_json, note, quiet_libraries


def register(train: typer.Typer) -> None:
    train.command("calendar")(calendar)


def calendar(
    out: Annotated[Path, typer.Option("--out", help="Folder of the run.")] = Path("runs/calendar"),
    seed: Annotated[int, typer.Option("--seed", help="Seed of the weights and of the batches.", **SEED)] = 0,
    steps: Annotated[
        int | None, typer.Option("--steps", help="Optimiser steps (the recipe's number by default).", **STEPS)
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in --out.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")] = False,
) -> None:
    """Train the calendar model (a small Qwen3) on calendar and modular arithmetic sentences.

    Weights, tokenizer and metrics lie in --out afterwards; study them with: mechfourier probe OUT --domain months
    """
    quiet_libraries()
    from mechfourier.toys.calendar.train import CalendarRecipe, train_calendar

    if resume and not (out / "config.json").exists():
        note(f"{out} holds no run to go on with; starting one")
    recipe = CalendarRecipe(seed=seed) if steps is None else CalendarRecipe(seed=seed, steps=steps)
    result = train_calendar(recipe, out, resume=resume, on_evaluate=_say)
    if as_json:
        emit_json(result.to_dict())
    else:
        typer.echo(_summary(result.metrics))
        typer.echo(
            f"{result.steps} steps in {result.seconds:.0f} s; weights and metrics are in {result.folder}"
        )


def _say(step: int, metrics: dict[str, float]) -> None:
    note(
        f"step {step}: held-out accuracy {metrics['held_out']:.3f} (worst {metrics['worst']:.3f}), "
        f"text perplexity {metrics['perplexity']:.2f}"
    )


def _summary(metrics: dict[str, float]) -> str:
    prefix = "held_out/"
    rows = [
        f"  {name.removeprefix(prefix):<16}{value:7.2%}"
        for name, value in metrics.items()
        if name.startswith(prefix)
    ]
    return "\n".join(["held-out accuracy", *rows, f"text perplexity {metrics['perplexity']:.2f}"])
