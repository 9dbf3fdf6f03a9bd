"""The grid of a sweep: axes as a person types them, and the points they span."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

from mechfourier.errors import OutOfRange, UsageError
from mechfourier.files import beginning, name_hash

Value = int | float | str
MOST_VALUES = 100_000
LONGEST = 4000  # characters of one axis
SPACINGS = ("linear", "log")


@dataclass(frozen=True)
class Axis:
    """One parameter and the values it takes, in the order they were given."""

    name: str
    values: tuple[Value, ...]

    def __str__(self) -> str:
        shown = [*self.values[:6], *(["…"] if len(self.values) > 6 else [])]
        return f"{self.name} = {', '.join(map(str, shown))} ({len(self.values)})"


def axis(text: str) -> Axis:
    """An axis from ``name=values``: ``p=53,71`` lists them, ``seed=0:8`` counts 0 … 7, ``lr=0.3:3:8`` takes 8
    values from .3 to 3, both included and evenly spaced, ``lr=0.3:3:8:log`` evenly in the logarithm. Numbers
    are rounded to six digits.

    Raises ``UsageError`` for text of another form, ``OutOfRange`` for an empty or endless range.
    """
    if len(text) > LONGEST:
        raise UsageError(f"an axis of {len(text):,} characters ({text[:40]!r}…); write it as a range")
    name, equals, given = text.partition("=")
    name = name.strip().replace("-", "_")
    if not equals or not name.isidentifier() or not given.strip():
        raise UsageError(f"{text!r} is no axis of a grid; write NAME=VALUES, for example seed=0:8 or p=53,71")
    values = tuple(value for part in given.split(",") for value in _values(part.strip(), text))
    if len(set(values)) < len(values):
        raise UsageError(f"{text!r} names a value twice; every value may stand once")
    return Axis(name, values)


def _values(part: str, text: str) -> list[Value]:
    if ":" not in part:
        return [scalar(part)]
    start, stop, *rest = part.split(":")
    if len(rest) > 2 or (len(rest) == 2 and rest[1] not in SPACINGS):
        raise UsageError(f"{part!r} in {text!r} is no range; write FROM:TO (integers) or FROM:TO:COUNT[:log]")
    if not rest:
        return _count(start, stop, text)
    return _spaced(_number(start, text), _number(stop, text), rest, text)


def _count(start: str, stop: str, text: str) -> list[Value]:
    low, high = scalar(start), scalar(stop)
    if not isinstance(low, int) or not isinstance(high, int):
        raise UsageError(f"{start}:{stop} in {text!r} has no number of values; write {start}:{stop}:COUNT")
    if not 0 < high - low <= MOST_VALUES:
        raise OutOfRange(f"{start}:{stop} in {text!r} counts {high - low} values; at least 1, FROM below TO")
    return list(range(low, high))


def _spaced(low: float, high: float, rest: list[str], text: str) -> list[Value]:
    count = scalar(rest[0])
    if not isinstance(count, int) or not 2 <= count <= MOST_VALUES:
        raise OutOfRange(f"{rest[0]!r} in {text!r} is no number of values; take a whole number from 2 on")
    log = rest[1:] == ["log"]
    if log and (low <= 0 or high <= 0):
        raise OutOfRange(f"{text!r} spaces values in the logarithm; both ends must be above 0")
    ends = (math.log(low), math.log(high)) if log else (low, high)
    even = [ends[0] + (ends[1] - ends[0]) * i / (count - 1) for i in range(count)]
    return [float(f"{math.exp(x) if log else x:.6g}") for x in even]


def _number(word: str, text: str) -> float:
    value = scalar(word)
    if isinstance(value, str):
        raise UsageError(f"{word!r} in {text!r} is no number; a range needs numbers")
    return float(value)


def scalar(word: str) -> Value:
    """The word as an integer, a finite number or text."""
    for kind in (int, float):
        try:
            value = kind(word)
            if math.isfinite(value):
                return value
        except (ValueError, OverflowError):  # an integer that is larger than any float
            continue
    return word


def points(axes: Sequence[Axis]) -> list[dict[str, Value]]:
    """Every combination, the last axis fastest. Raises ``UsageError`` where an axis is named twice or none is
    given."""
    names = [a.name for a in axes]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise UsageError(f"the grid names {', '.join(twice)} twice; list all its values in one axis")
    if not axes:
        raise UsageError("the grid is empty; give at least one axis, for example --grid seed=0:8")
    if math.prod(len(a.values) for a in axes) > MOST_VALUES:
        raise OutOfRange(f"the grid has more than {MOST_VALUES:,} points; sweep it in parts")
    return [dict(zip(names, values, strict=True)) for values in itertools.product(*(a.values for a in axes))]


def slug(point: dict[str, Value]) -> str:
    """The name of a point's folder: its values in order, with what a file name cannot hold replaced."""
    text = ",".join(f"{name}={value}" for name, value in point.items())
    clean = "".join(c if c.isalnum() or c in "=,.-+_" else "_" for c in text)
    if clean == text and len(clean.encode()) <= 120:
        return clean
    return f"{beginning(clean, 100)}-{name_hash(text)}"
