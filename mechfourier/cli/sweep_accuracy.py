"""``mechfourier sweep-accuracy``: where a trained model answers right. by the ``sweep_accuracy`` of its
`Architecture`."""

from pathlib import Path
from typing import Annotated

import typer

from mechfourier.cli.common import DIGITS, FROM_NONE, MODULUS, SEED, quiet_libraries
from mechfourier.cli.dispatch import SET, handle, say, settings
from mechfourier.cli.options import Json


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("sweep-accuracy")(sweep_accuracy)


def sweep_accuracy(
    run: Annotated[str, typer.Argument(help="A run folder, or the name of a packaged model.")],
    samples: Annotated[
        int | None,
        typer.Option("--samples", help="Problems per cell of the sweep (miras: 0 asks all).", **FROM_NONE),
    ] = None,
    max_digits: Annotated[
        int | None, typer.Option("--max-digits", help="adder: longest operand of the length pairs.", **DIGITS)
    ] = None,
    largest: Annotated[
        int | None,
        typer.Option(
            "--largest", help="miras: the last modulus of the sweep (199, then 251, 499, 997).", **MODULUS
        ),
    ] = None,
    full: Annotated[
        bool, typer.Option("--full", help="miras: every question of every modulus (dear: m² of them).")
    ] = False,
    seed: Annotated[int, typer.Option("--seed", help="Seed of the problems drawn.", **SEED)] = 0,
    set_: SET = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder for the tables (JSON, CSV) and figures (HTML).")
    ] = None,
    as_json: Json = False,
) -> None:
    """Measure a trained model's accuracy over its whole range and beyond, with Wilson intervals (95 %)."""
    quiet_libraries()
    options = {
        "samples": samples,
        "max_digits": max_digits,
        "largest": largest,
        "full": full or None,
        "seed": seed,
        **settings(set_),
    }
    result = handle(
        "sweep-accuracy",
        "sweep_accuracy",
        run,
        options,
        instead="For one-layer models use: mechfourier analyze",
    )
    say(result, as_json=as_json, out=out)
