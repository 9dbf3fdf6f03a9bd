"""``mechfourier behaviour``: the shape of a model's answers, and whether its activations lie as they do."""

from typing import Annotated

import typer

from mechfourier.cli.causal import OUT, Cycles, Device, Domain, Engine, Json, Model, Out, Seed, Task, finish
from mechfourier.cli.common import COUNT, domain_of, quiet_libraries


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("behaviour")(behaviour_command)


def behaviour_command(
    model: Model,
    domain: Domain = None,
    task: Task = None,
    sites: Annotated[
        str | None, typer.Option(help="Kind of hook point, or full names (default: embed and resid_post).")
    ] = None,
    layers: Annotated[str | None, typer.Option(help="Layers, like 0-3,7 (default: all).")] = None,
    cycles: Cycles = 1,
    permutations: Annotated[
        int, typer.Option(help="Orders of the values (all of them up to 7 values).", **COUNT)
    ] = 1000,
    seed: Seed = 0,
    engine: Engine = "auto",
    device: Device = "auto",
    cache: Annotated[bool, typer.Option("--cache/--no-cache", help="Keep activations on disk.")] = True,
    as_json: Json = False,
    out: Out = OUT,
) -> None:
    """The shape that the answers lie in, and whether activations lie as they do, beside exchanged values."""
    chosen = domain_of(domain, model, task=task)
    quiet_libraries()
    from mechfourier.causal.behaviour import behaviour
    from mechfourier.hooks.store import ActivationStore
    from mechfourier.models.registry import load

    result = behaviour(
        load(model, engine=engine, device=device),
        chosen,
        sites=sites,
        layers=layers,
        task=task,
        cycles=cycles,
        n_permutations=permutations,
        seed=seed,
        store=ActivationStore() if cache else None,
    )
    finish(result, out, as_json)
