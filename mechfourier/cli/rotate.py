"""``mechfourier rotate``: turn a circle inside the model, and see whether its answer turns."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

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
    number_list,
    quiet_libraries,
)
from mechfourier.cli.sae import SAE, feature_subspace

if TYPE_CHECKING:
    from mechfourier.causal.rotate import RotationResult

MODEL = typer.Argument(help="A name (mechfourier models), a folder, or a GGUF file.")
DOMAIN = typer.Option(
    help="A domain (mechfourier domains), mod-N, or a .toml file (default: the model's own task, else months)."
)
SITE = typer.Option(
    help="A hook point's full name (hook_embed, blocks.0.hook_resid_post), or a kind with --layer."
)
POSITION = typer.Option(help="'operand' (the first operand's token) or 'last' (the prompt's last token).")
SAMPLES = typer.Option(
    help="As many prompts, balanced over the answers (default: all that minutes allow).", **COUNT
)


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("rotate")(rotate_command)


def rotate_command(
    model: Annotated[str, MODEL],
    domain: Annotated[str | None, DOMAIN] = None,
    task: Annotated[str | None, TASK] = None,
    site: Annotated[str, SITE] = "hook_embed",
    layer: Annotated[
        int | None, typer.Option(help="Layer of the site, where --site is a kind.", **LAYER)
    ] = None,
    k: Annotated[
        str | None,
        typer.Option("--k", "-k", help="Harmonics, like 1 or 5,37 (default: those that stand out)."),
    ] = None,
    sae: Annotated[str | None, SAE] = None,
    feature: Annotated[
        str | None,
        typer.Option(help="With --sae: two features, like 12,40; the plane of their directions turns."),
    ] = None,
    position: Annotated[str, POSITION] = "operand",
    samples: Annotated[int | None, SAMPLES] = None,
    cycles: Annotated[int, typer.Option(help="Cycles of offsets in the grid.", **CYCLES)] = 1,
    controls: Annotated[int, typer.Option(help="Random planes (0 for none).", **CONTROLS)] = 200,
    seed: Annotated[int, typer.Option(help="Seed of samples, controls and intervals.", **SEED)] = 0,
    engine: Annotated[str, typer.Option(help="auto, hooked or bridge.")] = "auto",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, mps.")] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    out: Annotated[Path, typer.Option(help="Folder of the HTML figure.")] = Path("mechfourier-out"),
) -> None:
    """Turn the planes of harmonics by every δ: does the answer move by exactly δ, and do random planes do that?"""
    chosen, ks, where = domain_of(domain, model), harmonics(k), site_of(site, layer)
    quiet_libraries()
    from mechfourier.causal.rotate import rotate
    from mechfourier.figures.report import write_result
    from mechfourier.models.registry import load

    loaded = load(model, engine=engine, device=device)
    plane = feature_subspace(loaded, sae, feature, where)
    single = ks[0] if plane is not None and ks is not None and len(ks) == 1 else None
    result = rotate(
        loaded, chosen, site=where, k=single, ks=ks if single is None else None, plane=plane, position=position,
        samples=samples, task=task, cycles=cycles, controls=controls, seed=seed,
    )  # fmt: skip
    page = write_result(result, out)
    if as_json:
        note(f"wrote {page}")
        return emit_json(result.to_dict())
    show(result, page)
    return None


def show(result: "RotationResult", page: Path) -> None:
    """The result in words, then δ by δ where that is short."""
    for line in str(result).splitlines():
        (note if line.startswith("note: ") else typer.echo)(line)
    if result.n <= 31:
        exact = [f"{delta}: {result.hits[delta][delta]:.0%}" for delta in range(1, len(result.hits))]
        typer.echo("exact by δ: " + ", ".join(exact))
    typer.echo(f"figure: {page}")


def harmonics(text: str | None) -> list[int] | None:
    """``"1"`` or ``"5,37"`` as numbers; None stays None."""
    if text is None:
        return None
    plain = ",".join(part.strip().removeprefix("k=") for part in text.split(","))
    return number_list(plain, "--k", "harmonics", "1, or 5,37")


def site_of(name: str, layer: int | None) -> Any:
    """A site from its full name, or from a kind and a layer."""
    from mechfourier.errors import UsageError
    from mechfourier.hooks.site import Site

    if "." in name or name.startswith("hook_"):
        site = Site.parse(name)
        if layer is not None and site.layer != layer:
            raise UsageError(
                f"{name} is not at layer {layer}; give a kind with it, for example: --site resid_post --layer {layer}"
            )
        return site
    if layer is None and name not in ("embed", "pos_embed"):
        raise UsageError(f"name the layer of {name}, for example: --layer 0")
    return Site(name, layer)
