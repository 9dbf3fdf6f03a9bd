"""What the commands of interventions share: options, and how a result is written and shown."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mechfourier.cli.common import CONTROLS, COUNT, CYCLES, LAYER, emit_json, note, number_list
from mechfourier.cli.common import SEED as SEEDS
from mechfourier.cli.common import TASK as A_TASK
from mechfourier.cli.options import Device as Device
from mechfourier.cli.options import Engine as Engine
from mechfourier.cli.options import Json as Json
from mechfourier.cli.options import Model as Model

if TYPE_CHECKING:
    import pandas as pd

POSITION = typer.Option(
    help="'value' (the last token of the value asked about), 'value+1' … (those after it) or 'last' (the "
    "prompt's last token)."
)
Domain = Annotated[
    str | None,
    typer.Option(
        help="A domain (mechfourier domains), mod-N, or a .toml file "
        "(default: the model's own task, else months)."
    ),
]
Task = Annotated[str | None, A_TASK]
Site = Annotated[
    str,
    typer.Option(
        help="A hook point's full name (hook_embed, blocks.0.hook_resid_post), or a kind with --layer."
    ),
]
AnySite = Annotated[
    str | None,
    typer.Option(help="A hook point's full name, or a kind with --layer (default: find the place)."),
]
Layer = Annotated[int | None, typer.Option(help="Layer of the site, where --site is a kind.", **LAYER)]
Harmonics = Annotated[
    str | None,
    typer.Option("--k", "-k", help="Harmonics, like 1 or 5,37 (default: those that stand out)."),
]
Position = Annotated[str, POSITION]
AnyPosition = Annotated[str | None, typer.Option(help="'value' or 'last' (default: both are looked at).")]
ProbePermutations = Annotated[int, typer.Option(help="Permutations of the probe's null.", **COUNT)]
Samples = Annotated[
    int | None,
    typer.Option(
        help="As many prompts, balanced over the answers (default: all that minutes allow).", **COUNT
    ),
]
Cycles = Annotated[int, typer.Option(help="Cycles of offsets in the grid.", **CYCLES)]
Controls = Annotated[int, typer.Option(help="Matched controls (0 for none).", **CONTROLS)]
Seed = Annotated[int, typer.Option(help="Seed of everything drawn at random.", **SEEDS)]
Out = Annotated[Path, typer.Option(help="Folder of the HTML page.")]
OUT = Path("mechfourier-out")


def harmonics(text: str | None) -> list[int] | None:
    """``"1"`` or ``"5,37"`` as numbers; None stays None."""
    if text is None:
        return None
    plain = ",".join(part.strip().removeprefix("k=") for part in text.split(","))
    return number_list(plain, "--k", "harmonics", "1, or 5,37")


def listed(text: str | None, option: str) -> list[int] | None:
    """``"8"`` or ``"8,35"`` as numbers; None stays None."""
    return (
        None
        if text is None
        else number_list(
            text, option, "heads" if option == "--head" else "dimensions", "8, or 8,35, or 0-63", ranges=True
        )
    )


def place_of(name: str | None, layer: int | None) -> Any:
    """A site, or None where the command finds the place itself."""
    from mechfourier.errors import UsageError

    if name is None and layer is not None:
        raise UsageError("--layer needs --site, for example: --site resid_post --layer 0")
    return None if name is None else site_of(name, layer)


def site_of(name: str, layer: int | None) -> Any:
    """A site from its full name, or from a kind and a layer."""
    from mechfourier.errors import UsageError
    from mechfourier.hooks.site import Site

    if "." in name or name.startswith("hook_"):
        site = Site.parse(name)
        if layer is not None and site.layer != layer:
            raise UsageError(
                f"{name} is not at layer {layer}; give a kind with it, for example: --site resid_post "
                "--layer "
                f"{layer}"
            )
        return site
    if layer is None and name not in ("embed", "pos_embed"):
        raise UsageError(f"name the layer of {name}, for example: --layer 0")
    return Site(name, layer)


def finish(
    result: Any,
    out: Path,
    as_json: bool,
    *,
    frames: "Sequence[tuple[pd.DataFrame, str | None]]" = (),
    more: Sequence[str] = (),
) -> None:
    """Write the page of ``result``, then print it: as one JSON object, or in words with these tables and
    lines."""
    from mechfourier.figures.report import write_result

    page = write_result(result, out)
    if as_json:
        note(f"wrote {page} and the result beside it (.json)")
        return emit_json(result.to_dict())
    from mechfourier.cli.tables import print_frame, say

    for line in str(result).splitlines():
        (note if line.startswith("note: ") else say)(line)

    for frame, heading in frames:
        print_frame(frame, title=heading)
    for line in more:
        say(line)
    typer.echo(f"figure: {page}")
    return None
