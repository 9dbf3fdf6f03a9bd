"""``mechfourier atlas``: every cyclic domain of a model at once, on one page."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mechfourier._arguments import refuse_repeated
from mechfourier.cli.causal import Device, Engine
from mechfourier.cli.common import SEED, emit_json, note, quiet_libraries
from mechfourier.cli.options import Json, Layers, Permutations
from mechfourier.errors import UsageError

if TYPE_CHECKING:
    from mechfourier.atlas.result import AtlasResult

INDEX = "index"


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("atlas")(atlas_command)


def atlas_command(
    model: Annotated[
        list[str],
        typer.Argument(
            metavar="MODEL [MODEL …] | index DIR",
            help="Models (names, folders, GGUF files); several stand side by side. 'index DIR': one page "
            "that links to every atlas in a folder.",
        ),
    ],
    domains: Annotated[str, typer.Option(help="'all' packaged domains, or names joined by commas.")] = "all",
    layers: Layers = None,
    quick: Annotated[
        bool,
        typer.Option("--quick", "--no-study", help="Leave out the study (does the model use its circles?)."),
    ] = False,
    permutations: Permutations = 1000,
    seed: Annotated[int, typer.Option(help="Seed of permutations, bootstrap and control.", **SEED)] = 0,
    jobs: Annotated[
        int | None, typer.Option(help="Processes of the statistics (default: one per core).", min=1, max=4096)
    ] = None,
    engine: Engine = "auto",
    device: Device = "auto",
    as_json: Json = False,
    out: Annotated[
        Path, typer.Option(help="Folder of the page and the results; an interrupted atlas goes on there.")
    ] = Path("mechfourier-out"),
) -> None:
    """All cyclic domains of a model: which are circles, at which layers, which are used, and by how much."""
    if model[0] == INDEX:
        if domains != "all" or layers is not None or quick:
            raise UsageError(
                "mechfourier atlas index links atlases that are there; --domains, --layers and --quick mean nothing for it"
            )
        return _index(model[1:], as_json)
    from mechfourier.domains.definition import domain, list_domains

    refuse_repeated("MODEL", model)
    names = [name.strip() for name in domains.split(",")]
    chosen = list_domains() if names == ["all"] else [domain(name) for name in names if name]
    quiet_libraries()
    from mechfourier.atlas.run import atlas
    from mechfourier.models.registry import load

    found = atlas(
        (load(name, engine=engine, device=device) for name in model),
        chosen,
        layers=layers,
        quick=quick,
        n_permutations=permutations,
        seed=seed,
        out=out,
        n_jobs=jobs,
    )
    results = found if isinstance(found, tuple) else (found,)
    return _show(results, out, as_json)


def _index(folders: list[str], as_json: bool) -> None:
    from mechfourier.figures.atlas_index import write_index

    if len(folders) != 1:
        raise UsageError("mechfourier atlas index takes one folder, in which saved atlases lie")
    page = write_index(Path(folders[0]))
    if as_json:
        return emit_json({"page": str(page)})
    typer.echo(f"page: {page}")
    return None


def _show(results: "tuple[AtlasResult, ...]", out: Path, as_json: bool) -> None:
    from mechfourier.figures.atlas import page_name

    page = out / page_name(results)
    if as_json:
        note(f"wrote {page}")
        made = [each.summary() for each in results]
        return emit_json(made[0] if len(made) == 1 else {"atlases": made})
    from mechfourier.cli.tables import print_frame, say

    for each in results:
        print_frame(each.table(), title=f"atlas of {each.model}")
        for text in each.notes:
            say(f"note: {text}")
    typer.echo(f"page: {page}")
    return None
