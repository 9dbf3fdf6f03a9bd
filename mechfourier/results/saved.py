"""Reading saved results: the file says its kind; files of version 0.1, which do not, are known by their
fields."""

import json
import re
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from mechfourier._arguments import checked
from mechfourier.errors import BadCheckpoint, UsageError, nearest, printable
from mechfourier.files import own_path, read_text, regular
from mechfourier.results.base import Result
from mechfourier.results.kinds import class_of, modules

MAX_BYTES = 200 * 2**20
HALF_CHARACTER = re.compile(
    r"\\u[dD][89a-fA-F]"
)  # an escaped surrogate: the text of a page can be written with pairs only
WHAT_TO_GIVE = "give what a command saved with --out or --json, or the folder of a run"


@dataclass(frozen=True)
class Saved:
    """A result read from ``path``, and where it came from ({} where the file does not say). ``result`` is a
    plain mapping where the file holds a summary for machines (``--json`` of a command that prints less than
    it saves)."""

    path: Path
    result: Result | dict[str, Any]
    provenance: dict[str, Any]


def read(path: str | Path) -> Saved:
    """Read a saved result of any kind. Raises ``UsageError`` for a file that holds no known result,
    ``BadCheckpoint`` for a broken one."""
    path = Path(path)
    values = _json(path)
    origin = values.pop("provenance", None)
    origin = origin if isinstance(origin, dict) else {}
    kind = kind_of(values)
    if kind is None and _is_summary(values):
        return Saved(path, values, origin)
    if kind is None:
        keys = ", ".join(list(values)[:6])
        raise UsageError(f"{path} holds none of the results known here (its keys: {keys}…); {WHAT_TO_GIVE}")
    if (found := class_of(kind)) is None:
        raise UsageError(
            f"{path} holds a result of kind {kind[:80]!r}, which nothing installed defines (closest: "
            f"{nearest(kind, modules())}); "
            "install the package that wrote it, or a newer mechfourier"
        )
    result = found.from_dict(values).found_in(path)
    try:
        str(result)
    except (ArithmeticError, LookupError, TypeError, ValueError, AttributeError) as error:
        raise BadCheckpoint(
            f"{path} holds values that do not belong together ({type(error).__name__}: {error}); it was changed, or another "
            f"version wrote it: make it again"
        ) from error
    return Saved(path, result, origin)


def _json(path: Path) -> dict[str, Any]:
    try:
        if regular(path).stat().st_size > MAX_BYTES:
            raise UsageError(f"{path} is larger than {MAX_BYTES >> 20} MiB; no result of ours is")
        text = read_text(path)
        values = json.loads(text)
        if HALF_CHARACTER.search(text):
            json.dumps(values, ensure_ascii=False).encode()  # raises where the other half is missing
    except OSError as error:  # a link to nothing, a folder of that name
        raise BadCheckpoint(
            f"{path} cannot be read ({error.strerror}); remove it, or give another file"
        ) from error
    except (ValueError, RecursionError) as error:
        raise BadCheckpoint(
            f"{path} is no JSON ({error}); give a result saved by a command's --out or --json"
        ) from error
    if not isinstance(values, dict):
        raise UsageError(f"{path} holds a JSON {type(values).__name__}, no result; {WHAT_TO_GIVE}")
    return _printable(values)


def _printable(value: Any) -> Any:
    """The same with control characters in texts as escapes: they would move a terminal's cursor. Line ends stay."""
    if isinstance(value, str):
        return value if value.isprintable() else "\n".join(map(printable, value.split("\n")))
    if isinstance(value, list):
        return [_printable(each) for each in value]
    if isinstance(value, dict):
        return {_printable(key): _printable(each) for key, each in value.items()}
    return value


def kind_of(values: dict[str, Any]) -> str | None:
    """The kind that the file says; one of version 0.1 has all fields that a class of then asked for, and no
    others."""
    if "schema" in values and isinstance(values.get("kind"), str):
        return values["kind"]
    return next(
        (k for k, f in _fields_0_1().items() if set(f["required"]) <= set(values) <= set(f["known"])), None
    )


@cache
def _fields_0_1() -> dict[str, dict[str, list[str]]]:
    """By kind: the fields that every file of version 0.1 has, and those that one may have."""
    return json.loads((files("mechfourier.results") / "fields_0_1.json").read_text(encoding="utf-8"))


def _is_summary(values: dict[str, Any]) -> bool:
    """What ``analyze --json`` and ``train --json`` print."""
    return {"accuracy", "key_freqs"} <= set(values) or {"test_accuracy", "checkpoint"} <= set(values)


@checked
def load_result(path: str | Path) -> Result:
    """The result that a command saved with ``--out``, or ``to_json`` wrote, as the object that it was.

    Raises ``UsageError`` for a file that holds no known result or only a summary (``--json`` of a command that
    prints less than it saves), ``BadCheckpoint`` for a broken one.
    """
    opened = read(_there(own_path(path)))
    if isinstance(opened.result, dict):
        raise UsageError(f"{path} holds a summary for machines, not a whole result; {WHAT_TO_GIVE}")
    return opened.result


def _there(path: Path) -> Path:
    if path.is_file():
        return path
    if path.is_dir():
        names = [each.name for each in sorted(path.glob("*.json"))]
        inside = f"; it holds {', '.join(names[:6])}" if names else ""
        raise UsageError(f"{path} is a folder; name one result{inside}")
    beside = [each.name for each in path.parent.glob("*.json")] if path.parent.is_dir() else []
    close = f"; closest beside it: {nearest(path.name, beside)}" if beside else ""
    raise UsageError(f"no file {path}{close}")
