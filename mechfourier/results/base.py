"""The shape that every result shares: frozen, printable, and the same after a trip through JSON."""

import dataclasses
import functools
import json
import math
import types
import typing
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from mechfourier.errors import BadCheckpoint
from mechfourier.files import write_json
from mechfourier.results.provenance import provenance, weights_of_name

if TYPE_CHECKING:
    import pandas as pd


def plain(value: Any) -> Any:
    """``value`` as JSON types: dataclasses to objects, tuples to lists, numpy and torch scalars to numbers.

    A non-finite number becomes ``null``: JSON has no NaN, and a reader must not take one for a result.
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if (as_list := getattr(value, "tolist", None)) is not None:
        return plain(as_list())
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    return str(value)


def rebuild(kind: Any, value: Any) -> Any:
    """``value`` (plain JSON) as ``kind``: dataclasses, ``tuple[X, ...]``, ``dict[str, X]`` and ``X | None`` only.

    Raises ``TypeError`` or ``ValueError`` for a value of another type, ``null`` where there is no ``None`` included.
    """
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if value is None:
        if kind is float:
            return math.nan
        if kind in (Any, object, None) or types.NoneType in arguments:
            return None
        raise TypeError(f"null is no {kind}")
    if origin in (typing.Union, types.UnionType):
        return rebuild(next(a for a in arguments if a is not type(None)), value)
    if origin is tuple and isinstance(value, list):
        inner = [arguments[0]] * len(value) if len(arguments) == 2 and arguments[1] is Ellipsis else arguments
        return tuple(rebuild(k, v) for k, v in zip(inner, value, strict=True))
    if origin is dict:
        return {key: rebuild(arguments[1], item) for key, item in value.items()}
    if dataclasses.is_dataclass(kind):
        hints = typing.get_type_hints(kind)
        names = {f.name for f in dataclasses.fields(kind) if f.init}
        made = kind(**{key: rebuild(hints[key], item) for key, item in value.items() if key in names})  # type: ignore[operator]
        if isinstance(
            made, Result
        ):  # what was said when it was measured, not what a model of that name is now
            object.__setattr__(made, "weights", value.get("weights"))
        return made
    return _scalar(kind, value)


def _scalar(kind: Any, value: Any) -> Any:
    """``value`` where it fits ``kind``; JSON writes 1.0 as 1 in other hands, so an int passes for a float."""
    allowed = {float: (int, float), int: int, str: str, bool: bool, tuple: (), dict: dict}
    wanted = allowed.get(typing.get_origin(kind) or kind, object)
    if not isinstance(value, wanted):
        raise TypeError(f"{value!r} is no {kind}")
    if kind is str:
        value.encode()  # raises where JSON's escapes spell half of a character, which no file can be written with
    return float(value) if kind is float else value


def _with_weights(text: Callable[[Any], str]) -> Callable[[Any], str]:
    """``__str__`` of a result with a line that says what its model's weights are, once, under the first line."""

    @functools.wraps(text)
    def said(result: "Result") -> str:
        shown = text(result)
        line = f"weights: {result.weights}"
        if result.weights is None or line in shown or "weights" in type(result).__annotations__:
            return shown
        first, end, rest = shown.partition("\n")
        return f"{first}\n{line}{end}{rest}"

    return said


@dataclasses.dataclass(frozen=True)
class Result:
    """Base of every result. Fields hold plain values and tuples, so that ``from_json(to_json())`` is the same.

    ``weights``: what the weights of the model went through before it was loaded ("Q4_K_M, dequantised to float32"), filled in for every
    result that names its ``model``; None where they are as published. ``str`` says it under the first line.
    """

    weights: str | None = dataclasses.field(default=None, kw_only=True)

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if "__str__" in cls.__dict__:
            setattr(cls, "__str__", _with_weights(cls.__dict__["__str__"]))  # noqa: B010

    def __post_init__(self) -> None:
        if self.weights is None:
            object.__setattr__(self, "weights", weights_of_name(getattr(self, "model", None)))

    def to_dict(self) -> dict[str, Any]:
        values = plain(self)
        return {**values, "weights": values.pop("weights")}  # after the measurements

    def to_json(self) -> str:
        return json.dumps(self.to_dict(), allow_nan=False, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Rebuild a result from ``to_json`` text; raises ``BadCheckpoint`` when it is no such text."""
        try:
            return rebuild(cls, json.loads(text))
        except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError) as error:
            raise BadCheckpoint(f"this is no {cls.__name__}: {error}") from error

    def save(self, path: str | Path) -> Path:
        """Write the result as JSON, atomically, with where it comes from under ``provenance``."""
        return write_json(path, {**self.to_dict(), "provenance": provenance()})

    def found_in(self, path: Path) -> Self:
        """This result as it was read from the file ``path``; one that names other files checks here that they are its own."""
        return self

    def frame(self) -> "pd.DataFrame":
        """The result as a table, one row per measurement."""
        raise NotImplementedError(type(self).__name__)

    def plot(self) -> Any:
        """A Plotly figure that draws only what ``frame()`` holds; raises ``NotImplementedError`` where there is none."""
        from mechfourier.figures.draw import draw

        return draw(self)
