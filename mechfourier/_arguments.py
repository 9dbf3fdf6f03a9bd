"""What the public functions check of their arguments before anything runs, by their annotations.

A wrong type that Python would take without a word ("31" is a sequence of "3" and "1") gives a wrong number,
so every public function checks here; what NumPy or torch hold is converted.
"""

import collections.abc
import functools
import inspect
import operator
import sys
from abc import ABCMeta
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, ParamSpec, SupportsFloat, TypeVar, Union, get_args, get_origin

from mechfourier.errors import OutOfRange, UsageError, brief_repr

P = ParamSpec("P")
R = TypeVar("R")

COUNTS = frozenset(
    [
        "n_permutations",
        "k",
        "ks",
        "n_controls",
        "n_prompts",
        "n_control_prompts",
        "most_prompts",
        "cycles",
        "seed",
        "steps",
        "batch",
        "batch_size",
        "rank",
        "bootstrap",
        "jobs",
        "workers",
        "components",
        "digits",
        "n_untrained",
        "n_doses",
        "max_new_tokens",
        "low",
        "high",
    ]
)
"""Whole numbers that cannot be negative."""
FILLED = frozenset(["moduli", "periods", "layers", "prompts", "ks", "k", "dims", "models"])
"""Lists of which an empty one asks for nothing."""
MOST = 2**63 - 1
LISTS = (collections.abc.Sequence, collections.abc.Iterable, list, tuple)
MODEL = ("hook_dict", "cfg", "forward")
"""What every model has (`models.interface.Model`)."""
OF_A_MODEL = {"Model", "Hooked", "Experiment", "NoneType"}
"""Annotations of arguments that are a model; what only turns text into tokens is not checked."""
WORDS = {
    int: "a whole number",
    float: "a number",
    bool: "True or False",
    str: "text",
    Path: "a path",
    NoneType: "None",
}
MANY = {int: "whole numbers", float: "numbers", str: "texts", Path: "paths"}


def checked(function: Callable[P, R]) -> Callable[P, R]:
    """Check the arguments of a public function by their annotations; raises ``UsageError`` and ``OutOfRange``."""
    signature, names = inspect.signature(function), vars(inspect.getmodule(function))

    @functools.cache  # at the first call: an annotation in quotes may name a class that comes later
    def found() -> dict[str, Callable[[str, Any], Any]]:
        return {name: rule for name, rule in _rules(signature, names).items() if rule is not None}

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            bound = signature.bind(*args, **kwargs)
        except TypeError:
            return function(*args, **kwargs)  # Python's own sentence names the function
        rules = found()
        for name in rules.keys() & bound.arguments.keys():
            default = signature.parameters[name].default
            if bound.arguments[name] is not default:
                bound.arguments[name] = rules[name](name, bound.arguments[name])
                _refuse_empty(name, bound.arguments[name], default)
        return function(*bound.args, **bound.kwargs)

    return call


def _rules(
    signature: inspect.Signature, names: dict[str, Any]
) -> dict[str, Callable[[str, Any], Any] | None]:
    given = [each for each in signature.parameters.values() if each.kind is not each.VAR_POSITIONAL]
    return {each.name: _rule(each.name, _read(each.annotation, names)) for each in given}


def _read(hint: Any, names: dict[str, Any]) -> Any:
    """An annotation in quotes as what it says; ``Any`` where it names what is neither there nor public."""
    if not isinstance(hint, str):
        return hint
    try:
        return eval(hint, names)
    except NameError as missing:
        name = str(missing.name)
        known = getattr(sys.modules["mechfourier"], name, None)  # its public names
        return Any if known is None else _read(hint, {**names, name: known})


def _rule(name: str, hint: Any) -> Callable[[str, Any], Any] | None:
    """How an argument of that name and annotation is checked; None where it is not."""
    kinds = _alternatives(hint)
    if name == "model" and {getattr(kind, "__name__", "") for kind in kinds} <= OF_A_MODEL:
        needs = ("hook_dict",) if getattr(hint, "__name__", "") == "Hooked" else MODEL
        return None if NoneType in kinds else functools.partial(that_model, needs=needs)
    if name == "model" and any(getattr(kind, "__name__", "") == "Encoder" for kind in kinds):
        return _reader
    if name == "model" and str in kinds and any(getattr(kind, "__name__", "") == "Model" for kind in kinds):
        return _model_or_name
    if name == "domain" and str in kinds:
        if any(_of_list(kind) for kind in kinds):
            return _domains
        return that_domain if NoneType not in kinds else _domain_or_none
    if kinds and all(kind in WORDS or _of_list(kind) or _is_class(kind) for kind in kinds):
        return functools.partial(_one_of, kinds)
    return _models if name == "models" else None


def _alternatives(hint: Any) -> tuple[Any, ...]:
    """The members of a union, or the annotation alone."""
    return get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)


def _of_list(kind: Any) -> tuple[Any, ...]:
    """What may stand in a list of that annotation; empty for what is no list of simple things."""
    if get_origin(kind) not in LISTS:
        return ()
    inner = tuple(each for each in _alternatives(get_args(kind)[0]))
    return inner if all(each in WORDS or _is_class(each) for each in inner) else ()


def _is_class(kind: Any) -> bool:
    """A class whose instances can be told; not a protocol, nor a shape of arrays."""
    plain = type(kind) in (type, ABCMeta) and kind.__module__.split(".")[0] in (
        "mechfourier",
        "torch",
        "numpy",
    )
    return plain and not getattr(kind, "_is_protocol", False)


def _one_of(kinds: tuple[Any, ...], name: str, value: Any) -> Any:
    """The value as the first of the kinds that it fits; raises ``UsageError``."""
    for kind in kinds:
        if (inner := _of_list(kind)) and _is_list(value):
            values = value.tolist() if hasattr(value, "tolist") else value
            return [_one_of(inner, name, each) for each in values]
        try:
            return _as(kind, name, value)
        except TypeError:
            continue
    raise UsageError(f"{name} is {brief_repr(value)}; give {_told_kinds(kinds)}")


def _refuse_empty(name: str, value: Any, default: Any) -> None:
    """Raise ``UsageError`` for blank text and empty lists, which would be read as "all", or as nothing to do, unless the argument
    is one that stands empty by itself."""
    empty = (isinstance(value, str) and not value.strip()) or (
        isinstance(value, list | tuple) and not value and name in FILLED
    )
    stands = isinstance(default, str | list | tuple) and not default
    if empty and not stands:
        raise UsageError(
            f"{name} is empty ({value!r}); give one at least, or leave it out where it has a default"
        )


def refuse_repeated(name: str, values: Iterable[Any]) -> None:
    """Raise ``UsageError`` where something that counts once is named twice."""
    seen = list(values)
    if twice := [each for i, each in enumerate(seen) if each in seen[:i]]:
        raise UsageError(f"{name} names {twice[0]} more than once; give each once")


def _is_list(value: Any) -> bool:
    """Anything to go through, but no text and no mapping; an array of numbers, but no single one."""
    if isinstance(value, (str, bytes, Mapping)) or getattr(value, "shape", None) == ():
        return False
    return isinstance(value, Iterable)


def _as(kind: Any, name: str, value: Any) -> Any:
    """The value as one of that kind; raises ``TypeError`` where it is none."""
    if kind is int:
        return _whole(name, value)
    if kind is float:
        if (
            isinstance(value, bool)
            or not isinstance(value, SupportsFloat)
            or getattr(value, "shape", ()) != ()
        ):
            raise TypeError
        if value != value:
            raise TypeError
        return value
    if kind is bool and type(value).__name__ == "bool_":  # NumPy's
        return bool(value)
    if not isinstance(value, kind):
        raise TypeError
    return value


def _told_kinds(kinds: tuple[Any, ...]) -> str:
    told: list[str] = []
    for kind in kinds:
        if inner := _of_list(kind):
            told.append("a list of " + " or ".join(MANY.get(each) or str(each.__name__) for each in inner))
        else:
            told.append(WORDS.get(kind, getattr(kind, "__name__", str(kind))))
    return ", or ".join([", ".join(told[:-1]), told[-1]]) if len(told) > 1 else told[0]


def _whole(name: str, value: Any) -> int:
    if isinstance(value, bool):
        raise TypeError
    number = operator.index(value)
    if name in COUNTS and not 0 <= number <= MOST:
        raise OutOfRange(f"{name} is {number}; give a whole number from 0 to 2**63 - 1")
    if name == "n_permutations" and number == 0:
        raise OutOfRange("n_permutations is 0, and without permutations there is no p; give 99 or more")
    return number


def _domain_or_none(name: str, value: Any) -> Any:
    return None if value is None else that_domain(name, value)


def that_domain(name: str, value: Any) -> Any:
    """The value, where it is a domain or names one; raises ``UsageError``."""
    if isinstance(value, (str, Path)) or hasattr(value, "templates"):
        return value
    raise UsageError(
        f"{name} is {brief_repr(value)}; give a name like 'months' (mechfourier domains lists them), the path of a "
        f".toml file, or a Domain"
    )


def _domains(name: str, value: Any) -> Any:
    """One domain or several."""
    if isinstance(value, (list, tuple)):
        return [that_domain(name, each) for each in value]
    return that_domain(name, value)


def _model_or_name(name: str, value: Any) -> Any:
    """A model, loaded or by name."""
    return value if isinstance(value, (str, Path)) else that_model(name, value)


def _models(name: str, value: Any) -> Any:
    """One model or several, loaded or by name."""
    return value if _is_list(value) else _model_or_name(name, value)


def _reader(name: str, value: Any) -> Any:
    """What turns text into tokens: a model, or a tokenizer of its own (text has an ``encode`` of another kind)."""
    return that_model(name, value) if value is None or isinstance(value, (str, Path)) else value


def that_model(name: str, value: Any, needs: tuple[str, ...] = MODEL) -> Any:
    """The value, where it is a model; raises ``UsageError``."""
    if isinstance(value, (str, Path)):
        raise UsageError(f"{name} is {brief_repr(value)}; load it first: mechfourier.load({str(value)!r})")
    inside = getattr(value, "model", value)  # an Experiment holds its model
    if any(all(hasattr(each, name) for name in needs) for each in (value, inside)):
        return value
    raise UsageError(
        f"{name} is of type {type(value).__name__}, which has no hook points; give what mechfourier.load "
        f"returns, or a HookedRootModule of your own (mechfourier.wrap; docs/how-to/own-model.md)"
    )
