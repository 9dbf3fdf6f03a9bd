"""``mechfourier rotate``: turn a circle inside the model, and see whether its answer turns."""

from typing import Annotated

import typer

from mechfourier.cli.causal import (
    OUT,
    Controls,
    Cycles,
    Device,
    Domain,
    Engine,
    Harmonics,
    Json,
    Layer,
    Model,
    Out,
    Position,
    Samples,
    Seed,
    Site,
    Task,
    finish,
    harmonics,
    site_of,
)
from mechfourier.cli.common import domain_of, quiet_libraries
from mechfourier.cli.sae import SAE, feature_subspace


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("rotate")(rotate_command)


def rotate_command(
    model: Model,
    domain: Domain = None,
    task: Task = None,
    site: Site = "hook_embed",
    layer: Layer = None,
    k: Harmonics = None,
    sae: Annotated[str | None, SAE] = None,
    feature: Annotated[
        str | None,
        typer.Option(help="With --sae: two features, like 12,40; the plane of their directions turns."),
    ] = None,
    position: Position = "value",
    samples: Samples = None,
    cycles: Cycles = 1,
    controls: Controls = 200,
    seed: Seed = 0,
    engine: Engine = "auto",
    device: Device = "auto",
    as_json: Json = False,
    out: Out = OUT,
) -> None:
    """Turn the planes of harmonics by every δ: does the answer move by exactly δ, and do random planes do
    that?"""
    chosen, ks, where = domain_of(domain, model, task=task), harmonics(k), site_of(site, layer)
    quiet_libraries()
    from mechfourier.causal.rotate import rotate
    from mechfourier.models.registry import load

    loaded = load(model, engine=engine, device=device)
    plane = feature_subspace(loaded, sae, feature, where)
    single = ks[0] if plane is not None and ks is not None and len(ks) == 1 else None
    result = rotate(
        loaded,
        chosen,
        site=where,
        k=single,
        ks=ks if single is None else None,
        plane=plane,
        position=position,
        n_prompts=samples,
        task=task,
        cycles=cycles,
        n_controls=controls,
        seed=seed,
    )
    exact = [f"{delta}: {result.hits[delta][delta]:.0%}" for delta in range(1, len(result.hits))]
    more = ["exact by δ: " + ", ".join(exact)] if result.n <= 31 else []
    finish(result, out, as_json, more=more)
