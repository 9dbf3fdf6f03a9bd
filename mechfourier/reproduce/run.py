"""Running experiments one after another, each kept as it is finished."""

import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

from mechfourier._arguments import checked
from mechfourier.errors import BadCheckpoint, MechFourierError, WeightsNotFound
from mechfourier.files import read_text
from mechfourier.models.interface import Model
from mechfourier.models.weights import weights_hash
from mechfourier.reproduce.catalogue import chosen
from mechfourier.reproduce.experiment import LANGUAGE, Experiment
from mechfourier.reproduce.result import Reproduction, claim
from mechfourier.reproduce.session import TRAINED, Session
from mechfourier.reproduce.settings import Settings
from mechfourier.training.loop import TrainingInterrupted

DEFAULT_MODEL = "qwen3-0.6b"
OUT = Path("mechfourier-out/reproduce")


@checked
def reproduce(
    names: Sequence[str] = (),
    *,
    model: Model | str | Path = DEFAULT_MODEL,
    run: str | Path | None = None,
    settings: Settings | None = None,
    out: str | Path = OUT,
    train: bool = False,
    device: str = "auto",
) -> Iterable[Reproduction]:
    """Run the experiments of these names (none: all) on the weights that are here, and yield each as it is
    done.

    ``model``: name, folder or a loaded model for the experiments on language models. ``run``: the folder of a
    training, for those on trained networks (else the packaged models). ``train``: train what is missing, in
    ``out``. An experiment whose file in ``out`` has the same weights and settings is read instead of run
    again.

    Raises ``UsageError`` for an unknown name or a ``run`` that is none; weights that are missing make claims
    *not measured*.
    """
    experiments = chosen(list(names))
    session = Session(model, run, settings or Settings(), Path(out), train, device)
    for experiment in experiments:
        yield one(session, experiment)


def one(session: Session, experiment: Experiment) -> Reproduction:
    """One experiment: from its file, or run and written there."""
    path = session.out / f"{experiment.name}.json"
    start = time.monotonic()
    try:
        weights = _weights(session, experiment)
    except WeightsNotFound as error:
        return _kept(_absent(session, experiment, str(error)), path)
    found = _finished(path, weights, session.settings.plain())
    if found is not None:
        return found
    module, _, function = experiment.function.partition(":")
    try:
        claims = getattr(import_module(module), function)(session)
    except TrainingInterrupted as error:
        raise TrainingInterrupted(
            f"{experiment.name}: {str(error).partition(';')[0]}; start the same command again to go on"
        ) from error
    except MechFourierError as error:
        return _kept(_absent(session, experiment, str(error)), path)
    except Exception as error:  # a long unattended run goes on with the next experiment
        told = f"unexpected {type(error).__name__}: {error}"
        return _kept(_absent(session, experiment, told), path)
    result = _result(session, experiment, weights, claims)
    return _kept(replace(result, seconds=round(time.monotonic() - start, 1)), path)


def _weights(session: Session, experiment: Experiment) -> str:
    """Content hash of what the experiment is run on; "" where it would have to be trained first."""
    if experiment.needs == LANGUAGE:
        return session.weights
    source = session.source(experiment.needs, experiment.packaged)
    if source is None:
        return ""
    from mechfourier.models.registry import load

    return weights_hash(load(source))


def _finished(path: Path, weights: str, settings: dict[str, str]) -> Reproduction | None:
    """The result in ``path`` where it is of the same weights and settings and measured something."""
    if not weights or not path.is_file():
        return None
    try:
        found = Reproduction.from_json(read_text(path))
    except (BadCheckpoint, UnicodeDecodeError):
        return None  # damaged or of another version: run again
    same = found.weights == weights and found.settings == settings
    return found if same and found.count("not measured") < len(found.claims) else None


def _result(session: Session, experiment: Experiment, weights: str, claims: Sequence[Any]) -> Reproduction:
    return Reproduction(
        experiment=experiment.name,
        title=experiment.title,
        model=_model_name(session, experiment),
        weights=weights,
        settings=session.settings.plain(),
        claims=tuple(claims),
        command=command(session, experiment),
        seconds=0.0,
    )


def _absent(session: Session, experiment: Experiment, reason: str) -> Reproduction:
    """Nothing could be measured, with the reason."""
    return _result(
        session,
        experiment,
        "",
        [claim(experiment.claimed, "not measured", reason, source="grokking-fourier")],
    )


def _kept(result: Reproduction, path: Path) -> Reproduction:
    result.save(path)
    return result


def _model_name(session: Session, experiment: Experiment) -> str:
    if experiment.needs == LANGUAGE:
        return session.name
    made = session.out / TRAINED
    source = session.source(experiment.needs, experiment.packaged)
    return str(source or (made if made.is_dir() else "no weights"))


def command(session: Session, experiment: Experiment) -> str:
    """What runs this experiment again."""
    import shlex

    words = ["mechfourier", "reproduce", experiment.name]
    if experiment.needs == LANGUAGE and session.name != DEFAULT_MODEL:
        words += ["--model", session.name]
    if experiment.needs != LANGUAGE and session.run is not None:
        words += ["--run", str(session.run)]
    if (
        session.train
        and experiment.needs != LANGUAGE
        and not session.source(experiment.needs, experiment.packaged)
    ):
        words += ["--train"]
    return shlex.join(words)
