"""``mechfourier import``: other people's one-layer checkpoints as ours."""

from pathlib import Path
from typing import Annotated

import typer

from mechfourier.cli.common import emit_json, finite, quiet_libraries


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("import")(import_)


def import_(
    file: Annotated[Path, typer.Argument(help="A .pt, .pth or .safetensors file.")],
    out: Annotated[Path, typer.Option("--out", help="Folder to write; it must not hold a checkpoint yet.")],
    layout: Annotated[
        str,
        typer.Option(
            "--format", help="auto, grokking-fourier, hooked-transformer, nanda or clock-and-pizza."
        ),
    ] = "auto",
    entry: Annotated[
        str | None, typer.Option("--entry", help="Which state dict, where the file holds several.")
    ] = None,
    act: Annotated[str, typer.Option("--act", help="Activation: relu, gelu or square.")] = "relu",
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
        str, typer.Option("--task", help="add, subtract, multiply, squares, s5, or auto: the best answered.")
    ] = "auto",
    force: Annotated[bool, typer.Option("--force", help="Take it though it answers at chance.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")] = False,
) -> None:
    """Bring a foreign one-layer (or MIRAS) checkpoint in, verified by its accuracy before it is written.

    Files are read without running code. One that answers less than ten points above chance is refused.
    """
    quiet_libraries()
    from mechfourier.models.checkpoint import load_foreign_tensors
    from mechfourier.toys.one_layer.foreign import import_checkpoint
    from mechfourier.toys.universal.foreign import looks_like_miras

    if layout in ("auto", "grokking-fourier") and looks_like_miras(load_foreign_tensors(file)):
        _miras(file, out, entry, force, as_json)
        return
    found = import_checkpoint(
        file, out, layout=layout, entry=entry, act=act, attn_coeff=attn_coeff, task_name=task, force=force
    )
    config = found.config
    if as_json:
        emit_json(
            {
                "format": found.layout, "accuracy": found.accuracy, "p": config.p, "task": config.task,
                "attn_coeff": config.attn_coeff, "biases": config.biases, "notes": list(found.notes),
                "checkpoint": str(out),
            }
        )  # fmt: skip
        return
    typer.echo(
        f"{found.layout}: p = {config.p}, d_model {config.d_model}, {config.n_heads} heads, d_mlp {config.d_mlp}"
    )
    typer.echo(f"accuracy {found.accuracy:.2%} over all {config.p}² questions ({config.task})")
    for line in found.notes:
        typer.echo(line)
    typer.echo(f"written to {out}; look into it with: mechfourier analyze {out}")


def _miras(file: Path, out: Path, entry: str | None, force: bool, as_json: bool) -> None:
    from mechfourier.toys.universal.foreign import LAYOUT, import_miras

    found = import_miras(file, out, entry=entry, force=force)
    config = found.config
    if as_json:
        emit_json(
            {
                "format": LAYOUT, "accuracy": found.accuracy, "n_values": config.n_values, "encoding": config.encoding,
                "checkpoint": str(out),
            }
        )  # fmt: skip
        return
    typer.echo(
        f"{LAYOUT}: numbers 0 to {config.n_values - 1}, d_model {config.d_model}, {config.n_layers} layers"
    )
    typer.echo(f"accuracy {found.accuracy:.2%} on 2000 random questions mod 2 to 79")
    typer.echo(f"written to {out}; measure it with: mechfourier sweep-accuracy {out}")
