"""One self-contained page of runs and results: ``mechfourier report``."""

import json
import shlex
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mechfourier._version import __version__
from mechfourier.drawing.html import Part, Section, half, report_page, verdict_card, write_page
from mechfourier.drawing.template import BLUE, ORANGE
from mechfourier.errors import BadCheckpoint, MechFourierError, UsageError, nearest
from mechfourier.figures.sections import facts, summary_part
from mechfourier.files import read_text, result_name, write_text
from mechfourier.models.architectures import of_folder, run_folder, with_part
from mechfourier.models.catalogue import find
from mechfourier.models.folder import brief
from mechfourier.results.base import Result
from mechfourier.results.saved import Saved, read
from mechfourier.training.figures import curves_figure
from mechfourier.training.run_folder import CONFIG, METRICS, PROVENANCE, WEIGHTS, RunFolder

if TYPE_CHECKING:
    import pandas as pd

ANALYSIS = "analysis.json"


def write_report(sources: Sequence[str | Path], out: str | Path, *, title: str = "") -> Path:
    """Write the page of ``sources`` (run folders, saved results, registered one-layer models) to ``out``.

    Raises ``UsageError`` for no source, or one that is neither; ``BadCheckpoint`` for a broken one.
    """
    return write_text(out, report(sources, title=title))


def report(sources: Sequence[str | Path], *, title: str = "", plotly: str | None = None) -> str:
    """The page as text; ``plotly`` as in ``html.report_page``."""
    if not sources:
        raise UsageError("nothing to report on; give run folders or result files (.json)")
    parts = [part for source in sources for part in parts_of(source)]
    lead = f"{len(parts)} result{'s' if len(parts) > 1 else ''}, by mechfourier {__version__}."
    foot = (
        "A probe shows what is represented; only an intervention shows what is used. Made by mechfourier, "
        "opens without a network."
    )
    title = title or (parts[0].title if len(parts) == 1 else "mechfourier report")
    return report_page(title, parts, lead=lead, footer=foot, plotly=plotly)


def write_result(result: Result, folder: str | Path) -> Path:
    """Write the page of one result into ``folder``, named by its command, model, domain and the command's
    options, and the result itself beside it (.json)."""
    subjects = [name for key in ("model", "domain") if (name := getattr(result, key, None))]
    name = result_name(result.about.command.replace(" --", "-"), *subjects)
    page = write_page(Path(folder) / f"{name}.html", result.part())
    result.save(page.with_suffix(".json"))
    return page


def parts_of(source: str | Path) -> list[Part]:
    """The chapters of a source: a run folder gives itself and the results saved in it; a folder without a
    run, its results."""
    path = Path(source)
    if path.is_file() and path.suffix == ".json":
        return [_result_part(path)]
    if not path.is_dir():
        return [_named(str(source))]
    if is_run(path):
        return [
            run_part(path),
            *(_result_part(each) for each in saved_results(path) if each.name != ANALYSIS),
        ]
    if found := saved_results(path):
        return [_result_part(each) for each in found]
    raise UsageError(
        f"{path} holds neither a run (config.json) nor saved results (.json); give one that does"
    )


def is_run(folder: Path) -> bool:
    """A folder with a configuration, and with metrics or weights."""
    return (folder / CONFIG).is_file() and any(
        (folder / name).exists() for name in (METRICS, WEIGHTS, "checkpoints")
    )


def saved_results(folder: Path) -> list[Path]:
    """The JSON files directly in ``folder`` that hold a result of ours, in the order of their names."""
    found = []
    for path in sorted(folder.glob("*.json")):
        if path.name in (CONFIG, PROVENANCE):
            continue
        try:
            read(path)
        except MechFourierError:
            continue
        found.append(path)
    return found


def _named(name: str) -> Part:
    """A model by name, or one checkpoint of a run, whose architecture has a page."""
    folder, info = run_folder(Path(name)), find(name)
    record = of_folder(folder) if folder is not None else info.record if info is not None else None
    if record is None or not record.page:
        raise UsageError(
            f"no run folder, result file or model {name!r} with a page of its own; closest model: "
            f"{nearest(name, [each.name for each in with_part('page')])}. Reports of probes are made of "
            f"their saved results"
        )
    part = record.part("page")(name)
    return replace(part, sections=[*part.sections, _origin({}, f"mechfourier analyze {shlex.quote(name)}")])


def _result_part(path: Path) -> Part:
    opened = read(path)
    try:
        result = opened.result
        part = summary_part(path.name, result) if isinstance(result, dict) else result.part()
        sections = list(part.sections)
        if known := facts(opened.result):
            sections.append(half("Configuration", known))
        return replace(part, sections=[*sections, _origin(opened.provenance, _command(opened))])
    except MechFourierError:
        raise
    except Exception as error:  # the fields have the right types, and may still not fit each other
        kind = type(opened.result).__name__
        raise BadCheckpoint(
            f"{path} holds a {kind} that cannot be drawn ({brief(error)}); make it again with the command "
            f"that saved it"
        ) from error


def _origin(origin: dict[str, Any], command: str) -> Section:
    """Versions, machine, wall time, and the command that makes it again."""
    told: dict[str, Any] = {}
    for key in ("versions", "machine"):
        told |= origin[key] if isinstance(origin.get(key), dict) else {}
    if isinstance(origin.get("seconds"), (int, float)):
        told["wall time"] = f"{origin['seconds']} s"
    told |= {key: origin[key] for key in ("started", "finished") if origin.get(key)}
    lead = "" if told else "The file does not say which versions and which machine made it."
    return half("How it was made", told, lead, command=command)


def _command(opened: Saved) -> str:
    """The command that was run, or the one that its fields tell."""
    if command := opened.provenance.get("command"):
        return str(command)
    result, known = opened.result, facts(opened.result)
    if isinstance(result, dict) or not {"model", "domain"} <= set(known):
        return ""
    words = ["mechfourier", result.about.command, str(known["model"]), "--domain", str(known["domain"])]
    told = [(name, known[name]) for name in ("design", "position", "seed", "permutations") if name in known]
    return shlex.join([*words, *(word for name, value in told for word in (f"--{name}", str(value)))])


def run_part(folder: Path) -> Part:
    """A training run: its curves, its configuration, and what the page of its architecture shows."""
    config = config_of(folder)
    history = RunFolder(folder).read_metrics()
    record = of_folder(folder)
    if record is not None and record.page:
        part = record.part("page")(folder, history if len(history) else None)
    else:
        part = _other_run(folder, config, history)
    origin = _origin(_run_origin(folder, history), run_command(folder, config))
    sections = [*part.sections, half("Configuration", _flat(config)), origin]
    return replace(part, title=f"Run: {folder.name}", sections=sections)


def config_of(folder: Path) -> dict[str, Any]:
    """The configuration of a run; raises ``BadCheckpoint`` where it cannot be read."""
    try:
        config = json.loads(read_text(folder / CONFIG))
    except (ValueError, OSError) as error:
        raise BadCheckpoint(
            f"{folder / CONFIG} cannot be read ({error}); is {folder} the folder of a run?"
        ) from error
    if not isinstance(config, dict):
        raise BadCheckpoint(f"{folder / CONFIG} holds no configuration; is {folder} the folder of a run?")
    return config


def _other_run(folder: Path, config: dict[str, Any], history: "pd.DataFrame") -> Part:
    """A run of another architecture: its metrics."""
    sections = []
    if {"train_loss", "test_loss"} & set(history.columns):
        sections.append(Section("Training", curves_figure(history)))
    if len(history):
        last = history.ffill().iloc[[-1]].drop(columns=["seconds"], errors="ignore")
        sections.append(Section("Last metrics", last))
    name = str(config.get("architecture", config.get("model_type", "model")))
    card = verdict_card(name, f"{len(history)} steps recorded", [], accent=BLUE if len(history) else ORANGE)
    return Part(folder.name, sections, card=card)


def _flat(config: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested keys joined by dots."""
    out: dict[str, Any] = {}
    for key, value in config.items():
        out |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return out


def _note_of(folder: Path) -> dict[str, Any]:
    """What the run's folder says of its making; {} where it does not (a damaged note is no reason to refuse
    the report)."""
    try:
        told = json.loads(read_text(folder / PROVENANCE))
    except (ValueError, OSError):
        return {}
    return told if isinstance(told, dict) else {}


def _run_origin(folder: Path, history: "pd.DataFrame") -> dict[str, Any]:
    """Where a run comes from; the wall time is that of the training, over all resumes."""
    told = {
        key: value for key, value in _note_of(folder).items() if key != "finished"
    }  # of their start, in older runs
    if "seconds" in history.columns and len(history):
        told["seconds"] = round(float(history["seconds"].iloc[-1]), 1)
    return told


def run_command(folder: Path, config: dict[str, Any]) -> str:
    """The command that the run's folder tells, or (for one-layer) the one that its configuration amounts
    to."""
    if command := _note_of(folder).get("command"):
        return str(command)
    training = config.get("training")
    if config.get("architecture") != "one-layer" or not isinstance(training, dict):
        return ""
    recipe = training.get("recipe")
    words = [
        "mechfourier",
        "train",
        "one-layer",
        "--p",
        str(config.get("p")),
        "--task",
        str(config.get("task", "add")),
    ]
    words += ["--recipe", str(recipe.get("name"))] if isinstance(recipe, dict) else []
    options = {"seed": "--seed", "split_seed": "--split-seed", "train_fraction": "--train-fraction"}
    words += [word for key, flag in options.items() if key in training for word in (flag, str(training[key]))]
    return shlex.join([*words, "--out", str(folder)])
