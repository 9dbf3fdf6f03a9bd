"""``mechfourier find-plane``: search for the subspace that carries the answer, and compare it with the probe's."""

from pathlib import Path
from typing import Annotated

import typer

from mechfourier.cli.common import (
    COUNT,
    CYCLES,
    LAYER,
    SEED,
    TASK,
    domain_of,
    emit_json,
    note,
    quiet_libraries,
)


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("find-plane")(find_plane_command)


def find_plane_command(
    model: Annotated[str, typer.Argument(help="A name (mechfourier models), a folder, or a GGUF file.")],
    domain: Annotated[
        str | None,
        typer.Option(
            help="A domain (mechfourier domains), mod-N, or a .toml file (default: the model's own task, else months)."
        ),
    ] = None,
    task: Annotated[str | None, TASK] = None,
    site: Annotated[
        str, typer.Option(help="A hook point's full name (blocks.0.hook_resid_post), or a kind with --layer.")
    ] = "resid_post",
    layer: Annotated[
        int | None, typer.Option(help="Layer of the site, where --site is a kind.", **LAYER)
    ] = None,
    rank: Annotated[
        int,
        typer.Option(
            help="Dimensions of the subspace: 2 for one plane, 4 for two, …", min=1, max=LAYER["max"]
        ),
    ] = 2,
    position: Annotated[
        str, typer.Option(help="'last' (the prompt's last token) or 'operand' (the first operand's).")
    ] = "last",
    steps: Annotated[int, typer.Option(help="Steps of the search.", **COUNT)] = 200,
    batch: Annotated[int, typer.Option(help="Pairs of prompts per step.", **COUNT)] = 64,
    cycles: Annotated[int, typer.Option(help="Cycles of offsets in the grid.", **CYCLES)] = 1,
    seed: Annotated[int, typer.Option(help="Seed of the start, the split and the pairs.", **SEED)] = 0,
    engine: Annotated[str, typer.Option(help="auto, hooked or bridge.")] = "auto",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, mps.")] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    out: Annotated[Path, typer.Option(help="Folder of the HTML figure.")] = Path("mechfourier-out"),
) -> None:
    """Find by gradient the plane whose exchange between prompts moves the answer, and its angle to the probe's."""
    from mechfourier.cli.rotate import site_of

    chosen, where = domain_of(domain, model), site_of(site, layer)
    quiet_libraries()
    from mechfourier.causal.find_plane import find_plane
    from mechfourier.figures.report import write_result
    from mechfourier.models.registry import load

    result = find_plane(
        load(model, engine=engine, device=device), chosen, where, rank=rank, position=position, steps=steps,
        batch=batch, task=task, cycles=cycles, seed=seed,
    )  # fmt: skip
    page = write_result(result, out)
    if as_json:
        note(f"wrote {page}")
        return emit_json(result.to_dict())
    from mechfourier.cli.tables import print_frame

    for line in str(result).splitlines():
        (note if line.startswith("note: ") else typer.echo)(line)
    print_frame(result.frame())
    typer.echo(f"figure: {page}")
    return None
