"""Old names of arguments, which work for one version with a warning."""

import functools
import warnings
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

from mechfourier.errors import UsageError

P = ParamSpec("P")
R = TypeVar("R")

# values of ``position`` that have another name now
POSITIONS = {"operand": "value"}


def renamed(**names: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Let a function be called with its old keyword names: ``@renamed(samples="n_prompts")``; also with old positions."""

    def wrap(function: Callable[P, R]) -> Callable[P, R]:
        @functools.wraps(function)
        def call(*args: P.args, **options: P.kwargs) -> R:
            given: dict[str, Any] = dict(options)
            for old in [name for name in given if name in names]:
                new = names[old]
                if new in given:
                    raise UsageError(f"{old} is the old name of {new}; give {new} only")
                _warn(f"{function.__name__}({old}=…) is now {new}=…")
                given[new] = given.pop(old)
            position = given.get("position")
            if isinstance(position, str) and position in POSITIONS:
                _warn(f"position={position!r} is now {POSITIONS[position]!r}")
                given["position"] = POSITIONS[position]
            return function(*args, **given)  # type: ignore[arg-type]

        return call

    return wrap


def _warn(sentence: str) -> None:
    warnings.warn(f"{sentence}; the old name goes in the next version", DeprecationWarning, stacklevel=3)
