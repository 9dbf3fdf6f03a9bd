"""``mechfourier train one-layer``: modular arithmetic in one layer, by a recipe."""

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mechfourier.cli.common import SEED, SHARE, STEPS, emit_json, note, quiet_libraries

if TYPE_CHECKING:
    from mechfourier.figures.live import LiveView


def register(train: typer.Typer) -> None:
    train.command("one-layer")(one_layer)


def one_layer(
    p: Annotated[
        int | None, typer.Option("--p", help="Modulus (113 by default; 120 for --task s5).", min=2, max=1000)
    ] = None,
    recipe: Annotated[
        str, typer.Option("--recipe", help="fast, classic, grokfast, orthograd, stablemax or muon.")
    ] = "fast",
    task: Annotated[str, typer.Option("--task", help="add, subtract, multiply, squares or s5.")] = "add",
    seed: Annotated[int, typer.Option("--seed", help="Seed of the weights and of the split.", **SEED)] = 0,
    split_seed: Annotated[
        int | None, typer.Option("--split-seed", help="Seed of the split alone (--seed by default).", **SEED)
    ] = None,
    train_fraction: Annotated[
        float | None, typer.Option("--train-fraction", help="Share of the p² pairs to train on.", **SHARE)
    ] = None,
    epochs: Annotated[
        int | None,
        typer.Option("--epochs", help="Train for at most so many epochs (the recipe's by default).", **STEPS),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder of the run (runs/one-layer-… by default).")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in --out.")] = False,
    device: Annotated[str, typer.Option("--device", help="cpu, cuda or mps.")] = "cpu",
    live: Annotated[
        bool, typer.Option("--live", help="Draw curves, spectrum and circle in the terminal while it trains.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")] = False,
) -> None:
    """Train the one-layer transformer on modular arithmetic until it generalises.

    The run ends once the test accuracy has held while the learning rate fell. Study it with: mechfourier analyze OUT
    """
    quiet_libraries()
    from mechfourier.toys.one_layer.train import train_one_layer

    modulus = p if p is not None else 120 if task == "s5" else 113
    folder = out or Path(f"runs/one-layer-{task}-{modulus}-{recipe}-{seed}")
    with contextlib.ExitStack() as shown:
        result = train_one_layer(
            folder, p=modulus, task=task, settings=recipe, seed=seed, split_seed=split_seed,
            train_fraction=train_fraction, epochs=epochs, resume=resume, device=device,
            watch=shown.enter_context(_live_view()) if live else None,
        )  # fmt: skip
    if as_json:
        last = ("test_accuracy", "test_loss", "epochs", "seconds", "checkpoint")
        values = result.to_dict()
        emit_json(
            {name: value for name, value in values.items() if name not in last} | {k: values[k] for k in last}
        )
    else:
        typer.echo(str(result))
    if result.outcome != "generalised":
        raise typer.Exit(1)


@contextlib.contextmanager
def _live_view() -> "Iterator[LiveView | None]":
    """The picture in the terminal in place of the progress bar; None where standard error is no terminal."""
    if not sys.stderr.isatty():
        note("--live needs a terminal; training without it")
        yield None
        return
    from mechfourier.figures.live import LiveView
    from mechfourier.progress import hidden

    with hidden(), LiveView() as view:
        yield view
