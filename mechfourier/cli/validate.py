"""``mechfourier validate``: is a verdict worth anything? The planted benchmark, quick."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mechfourier.cli.common import COUNT, SEED, emit_json, note
from mechfourier.cli.options import Json

if TYPE_CHECKING:
    from mechfourier.stats.validate import CellResult, Validation


def register(app: typer.Typer) -> None:
    app.command("validate")(validate)


def validate(
    trials: Annotated[int, typer.Option("--trials", help="Draws per generator and size.", **COUNT)] = 6,
    seed: Annotated[int, typer.Option("--seed", help="Seed of the draws.", **SEED)] = 0,
    as_json: Json = False,
    out: Annotated[Path | None, typer.Option("--out", help="Also write the JSON to this file.")] = None,
) -> None:
    """Plant circles and their look-alikes, and count how often each is called a circle."""
    from mechfourier.stats import validate as benchmark

    result = benchmark.validate(seed=seed, trials=trials)
    if out is not None:
        result.save(out)
    if as_json:
        emit_json(result.to_dict())
    else:
        _show(result)
    if not result.passed:
        raise typer.Exit(1)


def _show(result: "Validation") -> None:
    header = (
        f"{'':10}{'generator':20}{'n':>4}{'d':>6}{'snr':>5}  "
        f"{'called circular':17}{'95 % interval':15}{'best R² > .9':14}verdicts"
    )
    typer.echo(header)
    for row in result.generators:
        typer.echo(_line(row))
    failed = result.failures()
    typer.echo(
        f"\n{'passed' if result.passed else 'FAILED'}: false circles at most 5 %, circles found at least 95 "
        f"% (n from 12, snr from 1); under 40 draws, the interval must not exclude that"
    )
    for row in failed:
        note(
            f"outside its bar: {row.kind} {row.name} n={row.n} d={row.d_model}: {row.circular} of "
            f"{row.trials} called circular"
        )
    weak = [row for row in result.generators if row.planted and not row.has_bar and row.rate < 0.95]
    for row in weak:
        note(
            f"power is lost: {row.kind} {row.name} n={row.n} snr={row.snr:g}: {row.circular} of "
            f"{row.trials} found"
        )
    naive = [row for row in result.generators if not row.planted and row.naive > 0.05 * row.trials]
    note(
        f"the best R² over dimensions and k calls {len(naive)} of "
        f"{sum(not r.planted for r in result.generators)} look-alikes a circle"
    )


def _line(row: "CellResult") -> str:
    words = ", ".join(
        f"{word} {count}" for word, count in sorted(row.words.items(), key=lambda item: -item[1])
    )
    mark = "*" if row.planted else " "
    counted = f"{row.circular}/{row.trials}"
    return (
        f"{row.kind:10}{mark}{row.name:19}{row.n:>4}{row.d_model:>6}{row.snr:>5g}  {counted:17}"
        f"{f'{row.low:.2f} to {row.high:.2f}':15}{f'{row.naive}/{row.trials}':14}{words}"
    )
