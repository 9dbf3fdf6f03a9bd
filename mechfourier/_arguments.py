"""What the public functions check of their arguments before anything runs, by the arguments' common names.

A wrong type that Python would take without a word ("31" is a sequence of "3" and "1") gives a wrong number,
so every public function checks here; what NumPy or torch hold is converted.
"""

import functools
import inspect
import operator
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from mechfourier.errors import OutOfRange, UsageError

P = ParamSpec("P")
R = TypeVar("R")

COUNTS = [
    "n_permutations",
    "k",
    "n_controls",
    "n_prompts",
    "n_control_prompts",
    "cycles",
    "seed",
    "steps",
    "batch",
    "rank",
    "bootstrap",
    "jobs",
    "workers",
]
NUMBERS = ["dims", "ks", "moduli", "neurons"]
SWITCHES = ["controls", "resume", "retry_failed", "keep_activations", "force"]
MOST = 2**63 - 1


def checked(function: Callable[P, R]) -> Callable[P, R]:
    """Check the arguments of a public function by their names; raises ``UsageError`` and ``OutOfRange``."""
    signature = inspect.signature(function)
    rules = {name: rule for name, rule in _rules(signature).items() if rule is not None}

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            bound = signature.bind(*args, **kwargs)
        except TypeError:
            return function(*args, **kwargs)  # Python's own sentence names the function
        for name in rules.keys() & bound.arguments.keys():
            if bound.arguments[name] is not signature.parameters[name].default:
                bound.arguments[name] = rules[name](name, bound.arguments[name])
        return function(*bound.args, **bound.kwargs)

    return call


def _rules(signature: inspect.Signature) -> dict[str, Callable[[str, Any], Any] | None]:
    return {name: _rule(name, str(given.annotation)) for name, given in signature.parameters.items()}


def _rule(name: str, annotation: str) -> Callable[[str, Any], Any] | None:
    """How an argument of that name and annotation is checked; None where it is not."""
    if name == "model" and "Path" not in annotation and "str" not in annotation:
        return _model
    if name == "domain":
        return _domains if "Sequence" in annotation else _domain
    if name in COUNTS:
        return _count
    if name in NUMBERS and ("int" in annotation or "Sequence" in annotation):
        return _numbers if "bool" not in annotation else None
    return _switch if name in SWITCHES and annotation == "<class 'bool'>" else None


def _told(value: Any) -> str:
    shown = repr(value)
    return f"{shown[:60]}{'…' * (len(shown) > 60)} ({type(value).__name__})"


def _whole(name: str, value: Any) -> int:
    try:
        if isinstance(value, bool):
            raise TypeError
        return operator.index(value)
    except TypeError:
        raise UsageError(f"{name} is {_told(value)}; give a whole number") from None


def _count(name: str, value: Any) -> int:
    number = _whole(name, value)
    if not 0 <= number <= MOST:
        raise OutOfRange(f"{name} is {number}; give a whole number from 0 to 2**63 - 1")
    return number


def _numbers(name: str, value: Any) -> Any:
    """One whole number, or a list of them; a NumPy array or a tensor is read as a list."""
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, (str, bytes)) or not isinstance(value, Iterable):
        return _whole(name, value)
    return [_whole(name, each) for each in value]


def _switch(name: str, value: Any) -> bool:
    if type(value).__name__ in ("bool", "bool_"):
        return bool(value)
    raise UsageError(f"{name} is {_told(value)}; give True or False")


def _domain(name: str, value: Any) -> Any:
    if isinstance(value, (str, Path)) or hasattr(value, "templates"):
        return value
    raise UsageError(
        f"{name} is {_told(value)}; give a name like 'months' (mechfourier domains lists them), the path of a "
        f".toml file, or a Domain"
    )


def _domains(name: str, value: Any) -> Any:
    """One domain or several."""
    if isinstance(value, (list, tuple)):
        return [_domain(name, each) for each in value]
    return _domain(name, value)


def _model(name: str, value: Any) -> Any:
    inside = getattr(value, "model", value)  # an Experiment holds its model
    if any(all(hasattr(each, name) for name in ("hook_dict", "cfg", "forward")) for each in (value, inside)):
        return value
    if isinstance(value, (str, Path)):
        raise UsageError(f"{name} is {_told(value)}; load it first: mechfourier.load({str(value)!r})")
    raise UsageError(
        f"{name} is of type {type(value).__name__}, which has no hook points; give what mechfourier.load "
        f"returns, or a HookedRootModule of your own (mechfourier.wrap; docs/how-to/own-model.md)"
    )
