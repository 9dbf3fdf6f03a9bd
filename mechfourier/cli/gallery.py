"""``mechfourier gallery``: every figure as PNG."""

from pathlib import Path
from typing import Annotated

import typer

from mechfourier.cli.common import quiet_libraries


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(gallery)


def gallery(
    run: Annotated[str, typer.Argument(help="A one-layer training run with checkpoints.")],
    out: Annotated[Path, typer.Option("--out", help="Folder of the PNGs and their README.md.")] = Path(
        "gallery"
    ),
    results: Annotated[
        Path | None,
        typer.Option(
            "--results", help="Folder of saved results to draw, in place of measuring the packaged models."
        ),
    ] = None,
    readme: Annotated[
        Path | None, typer.Option("--readme", help="Also copy the pictures of a run on the front page here.")
    ] = None,
) -> None:
    """Draw every figure as PNG (pip install 'mechfourier[png]', and a Chromium). The probes are of the
    calendar model.

    The pictures of this project: mechfourier train one-layer --p 113 --recipe classic --out runs/classic,
    then mechfourier gallery runs/classic --results results --out docs/gallery --readme docs/images
    """
    quiet_libraries()
    from mechfourier.figures.gallery import write_gallery

    written = write_gallery(run, out, results=results, readme=readme)
    total = sum(path.stat().st_size for path in written)
    typer.echo(f"{len(written)} files in {out}: {total / 2**20:.1f} MiB")
