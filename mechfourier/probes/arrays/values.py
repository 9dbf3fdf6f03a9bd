"""Which row belongs to which value: labels matched to the values of a domain, and files with one array per value."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int, Shaped
from numpy import ndarray

from mechfourier.domains.definition import MODULI, Domain, modular
from mechfourier.errors import CONTROL, OutOfRange, UsageError, nearest
from mechfourier.probes.size import MOST_VALUES

SHORTEST = 3
"""Letters of an abbreviation ("Mon")."""


def cycle(n: int, values: Sequence[str] = ()) -> Domain:
    """A domain of n values without sentences: what an array needs of one. Raises ``OutOfRange``."""
    if not 3 <= n <= MOST_VALUES:
        raise OutOfRange(f"a cycle of {n} values cannot be tested; n runs from 3 to {MOST_VALUES}")
    if not values and MODULI[0] <= n <= MODULI[1]:
        return modular(n)
    if strange := next((value for value in values if CONTROL.search(value)), None):
        raise UsageError(f"the label {strange!r} holds a control character; rename it")
    named = tuple(values) or tuple(map(str, range(n)))
    name = "labels" if values else f"mod-{n}"
    return Domain(name, f"{n} values", "steps", named, (), None, source="arrays")


def numbers(labels: Shaped[ndarray, " row"]) -> np.ndarray | None:
    """Labels as numbers: numbers as they are, texts of numbers, and clock times ("13:45") in hours; None for other texts."""
    if labels.dtype.kind in "fiub":
        return labels.astype(np.float64)
    texts = [str(each).strip() for each in labels]
    clock = [re.fullmatch(r"(\d{1,2}):(\d{2})(?::(\d{2}))?", text) for text in texts]
    if texts and 2 * sum(map(bool, clock)) > len(texts):
        return np.array([_hours(text, each) for text, each in zip(texts, clock, strict=True)])
    try:
        return np.array([float(text) for text in texts])
    except ValueError:
        return None


def _hours(text: str, clock: re.Match[str] | None) -> float:
    """A time of day in hours; raises ``UsageError`` for what is none."""
    if clock is not None:
        hours, minutes, seconds = (int(part or 0) for part in clock.groups())
        at = hours + minutes / 60 + seconds / 3600
        if at <= 24 and max(minutes, seconds) <= 59:
            return at
    raise UsageError(f"the label {text!r} is no time of day, and others are; times run from 0:00 to 24:00")


def matched(labels: Shaped[ndarray, " row"], domain: Domain) -> Int[ndarray, " row"]:
    """The number of the value that each label names: its text (whatever the case, abbreviated from three letters on), or a whole
    number, counted from 0, or from 1 where n occurs and 0 does not. Where the values are numbers themselves, a number is the
    value that it equals ("03" and 3.0 are "3").

    Raises ``UsageError`` for a label that is no value, and for numbers that are not whole.
    """
    own = {value.casefold(): i for i, value in enumerate(domain.values)}
    texts = [str(each).strip().casefold() for each in labels]
    if all(text in own for text in texts):
        return np.array([own[text] for text in texts], dtype=np.int64)
    found = numbers(labels)
    if found is not None:
        own_numbers = numbers(np.asarray(domain.values))
        return _whole(found, domain) if own_numbers is None else _equal(found, own_numbers, domain)
    written = dict(zip(texts, (str(each).strip() for each in labels), strict=True))
    short = {text: _unabbreviated(text, domain, said) for text, said in written.items()}
    return np.array([short[text] for text in texts], dtype=np.int64)


def _equal(found: np.ndarray, own: np.ndarray, domain: Domain) -> np.ndarray:
    """The value that each number equals; where the values are 0 to n - 1, n is 0 too."""
    _refuse_missing(found)
    if np.array_equal(own, np.arange(domain.n)) and found.min() >= 1:
        found = np.where(found == domain.n, 0.0, found)
    each, rows = np.unique(found, return_inverse=True)
    same = each[:, None] == own
    if not same.any(1).all():
        other = each[~same.any(1)][0]
        raise UsageError(
            f"the label {other:g} is no value of {domain.name} ({', '.join(domain.values[:4])}, …); where values are numbers, labels are "
            f"the values themselves, not their places"
        )
    return same.argmax(1)[rows]


def _refuse_missing(found: np.ndarray) -> None:
    if missing := int((~np.isfinite(found)).sum()):
        raise UsageError(f"labels that are no numbers: {missing} of {len(found)}; give every row a label")


def _whole(found: np.ndarray, domain: Domain) -> np.ndarray:
    _refuse_missing(found)
    if (found != found.round()).any():
        raise UsageError(
            f"the label {found[found != found.round()][0]:g} is no whole number; labels that are angles take a period (n=360, --domain degrees)"
        )
    n = domain.n
    first = 1 if found.max() == n and found.min() >= 1 else 0
    if found.min() < first or found.max() >= n + first:
        raise UsageError(
            f"the labels run from {found.min():g} to {found.max():g}, and {domain.name} has {n} values (0 to {n - 1}, or 1 to {n})"
        )
    return found.astype(np.int64) - first


def _unabbreviated(text: str, domain: Domain, written: str) -> int:
    fits = [i for i, value in enumerate(domain.values) if value.casefold().startswith(text.rstrip("."))]
    exact = [i for i, value in enumerate(domain.values) if value.casefold() == text]
    if len(text) < SHORTEST or len(exact or fits) != 1:
        raise UsageError(
            f"the label {written!r} is no value of {domain.name}; closest: {nearest(text, domain.values)} (labels are the values' names, "
            f"or whole numbers)"
        )
    return (exact or fits)[0]


@dataclass(frozen=True)
class Pattern:
    """``text``: the names of arrays with ``{value}`` for the value; ``names``: the array of every value."""

    text: str
    names: tuple[str, ...]

    @property
    def site(self) -> str:
        """What is left of the pattern: "acts" of "acts_{value}"."""
        return re.sub(r"[\W_]+$|^[\W_]+", "", re.sub(r"[\W_]*\{value\}[\W_]*", "_", self.text)) or "acts"


def patterns(names: Iterable[str], domain: Domain, wanted: str | None = None) -> list[Pattern]:
    """The ways in which names of arrays say a value of the domain, each complete; none where they say no values.

    ``wanted``: the only pattern looked at. Raises ``UsageError`` where a pattern lacks values.
    """
    found: dict[str, dict[int, str]] = {}
    for name in names:
        for text, value in _occurrences(name, domain):
            if wanted in (None, text):
                found.setdefault(text, {})[value] = name
    full = {text: of for text, of in found.items() if len(of) == domain.n}
    if not full and found:
        text, of = max(found.items(), key=lambda item: len(item[1]))
        if wanted is not None or len(of) > max(1, domain.n // 2):
            missing = [domain.values[v] for v in range(domain.n) if v not in of]
            raise UsageError(
                f"the arrays named like {text!r} lack {len(missing)} of the {domain.n} values of {domain.name}: {', '.join(missing[:6])}"
            )
    if wanted is not None and not full:
        raise UsageError(f"no arrays are named like {wanted!r}; there are: {nearest(wanted, names, count=4)}")
    return [Pattern(text, tuple(of[v] for v in range(domain.n))) for text, of in full.items()]


def _occurrences(name: str, domain: Domain) -> Iterable[tuple[str, int]]:
    """Every place in a name where a value stands as a word of its own."""
    lowered = name.casefold()
    if len(lowered) != len(name):
        lowered = name
    for i, value in enumerate(domain.values):
        text = value.casefold()
        kind = r"\d" if text.isdigit() else r"[^\W\d_]"
        for hit in re.finditer(rf"(?<!{kind}){re.escape(text)}(?!{kind})", lowered):
            yield name[: hit.start()] + "{value}" + name[hit.end() :], i
