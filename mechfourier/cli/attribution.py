"""``mechfourier attribution``: who writes the answer, and in which harmonics."""

from typing import TYPE_CHECKING, Annotated

import typer

from mechfourier.cli.causal import OUT, Cycles, Device, Domain, Engine, Json, Model, Out, Seed, Task
from mechfourier.cli.common import COUNT, domain_of, emit_json, note, quiet_libraries

if TYPE_CHECKING:
    pass


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("attribution")(attribution_command)


def attribution_command(
    model: Model,
    domain: Domain = None,
    task: Task = None,
    samples: Annotated[
        int | None, typer.Option(help="As many cells of the grid, drawn at random (default: all).", **COUNT)
    ] = None,
    cycles: Cycles = 1,
    neurons: Annotated[int, typer.Option(help="How many neurons to list, the greatest first.", **COUNT)] = 20,
    seed: Seed = 0,
    engine: Engine = "auto",
    device: Device = "auto",
    as_json: Json = False,
    out: Out = OUT,
) -> None:
    """Split the right answer's margin over layers, heads and neurons, and its logits over harmonics."""
    chosen = domain_of(domain, model, task=task)
    quiet_libraries()
    from mechfourier.causal.attribution import attribution
    from mechfourier.figures.report import write_result
    from mechfourier.models.registry import load

    loaded = load(model, engine=engine, device=device)
    result = attribution(
        loaded, chosen, task=task, cycles=cycles, n_prompts=samples, neurons=neurons, seed=seed
    )
    page = write_result(result, out)
    if as_json:
        note(f"wrote {page} and the result beside it (.json)")
        return emit_json(result.to_dict())
    from mechfourier.cli.tables import print_frame

    for line in str(result).splitlines():
        (note if line.startswith("note: ") else typer.echo)(line)
    print_frame(result.frame().loc[:, ["name", "mean", "low", "high", "share"]])
    if result.harmonics:
        print_frame(result.harmonic_frame().head(8), title="Harmonics of the answer")
    typer.echo(f"figure: {page}")
    return None
