"""``mechfourier patch``: give a prompt another prompt's circle, and see whose answer comes out."""

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
    listed,
    site_of,
)
from mechfourier.cli.common import domain_of, quiet_libraries
from mechfourier.cli.sae import FEATURE, SAE, feature_subspace


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("patch")(patch_command)


def patch_command(
    model: Model,
    domain: Domain = None,
    task: Task = None,
    site: Site = "hook_embed",
    layer: Layer = None,
    k: Harmonics = None,
    dim: Annotated[str | None, typer.Option(help="Patch these dimensions, like 8,35.")] = None,
    head: Annotated[str | None, typer.Option(help="Patch these heads, like 0,3 (sites with heads).")] = None,
    sae: Annotated[str | None, SAE] = None,
    feature: Annotated[str | None, FEATURE] = None,
    arms: Annotated[
        bool, typer.Option("--arms", help="All causal arms of Engels et al. 2024 instead of one patch.")
    ] = False,
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
    """Patch planes, dimensions, heads or everything from a donor with another value; or run all causal
    arms."""
    from mechfourier.errors import UsageError

    chosen, ks, where = domain_of(domain, model, task=task), harmonics(k), site_of(site, layer)
    dims, heads = listed(dim, "--dim"), listed(head, "--head")
    if arms and (dims or heads or sae):
        raise UsageError("--arms patches a circle: give --k, or nothing for the harmonics that stand out")
    quiet_libraries()
    from mechfourier.causal.arms import arms as run_arms
    from mechfourier.causal.experiment import Experiment
    from mechfourier.causal.patch import patch
    from mechfourier.models.registry import load

    loaded = load(model, engine=engine, device=device)
    plane = None if arms else feature_subspace(loaded, sae, feature, where)
    asked = Experiment.of(loaded, chosen, task=task, cycles=cycles, n_prompts=samples, seed=seed)
    if arms:
        result = run_arms(asked, site=where, ks=ks, position=position)
        return finish(result, out, as_json)
    found = patch(
        asked, site=where, ks=ks, dims=dims, head=heads, plane=plane, position=position, n_controls=controls
    )
    return finish(found, out, as_json)
