"""``mechfourier report``: runs and results as one page that opens anywhere."""

from pathlib import Path
from typing import Annotated

import typer

from mechfourier.cli.common import emit_json, quiet_libraries
from mechfourier.cli.options import Json


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(report)


def report(
    sources: Annotated[
        list[str],
        typer.Argument(
            help="Run folders, folders of results, result files (.json), or: one-layer.",
            metavar="RUN_OR_RESULTS",
        ),
    ],
    out: Annotated[Path, typer.Option("--out", help="The page to write.")] = Path("report.html"),
    title: Annotated[str, typer.Option("--title", help="Its title (default: from what it holds).")] = "",
    as_json: Json = False,
) -> None:
    """Write one self-contained HTML page: verdicts, figures, tables, configuration, and the commands that
    make them again.

    A one-layer run is analysed on the way; save that once with `mechfourier analyze RUN --out RUN` to make
    the next page quickly.
    """
    quiet_libraries()
    from mechfourier.figures.report import write_report

    path = write_report(sources, out, title=title)
    size = path.stat().st_size
    if as_json:
        return emit_json({"page": str(path), "bytes": size, "sources": sources})
    typer.echo(f"page: {path} ({size / 2**20:.1f} MiB)")
    return None
