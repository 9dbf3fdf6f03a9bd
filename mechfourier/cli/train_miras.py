"""``mechfourier train miras``: addition in every modulus."""

from pathlib import Path
from typing import Annotated

import typer

from mechfourier.cli.common import COUNT, MODULUS, SEED, STEPS, emit_json, quiet_libraries
from mechfourier.errors import UsageError, nearest

FORMS = ("shared", "plain", "faithful")


def register(train: typer.Typer) -> None:
    """Add the subcommand."""
    train.command("miras")(miras)


def miras(
    form: Annotated[
        str,
        typer.Option(
            "--form",
            help="shared or plain (numbers by value; they extrapolate), or faithful (tokens and SinPE).",
        ),
    ] = "shared",
    moduli: Annotated[
        str,
        typer.Option("--moduli", help="all (2 to 120 but 15, 25, …), primes, or sparse (24 of 2 to 199)."),
    ] = "all",
    largest: Annotated[
        int | None,
        typer.Option("--largest", help="Largest modulus to train on (120; 79 for primes).", **MODULUS),
    ] = None,
    loss: Annotated[str, typer.Option("--loss", help="ce, or reinforce (faithful only).")] = "ce",
    curriculum: Annotated[
        bool | None,
        typer.Option("--curriculum/--no-curriculum", help="Raise the cap on the moduli over the first 45 %."),
    ] = None,
    curriculum_from: Annotated[
        int | None, typer.Option("--curriculum-from", help="The cap to begin with (24).", **MODULUS)
    ] = None,
    memory: Annotated[
        str | None,
        typer.Option(
            "--memory", help="faithful: none, feedforward or titans (feedforward; none for primes with ce)."
        ),
    ] = None,
    steps: Annotated[
        int | None, typer.Option("--steps", help="Steps (the recipe's by default).", **STEPS)
    ] = None,
    batch: Annotated[
        int | None, typer.Option("--batch", help="Questions per step (the recipe's).", **COUNT)
    ] = None,
    seed: Annotated[
        int, typer.Option("--seed", help="Seed of the weights and of the questions.", **SEED)
    ] = 0,
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder of the run (runs/miras-… by default).")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in --out.")] = False,
    device: Annotated[str, typer.Option("--device", help="cpu, cuda or mps.")] = "cpu",
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")] = False,
) -> None:
    """Train a transformer that answers (a + b) mod m for moduli it never saw.

    shared and plain encode numbers by value and go on past the trained range; faithful reads a and b as tokens and m as
    sinusoids, and ends where its tokens do. Measure it with: mechfourier sweep-accuracy OUT
    """
    quiet_libraries()
    if form not in FORMS:
        raise UsageError(f"no form {form!r}; closest: {nearest(form, FORMS)}; known: {', '.join(FORMS)}")
    from mechfourier.toys.universal.recipes import plan
    from mechfourier.toys.universal.train import train_miras

    chosen = plan(
        form, moduli=moduli, largest=largest, loss=loss, memory=memory, steps=steps, batch=batch,
        curriculum=curriculum, curriculum_from=curriculum_from,
    )  # fmt: skip
    folder = out or Path(f"runs/miras-{form}-{moduli}-{loss}-{seed}")
    result = train_miras(
        folder, chosen.config, chosen.split, chosen.recipe, seed=seed, resume=resume, device=device
    )
    emit_json(result.to_dict()) if as_json else typer.echo(str(result))
