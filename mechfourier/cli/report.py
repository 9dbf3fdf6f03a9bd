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
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", help="The page to write (report.html), or the folder of --style paper (figures)."
        ),
    ] = None,
    title: Annotated[str, typer.Option("--title", help="Its title (default: from what it holds).")] = "",
    style: Annotated[
        str,
        typer.Option("--style", help="page, or paper: every figure as SVG and PNG for one column of 8.5 cm."),
    ] = "page",
    letters: Annotated[
        bool, typer.Option("--letters", help="Panel letters (a, b, …), with --style paper.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Write one self-contained HTML page: verdicts, figures, tables, configuration, and the commands that
    make them again.

    A one-layer run is analysed on the way; save that once with `mechfourier analyze RUN --out RUN` to make
    the next page quickly.
    """
    quiet_libraries()
    from mechfourier.errors import UsageError, nearest
    from mechfourier.figures.report import write_report

    if style not in ("page", "paper"):
        raise UsageError(f"no style {style!r}; closest: {nearest(style, ['page', 'paper'])}")
    if letters and style != "paper":
        raise UsageError("--letters names the panels of a paper; add --style paper")
    if style == "paper":
        from mechfourier.figures.paper import write_paper

        written = write_paper(sources, out or Path("figures"), letters=letters)
        if as_json:
            return emit_json({"figures": [str(each) for each in written], "sources": sources})
        return typer.echo("\n".join(f"figure: {each}" for each in written))
    path = write_report(sources, out or Path("report.html"), title=title)
    size = path.stat().st_size
    if as_json:
        return emit_json({"page": str(path), "bytes": size, "sources": sources})
    typer.echo(f"page: {path} ({size / 2**20:.1f} MiB)")
    return None
