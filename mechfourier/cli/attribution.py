"""``mechfourier attribution``: who writes the answer, and in which harmonics."""

from pathlib import Path
from typing import Annotated

import typer

from mechfourier.cli.common import COUNT, CYCLES, SEED, TASK, domain_of, emit_json, note, quiet_libraries


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("attribution")(attribution_command)


def attribution_command(
    model: Annotated[str, typer.Argument(help="A name (mechfourier models), a folder, or a GGUF file.")],
    domain: Annotated[
        str | None,
        typer.Option(
            help="A domain (mechfourier domains), mod-N, or a .toml file (default: the model's own task, else months)."
        ),
    ] = None,
    task: Annotated[str | None, TASK] = None,
    samples: Annotated[
        int | None, typer.Option(help="As many cells of the grid, drawn at random (default: all).", **COUNT)
    ] = None,
    cycles: Annotated[int, typer.Option(help="Cycles of offsets in the grid.", **CYCLES)] = 1,
    neurons: Annotated[int, typer.Option(help="How many neurons to list, the greatest first.", **COUNT)] = 20,
    seed: Annotated[int, typer.Option(help="Seed of samples and intervals.", **SEED)] = 0,
    engine: Annotated[str, typer.Option(help="auto, hooked or bridge.")] = "auto",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, mps.")] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    out: Annotated[Path, typer.Option(help="Folder of the HTML page.")] = Path("mechfourier-out"),
) -> None:
    """Split the right answer's margin over layers, heads and neurons, and its logits over harmonics."""
    chosen = domain_of(domain, model)
    quiet_libraries()
    from mechfourier.causal.attribution import attribution
    from mechfourier.figures.report import write_result
    from mechfourier.models.registry import load

    result = attribution(
        load(model, engine=engine, device=device), chosen, task=task, cycles=cycles, samples=samples, neurons=neurons, seed=seed
    )  # fmt: skip
    page = write_result(result, out)
    if as_json:
        note(f"wrote {page}")
        return emit_json(result.to_dict())
    from mechfourier.cli.tables import print_frame

    for line in str(result).splitlines():
        (note if line.startswith("note: ") else typer.echo)(line)
    print_frame(result.frame().loc[:, ["name", "mean", "low", "high", "share"]])
    if result.harmonics:
        print_frame(result.harmonic_frame().head(8), title="Harmonics of the answer")
    typer.echo(f"figure: {page}")
    return None
