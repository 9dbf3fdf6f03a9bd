"""Options that several commands take, each described once: ``layers: Layers = None`` in a command's head."""

from pathlib import Path
from typing import Annotated

import typer

from mechfourier.cli.common import CONTEXT, COUNT, CYCLES, FROM_NONE, SEED, note

Model = Annotated[str, typer.Argument(help="A name (mechfourier models), a folder, or a GGUF file.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")]
Layers = Annotated[str | None, typer.Option(help="Layers, like 0-3,7 (default: all).")]
AskedDomain = Annotated[
    str | None,
    typer.Option(help="Whose task to ask (mechfourier domains; default: the model's own task, else months)."),
]
Cycles = Annotated[int, typer.Option(help="Cycles of offsets: 1 is the n × n grid.", **CYCLES)]
NullDraws = Annotated[int, typer.Option(help="Draws of the null.", **COUNT)]
Permutations = Annotated[int, typer.Option(help="Permutations of the family-wise null.", **COUNT)]
DrawSeed = Annotated[int, typer.Option(help="Seed of the draws.", **SEED)]
JsonFolder = Annotated[Path | None, typer.Option(help="Write the result as JSON into this folder.")]
Engine = Annotated[str, typer.Option(help="How the model is run: auto, hooked or bridge.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, mps.")]
Positions = Annotated[
    str, typer.Option(help="all, last, or auto (last where the model's own task answers only there).")
]
Skip = Annotated[int, typer.Option(help="Leave out the first positions of every sequence.", **FROM_NONE)]
Context = Annotated[int, typer.Option(help="Longest sequence; longer documents are cut.", **CONTEXT)]
Runner = Annotated[str, typer.Option("--runner", help="joblib (this machine) or ray (a cluster).")]


def former(given: str | None, old: str, new: str, value: str) -> str:
    """What an option that got a new name says: that of its old name where it was given, with a warning."""
    if given is None:
        return value
    from mechfourier._renamed import GONE_IN

    note(f"warning: {old} is called {new} now; it goes in mechfourier {GONE_IN}")
    return given
