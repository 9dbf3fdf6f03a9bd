"""``mechfourier import``: other people's checkpoints as ours, by the record whose layout they have."""

from pathlib import Path
from typing import Annotated

import typer

from mechfourier.cli.common import emit_json, finite, quiet_libraries
from mechfourier.cli.dispatch import fitting
from mechfourier.models.architectures import built_in, with_part


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("import")(import_)


def import_(
    file: Annotated[Path, typer.Argument(help="A .pt, .pth or .safetensors file.")],
    out: Annotated[Path, typer.Option("--out", help="Folder to write; it must not hold a checkpoint yet.")],
    layout: Annotated[
        str | None,
        typer.Option(
            "--format",
            help="auto (the default), grokking-fourier, hooked-transformer, nanda or clock-and-pizza.",
        ),
    ] = None,
    entry: Annotated[
        str | None, typer.Option("--entry", help="Which state dict, where the file holds several.")
    ] = None,
    act: Annotated[
        str | None, typer.Option("--act", help="Activation: relu (the default), gelu or square.")
    ] = None,
    attn_coeff: Annotated[
        float | None,
        typer.Option(
            "--attn-coeff",
            help="clock-and-pizza: 1 softmax attention, 0 constant (by accuracy).",
            min=0,
            max=1,
            callback=finite,
        ),
    ] = None,
    task: Annotated[
        str | None,
        typer.Option(
            "--task", help="add, subtract, multiply, squares, s5, or auto (the default): the best answered."
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Take it though it answers at chance.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")] = False,
) -> None:
    """Bring a foreign one-layer (or MIRAS) checkpoint in, verified by its accuracy before it is written.

    Files are read without running code. One that answers less than ten points above chance is refused.
    """
    quiet_libraries()
    from mechfourier.models.checkpoint import load_foreign_tensors

    tensors = load_foreign_tensors(file)
    records = tuple(with_part("import_checkpoint"))
    ours = [each for each in records if each in built_in()][-1]  # its error says what layouts there are
    record = next((each for each in records if each.part("is_foreign")(tensors)), ours)
    options = {
        "layout": layout,
        "entry": entry,
        "act": act,
        "attn_coeff": attn_coeff,
        "task_name": task,
        "force": force or None,
    }
    function = record.part("import_checkpoint")
    found = function(
        file, out, **fitting(function, options, record.name, {"layout": "format", "task_name": "task"})
    )
    if as_json:
        emit_json({**found.summary(), "checkpoint": str(out)})
        return
    look = "analyze" if record.analyze else "probe"
    typer.echo(f"{found}\nwritten to {out}; look into it with: mechfourier {look} {out}")
