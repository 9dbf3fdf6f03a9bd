"""The one-layer transformer on the command line: one training, and many; nothing heavy is imported before it
trains."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from mechfourier.toys.one_layer.train import OneLayerRun


def train(
    *,
    p: Annotated[
        int | None, typer.Option("--p", help="Modulus (113 by default; 120 for --task s5).", min=2, max=1000)
    ] = None,
    recipe: Annotated[
        str, typer.Option("--recipe", help="fast, classic, grokfast, orthograd, stablemax or muon.")
    ] = "fast",
    task: Annotated[str, typer.Option("--task", help="add, subtract, multiply, squares or s5.")] = "add",
    seed: int = 0,
    split_seed: int | None = None,
    train_fraction: float | None = None,
    epochs: int | None = None,
    out: Path | None = None,
    resume: bool = False,
    device: str = "cpu",
    watch: Callable[..., None] | None = None,
) -> "OneLayerRun":
    """Train the one-layer transformer on modular arithmetic until it generalises.

    The run ends once the test accuracy has held while the learning rate fell. Study it with: mechfourier
    analyze OUT
    """
    from mechfourier.toys.one_layer.train import train_one_layer

    modulus = p if p is not None else 120 if task == "s5" else 113
    folder = out or Path(f"runs/one-layer-{task}-{modulus}-{recipe}-{seed}")
    return train_one_layer(
        folder,
        p=modulus,
        task=task,
        settings=recipe,
        seed=seed,
        split_seed=split_seed,
        train_fraction=train_fraction,
        epochs=epochs,
        resume=resume,
        device=device,
        watch=watch,
    )


def sweep(
    folder: Path,
    *,
    p: int = 113,
    task: str = "add",
    recipe: str = "fast",
    seed: int = 0,
    split_seed: int | None = None,
    train_fraction: float | None = None,
    epochs: int | None = None,
    lr: float | None = None,
    weight_decay: float | None = None,
    embed_std: float | None = None,
    warmup: int | None = None,
    settle: int | None = None,
    anneal: int | None = None,
) -> dict[str, Any]:
    """Train a one-layer network; ``lr`` to ``anneal`` replace what the recipe says. A stopped run goes on
    where it was.

    ``memorised_at`` and ``grokked_at``: the first evaluated epochs at 99 % of the train and of the test set.
    """
    from mechfourier.toys.one_layer.recipes import recipe as find_recipe
    from mechfourier.toys.one_layer.train import MEMORISED, first_epoch, train_one_layer

    given = {"lr": lr, "weight_decay": weight_decay, "embed_std": embed_std}
    given |= {"warmup": warmup, "settle": settle, "anneal": anneal}
    settings = dataclasses.replace(
        find_recipe(recipe, p), **{name: value for name, value in given.items() if value is not None}
    )
    run = train_one_layer(
        folder,
        p=p,
        task=task,
        settings=settings,
        seed=seed,
        split_seed=split_seed,
        train_fraction=train_fraction,
        epochs=settings.max_epochs if epochs is None else epochs,
        resume=True,
        checkpoints=False,
    )
    frame = run.frame()
    reached = {name: first_epoch(frame, name, MEMORISED) for name in ("train_accuracy", "test_accuracy")}
    return {
        "outcome": run.outcome,
        "memorised_at": reached["train_accuracy"],
        "grokked_at": reached["test_accuracy"],
        "test_accuracy": run.test_accuracy,
        "test_loss": run.test_loss,
        "train_accuracy": run.train_accuracy,
        "train_loss": run.train_loss,
        "epochs_done": run.epochs,
        "frequencies": len(run.embed_freqs),
    }
