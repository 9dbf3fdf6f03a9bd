"""``mechfourier attention``: where the reading position looks."""

from pathlib import Path
from typing import Annotated

import typer

from mechfourier.cli.common import COUNT, CYCLES, SEED, domain_of, emit_json, note, quiet_libraries
from mechfourier.files import slug


def attention(
    model: Annotated[str, typer.Argument(help="A name (mechfourier models) or a folder.")],
    domain: Annotated[
        str | None,
        typer.Option(
            help="Whose task to ask (mechfourier domains; default: the model's own task, else months)."
        ),
    ] = None,
    task: Annotated[
        str,
        typer.Option(help="An arithmetic task of the domain: what is read is a grid of value and offset."),
    ] = "arithmetic",
    layers: Annotated[str | None, typer.Option(help="Layers, like 0-3,7 (default: all).")] = None,
    cycles: Annotated[int, typer.Option(help="Cycles of offsets: 1 is the n × n grid.", **CYCLES)] = 1,
    permutations: Annotated[int, typer.Option(help="Draws of the null.", **COUNT)] = 500,
    seed: Annotated[int, typer.Option(help="Seed of the draws.", **SEED)] = 0,
    json_: Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")] = False,
    out: Annotated[Path | None, typer.Option(help="Write the result as JSON into this folder.")] = None,
) -> None:
    """Attention from the reading position to each role of the prompt, per layer and head, with the heads' Fourier content."""
    quiet_libraries()
    from mechfourier.models.registry import load
    from mechfourier.probes.attention import attention as run

    wanted = domain_of(domain, model)
    result = run(
        load(model), wanted, layers=layers, task=task, cycles=cycles, permutations=permutations, seed=seed
    )
    if out is not None:
        note(f"wrote {result.save(out / f'attention-{slug(wanted.name)}.json')}")
    if json_:
        return emit_json(result.to_dict())
    from mechfourier.cli.tables import print_frame

    typer.echo(str(result))
    for text in result.notes:
        typer.echo(f"note: {text}")
    strongest = result.frame().sort_values("attention", ascending=False).head(15)
    print_frame(strongest, title="strongest 15 of all heads and roles")
    content = result.fourier_frame().sort_values("sum_line", ascending=False).head(10)
    print_frame(content, title="heads that carry most of (a + offset) mod n, shares of their variance")
    return None


def register(app: typer.Typer) -> None:
    app.command(name="attention")(attention)
