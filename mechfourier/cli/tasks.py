"""``mechfourier tasks``: which questions of a domain does a model answer?"""

from typing import Annotated

import typer

from mechfourier.cli.causal import Cycles, Device, Engine, Json, Model, Seed
from mechfourier.cli.common import COUNT, domain_of, emit_json, quiet_libraries


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("tasks")(tasks_command)


def tasks_command(
    model: Model,
    domain: Annotated[
        str | None,
        typer.Option(help="A domain, a .toml file, or all (default: the model's own task, else months)."),
    ] = None,
    task: Annotated[str | None, typer.Option(help="This task only.")] = None,
    samples: Annotated[
        int | None,
        typer.Option(
            help="As many prompts per task, balanced over the answers (default: "
            "at most 240, fewer where answers have several tokens).",
            **COUNT,
        ),
    ] = None,
    cycles: Cycles = 1,
    seed: Seed = 0,
    engine: Engine = "auto",
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Accuracy of a model by task and template, with exact intervals, beside chance."""
    chosen = "all" if domain == "all" else domain_of(domain, model, task=task)
    quiet_libraries()
    from mechfourier.domains.tasks import tasks
    from mechfourier.models.registry import load

    loaded = load(model, engine=engine, device=device)
    result = tasks(loaded, chosen, task=task, n_prompts=samples, cycles=cycles, seed=seed)
    if as_json:
        return emit_json(result.to_dict())
    typer.echo(str(result))
    return None
