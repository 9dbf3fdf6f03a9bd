"""``mechfourier study``: probe, then ablate, rotate and patch; one verdict, one page."""

from pathlib import Path
from typing import Annotated

import typer

from mechfourier.cli.common import (
    CONTROLS,
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
from mechfourier.cli.rotate import DOMAIN, MODEL, SAMPLES, harmonics, site_of


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("study")(study_command)


def study_command(
    model: Annotated[str, MODEL],
    domain: Annotated[str | None, DOMAIN] = None,
    task: Annotated[str | None, TASK] = None,
    site: Annotated[
        str | None,
        typer.Option(help="A hook point's full name, or a kind with --layer (default: find the place)."),
    ] = None,
    layer: Annotated[
        int | None, typer.Option(help="Layer of the site, where --site is a kind.", **LAYER)
    ] = None,
    k: Annotated[
        str | None,
        typer.Option("--k", "-k", help="Harmonics, like 1 or 5,37 (default: those that stand out)."),
    ] = None,
    position: Annotated[
        str | None, typer.Option(help="'operand' or 'last' (default: both are looked at).")
    ] = None,
    samples: Annotated[int | None, SAMPLES] = None,
    cycles: Annotated[
        int, typer.Option(help="Cycles of offsets in the grid of the interventions.", **CYCLES)
    ] = 1,
    controls: Annotated[int, typer.Option(help="Controls per intervention (199 or more).", **CONTROLS)] = 200,
    permutations: Annotated[int, typer.Option(help="Permutations of the probe's null.", **COUNT)] = 1000,
    seed: Annotated[int, typer.Option(help="Seed of everything drawn at random.", **SEED)] = 0,
    engine: Annotated[str, typer.Option(help="auto, hooked or bridge.")] = "auto",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, mps.")] = "auto",
    cache: Annotated[bool, typer.Option("--cache/--no-cache", help="Keep activations on disk.")] = True,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    out: Annotated[Path, typer.Option(help="Folder of the HTML page and the JSON result.")] = Path(
        "mechfourier-out"
    ),
) -> None:
    """Is this quantity on a circle, and does the model use it? Probe, ablate, rotate, patch: one verdict, one page."""
    from mechfourier.errors import UsageError

    chosen, ks = domain_of(domain, model), harmonics(k)
    if site is None and layer is not None:
        raise UsageError("--layer needs --site, for example: --site resid_post --layer 0")
    where = None if site is None else site_of(site, layer)
    quiet_libraries()
    from mechfourier.causal.study import study
    from mechfourier.figures.report import write_result
    from mechfourier.hooks.store import ActivationStore
    from mechfourier.models.registry import load

    result = study(
        load(model, engine=engine, device=device), chosen, site=where, position=position, ks=ks, samples=samples,
        task=task, cycles=cycles, controls=controls, permutations=permutations, seed=seed, store=ActivationStore() if cache else None,
    )  # fmt: skip
    page = write_result(result, out)
    saved = result.save(page.with_suffix(".json"))
    if as_json:
        note(f"wrote {page} and {saved}")
        return emit_json(result.to_dict())
    typer.echo(str(result))
    for text in result.notes:
        note(f"note: {text}")
    if len(frame := result.frame()):
        from mechfourier.cli.tables import print_frame

        print_frame(frame, title="interventions, beside their controls")
    typer.echo(f"page: {page}")
    return None
