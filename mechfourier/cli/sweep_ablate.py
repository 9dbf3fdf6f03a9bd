"""``mechfourier sweep-ablate``: take out every dimension, head or neuron in turn."""

from pathlib import Path
from typing import Annotated

import typer

from mechfourier.cli.common import COUNT, CYCLES, SEED, TASK, domain_of, emit_json, note, quiet_libraries


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("sweep-ablate")(sweep_ablate_command)


def sweep_ablate_command(
    model: Annotated[str, typer.Argument(help="A name (mechfourier models), a folder, or a GGUF file.")],
    domain: Annotated[
        str | None,
        typer.Option(
            help="A domain (mechfourier domains), mod-N, or a .toml file (default: the model's own task, else months)."
        ),
    ] = None,
    task: Annotated[str | None, TASK] = None,
    site: Annotated[
        str, typer.Option(help="Kind of site (resid_post, mlp_post, z, …), or hook points' full names.")
    ] = "resid_post",
    layers: Annotated[str | None, typer.Option(help="Layers, like 0-3,7 (default: all).")] = None,
    unit: Annotated[
        str | None, typer.Option(help="dim, head or neuron (default: what fits the site).")
    ] = None,
    mode: Annotated[str, typer.Option(help="mean, zero, resample or project-out.")] = "mean",
    position: Annotated[str, typer.Option(help="Ablate at all positions, or at the prompt's last.")] = "all",
    samples: Annotated[
        int | None,
        typer.Option(
            help="As many prompts, balanced over the answers (default: what minutes allow).", **COUNT
        ),
    ] = None,
    cycles: Annotated[int, typer.Option(help="Cycles of offsets in the grid.", **CYCLES)] = 1,
    flips: Annotated[int, typer.Option(help="Sign flips for the family-wise p-values.", **COUNT)] = 2000,
    top: Annotated[int, typer.Option(help="Rows of the table on the terminal.", **COUNT)] = 15,
    seed: Annotated[int, typer.Option(help="Seed of samples and flips.", **SEED)] = 0,
    engine: Annotated[str, typer.Option(help="auto, hooked or bridge.")] = "auto",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, mps.")] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    out: Annotated[Path, typer.Option(help="Folder of the HTML heat map.")] = Path("mechfourier-out"),
) -> None:
    """Ablate every unit of a site in turn and rank them by the drop of the margin, with family-wise p-values."""
    chosen = domain_of(domain, model)
    quiet_libraries()
    from mechfourier.causal.sweep import sweep_ablate
    from mechfourier.figures.report import write_result
    from mechfourier.models.registry import load

    result = sweep_ablate(
        load(model, engine=engine, device=device), chosen, sites=site, layers=layers, unit=unit, mode=mode,
        positions=position, samples=samples, task=task, cycles=cycles, flips=flips, seed=seed,
    )  # fmt: skip
    page = write_result(result, out)
    if as_json:
        note(f"wrote {page}")
        return emit_json(result.to_dict())
    from mechfourier.cli.tables import print_frame

    for line in str(result).splitlines():
        (note if line.startswith("note: ") else typer.echo)(line)
    print_frame(result.frame().head(top))
    typer.echo(f"figure: {page}")
    return None
