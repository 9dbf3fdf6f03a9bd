"""Dataclasses as JSON types and back. What has no field on the way back is handed over, not dropped."""

import dataclasses
import functools
import math
import types
import typing
from typing import Any

NOT_READ = (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError)


def plain(value: Any) -> Any:
    """``value`` as JSON types: dataclasses to objects, tuples to lists, numpy and torch scalars to numbers.

    A non-finite number becomes ``null``: JSON has no NaN, and a reader must not take one for a result.
    """
    if hasattr(type(value), "__from_plain__"):
        return value.to_dict()
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


def rebuild(kind: Any, value: Any, unknown: dict[str, Any] | None = None) -> Any:
    """``value`` (plain JSON) as ``kind``: dataclasses, ``tuple[X, ...]``, ``dict[str, X]`` and ``X | None``
    only.

    What no field takes is put into ``unknown``, nested as it stood (:func:`put_back` reverses it). Raises one
    of ``NOT_READ`` for a value of another type, ``null`` where there is no ``None`` included, and for missing
    fields.
    """
    unknown = {} if unknown is None else unknown
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if value is None:
        if kind is float:
            return math.nan
        if kind in (Any, object, None) or types.NoneType in arguments:
            return None
        raise TypeError(f"null is no {kind}")
    if origin in (typing.Union, types.UnionType):
        return rebuild(next(a for a in arguments if a is not type(None)), value, unknown)
    if origin is tuple and isinstance(value, list):
        inner = [arguments[0]] * len(value) if len(arguments) == 2 and arguments[1] is Ellipsis else arguments
        return tuple(_below(k, v, i, unknown) for i, (k, v) in enumerate(zip(inner, value, strict=True)))
    if origin is dict:
        return {key: _below(arguments[1], item, key, unknown) for key, item in value.items()}
    if dataclasses.is_dataclass(kind):
        return _dataclass(kind, value, unknown)
    return _scalar(kind, value)


def _below(kind: Any, value: Any, key: Any, unknown: dict[str, Any]) -> Any:
    inside: dict[str, Any] = {}
    made = rebuild(kind, value, inside)
    if inside:
        unknown[str(key)] = inside
    return made


@functools.cache
def _fields(kind: Any) -> tuple[dict[str, dataclasses.Field[Any]], dict[str, Any]]:
    """The fields of a dataclass and their types, but for the one of results that holds what had no field."""
    own = hasattr(kind, "__from_plain__")
    fields = {f.name: f for f in dataclasses.fields(kind) if not (own and f.name == "unknown")}
    return fields, typing.get_type_hints(kind)


def _dataclass(kind: Any, value: Any, unknown: dict[str, Any]) -> Any:
    if not isinstance(value, dict):
        raise TypeError(f"{value!r} is no {kind.__name__}")
    if (before := getattr(kind, "__from_plain__", None)) is not None:
        value = before(value)
    fields, hints = _fields(kind)
    missing = [
        name
        for name, f in fields.items()
        if f.init
        and name not in value
        and f.default is dataclasses.MISSING
        and f.default_factory is dataclasses.MISSING
    ]
    if missing:
        raise TypeError(f"it lacks {', '.join(missing)}")
    unknown |= {key: item for key, item in value.items() if key not in fields}
    made = kind(
        **{
            k: _below(hints[k], item, k, unknown)
            for k, item in value.items()
            if k in fields and fields[k].init
        }
    )
    if "weights" in fields and before is not None:
        # what was said when it was measured, not what a model of that name is now
        object.__setattr__(made, "weights", value.get("weights"))
    return made


def put_back(values: Any, unknown: dict[str, Any]) -> Any:
    """``values`` (plain JSON) with what ``rebuild`` had no field for in its old places; what no longer has a
    place is left out."""
    for key, item in unknown.items():
        if isinstance(values, list):
            if int(key) < len(values):
                put_back(values[int(key)], item)
        elif isinstance(values, dict):
            if key not in values:
                values[key] = item
            elif isinstance(item, dict):
                put_back(values[key], item)
    return values


def _scalar(kind: Any, value: Any) -> Any:
    """``value`` where it fits ``kind``; JSON writes 1.0 as 1 in other hands, so an int passes for a float."""
    allowed = {float: (int, float), int: int, str: str, bool: bool, tuple: (), dict: dict}
    wanted = allowed.get(typing.get_origin(kind) or kind, object)
    if not isinstance(value, wanted):
        raise TypeError(f"{value!r} is no {kind}")
    if kind is str:
        # raises where JSON's escapes spell half of a character, which no file can be written with
        value.encode()
    return float(value) if kind is float else value
