"""Checks of loaded models that passed, remembered by what was loaded: small JSON files in the cache
folder."""

import contextlib
import dataclasses
import importlib.metadata
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import xxhash

from mechfourier.files import read_text, write_json
from mechfourier.models.selfcheck import SelfCheck

FORMAT = 1  # raised when the check itself changes
PACKING = 1  # raised when the way that prompts are packed changes
CHUNK = 2**23
CHECK_KEY = "_mechfourier_check_key"  # where a loaded model keeps the key of its check
PACKAGES = ("torch", "transformers", "transformer-lens")


def check_key(files: Iterable[Path], config: str, **how: Any) -> str:
    """What a check depends on: the bytes of the weights, the configuration, how it was loaded, and the
    versions of the engines."""
    versions = {name: importlib.metadata.version(name) for name in PACKAGES}
    parts = {"format": FORMAT, "versions": versions, "config": config, **{k: str(v) for k, v in how.items()}}
    parts["weights"] = [file_digest(path) for path in files]  # type: ignore[assignment]
    return xxhash.xxh3_128(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def file_digest(path: Path) -> str:
    """XXH3 of a file's bytes. Kept by the file's size and times, for a gigabyte takes a noticeable while."""
    stat = path.stat()
    known = json.dumps([str(path.resolve()), stat.st_size, stat.st_mtime_ns, stat.st_ino])
    place = _folder() / f"file-{xxhash.xxh3_128(known.encode()).hexdigest()}.json"
    kept = _read(place).get("digest")
    if isinstance(kept, str):
        return kept
    digest = xxhash.xxh3_128()
    with path.open("rb") as file:  # by reading, not by mapping: mapped pages count as this process's memory
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    _write(place, {"digest": digest.hexdigest()})
    return digest.hexdigest()


def remembered(key: str) -> SelfCheck | None:
    """The check of that key that passed before; None where there was none."""
    value = _read(_folder() / f"{key}.json")
    if "whole_blocks" not in value:
        return None
    with contextlib.suppress(TypeError, ValueError):
        fields = {f.name: value[f.name] for f in dataclasses.fields(SelfCheck) if f.name in value}
        return SelfCheck(**{**fields, "whole_blocks": tuple(map(int, value["whole_blocks"]))})
    return None


def remember(key: str, check: SelfCheck) -> None:
    """Keep a check that passed. A folder that cannot be written to only means that it is made again."""
    _write(_folder() / f"{key}.json", dataclasses.asdict(check))


def packing_remembered(key: str, share: bool) -> int:
    """Up to how many tokens packed passes (``hooks.passes``) gave the numbers of prompts run alone in the
    model of that key."""
    length = _read(_folder() / f"{key}.json").get(_packing(share)) if key else None
    return length if isinstance(length, int) and not isinstance(length, bool) else 0


def remember_packing(key: str, share: bool, length: int) -> None:
    """Keep that they did, beside the check of the model itself; without one nothing is kept."""
    known = _read(_folder() / f"{key}.json") if key else {}
    if known:
        _write(_folder() / f"{key}.json", {**known, _packing(share): length})


def _packing(share: bool) -> str:
    return f"packing {PACKING}, {'shared' if share else 'apart'}"


def _folder() -> Path:
    from mechfourier.files import default_folder

    return default_folder() / "checks"


def _read(path: Path) -> dict[str, Any]:
    with contextlib.suppress(OSError, ValueError):
        value = json.loads(read_text(path))
        return value if isinstance(value, dict) else {}
    return {}


def _write(path: Path, value: dict[str, Any]) -> None:
    from mechfourier.errors import MechFourierError

    with contextlib.suppress(OSError, MechFourierError):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, value)
