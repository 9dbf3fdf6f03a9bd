"""Commands that differ by architecture: which one a run has, and the part of its record that handles it."""

import inspect
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from mechfourier.cli.common import emit_json, note
from mechfourier.errors import UsageError
from mechfourier.models.architectures import Architecture, of_config, run_folder, with_part
from mechfourier.models.catalogue import find
from mechfourier.models.folder import CONFIG, read_config


def architecture_of(run: str) -> Architecture | str:
    """The record of a run folder, of one of its checkpoints, or of a model by name; for another maker's model
    its Hugging Face ``model_type``, or what it is. Raises ``UsageError`` where there is no such model."""
    path = Path(run)
    folder = run_folder(path)
    if folder is None:
        info = find(run)
        if info is not None:
            return info.record or info.title
        if path.is_file():
            raise UsageError(
                f"{path} is no checkpoint of a run of ours (a .safetensors file with {CONFIG} beside it or "
                f"above it); "
                f"bring it in with: mechfourier import {path} --out DIR"
            )
        from mechfourier.models.registry import resolve

        folder = resolve(run)
    config = read_config(folder)
    return of_config(config, folder / CONFIG) or str(config.get("model_type"))


def handle(command: str, part: str, run: str, options: Mapping[str, Any], *, instead: str) -> Any:
    """Call the ``part`` of the architecture of ``run`` with the options that were given.

    ``options`` maps the function's keyword names to values; None stands for "not given". Raises
    ``UsageError`` where the architecture has no such part (``instead`` says what to use) and for an option
    that the function does not have.
    """
    record = architecture_of(run)
    if isinstance(record, str) or not getattr(record, part):
        name = record if isinstance(record, str) else record.name
        known = ", ".join(each.name for each in with_part(part))
        raise UsageError(f"{run} is of the architecture {name!r}; {command} takes {known}. {instead}")
    function = record.part(part)
    return function(run, **fitting(function, options, record.name))


def fitting(
    function: Any, options: Mapping[str, Any], architecture: str, flags: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """The options that were given; raises ``UsageError`` for one that ``function`` does not have (``flags``:
    what they are called on the command line, where it is not their keyword)."""
    given = {key: value for key, value in options.items() if value is not None}
    known = inspect.signature(function).parameters
    for key in given:
        if key not in known:
            raise UsageError(
                f"--{(flags or {}).get(key, key).replace('_', '-')} means nothing for the architecture "
                f"{architecture!r}; leave it out"
            )
    return given


SET = Annotated[
    list[str] | None,
    typer.Option(
        "--set", help="NAME=VALUE: a keyword of another package's analysis. Repeat it.", metavar="NAME=VALUE"
    ),
]


def settings(texts: Sequence[str] | None) -> dict[str, Any]:
    """``--set`` as keywords: whole numbers, numbers and true or false as such, the rest as text."""
    found = {}
    for text in texts or ():
        name, sign, value = text.partition("=")
        if not sign or not name.isidentifier():
            raise UsageError(f"--set {text!r} is no NAME=VALUE; write it like count=20")
        try:
            found[name] = json.loads(value)
        except ValueError:
            found[name] = value
    return found


def say(result: Any, *, as_json: bool, out: Path | None) -> None:
    """Print a result, and write its files into ``out``; every file is named on standard error."""
    if as_json:
        emit_json(result.summary() if hasattr(result, "summary") else result.to_dict())
    else:
        from mechfourier.cli import tables

        tables.say(str(result))
    if out is None:
        return
    if hasattr(result, "write"):
        files = result.write(out)
    else:
        from mechfourier.drawing.html import write_page

        stem = out / result.about.name
        files = [
            result.save(stem.with_suffix(".json")),
            write_page(stem.with_suffix(".html"), result.part()),
        ]
    for path in files:
        note(f"wrote {path}")
