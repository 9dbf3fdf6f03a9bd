"""``mechfourier scan``: many moduli in one table."""

from typing import Annotated

import typer

from mechfourier.cli.common import COUNT, CYCLES, emit_json, note, quiet_libraries
from mechfourier.cli.options import DrawSeed, Json, JsonFolder, Layers, Model
from mechfourier.files import result_name


def scan(
    model: Model,
    moduli: Annotated[str, typer.Option(help="Moduli, like 2-31 or 5,7,12-14.")] = "2-31",
    primes: Annotated[bool, typer.Option("--primes", help="Only the primes among them.")] = False,
    compare: Annotated[
        str, typer.Option(help="Domains whose planes are compared, like days,months,hours-12.")
    ] = "",
    sites: Annotated[
        str, typer.Option(help="Kind of hook point, or full names (mechfourier hooks).")
    ] = "resid_post",
    layers: Layers = None,
    cycles: Annotated[
        int, typer.Option(help="Cycles of offsets; one identifies k = 1 weakly.", **CYCLES)
    ] = 4,
    permutations: Annotated[int, typer.Option(help="Draws of every null.", **COUNT)] = 1000,
    no_controls: Annotated[
        bool, typer.Option("--no-controls", help="Skip the re-initialised model.")
    ] = False,
    seed: DrawSeed = 0,
    json_: Json = False,
    out: JsonFolder = None,
) -> None:
    """Which moduli does the model carry on a circle, with which dimensions and planes, and does the calendar
    share them?"""
    quiet_libraries()
    from mechfourier.probes.scan import parse_moduli

    chosen = parse_moduli(moduli, primes=primes)
    from mechfourier.models.registry import load
    from mechfourier.probes.scan import scan as run

    result = run(
        load(model),
        chosen,
        compare=[name.strip() for name in compare.split(",") if name.strip()],
        sites=sites,
        layers=layers,
        cycles=cycles,
        controls=not no_controls,
        n_permutations=permutations,
        seed=seed,
    )
    if out is not None:
        path = out / f"{result_name('scan', result.model)}.json"
        note(f"wrote {result.save(path)}")
    if json_:
        return emit_json(result.to_dict())
    from mechfourier.cli.tables import print_frame

    typer.echo(str(result))
    print_frame(result.frame().drop(columns=["reason", "prime", "threshold"]), title="per modulus")
    if result.planes:
        print_frame(result.planes_frame(), title="planes compared")
    return None


def register(app: typer.Typer) -> None:
    app.command(name="scan")(scan)
