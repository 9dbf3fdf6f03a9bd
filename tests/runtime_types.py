"""The run-time checker of the tests: what is annotated with arrays is checked by jaxtyping and beartype (with an int
allowed where a float is asked for, as PEP 484 has it), at the first calls of every function in every test.

jaxtyping's import hook wraps every function and checks every call. Three functions of four have no array in their
signature, and a checked call takes twenty times one that is not, which in loops was half of the time of all tests.
"""

import functools
from collections import Counter
from collections.abc import Callable
from typing import Any, get_args

import jaxtyping
from beartype import BeartypeConf, beartype

checked = beartype(conf=BeartypeConf(is_pep484_tower=True))
CALLS = 20  # of one function in one test
calls: Counter[Callable[..., Any]] = Counter()  # cleared before every test
_KINDS = [f"{name}[" for name, what in vars(jaxtyping).items() if isinstance(what, type)]
_jaxtyped = jaxtyping.jaxtyped


def has_arrays(hint: object) -> bool:
    """Whether an annotation has an array of jaxtyping's in it."""
    if isinstance(hint, type) and issubclass(hint, jaxtyping.AbstractArray):
        return True
    if isinstance(hint, str):
        return any(kind in hint for kind in _KINDS)
    return any(map(has_arrays, get_args(hint)))


def _jaxtyped_where_arrays_are(*, typechecker: Any) -> Callable[[Any], Any]:
    def decorate(what: Any) -> Any:
        hints = getattr(what, "__annotations__", {}).values()
        if not any(map(has_arrays, hints)):
            return what
        wrapped = _jaxtyped(what, typechecker=typechecker)
        return wrapped if isinstance(what, type) else _at_first(what, wrapped)

    return decorate


def _at_first(plain: Callable[..., Any], wrapped: Callable[..., Any]) -> Callable[..., Any]:
    """``wrapped`` at the first calls of a test, then ``plain``."""

    @functools.wraps(plain)
    def call(*args: Any, **kwargs: Any) -> Any:
        calls[plain] += 1
        return (plain if calls[plain] > CALLS else wrapped)(*args, **kwargs)

    return call


def install(modules: list[str]) -> None:
    """Check these packages from their import on."""
    jaxtyping.jaxtyped = _jaxtyped_where_arrays_are  # the name that the hook's decorators call
    jaxtyping.install_import_hook(modules, "runtime_types.checked")
