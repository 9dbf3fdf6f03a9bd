"""Finished parts of an atlas on disk, so that one that was killed goes on where it was."""

import contextlib
import hashlib
import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from mechfourier.atlas.capture import Stacked
from mechfourier.files import locked, read_text, slug, write_json, write_with
from mechfourier.hooks.site import Site
from mechfourier.models.interface import Model
from mechfourier.models.weights import weights_hash
from mechfourier.results.plain import NOT_READ, plain, rebuild

T = TypeVar("T")
UNFINISHED = ".unfinished"
SCHEMA = 1
"""Changes with what the kept parts hold, so that those of another version are made again."""


class Work:
    """The folder of the parts of one atlas; without a folder nothing is kept."""

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder

    @classmethod
    @contextlib.contextmanager
    def of(cls, out: Path | None, model: Model, *about: Any) -> "Iterator[Work]":
        """Parts of one atlas: other weights, domains or settings have a folder of their own."""
        if out is None:
            yield cls(None)
            return
        text = repr((SCHEMA, weights_hash(model), about))
        folder = out / UNFINISHED / hashlib.sha256(text.encode()).hexdigest()[:16]
        with locked(folder):
            yield cls(folder)

    def _path(self, name: str, ending: str) -> Path | None:
        return None if self.folder is None else self.folder / f"{slug(name)}.{ending}"

    def read(self, name: str, kind: type[T]) -> T | None:
        """A part as it was kept; None where there is none, or it is of an older version."""
        path = self._path(name, "json")
        if path is None or not path.is_file():
            return None
        try:
            return rebuild(kind, json.loads(read_text(path)))
        except NOT_READ:
            return None

    def keep(self, name: str, value: T) -> T:
        """Write a part, whole or not at all."""
        if (path := self._path(name, "json")) is not None:
            write_json(path, plain(value))
        return value

    def kept(self, name: str, kind: type[T], make: Callable[[], T]) -> T:
        """The part as it was kept, or made and kept."""
        found = self.read(name, kind)
        return self.keep(name, make()) if found is None else found

    def tensors(
        self, name: str, sites: Sequence[Site], make: Callable[[], tuple[Stacked, Stacked]]
    ) -> tuple[Stacked, Stacked]:
        """Two sets of activations; the same file serves all domains, so that those that are left see the
        very numbers that the finished ones saw."""
        from safetensors.torch import load_file, save_file

        path = self._path(name, "safetensors")
        if path is None:
            return make()
        if not path.is_file():
            found = make()
            held = {f"{i}/{site}": part[site].contiguous() for i, part in enumerate(found) for site in sites}
            write_with(path, lambda temporary: save_file(held, temporary))
            return found
        read = load_file(path)
        first, second = ({site: read[f"{i}/{site}"] for site in sites} for i in (0, 1))
        return first, second

    def finish(self) -> None:
        """The atlas is complete: take the parts away."""
        if self.folder is not None:
            shutil.rmtree(self.folder, ignore_errors=True)
