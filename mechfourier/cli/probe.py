"""``mechfourier probe``: is this quantity on a circle, and what is that worth?"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mechfourier.cli.common import COUNT, CYCLES, SEED, domain_of, emit_json, note, quiet_libraries

if TYPE_CHECKING:
    from mechfourier.probes.result import ProbeResult


def probe(
    model: Annotated[str, typer.Argument(help="A name (mechfourier models) or a folder.")],
    domain: Annotated[
        str | None,
        typer.Option(
            help="A domain (mechfourier domains), mod-N, or a .toml file (default: the model's own task, else months)."
        ),
    ] = None,
    sites: Annotated[str, typer.Option(help="Kinds of hook points, joined by commas.")] = "resid_post",
    layers: Annotated[str | None, typer.Option(help="Layers, like 0-3,7 (default: all).")] = None,
    position: Annotated[
        str | None, typer.Option(help="Read value prompts at the 'value' or the 'last' token.")
    ] = None,
    design: Annotated[
        str, typer.Option(help="'value' (in sentences), 'operation' (value + offset) or 'auto'.")
    ] = "auto",
    cycles: Annotated[int, typer.Option(help="Cycles of offsets in operation designs.", **CYCLES)] = 4,
    permutations: Annotated[int, typer.Option(help="Permutations of the family-wise null.", **COUNT)] = 1000,
    seed: Annotated[int, typer.Option(help="Seed of permutations, bootstrap and control.", **SEED)] = 0,
    controls: Annotated[
        bool, typer.Option("--controls/--no-controls", help="Also run the model with re-initialised weights.")
    ] = True,
    engine: Annotated[str, typer.Option(help="'hooked', 'bridge' or 'auto'.")] = "auto",
    device: Annotated[str, typer.Option(help="'cpu', 'cuda' or 'auto'.")] = "auto",
    cache: Annotated[bool, typer.Option("--cache/--no-cache", help="Keep activations on disk.")] = True,
    json_: Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")] = False,
    out: Annotated[Path, typer.Option(help="Folder of the HTML figure and the JSON result.")] = Path(
        "mechfourier-out"
    ),
) -> None:
    """Probe a domain for circular features: verdict, evidence at every hook point, HTML figure."""
    quiet_libraries()
    from mechfourier.hooks.store import ActivationStore
    from mechfourier.models.registry import load
    from mechfourier.probes.probe import probe as run

    wanted = domain_of(domain, model)  # before the model: a wrong name should not wait for its weights
    result = run(
        load(model, engine=engine, device=device), wanted, sites=sites, layers=layers, position=position, design=design,
        cycles=cycles, permutations=permutations, seed=seed, store=ActivationStore() if cache else None, controls=controls,
    )  # fmt: skip
    from mechfourier.figures.probe import write_probe

    figure = write_probe(result, out)
    saved = result.save(figure.with_suffix(".json"))
    if json_:
        note(f"wrote {figure} and {saved}")
        return emit_json(result.to_dict())
    show(result)
    typer.echo(f"figure: {figure}")
    return None


def show(result: "ProbeResult") -> None:
    """The verdict first, then the evidence, then what it would take to believe more."""
    from mechfourier.cli.tables import print_frame

    typer.echo(str(result))
    for text in result.notes:
        typer.echo(f"note: {text}")
    typer.echo("")
    frame = result.frame().drop(columns=["held-out R²", "turns"], errors="ignore")
    if len(frame):
        print_frame(frame, title="evidence at every hook point")
    for step in result.next_steps():
        typer.echo(step)


def register(app: typer.Typer) -> None:
    app.command(name="probe")(probe)
