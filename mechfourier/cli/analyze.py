"""``mechfourier analyze``: a model this project trains taken apart, by the ``analyze`` of its
`Architecture`."""

from pathlib import Path
from typing import Annotated

import typer

from mechfourier.cli.common import DIGITS, SEED, number_list, quiet_libraries
from mechfourier.cli.dispatch import SET, handle, say, settings
from mechfourier.cli.options import Json


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(analyze)


RUN = Annotated[
    str,
    typer.Argument(
        help="A run folder, a checkpoint of one (.safetensors), or a name: one-layer, adder, miras."
    ),
]
KEY_FREQS = Annotated[
    str | None,
    typer.Option("--key-freqs", help="one-layer: use these (14,35,41) in place of the significant ones."),
]
LAST_ONLY = Annotated[
    bool,
    typer.Option("--last-only", help="one-layer, miras: leave the run's other checkpoints alone."),
]
PLACE = Annotated[
    int | None,
    typer.Option(
        "--place",
        help="adder: significance of the answer digit asked about (0: units).",
        min=0,
        max=DIGITS["max"],
    ),
]
OPERAND_DIGITS = Annotated[
    int | None, typer.Option("--digits", help="adder: digits of both operands.", **DIGITS)
]
OUT = Annotated[Path | None, typer.Option("--out", help="Folder for the whole analysis as JSON.")]


def analyze(
    run: RUN,
    key_freqs: KEY_FREQS = None,
    last_only: LAST_ONLY = False,
    place: PLACE = None,
    digits: OPERAND_DIGITS = None,
    seed: Annotated[
        int, typer.Option("--seed", help="Seed of the untrained baseline and of sampling.", **SEED)
    ] = 0,
    set_: SET = None,
    out: OUT = None,
    as_json: Json = False,
) -> None:
    """Take a trained model apart; what is measured follows from its architecture.

    one-layer: spectra, key frequencies, neurons, progress measures, Clock or Pizza; every number stands
    beside that of an untrained model. Losses are in nats; restricted and trig loss are over all questions,
    the excluded loss over the training questions where the run says which those are.

    adder: what every site knows of digits, sums, carries and significance; attention by significance; where
    the carry is; periodic neurons; ablations by category; digit vectors, weight spectra and logits. --out
    writes tables and one HTML page.

    miras: accuracy by modulus, neurons across moduli with their null, attention, the memory silenced and
    swapped, accuracy over the run's checkpoints, and, by value, what composes the phases and decides the
    wrap.
    """
    quiet_libraries()
    options = {
        "key_freqs": None if key_freqs is None else _frequencies(key_freqs),
        "over_run": False if last_only else None,
        "place": place,
        "digits": digits,
        "seed": seed,
        **settings(set_),
    }
    result = handle(
        "analyze",
        "analyze",
        run,
        options,
        instead="For other models use: mechfourier probe or mechfourier study",
    )
    say(result, as_json=as_json, out=out)


def _frequencies(text: str) -> tuple[int, ...]:
    return tuple(number_list(text, "--key-freqs", "frequencies", "it like 14,35,41"))
