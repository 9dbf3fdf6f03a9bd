"""``mechfourier lens``: what each layer would answer."""

from typing import Annotated

import typer

from mechfourier.cli.common import COUNT, TASK, domain_of, emit_json, note, quiet_libraries
from mechfourier.cli.options import AskedDomain, Cycles, DrawSeed, Json, JsonFolder, Model, NullDraws
from mechfourier.files import result_name


def lens(
    model: Model,
    domain: AskedDomain = None,
    task: Annotated[str | None, TASK] = None,
    cycles: Cycles = 1,
    samples: Annotated[
        int | None, typer.Option(help="Ask this many cells, drawn at random (default: all).", **COUNT)
    ] = None,
    permutations: NullDraws = 1000,
    seed: DrawSeed = 0,
    json_: Json = False,
    out: JsonFolder = None,
) -> None:
    """Logit lens: rank of the right answer among the candidates after every layer."""
    quiet_libraries()
    from mechfourier.models.registry import load
    from mechfourier.probes.lens import lens as run

    wanted = domain_of(domain, model, task=task)
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
