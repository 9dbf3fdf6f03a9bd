"""``mechfourier steer``: generate with a value turned to another one, or (``--dose``) by how much it takes."""

from typing import Annotated, Any

import typer

from mechfourier.cli.causal import (
    OUT,
    AnySite,
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
    Task,
    finish,
    harmonics,
    place_of,
)
from mechfourier.cli.common import COUNT, domain_of, quiet_libraries


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("steer")(steer_command)


To = Annotated[
    str | None,
    typer.Option(help="A value, or a number of steps like +2 (--dose: default half-way round)."),
]
Prompt = Annotated[
    list[str] | None,
    typer.Option(help="Your own, more than once; {braces} mark the value where it names several."),
]
Whole = Annotated[bool, typer.Option("--whole", help="Turn the whole class mean, not the planes alone.")]
Dose = Annotated[
    bool, typer.Option("--dose", help="By how much: along the circle, straight across, by radius.")
]


def steer_command(
    model: Model,
    domain: Domain = None,
    to: To = None,
    prompt: Prompt = None,
    whole: Whole = False,
    dose: Dose = False,
    task: Task = None,
    site: AnySite = None,
    layer: Layer = None,
    k: Harmonics = None,
    position: Position = "value",
    tokens: Annotated[int, typer.Option(help="New tokens per text.", **COUNT)] = 12,
    samples: Samples = None,
    cycles: Cycles = 1,
    controls: Controls = 200,
    seed: Seed = 0,
    engine: Engine = "auto",
    device: Device = "auto",
    as_json: Json = False,
    out: Out = OUT,
) -> None:
    """Write text with the value turned to another one: before, after, and with the other value named."""
    from mechfourier.errors import UsageError

    chosen, ks = domain_of(domain, model, task=task), harmonics(k)
    if to is None and not dose:
        raise UsageError(f"name the target, for example: --to {chosen.values[-1]!r}, or --to +1")
    if dose and prompt:
        raise UsageError("--dose measures on the task's prompts; leave --prompt out, or leave --dose out")
    where = place_of(site, layer)
    quiet_libraries()
    from mechfourier.causal.dose import dose as measure
    from mechfourier.causal.steer import steer
    from mechfourier.models.registry import load

    loaded = load(model, engine=engine, device=device)
    common: dict[str, Any] = dict(
        site=where,
        k=ks,
        whole=whole,
        position=position,
        task=task,
        n_prompts=samples,
        cycles=cycles,
        max_new_tokens=tokens,
        seed=seed,
    )
    if dose:
        return finish(measure(loaded, chosen, to=to, **common), out, as_json)
    return finish(
        steer(loaded, chosen, to=to or "", prompts=prompt, n_controls=controls, **common), out, as_json
    )
