"""Commands that differ by architecture: which architecture a run has, and the function that handles it.

``analyze`` and ``sweep-accuracy`` each hold a table {architecture: "module:function"}; a new architecture is one line.
"""

import importlib
import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mechfourier.errors import UsageError
from mechfourier.models.catalogue import ARCHITECTURES, find
from mechfourier.models.folder import CONFIG, read_config


def architecture_of(run: str) -> str:
    """``architecture`` in the config.json of a run folder (or above one of its checkpoints), or of a packaged model.

    A model of another maker has none: its Hugging Face ``model_type``, or the name it goes by, is returned.
    Raises ``UsageError`` where there is no such model.
    """
    path = Path(run)
    folder = path if path.is_dir() else _beside(path)
    if folder is None:
        info = find(run)
        if info is not None:
            return info.name if info.name in ARCHITECTURES else info.title
        if path.is_file():
            raise UsageError(
                f"{path} is no checkpoint of a run of ours (a .safetensors file with {CONFIG} beside it or above it); "
                f"bring it in with: mechfourier import {path} --out DIR"
            )
        from mechfourier.models.registry import resolve

        folder = resolve(run)
    config = read_config(folder)
    return str(config.get("architecture", config.get("model_type")))


def _beside(path: Path) -> Path | None:
    """The folder whose config.json describes the checkpoint ``path``."""
    if path.suffix != ".safetensors" or not path.is_file():
        return None
    return next((f for f in (path.parent, path.parent.parent) if (f / CONFIG).is_file()), None)


def handle(
    command: str, table: Mapping[str, str], run: str, options: Mapping[str, Any], *, instead: str
) -> Any:
    """Call the function that ``table`` names for the architecture of ``run``, with the options that were given.

    ``options`` maps the function's keyword names to values; None stands for "not given". Raises ``UsageError`` for an
    architecture that the table lacks (``instead`` says what to use) and for an option that the function does not have.
    """
    architecture = architecture_of(run)
    if architecture not in table:
        raise UsageError(
            f"{run} is of the architecture {architecture!r}; {command} takes {', '.join(table)}. {instead}"
        )
    module, _, name = table[architecture].partition(":")
    function = getattr(importlib.import_module(module), name)
    given = {key: value for key, value in options.items() if value is not None}
    known = inspect.signature(function).parameters
    for key in given:
        if key not in known:
            raise UsageError(
                f"--{key.replace('_', '-')} means nothing for the architecture {architecture!r}; leave it out"
            )
    return function(run, **given)
