"""``mechfourier stability``: the same study of several seeds or checkpoints, and what repeats."""

from typing import Annotated

import typer

from mechfourier.cli.causal import (
    OUT,
    AnyPosition,
    AnySite,
    Controls,
    Device,
    Domain,
    Engine,
    Harmonics,
    Json,
    Layer,
    Out,
    ProbePermutations,
    Samples,
    Seed,
    Task,
    finish,
    harmonics,
    place_of,
)
from mechfourier.cli.common import domain_of, quiet_libraries


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("stability")(stability_command)


def stability_command(
    models: Annotated[list[str], typer.Argument(help="Two or more: names, folders, runs.")],
    domain: Domain = None,
    task: Task = None,
    site: AnySite = None,
    layer: Layer = None,
    k: Harmonics = None,
    position: AnyPosition = None,
    samples: Samples = None,
    controls: Controls = 200,
    permutations: ProbePermutations = 1000,
    seed: Seed = 0,
    engine: Engine = "auto",
    device: Device = "auto",
    as_json: Json = False,
    out: Out = OUT,
) -> None:
    """Study several seeds or checkpoints: which verdicts, harmonics, shares and planes repeat?"""
    chosen, where = domain_of(domain, models[0], task=task), place_of(site, layer)
    quiet_libraries()
    from mechfourier.causal.stability import stability

    result = stability(
        models,
        chosen,
        site=where,
        position=position,
        engine=engine,
        device=device,
        seed=seed,
        ks=harmonics(k),
        task=task,
        n_prompts=samples,
        n_controls=controls,
        n_permutations=permutations,
    )
    frame = result.plane_frame()
    finish(result, out, as_json, frames=[(frame, "planes of two runs")] if len(frame) else [])
