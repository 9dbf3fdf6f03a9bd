"""``mechfourier find-plane``: search for the subspace that carries the answer, and compare it with the
probe's."""

from typing import Annotated

import typer

from mechfourier.cli.causal import (
    OUT,
    Cycles,
    Device,
    Domain,
    Engine,
    Json,
    Layer,
    Model,
    Out,
    Position,
    Seed,
    Site,
    Task,
    finish,
    site_of,
)
from mechfourier.cli.common import COUNT, LAYER, domain_of, quiet_libraries


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("find-plane")(find_plane_command)


def find_plane_command(
    model: Model,
    domain: Domain = None,
    task: Task = None,
    site: Site = "resid_post",
    layer: Layer = None,
    rank: Annotated[
        int,
        typer.Option(
            help="Dimensions of the subspace: 2 for one plane, 4 for two, …", min=1, max=LAYER["max"]
        ),
    ] = 2,
    position: Position = "last",
    steps: Annotated[int, typer.Option(help="Steps of the search.", **COUNT)] = 200,
    batch: Annotated[int, typer.Option(help="Pairs of prompts per step.", **COUNT)] = 64,
    cycles: Cycles = 1,
    seed: Seed = 0,
    engine: Engine = "auto",
    device: Device = "auto",
    as_json: Json = False,
    out: Out = OUT,
) -> None:
    """Find by gradient the plane whose exchange between prompts moves the answer, and its angle to the
    probe's."""
    chosen, where = domain_of(domain, model, task=task), site_of(site, layer)
    quiet_libraries()
    from mechfourier.causal.find_plane import find_plane
    from mechfourier.models.registry import load

    loaded = load(model, engine=engine, device=device)
    result = find_plane(
        loaded,
        chosen,
        where,
        rank=rank,
        position=position,
        steps=steps,
        batch=batch,
        task=task,
        cycles=cycles,
        seed=seed,
    )
    finish(result, out, as_json, frames=[(result.frame(), None)])
