"""``mechfourier study``: probe, then ablate, rotate and patch; one verdict, one page."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mechfourier.cli.causal import (
    OUT,
    AnyPosition,
    AnySite,
    Controls,
    Cycles,
    Device,
    Domain,
    Engine,
    Harmonics,
    Json,
    Layer,
    Model,
    Out,
    ProbePermutations,
    Samples,
    Seed,
    Task,
    harmonics,
    place_of,
)
from mechfourier.cli.common import domain_of, emit_json, note, quiet_libraries

if TYPE_CHECKING:
    from mechfourier.causal.study import StudyResult


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("study")(study_command)


def study_command(
    model: Model,
    domain: Domain = None,
    task: Task = None,
    site: AnySite = None,
    layer: Layer = None,
    k: Harmonics = None,
    position: AnyPosition = None,
    samples: Samples = None,
    cycles: Cycles = 1,
    controls: Controls = 200,
    permutations: ProbePermutations = 1000,
    seed: Seed = 0,
    engine: Engine = "auto",
    device: Device = "auto",
    resume: Annotated[
        bool,
        typer.Option(
            "--resume/--no-resume",
            help="Go on with an interrupted study (its parts wait under --out).",
        ),
    ] = True,
    cache: Annotated[bool, typer.Option("--cache/--no-cache", help="Keep activations on disk.")] = True,
    as_json: Json = False,
    out: Out = OUT,
) -> None:
    """Is this quantity on a circle, does the model use it, how much and where? Probe, rotate, ablate, patch:
    one verdict, one page."""
    chosen, ks, where = domain_of(domain, model, task=task), harmonics(k), place_of(site, layer)
    quiet_libraries()
    from mechfourier.causal.study import study
    from mechfourier.hooks.store import ActivationStore
    from mechfourier.models.registry import load

    loaded = load(model, engine=engine, device=device)
    result = study(
        loaded,
        chosen,
        site=where,
        position=position,
        ks=ks,
        n_prompts=samples,
        task=task,
        cycles=cycles,
        n_controls=controls,
        n_permutations=permutations,
        seed=seed,
        store=ActivationStore() if cache else None,
        folder=out / ".unfinished" if resume else None,
    )
    _show(result, out, as_json)


def _show(result: "StudyResult", out: Path, as_json: bool) -> None:
    from mechfourier.figures.report import write_result

    page = write_result(result, out)
    if as_json:
        note(f"wrote {page} and the result beside it (.json)")
        return emit_json(result.to_dict())
    from mechfourier.cli.tables import print_frame, say

    for line in str(result).splitlines():
        say(line)
    for text in result.notes:
        note(f"note: {text}")
    if len(frame := result.frame()):
        print_frame(frame, title="interventions, beside their controls")
    if result.ladder:
        columns = {
            "name": "edit",
            "moved": "moved",
            "low": "low",
            "high": "high",
            "raised": "rise",
            "directed": "directed",
        }
        cosine = result.rotation is not None and result.rotation.outcome != "log-probability"
        unit = "cosine" if cosine else "nats"
        rows = result.ladder_frame().filter(list(columns)).rename(columns=columns).round(4)
        print_frame(rows, title="ladder of edits")
        say(
            "moved: share of the answers that move by exactly δ, low and high its 95 % interval; rise: of the score of the "
            "answer δ away over that of the unedited answer; directed: over the mean of the other answers "
            f"({unit})"
        )
    typer.echo(f"page: {page}")
    return None
