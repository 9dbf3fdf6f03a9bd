"""A content-addressed disk cache of activations, shared by every process of a user.

One safetensors shard per captured site. Its name is a hash of all that decides its content: the weights, the
tokens, the site, the positions, the dtype and the versions of the libraries. Shards are written to a
temporary name and moved into place, carry a checksum of their content, and are computed again when they are
cut short or damaged. When the folder outgrows ``max_bytes``, the shards read longest ago go first.
"""

import contextlib
import hashlib
import json
import os
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from mechfourier._version import __version__
from mechfourier.errors import MechFourierError, UsageError
from mechfourier.files import SAFETENSORS_PART, atomic_path, default_folder
from mechfourier.hooks.site import Site, model_name
from mechfourier.models.interface import Model
from mechfourier.models.weights import weights_hash

if TYPE_CHECKING:
    from mechfourier.hooks.capture import Activations, Request

FORMAT = 1  # part of every key: raised when the meaning of a shard changes
DEFAULT_MAX_BYTES = 8 * 2**30
LOGITS = "logits"
SUFFIX = ".safetensors"
ABANDONED_SECONDS = 3600  # a temporary file this old belongs to a process that died


@dataclass(frozen=True)
class Shard:
    """One stored array: ``model`` and ``site`` say where it came from, ``used`` is when it was last read
    (seconds)."""

    key: str
    bytes: int
    used: float
    model: str
    site: str
    shape: tuple[int, ...]


class ActivationStore:
    """``capture(…, store=ActivationStore())`` reads what was captured before and keeps what was not."""

    def __init__(self, folder: str | Path | None = None, *, max_bytes: int = DEFAULT_MAX_BYTES) -> None:
        if max_bytes < 1:
            raise UsageError(f"max_bytes must be at least 1; got {max_bytes}")
        self.root = Path(folder) if folder is not None else default_folder()
        self.folder = self.root / "activations"
        self.max_bytes = max_bytes

    def through(
        self, model: Model, request: "Request", compute: Callable[["Request"], "Activations"]
    ) -> "Activations":
        """The activations of ``request``: from the store where they are, by ``compute`` where not."""
        keys = request_keys(model, request)
        found = {name: value for name, key in keys.items() if (value := self.get(key)) is not None}
        missing = tuple(site for site in request.sites if str(site) not in found)
        logits = request.logits and LOGITS not in found
        if missing or logits:
            fresh = compute(replace(request, sites=missing, logits=logits))
            new = {str(site): value for site, value in fresh.values.items()}
            if fresh.logits is not None:
                new[LOGITS] = fresh.logits
            self._keep({keys[name]: (name, value) for name, value in new.items()}, model_name(model))
            found |= new
        return _activations(request, found)

    def get(self, key: str) -> Tensor | None:
        """The array under ``key``; None where there is none or where it is damaged (then it is removed)."""
        path = self._path(key)
        try:
            with safe_open(path, framework="pt") as shard:
                value, metadata = shard.get_tensor("value"), shard.metadata() or {}
        except FileNotFoundError:
            return None
        except (SafetensorError, OSError, ValueError, KeyError):
            return _discard(path)
        if metadata.get("checksum") != checksum(value, key):
            return _discard(path)
        with contextlib.suppress(OSError):  # evicted meanwhile, or read-only: the value is whole all the same
            os.utime(path)
        return value

    def put(self, key: str, value: Tensor, *, model: str = "", site: str = "") -> None:
        """Write ``value`` under ``key``, then drop what is over ``max_bytes``. Raises ``MechFourierError``
        (disk full …)."""
        self._write(key, value, model, site)
        self.evict()

    def _write(self, key: str, value: Tensor, model: str, site: str) -> None:
        value = value.contiguous()
        metadata = {
            "checksum": checksum(value, key),
            "model": model,
            "site": site,
            "shape": json.dumps(list(value.shape)),
        }
        with atomic_path(self._path(key)) as temporary:
            save_file({"value": value}, temporary, metadata=metadata)

    def _keep(self, values: dict[str, tuple[str, Tensor]], model: str) -> None:
        """The activations are in hand: a full disk costs the cache, not the result."""
        try:
            for key, (name, value) in values.items():
                self._write(key, value, model, name)
            self.evict()
        except MechFourierError as error:
            why = getattr(error.__cause__, "strerror", None) or error
            warnings.warn(  # of the folder and not of a file, so that it is said once
                f"activations are not stored: cannot write in {self.folder} ({why}); MECHFOURIER_CACHE names another "
                "folder",
                RuntimeWarning,
                stacklevel=2,
            )

    def ls(self) -> tuple[Shard, ...]:
        """All shards, the most recently used first."""
        shards = [shard for path in self._paths() if (shard := _read_shard(path)) is not None]
        return tuple(sorted(shards, key=lambda shard: (-shard.used, shard.key)))

    def size(self) -> int:
        """Bytes on disk."""
        return sum(size for _, size, _ in self._stats())

    def clear(self) -> int:
        """Remove every shard; returns how many bytes became free."""
        freed = 0
        for path, size, _ in self._stats():
            path.unlink(missing_ok=True)
            freed += size
        self._remove_abandoned(older_than=0.0)
        return freed

    def evict(self) -> None:
        """Drop the shards used longest ago until ``max_bytes`` holds (also what killed processes left
        behind)."""
        stats = sorted(self._stats(), key=lambda stat: stat[2])
        total = sum(size for _, size, _ in stats)
        if total > self.max_bytes:
            self._remove_abandoned(older_than=ABANDONED_SECONDS)
        for path, size, _ in stats:
            if total <= self.max_bytes:
                return
            path.unlink(missing_ok=True)
            total -= size

    def _path(self, key: str) -> Path:
        return self.folder / key[:2] / f"{key}{SUFFIX}"

    def _paths(self) -> Iterator[Path]:
        return self.folder.glob(f"??/[!.]*{SUFFIX}")

    def _stats(self) -> list[tuple[Path, int, float]]:
        """Path, size and time of last use; other processes may remove files meanwhile."""
        found = []
        for path in self._paths():
            try:
                status = path.stat()
            except OSError:
                continue
            found.append((path, status.st_size, status.st_mtime))
        return found

    def _remove_abandoned(self, *, older_than: float) -> None:
        for path in [*self.folder.glob("??/.*.part"), *self.folder.glob(f"??/{SAFETENSORS_PART}")]:
            try:
                if time.time() - path.stat().st_mtime >= older_than:
                    path.unlink(missing_ok=True)
            except OSError:
                continue


def _discard(path: Path) -> None:
    """Remove a damaged shard, so that the next process need not read it again."""
    with contextlib.suppress(OSError):
        path.unlink(missing_ok=True)


def _activations(request: "Request", found: dict[str, Tensor]) -> "Activations":
    from mechfourier.hooks.capture import Activations

    values: dict[Site, Tensor] = {site: found[str(site)] for site in request.sites}
    return Activations(request.sites, values, found[LOGITS] if request.logits else None)


def _read_shard(path: Path) -> Shard | None:
    """What a shard's header says, without reading its array; None where it cannot be read."""
    try:
        status = path.stat()
        with safe_open(path, framework="pt") as shard:
            metadata = shard.metadata() or {}
        shape = tuple(json.loads(metadata.get("shape", "[]")))
    except (SafetensorError, OSError, ValueError):
        return None
    return Shard(
        path.stem, status.st_size, status.st_mtime, metadata.get("model", ""), metadata.get("site", ""), shape
    )


def request_keys(model: Model, request: "Request") -> dict[str, str]:
    """The key of every array of a request: its sites by name, and ``logits``."""
    at = "all" if request.positions is None else request.positions.tolist()
    common = {
        "format": FORMAT,
        "weights": weights_hash(model),
        "engine": type(model).__name__,
        "dtype": str(next((p.dtype for p in model.parameters()), None)),
        "versions": [__version__, version("transformer-lens"), version("torch")],
        "tokens": [list(ids) for ids in request.ids],
    }
    read = {"positions": at, "squeeze": request.squeeze}
    keys = {str(site): _digest({**common, **read, "site": str(site)}) for site in request.sites}
    if request.logits:
        keys[LOGITS] = _digest({**common, "positions": request.last.tolist(), "site": LOGITS})
    return keys


def _digest(value: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def checksum(value: Tensor, key: str) -> str:
    """A hash of an array's bytes, shape and dtype, and of the key it belongs to (so that no shard passes for
    another)."""
    digest = hashlib.blake2b(f"{key} {value.dtype} {tuple(value.shape)} ".encode(), digest_size=16)
    digest.update(value.contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()
