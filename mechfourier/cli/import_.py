"""``mechfourier import``: other people's checkpoints as ours, by the record whose layout they have."""

from pathlib import Path
from typing import Annotated, Any

import typer

from mechfourier.cli.common import emit_json, finite, note, quiet_libraries
from mechfourier.cli.dispatch import fitting
from mechfourier.cli.options import Json
from mechfourier.models.architectures import built_in, with_part

FLAGS = {"layout": "format", "task_name": "task", "key_map": "map"}
"""What the options are called on the command line, where that is not their keyword."""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("import")(import_)


FILE = Annotated[Path, typer.Argument(help="A .pt, .pth, .safetensors or .npz file.")]
OUT = Annotated[Path, typer.Option("--out", help="Folder to write; it must not hold a checkpoint yet.")]
FORMAT = Annotated[
    str | None,
    typer.Option(
        "--format",
        help="auto (the default), or refuse all but: grokking-fourier, hooked-transformer, progress-measures, "
        "clock-and-pizza, fused-heads, encoder-layer, hugging-face, mlp, linear.",
    ),
]
ENTRY = Annotated[str | None, typer.Option("--entry", help="Which state dict, where the file holds several.")]
ACT = Annotated[
    str | None,
    typer.Option("--act", help="Activation: relu, gelu, gelu_new, square, tanh or silu (by accuracy)."),
]
COEFFICIENT = Annotated[
    float | None,
    typer.Option(
        "--attn-coeff",
        help="clock-and-pizza: 1 softmax attention, 0 constant (by accuracy).",
        min=0,
        max=1,
        callback=finite,
    ),
]
TASK = Annotated[
    str | None,
    typer.Option(
        "--task", help="add, subtract, multiply, squares, s5, or auto (the default): the best answered."
    ),
]
MAP = Annotated[
    Path | None, typer.Option("--map", help="TOML file: which of their tensors is which of ours.")
]
IGNORE = Annotated[
    list[str] | None, typer.Option("--ignore", help="Pattern of tensors that are not needed. Repeat it.")
]
TABLE = Annotated[
    Path | None, typer.Option("--table", help="Answers of a task of its own: p x p whole numbers, .npy.")
]
EXPLAIN = Annotated[bool, typer.Option("--explain", help="Print how every tensor was read.")]


def import_(
    file: FILE,
    out: OUT,
    layout: FORMAT = None,
    entry: ENTRY = None,
    act: ACT = None,
    attn_coeff: COEFFICIENT = None,
    task: TASK = None,
    key_map: MAP = None,
    ignore: IGNORE = None,
    table: TABLE = None,
    explain: EXPLAIN = False,
    force: Annotated[bool, typer.Option("--force", help="Take it though it answers at chance.")] = False,
    as_json: Json = False,
) -> None:
    """Bring a foreign network on modular arithmetic in, verified by its answers before it is written.

    Files are read without running code. Which tensor is which, how questions are written and which task it is
    follow from names and shapes, the configuration beside the file, and what is answered. One whose answers
    are those of no reading is refused.
    """
    quiet_libraries()
    options = {
        "layout": layout,
        "entry": entry,
        "act": act,
        "attn_coeff": attn_coeff,
        "task_name": task,
        "key_map": key_map,
        "ignore": ignore or None,
        "table": table,
        "force": force or None,
    }
    found, analysed = _brought(file, out, options)
    if as_json:
        emit_json({**found.summary(), "checkpoint": str(out)})
        return
    if explain:
        for line in getattr(found, "explained", ()):
            typer.echo(line)
    look = "analyze" if analysed else "probe"
    typer.echo(f"{found}\nwritten to {out}; look into it with: mechfourier {look} {out}")


def _brought(file: Path, out: Path, options: dict[str, Any]) -> tuple[Any, bool]:
    """The checkpoint by the record that knows its tensors, and whether ``analyze`` takes what was written."""
    from mechfourier.models.architectures import of_folder
    from mechfourier.models.checkpoint import load_foreign_tensors

    note(f"reading {file}")
    tensors = load_foreign_tensors(file)
    records = tuple(with_part("import_checkpoint"))
    ours = [each for each in records if each in built_in()][-1]  # it reads whatever no other record knows
    others = (each for each in records if each is not ours)
    record = next((each for each in others if each.part("is_foreign")(tensors)), ours)
    function = record.part("import_checkpoint")
    found = function(file, out, **fitting(function, options, record.name, FLAGS))
    written = of_folder(out)
    return found, bool(written is not None and written.analyze)
