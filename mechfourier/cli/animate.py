"""``mechfourier animate``: watch a circle, a sine or a spectrum emerge over the checkpoints of a run."""

import re
from pathlib import Path
from typing import Annotated

import typer

from mechfourier.cli.common import COUNT, emit_json, finite, quiet_libraries
from mechfourier.cli.options import Json


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(animate)


def animate(
    run: Annotated[str, typer.Argument(help="The folder of a one-layer training run with checkpoints.")],
    what: Annotated[str, typer.Option("--what", help="circle, sine, sines, spectrum or logits.")] = "circle",
    out: Annotated[
        Path | None, typer.Option("--out", help="The file (default: animation-WHAT.html, .mp4 or .gif).")
    ] = None,
    mp4: Annotated[bool, typer.Option("--mp4", help="An MP4 in place of the HTML player.")] = False,
    gif: Annotated[bool, typer.Option("--gif", help="A GIF in place of the HTML player.")] = False,
    frames: Annotated[
        int | None,
        typer.Option("--frames", help="At most so many checkpoints, evenly spread.", min=2, max=COUNT["max"]),
    ] = None,
    seconds: Annotated[
        float | None,
        typer.Option(
            "--seconds", help="How long a video lasts (12 by default).", min=0.5, max=600, callback=finite
        ),
    ] = None,
    size: Annotated[str, typer.Option("--size", help="Of a video, in pixels.")] = "1280x720",
    as_json: Json = False,
) -> None:
    """Animate a training run: an interactive HTML player, or with --mp4 or --gif a video (pip install
    'mechfourier[video]').

    circle: the embedding in the plane of its strongest frequency (its cosine and sine directions, which PCA
    misses); sine, sines: neurons over (a + b) mod p; spectrum: the power of the embedding; logits: their 2-D
    spectrum.
    """
    from mechfourier.errors import UsageError

    if mp4 and gif:
        raise UsageError("--mp4 and --gif at once; choose one, or run the command twice")
    suffix = ".mp4" if mp4 else ".gif" if gif else ".html"
    path = out or Path(f"animation-{what}{suffix}")
    if path.suffix != suffix:
        raise UsageError(
            f"--out {path} does not end in {suffix}; rename it, or choose --mp4 or --gif to match"
        )
    pixels = _size(size)
    quiet_libraries()
    from mechfourier.toys.one_layer import evolution

    found = evolution(run, what, max_frames=frames)
    if suffix == ".html":
        from mechfourier.figures.animation import write_player

        write_player(found, path)
    else:
        from mechfourier.figures.scene import scene
        from mechfourier.figures.video import write_video

        write_video(scene(found), path, size=pixels, seconds=seconds)
    if as_json:
        return emit_json(
            {"file": str(path), "what": what, "frames": len(found.step), "bytes": path.stat().st_size}
        )
    typer.echo(
        f"{what} over {len(found.step)} checkpoints, steps {found.step[0]} to {found.step[-1]}: {path}"
    )
    return None


def _size(text: str) -> tuple[int, int]:
    from mechfourier.errors import UsageError

    found = re.fullmatch(r"(\d{1,6})x(\d{1,6})", text.lower())
    if not found:
        raise UsageError(f"--size {text[:60]!r} is no size; write it like 1280x720")
    return int(found[1]), int(found[2])
