"""Several results side by side."""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mechfourier.errors import UsageError
from mechfourier.results.base import Result
from mechfourier.results.saved import load_result

if TYPE_CHECKING:
    import pandas as pd

SUBJECT = ("model", "domain", "task", "site")


def compare(*results: Result | str | Path) -> "pd.DataFrame":
    """Results (or the files that hold them) side by side: a column for each, a row for every field that is one
    number or one text in any of them, or in a part of them (``share.share``); empty where a result has no such field.

    The column ``differ`` is true where not all that have the field agree. Raises ``UsageError`` for fewer
    than two, and what ``load_result`` raises.
    """
    import pandas as pd

    if len(results) < 2:
        raise UsageError(f"{len(results)} result to compare; give at least two")
    opened = [_result(each) for each in results]
    columns = dict(zip(_names(opened), map(_plain, opened), strict=True))
    frame = pd.DataFrame(columns, dtype=object)
    frame["differ"] = [len({repr(value) for value in row if value is not None}) > 1 for row in _rows(frame)]
    frame.index.name = "field"
    return frame


def _result(each: Any) -> Result:
    if isinstance(each, (str, Path)):
        return load_result(each)
    if isinstance(each, Result):
        return each
    raise UsageError(f"{type(each).__name__} is no result; give what a function returned, or its file")


def _rows(frame: "pd.DataFrame") -> list[list[Any]]:
    return frame.where(frame.notna(), None).to_numpy().tolist()


def _plain(result: Result) -> dict[str, Any]:
    """The fields that are one number or one text, those of its parts too (``rotation.p_value``) where they are not as in
    the whole; a pair of layers and a number with its interval are one text."""
    found: dict[str, Any] = {"kind": type(result).__name__, **_fields(result)}
    for field in dataclasses.fields(result):  # type: ignore[arg-type]
        part = getattr(result, field.name)
        if dataclasses.is_dataclass(part) and not isinstance(part, type) and field.name not in found:
            own = {name: value for name, value in _fields(part).items() if found.get(name) != value}
            found |= {f"{field.name}.{name}": value for name, value in own.items()}
    return found


def _fields(part: Any) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for field in dataclasses.fields(part):
        value = getattr(part, field.name)
        if isinstance(value, (str, int, float, bool)):
            found[field.name] = value
        elif field.name == "layers" and value is not None:
            found["layers"] = "–".join(map(str, value))
        elif getattr(value, "value", None) is not None and hasattr(value, "low") and hasattr(value, "high"):
            found[field.name] = str(value)
    return found


def _names(results: list[Result]) -> list[str]:
    """What tells results apart, shortest first: kind and model, then domain and the rest, then a number."""
    names: list[str] = []
    for result in results:
        subject = [str(found) for key in SUBJECT if (found := getattr(result, key, None))]
        name, count = ", ".join(subject) or type(result).__name__, 2
        free = name
        while free in names:
            free, count = f"{name} ({count})", count + 1
        names.append(free)
    return names
