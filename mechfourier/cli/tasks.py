"""``mechfourier tasks``: which questions of a domain does a model answer?"""

from typing import Annotated

import typer

from mechfourier.cli.common import COUNT, CYCLES, SEED, domain_of, emit_json, quiet_libraries


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("tasks")(tasks_command)


def tasks_command(
    model: Annotated[str, typer.Argument(help="A name (mechfourier models), a folder, or a GGUF file.")],
    domain: Annotated[
        str | None,
        typer.Option(help="A domain, a .toml file, or all (default: the model's own task, else months)."),
    ] = None,
    task: Annotated[str | None, typer.Option(help="This task only.")] = None,
    samples: Annotated[
        int | None,
        typer.Option(
            help="As many prompts per task, balanced over the answers (default: at most 240, fewer where answers have several tokens).",
            **COUNT,
        ),
    ] = None,
    cycles: Annotated[int, typer.Option(help="Cycles of offsets of arithmetic tasks.", **CYCLES)] = 1,
    seed: Annotated[int, typer.Option(help="Seed of samples and of few-shot examples.", **SEED)] = 0,
    engine: Annotated[str, typer.Option(help="auto, hooked or bridge.")] = "auto",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, mps.")] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Accuracy of a model by task and template, with exact intervals, beside chance."""
    chosen = "all" if domain == "all" else domain_of(domain, model)
    quiet_libraries()
    from mechfourier.domains.tasks import tasks
    from mechfourier.models.registry import load

    loaded = load(model, engine=engine, device=device)
    result = tasks(loaded, chosen, task=task, samples=samples, cycles=cycles, seed=seed)
    if as_json:
        return emit_json(result.to_dict())
    typer.echo(str(result))
    return None
