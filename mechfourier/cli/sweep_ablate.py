"""``mechfourier sweep-ablate``: take out every dimension, head or neuron in turn."""

from typing import Annotated

import typer

from mechfourier.cli.causal import (
    OUT,
    Cycles,
    Device,
    Domain,
    Engine,
    Json,
    Model,
    Out,
    Samples,
    Seed,
    Task,
    finish,
)
from mechfourier.cli.common import COUNT, domain_of, quiet_libraries


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("sweep-ablate")(sweep_ablate_command)


def sweep_ablate_command(
    model: Model,
    domain: Domain = None,
    task: Task = None,
    site: Annotated[
        str, typer.Option(help="Kind of site (resid_post, mlp_post, z, …), or hook points' full names.")
    ] = "resid_post",
    layers: Annotated[str | None, typer.Option(help="Layers, like 0-3,7 (default: all).")] = None,
    unit: Annotated[
        str | None, typer.Option(help="dim, head or neuron (default: what fits the site).")
    ] = None,
    mode: Annotated[str, typer.Option(help="mean, zero, resample or project-out.")] = "mean",
    position: Annotated[
        str, typer.Option(help="Ablate at 'all' positions, or at the prompt's 'last'.")
    ] = "all",
    samples: Samples = None,
    cycles: Cycles = 1,
    flips: Annotated[int, typer.Option(help="Sign flips for the family-wise p-values.", **COUNT)] = 2000,
    top: Annotated[int, typer.Option(help="Rows of the table on the terminal.", **COUNT)] = 15,
    seed: Seed = 0,
    engine: Engine = "auto",
    device: Device = "auto",
    as_json: Json = False,
    out: Out = OUT,
) -> None:
    """Ablate every unit of a site in turn and rank them by the drop of the margin, with family-wise
    p-values."""
    chosen = domain_of(domain, model, task=task)
    quiet_libraries()
    from mechfourier.causal.sweep import sweep_ablate
    from mechfourier.models.registry import load

    loaded = load(model, engine=engine, device=device)
    result = sweep_ablate(
        loaded,
        chosen,
        sites=site,
        layers=layers,
        unit=unit,
        mode=mode,
        position=position,
        n_prompts=samples,
        task=task,
        cycles=cycles,
        n_permutations=flips,
        seed=seed,
    )
    finish(result, out, as_json, frames=[(result.frame().head(top), None)])
