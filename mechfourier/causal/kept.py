"""Finished parts of a long measurement on disk, so that an interrupted one goes on."""

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from mechfourier._version import __version__
from mechfourier.files import read_text, write_json
from mechfourier.models.interface import Model
from mechfourier.models.weights import weights_hash
from mechfourier.results.plain import NOT_READ, plain, rebuild

T = TypeVar("T")


class Kept:
    """``kept(name, kind, make)`` gives the part ``name``: as it was kept in ``folder``, or made now and kept.
    Without a folder every part is made."""

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder
        self.found: list[str] = []

    @classmethod
    def of(cls, folder: str | Path | None, model: Model, *about: Any) -> "Kept":
        """Parts of one measurement on one model: other weights, options or versions have their own folder."""
        if folder is None:
            return cls()
        text = repr((__version__, weights_hash(model), about))
        return cls(Path(folder) / hashlib.sha256(text.encode()).hexdigest()[:16])

    def __call__(self, name: str, kind: Any, make: Callable[[], T]) -> T:
        path = None if self.folder is None else self.folder / f"{name}.json"
        if path is not None and path.is_file():
            try:
                value = rebuild(kind, json.loads(read_text(path)))
            except NOT_READ:  # of an older version, or cut off: made again
                pass
            else:
                self.found.append(name)
                return value
        value = make()
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_json(path, plain(value))
        return value

    def finish(self) -> None:
        """Everything is done: take the parts away."""
        if self.folder is not None:
            shutil.rmtree(self.folder, ignore_errors=True)
