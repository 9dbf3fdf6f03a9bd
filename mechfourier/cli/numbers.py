"""``mechfourier helix``, ``mechfourier analogies`` and ``mechfourier reducibility``: shapes beside the
circle."""

import re
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any

import typer

from mechfourier.cli.common import COUNT, LAYER, LONGEST_RANGE, emit_json, note, quiet_libraries
from mechfourier.cli.options import DrawSeed, Json, JsonFolder, Layers, Model
from mechfourier.errors import OutOfRange, UsageError
from mechfourier.files import result_name

# what the terminal shows of a number line; the JSON holds the rest
HELIX_COLUMNS = ("site", "read", "r2_held_out", "p_periods", "best_rival", "r2_rival", "special")
Sites = Annotated[str, typer.Option(help="Kind of hook point, or full names (mechfourier hooks).")]
Permutations = Annotated[int, typer.Option(help="Draws of every null.", **COUNT)]


def helix(
    model: Model,
    range_: Annotated[str, typer.Option("--range", help="Numbers, low-high.")] = "0-99",
    periods: Annotated[str, typer.Option(help="Periods of the helix, in steps of 1.")] = "2,5,10,100",
    digits: Annotated[
        bool, typer.Option("--digits", help="Read every digit token instead of the last.")
    ] = False,
    sites: Sites = "resid_post",
    layers: Layers = None,
    permutations: Permutations = 1000,
    untrained: Annotated[
        int,
        typer.Option(help="Untrained draws that every period is compared with (0 for none).", min=0, max=100),
    ] = 3,
    seed: DrawSeed = 0,
    json_: Json = False,
    out: JsonFolder = None,
) -> None:
    """Number line in base 10: a helix of given periods plus a line, against random periods and rivals
    (digits, logarithm, polynomial)."""
    (low, high), wanted = range_of(range_), periods_of(periods)
    quiet_libraries()
    from mechfourier.models.registry import load
    from mechfourier.probes.numbers import number_line

    result = number_line(
        load(model),
        low=low,
        high=high,
        sites=sites,
        layers=layers,
        periods=wanted,
        digits=digits,
        n_permutations=permutations,
        n_untrained=untrained,
        seed=seed,
    )
    name = result_name("helix", result.model)
    _show(result, result.to_dict(), json_=json_, out=out, name=name, columns=HELIX_COLUMNS)


def range_of(text: str) -> tuple[int, int]:
    found = re.fullmatch(r"\s*(\d{1,9})\s*-\s*(\d{1,9})\s*", text)
    if not found:
        raise UsageError(f"--range {text[:60]!r} is no range; write it like 0-99")
    low, high = int(found[1]), int(found[2])
    if high - low > LONGEST_RANGE // 100:
        raise OutOfRange(
            f"--range {text}: {high - low + 1} numbers are too many to fit; at most "
            f"{LONGEST_RANGE // 100 + 1}"
        )
    return low, high


def periods_of(text: str) -> tuple[float, ...]:
    try:
        found = tuple(float(Fraction(p.strip())) for p in text.split(","))
    except (ValueError, ZeroDivisionError) as error:
        raise UsageError(
            f"--periods {text!r} is no list of numbers; write it like 2,5,10,100 or 113/5,113/37"
        ) from error
    if any(not 0 < p < 1e6 for p in found):
        raise UsageError(f"--periods {text!r}: every period must be positive")
    return found


def analogies(
    model: Model,
    domain: Annotated[str, typer.Option(help="A domain (mechfourier domains).")] = "days",
    sites: Sites = "resid_post",
    layers: Layers = None,
    permutations: Permutations = 1000,
    seed: DrawSeed = 0,
    json_: Json = False,
    out: JsonFolder = None,
) -> None:
    """Word analogies round the cycle: parallelogram (a line's rule) and rotation (a circle's rule), wrapping
    ones apart."""
    quiet_libraries()
    from mechfourier.models.registry import load
    from mechfourier.probes.shapes import analogies

    result = analogies(
        load(model), domain, sites=sites, layers=layers, n_permutations=permutations, seed=seed
    )
    _show(
        result,
        result.to_dict(),
        json_=json_,
        out=out,
        name=result_name("analogies", result.model, result.domain),
    )


def reducibility(
    model: Model,
    domain: Annotated[str, typer.Option(help="A domain (mechfourier domains).")] = "months",
    k: Annotated[int, typer.Option(help="Harmonic whose plane is judged.", min=1, max=LAYER["max"])] = 1,
    sites: Sites = "resid_post",
    layers: Layers = None,
    seed: DrawSeed = 0,
    json_: Json = False,
    out: JsonFolder = None,
) -> None:
    """Separability and ε-mixture index of the plane of one harmonic, fitted on half of the templates, judged
    on the rest."""
    quiet_libraries()
    from mechfourier.models.registry import load
    from mechfourier.probes.shapes import reducibility

    result = reducibility(load(model), domain, k=k, sites=sites, layers=layers, seed=seed)
    _show(
        result,
        result.to_dict(),
        json_=json_,
        out=out,
        name=result_name("reducibility", result.model, result.domain),
    )


def _show(
    result: Any,
    values: dict[str, Any],
    *,
    json_: bool,
    out: Path | None,
    name: str,
    columns: tuple[str, ...] | None = None,
) -> None:
    if out is not None:
        note(f"wrote {result.save(out / f'{name}.json')}")
    if json_:
        return emit_json(values)
    from mechfourier.cli.tables import print_frame

    typer.echo(str(result))
    frame = result.frame()
    print_frame(frame if columns is None else frame.loc[:, list(columns)])
    return None


def register(app: typer.Typer) -> None:
    app.command(name="helix")(helix)
    app.command(name="analogies")(analogies)
    app.command(name="reducibility")(reducibility)
