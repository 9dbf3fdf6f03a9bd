"""``mechfourier analyze``: a one-layer transformer taken apart."""

from pathlib import Path
from typing import Annotated

import typer

from mechfourier.cli.common import emit_json, note, quiet_libraries
from mechfourier.errors import UsageError


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(analyze)


def analyze(
    run: Annotated[
        str, typer.Argument(help="A run folder, a checkpoint of one (.safetensors), or a name: one-layer.")
    ],
    key_freqs: Annotated[
        str | None,
        typer.Option("--key-freqs", help="Use these (14,35,41) in place of the significant ones."),
    ] = None,
    last_only: Annotated[
        bool,
        typer.Option("--last-only", help="Leave the run's other checkpoints alone: no curves, no phases."),
    ] = False,
    seed: Annotated[int, typer.Option("--seed", help="Seed of the untrained baseline and of sampling.")] = 0,
    out: Annotated[Path | None, typer.Option("--out", help="Folder for the whole analysis as JSON.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")] = False,
) -> None:
    """Take a one-layer transformer apart: spectra, key frequencies, neurons, progress measures, Clock or Pizza.

    Every number stands beside that of an untrained model. Losses are in nats; restricted and trig loss are over all
    questions, the excluded loss over the training questions where the run says which those are.
    """
    quiet_libraries()
    given = None if key_freqs is None else _frequencies(key_freqs)
    from mechfourier.probes.one_layer import analyze as take_apart

    result = take_apart(run, key_freqs=given, over_run=not last_only, seed=seed)
    if as_json:
        emit_json(result.summary())
    else:
        typer.echo(str(result))
    if out is not None:
        note(f"wrote {result.save(out / 'analysis.json')}")
        if result.curves is not None:
            path = out / "progress.csv"
            result.curves.frame().to_csv(path, index=False)
            note(f"wrote {path}")


def _frequencies(text: str) -> tuple[int, ...]:
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() for part in parts):
        raise UsageError(f"--key-freqs {text!r} is no list of frequencies; write it like 14,35,41")
    return tuple(int(part) for part in parts)
