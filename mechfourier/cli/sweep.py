"""``mechfourier sweep``: one experiment over a grid of settings."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mechfourier.cli.common import PROCESSES, emit_json, note, quiet_libraries
from mechfourier.cli.options import Json, Runner, former

if TYPE_CHECKING:
    from mechfourier.sweep.run import Sweep


More = Annotated[
    list[str] | None, typer.Argument(help="Further axes (so that --grid may be followed by several).")
]
Grid = Annotated[
    list[str] | None,
    typer.Option(
        help="An axis: p=53,71 or seed=0:8 (0 to 7) or lr=0.3:3:8 (eight values) or …:8:log. Repeat, or "
        "put several after it."
    ),
]
Fixed = Annotated[
    list[str] | None,
    typer.Option("--set", help="A parameter that is the same in all runs: model=calendar."),
]
Jobs = Annotated[
    int | None, typer.Option(help="Processes on this machine (default: one per core).", **PROCESSES)
]
Address = Annotated[
    str | None, typer.Option(help="Of a Ray cluster: auto, or host:port (default: start one here).")
]
RetryFailed = Annotated[bool, typer.Option("--retry-failed", help="Run those again that failed before.")]


def sweep(
    kind: Annotated[str, typer.Argument(help="one-layer, probe, ablate, sae or atlas.")],
    more: More = None,
    grid: Grid = None,
    fixed: Fixed = None,
    runner: Runner = "joblib",
    engine: Annotated[str | None, typer.Option(hidden=True)] = None,
    jobs: Jobs = None,
    address: Address = None,
    retry_failed: RetryFailed = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the grid and stop.")] = False,
    as_json: Json = False,
    out: Annotated[Path | None, typer.Option(help="Folder (default: runs/sweep-KIND).")] = None,
) -> None:
    """Run an experiment at every point of a grid, in parallel. The same command again goes on where it
    stopped."""
    from mechfourier.errors import UsageError
    from mechfourier.sweep.grid import axis, points
    from mechfourier.sweep.kinds import checked

    runner = former(engine, "--engine", "--runner", runner)
    axes = [axis(text) for text in [*(grid or []), *(more or [])]]
    same = {}
    for text in fixed or []:
        one = axis(text)
        if len(one.values) != 1:
            raise UsageError(f"--set {text!r} gives {len(one.values)} values; list them with --grid")
        same[one.name] = one.values[0]
    spanned = points(axes)
    for point in spanned:
        checked(kind, {**same, **point})
    note(f"{len(spanned)} run{'s' * (len(spanned) != 1)}: " + "; ".join(map(str, axes)))
    if dry_run:
        return
    quiet_libraries()
    from mechfourier.sweep.run import sweep as run

    result = run(
        kind,
        axes,
        out or Path("runs") / f"sweep-{kind}",
        fixed=same,
        runner=runner,
        jobs=jobs,
        address=address,
        retry_failed=retry_failed,
    )
    if as_json:
        emit_json(result.to_dict())
    else:
        _show(result)
    if result.failed:
        _say_why(result)
        raise typer.Exit(1)


def _show(result: "Sweep") -> None:
    from mechfourier.drawing.html import write_page

    typer.echo(str(result))
    typer.echo(f"figure: {write_page(Path(result.folder) / 'sweep.html', result.part())}")


def _say_why(result: "Sweep") -> None:
    """Why runs failed, the most frequent reasons first (the table has them all)."""
    reasons = result.frame().query("status == 'failed'")["error"].value_counts()
    for reason, count in reasons.head(3).items():
        note(f"{count} failed: {reason}")
    note(
        f"error: {result.failed} of the runs failed; once the reason is mended, run them again with the same "
        "command and --retry-failed"
    )


def register(app: typer.Typer) -> None:
    app.command(name="sweep")(sweep)
