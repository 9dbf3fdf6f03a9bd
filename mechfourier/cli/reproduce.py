"""``mechfourier reproduce``: published figures beside measured ones, and whether the claims stand."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mechfourier.cli.common import COUNT, SEED, emit_json, note, quiet_libraries
from mechfourier.cli.options import Device, Json, Layers
from mechfourier.cli.tables import wide_console

if TYPE_CHECKING:
    from mechfourier.reproduce.experiment import Experiment
    from mechfourier.reproduce.result import Reproduction
    from mechfourier.reproduce.session import Session


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("reproduce")(reproduce_command)


Experiments = Annotated[list[str] | None, typer.Argument(help="Names (see --list); all without any.")]
Model = Annotated[
    str,
    typer.Option(help="For the experiments on a language model: a name (mechfourier models) or a folder."),
]
Run = Annotated[
    Path | None, typer.Option(help="Folder of a training, for the experiments on trained networks.")
]
Quick = Annotated[
    bool, typer.Option("--quick", help="Fewer permutations, prompts and moduli: a look in minutes.")
]
Permutations = Annotated[int | None, typer.Option(help="Permutations of every null (500).", **COUNT)]


def reproduce_command(
    experiments: Experiments = None,
    list_: Annotated[bool, typer.Option("--list", help="List the experiments and what each needs.")] = False,
    model: Model = "qwen3-0.6b",
    run: Run = None,
    train: Annotated[bool, typer.Option("--train", help="Train what is missing (minutes to hours).")] = False,
    quick: Quick = False,
    permutations: Permutations = None,
    layers: Layers = None,
    seed: Annotated[int, typer.Option(help="Seed of nulls, controls, samples and trainings.", **SEED)] = 0,
    estimate: Annotated[bool, typer.Option("--estimate", help="Only say how long it would take.")] = False,
    device: Device = "auto",
    json_: Json = False,
    out: Annotated[Path, typer.Option(help="Folder of the results (JSON) and the page (HTML).")] = Path(
        "mechfourier-out/reproduce"
    ),
) -> None:
    """Run the experiments of grokking-fourier on the weights that are here: published beside measured, claim
    by claim.

    What is finished is kept in --out and not run again with the same weights and settings.
    """
    from mechfourier.reproduce.catalogue import chosen

    wanted = chosen(experiments or [])
    if list_:
        return _list(json_)
    quiet_libraries()
    from dataclasses import replace

    from mechfourier.reproduce.run import one
    from mechfourier.reproduce.session import Session
    from mechfourier.reproduce.settings import QUICK, Settings

    settings = replace(QUICK if quick else Settings(), seed=seed, layers=layers)
    settings = settings if permutations is None else replace(settings, permutations=permutations)
    session = Session(model, run, settings, out, train, device)
    _estimate(
        session, [each for each in wanted if not (out / f"{each.name}.json").is_file()], always=estimate
    )
    if estimate:
        return None
    results = []
    for i, experiment in enumerate(wanted, 1):
        note(f"{i} of {len(wanted)}: {experiment.name}")
        results.append(one(session, experiment))
        if not json_:
            _show(results[-1])
    return _finish(results, out, json_)


def _list(json_: bool) -> None:
    from mechfourier.reproduce.catalogue import EXPERIMENTS

    if json_:
        return emit_json({"experiments": [vars(each) for each in EXPERIMENTS]})
    from rich.table import Table

    table = Table()
    # a name is what --only takes: it is never cut, whatever the width
    table.add_column("experiment", no_wrap=True, min_width=max(len(each.name) for each in EXPERIMENTS))
    for name in ("claimed", "needs", "minutes"):
        table.add_column(name, overflow="fold")
    for each in EXPERIMENTS:
        needs = f"{each.packaged} (packaged)" if each.packaged else each.needs
        table.add_row(
            each.name,
            each.claimed,
            needs if each.packaged or not each.train else f"{needs}: {each.train}",
            f"{each.minutes:g}",
        )
    wide_console().print(table)
    typer.echo("minutes: on two cores, with Qwen3-0.6B, trainings included; --estimate measures this machine")
    return None


def _estimate(session: "Session", wanted: "list[Experiment]", *, always: bool) -> None:
    """Say before it starts how long the language model's part takes, where its weights are here."""
    from mechfourier.errors import WeightsNotFound
    from mechfourier.reproduce.estimate import estimate
    from mechfourier.reproduce.experiment import LANGUAGE

    if not any(each.needs == LANGUAGE for each in wanted):
        if always:
            note("nothing to estimate: everything asked is finished, or runs on small trained networks")
        return
    try:
        note(f"{session.name}: {estimate(session, wanted)}")
    except WeightsNotFound as error:
        note(f"the experiments on a language model are not measured: {error}")


def _show(result: "Reproduction") -> None:
    from rich.markup import escape
    from rich.table import Table

    controls = {
        "chance": [each.chance for each in result.claims],
        "untrained": [each.untrained and each.untrained.figure for each in result.claims],
        "shuffled": [each.shuffled and each.shuffled.figure for each in result.claims],
    }
    shown = [name for name, figures in controls.items() if any(value is not None for value in figures)]
    table = Table(
        "claim",
        "unit",
        "published",
        "measured",
        *shown,
        "",
        title=escape(f"{result.experiment} on {result.model}"),
        title_justify="left",
    )
    for i, each in enumerate(result.claims):
        figure = _figure(each.measured)
        if each.low is not None and each.high is not None:
            figure += f" [{each.low:.3g}, {each.high:.3g}]"
        others = [_figure(controls[name][i]) for name in shown]
        table.add_row(escape(each.claim), each.unit, _figure(each.published), figure, *others, each.word)
    console = wide_console()
    console.print(table)
    for sentence in dict.fromkeys(f"  {each.word}: {each.sentence}" for each in result.claims):
        console.print(sentence, highlight=False, markup=False)


def _figure(value: float | None) -> str:
    return "–" if value is None else f"{value:.4g}"


def _finish(results: "list[Reproduction]", out: Path, json_: bool) -> None:
    from mechfourier.figures.report import write_report
    from mechfourier.reproduce.result import WORDS

    page = write_report(
        [out / f"{each.experiment}.json" for each in results],
        out / "reproduce.html",
        title="Published claims, measured",
    )
    if json_:
        note(f"wrote {page}")
        return emit_json({"experiments": [each.to_dict() for each in results], "page": str(page)})
    words = {word: sum(each.count(word) for each in results) for word in WORDS}
    typer.echo(", ".join(f"{count} {word}" for word, count in words.items() if count))
    typer.echo(f"page: {page}")
    return None
