"""``mechfourier train adder``: a character-level transformer that adds, by a recipe."""

from pathlib import Path
from typing import Annotated

import typer

from mechfourier.cli.common import SEED, STEPS, emit_json, note, quiet_libraries


def register(train: typer.Typer) -> None:
    train.command("adder")(adder)


def adder(
    recipe: Annotated[
        str,
        typer.Option(
            "--recipe",
            help="generalising, faithful, faithful-fresh, decoder-only, or one thing left out: no-padding, no-sharpening, "
            "no-chains, coupled.",
        ),
    ] = "generalising",
    seed: Annotated[
        int, typer.Option("--seed", help="Seed of the weights, the problems and the noise.", **SEED)
    ] = 0,
    steps: Annotated[
        int | None, typer.Option("--steps", help="In place of the recipe's number of steps.", **STEPS)
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder of the run (runs/adder-… by default).")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in --out.")] = False,
    device: Annotated[str, typer.Option("--device", help="cpu, cuda or mps.")] = "cpu",
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")] = False,
) -> None:
    """Train an adder on fresh problems of one to five digits; one pair of numbers in ten is never trained on.

    Exact match by greedy decoding is printed at every evaluation. Then: mechfourier sweep-accuracy OUT, mechfourier analyze OUT
    """
    quiet_libraries()
    from mechfourier.toys.adder.train import train_adder

    def report(step: int, metrics: dict[str, float]) -> None:
        shares = " ".join(f"{k.removeprefix('accuracy_')}:{v:.0%}" for k, v in metrics.items())
        note(f"step {step}: exact match by digits {shares}")

    folder = out or Path(f"runs/adder-{recipe}-{seed}")
    result = train_adder(
        folder, settings=recipe, seed=seed, steps=steps, resume=resume, device=device, on_evaluate=report
    )
    if as_json:
        emit_json(result.to_dict())
    else:
        typer.echo(str(result))
