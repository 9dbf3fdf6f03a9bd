"""``mechfourier lens``: what each layer would answer."""

from pathlib import Path
from typing import Annotated

import typer

from mechfourier.cli.common import COUNT, CYCLES, SEED, TASK, domain_of, emit_json, note, quiet_libraries
from mechfourier.files import result_name


def lens(
    model: Annotated[str, typer.Argument(help="A name (mechfourier models), a folder, or a GGUF file.")],
    domain: Annotated[
        str | None,
        typer.Option(
            help="Whose task to ask (mechfourier domains; default: the model's own task, else months)."
        ),
    ] = None,
    task: Annotated[str | None, TASK] = None,
    cycles: Annotated[int, typer.Option(help="Cycles of offsets: 1 is the n × n grid.", **CYCLES)] = 1,
    samples: Annotated[
        int | None, typer.Option(help="Ask this many cells, drawn at random (default: all).", **COUNT)
    ] = None,
    permutations: Annotated[int, typer.Option(help="Draws of the null.", **COUNT)] = 1000,
    seed: Annotated[int, typer.Option(help="Seed of the draws.", **SEED)] = 0,
    json_: Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")] = False,
    out: Annotated[Path | None, typer.Option(help="Write the result as JSON into this folder.")] = None,
) -> None:
    """Logit lens: rank of the right answer among the candidates after every layer."""
    quiet_libraries()
    from mechfourier.models.registry import load
    from mechfourier.probes.lens import lens as run

    wanted = domain_of(domain, model)
    result = run(
        load(model),
        wanted,
        task=task,
        cycles=cycles,
        n_prompts=samples,
        n_permutations=permutations,
        seed=seed,
    )
    if out is not None:
        path = out / f"{result_name('lens', result.model, wanted.name)}.json"
        note(f"wrote {result.save(path)}")
    if json_:
        return emit_json(result.to_dict())
    from mechfourier.cli.tables import print_frame

    typer.echo(str(result))
    for text in result.notes:
        typer.echo(f"note: {text}")
    print_frame(result.frame(), title="after each layer, among the candidate answers")
    return None


def register(app: typer.Typer) -> None:
    app.command(name="lens")(lens)
