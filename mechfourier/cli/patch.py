"""``mechfourier patch``: give a prompt another prompt's circle, and see whose answer comes out."""

from pathlib import Path
from typing import Annotated

import typer

from mechfourier.cli.common import (
    CONTROLS,
    CYCLES,
    LAYER,
    SEED,
    TASK,
    domain_of,
    emit_json,
    note,
    number_list,
    quiet_libraries,
)
from mechfourier.cli.rotate import DOMAIN, MODEL, POSITION, SAMPLES, SITE, harmonics, site_of
from mechfourier.cli.sae import FEATURE, SAE, feature_subspace


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("patch")(patch_command)


def patch_command(
    model: Annotated[str, MODEL],
    domain: Annotated[str | None, DOMAIN] = None,
    task: Annotated[str | None, TASK] = None,
    site: Annotated[str, SITE] = "hook_embed",
    layer: Annotated[
        int | None, typer.Option(help="Layer of the site, where --site is a kind.", **LAYER)
    ] = None,
    k: Annotated[
        str | None, typer.Option("--k", "-k", help="Patch the planes of these harmonics, like 1 or 5,37.")
    ] = None,
    dim: Annotated[str | None, typer.Option(help="Patch these dimensions, like 8,35.")] = None,
    head: Annotated[str | None, typer.Option(help="Patch these heads, like 0,3 (sites with heads).")] = None,
    sae: Annotated[str | None, SAE] = None,
    feature: Annotated[str | None, FEATURE] = None,
    arms: Annotated[
        bool, typer.Option("--arms", help="All causal arms of Engels et al. 2024 instead of one patch.")
    ] = False,
    position: Annotated[str, POSITION] = "operand",
    samples: Annotated[int | None, SAMPLES] = None,
    cycles: Annotated[int, typer.Option(help="Cycles of offsets in the grid.", **CYCLES)] = 1,
    controls: Annotated[int, typer.Option(help="Random subspaces (0 for none).", **CONTROLS)] = 200,
    seed: Annotated[int, typer.Option(help="Seed of donors, samples, controls and intervals.", **SEED)] = 0,
    engine: Annotated[str, typer.Option(help="auto, hooked or bridge.")] = "auto",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, mps.")] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    out: Annotated[Path, typer.Option(help="Folder of the HTML figure.")] = Path("mechfourier-out"),
) -> None:
    """Patch planes, dimensions, heads or everything from a donor with another operand; or run all causal arms."""
    from mechfourier.errors import UsageError

    chosen, ks, where = domain_of(domain, model), harmonics(k), site_of(site, layer)
    dims, heads = _listed(dim, "--dim"), _listed(head, "--head")
    if arms and (dims or heads or sae):
        raise UsageError("--arms patches a circle: give --k, or nothing for the harmonics that stand out")
    quiet_libraries()
    from mechfourier.causal.arms import arms as run_arms
    from mechfourier.causal.patch import patch
    from mechfourier.figures.report import write_result
    from mechfourier.models.registry import load

    loaded = load(model, engine=engine, device=device)
    common = dict(site=where, position=position, task=task, samples=samples, cycles=cycles, seed=seed)
    if arms:
        result = run_arms(loaded, chosen, ks=None if ks is None else tuple(ks), **common)
    else:
        subspace = feature_subspace(loaded, sae, feature, where)
        result = patch(
            loaded, chosen, ks=ks, dims=dims, heads=heads, subspace=subspace, controls=controls, **common
        )
    page = write_result(result, out)
    if as_json:
        note(f"wrote {page}")
        return emit_json(result.to_dict())
    for line in str(result).splitlines():
        (note if line.startswith("note: ") else typer.echo)(line)
    typer.echo(f"figure: {page}")
    return None


def _listed(text: str | None, option: str) -> list[int] | None:
    return None if text is None else number_list(text, option, "numbers", "8, or 8,35")
