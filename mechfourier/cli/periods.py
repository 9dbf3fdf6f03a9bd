"""``mechfourier periods``: does arithmetic go through circles of base 10, a line, or neither?"""

from typing import Annotated

import typer

from mechfourier.cli.causal import (
    OUT,
    AnySite,
    Controls,
    Device,
    Domain,
    Engine,
    Json,
    Layer,
    Model,
    Out,
    Samples,
    Seed,
    Task,
    finish,
    place_of,
)
from mechfourier.cli.common import COUNT, domain_of, quiet_libraries
from mechfourier.cli.numbers import periods_of, range_of


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("periods")(periods_command)


def periods_command(
    model: Model,
    domain: Domain = None,
    range_: Annotated[
        str | None, typer.Option("--range", help="Sums of these numbers, low-high, in place of --domain.")
    ] = None,
    periods: Annotated[
        str | None, typer.Option(help="Periods, like 2,5,10 (default: those of 2,5,10,100 that fit).")
    ] = None,
    task: Task = None,
    site: AnySite = None,
    layer: Layer = None,
    samples: Samples = None,
    controls: Controls = 20,
    permutations: Annotated[int, typer.Option(help="Permutations of every κ.", **COUNT)] = 1000,
    seed: Seed = 0,
    engine: Engine = "auto",
    device: Device = "auto",
    as_json: Json = False,
    out: Out = OUT,
) -> None:
    """Move the line and every period of an operand as if it were another number: what does the answer do?"""
    from mechfourier.errors import UsageError

    if range_ is not None and domain is not None:
        raise UsageError("give --range or --domain, not both")
    ends = None if range_ is None else range_of(range_)
    wanted, where = (
        None if periods is None else periods_of(periods),
        place_of(site, layer),
    )
    chosen = domain_of(domain, model, "numbers") if ends is None else None
    quiet_libraries()
    from mechfourier.causal.number_fit import sums
    from mechfourier.causal.periods import periods as measure
    from mechfourier.models.registry import load

    about = sums(*ends) if ends is not None else chosen
    assert about is not None
    result = measure(
        load(model, engine=engine, device=device),
        about,
        periods=wanted,
        site=where,
        task=task,
        n_prompts=samples,
        n_controls=controls,
        n_permutations=permutations,
        seed=seed,
    )
    finish(result, out, as_json)
