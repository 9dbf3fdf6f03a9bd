"""``mechfourier periods``: does arithmetic go through circles of base 10, a line, or neither?"""

from typing import Annotated, Any

import typer

from mechfourier.cli.causal import (
    OUT,
    AnySite,
    Controls,
    Device,
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

Domain = Annotated[
    str | None,
    typer.Option(help="A domain, mod-N, or a .toml file (default: the model's own task, else numbers)."),
]
Permutations = Annotated[
    int | None, typer.Option(help="Permutations of every null (default: 1000; 5000 for --neurons).", **COUNT)
]


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
        str | None,
        typer.Option(help="Periods, like 2,5,10 or 113/5 (default: those of 2,5,10,100 that fit)."),
    ] = None,
    neurons: Annotated[
        bool, typer.Option("--neurons", help="Which neurons write each period of the answer.")
    ] = False,
    against: Annotated[
        str | None,
        typer.Option(help="With --neurons: another task, domain or domain:task that may share them."),
    ] = None,
    task: Task = None,
    site: AnySite = None,
    layer: Layer = None,
    samples: Samples = None,
    controls: Controls = 20,
    permutations: Permutations = None,
    seed: Seed = 0,
    engine: Engine = "auto",
    device: Device = "auto",
    as_json: Json = False,
    out: Out = OUT,
) -> None:
    """Move the line and every period of an operand as if it were another number: what does the answer do? With
    --neurons: which neurons write each period of the answer, and does another task use the same ones?"""
    _check(range_ is not None and domain is not None, neurons, against, site is not None or layer is not None)
    ends = None if range_ is None else range_of(range_)
    wanted, where = (None if periods is None else periods_of(periods), place_of(site, layer))
    chosen = domain_of(domain, model, "numbers", task=task) if ends is None else None
    quiet_libraries()
    from mechfourier.causal.number_fit import check_numbers, sums
    from mechfourier.causal.period_neurons import compared_with, period_neurons
    from mechfourier.causal.periods import periods as moved
    from mechfourier.models.registry import load

    about = sums(*ends) if ends is not None else chosen
    assert about is not None
    check_numbers(about.values, about.name)
    if against is not None:
        other, _ = compared_with(about, against)
        check_numbers(other.values, other.name)
    loaded = load(model, engine=engine, device=device)
    common: dict[str, Any] = dict(
        periods=wanted,
        task=task,
        n_prompts=samples,
        n_controls=controls,
        seed=seed,
    )
    if permutations is not None:
        common["n_permutations"] = permutations
    if neurons:
        result: Any = period_neurons(loaded, about, against=against, **common)
    else:
        result = moved(loaded, about, site=where, **common)
    finish(result, out, as_json)


def _check(both: bool, neurons: bool, against: str | None, placed: bool) -> None:
    """Refuse options that do not go together, before a model is loaded."""
    from mechfourier.errors import UsageError

    if both:
        raise UsageError("give --range or --domain, not both")
    if neurons and placed:
        raise UsageError("--neurons reads the MLPs of all layers; leave --site and --layer out")
    if against is not None and not neurons:
        raise UsageError("--against compares neurons; give --neurons with it")
