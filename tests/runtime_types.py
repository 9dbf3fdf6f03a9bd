"""The run-time checker of the tests: what is annotated with arrays is checked at every call, by jaxtyping and
beartype (with an int allowed where a float is asked for, as PEP 484 has it).

jaxtyping's import hook wraps every function, though three of four have no array in their signature and a wrapped
call takes twenty times one that is not; those are left to the static checker.
"""

from collections.abc import Callable
from typing import Any, get_args

import jaxtyping
from beartype import BeartypeConf, beartype

checked = beartype(conf=BeartypeConf(is_pep484_tower=True))
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
        return _jaxtyped(what, typechecker=typechecker) if any(map(has_arrays, hints)) else what

    return decorate


def install(modules: list[str]) -> None:
    """Check these packages from their import on."""
    jaxtyping.jaxtyped = _jaxtyped_where_arrays_are  # the name that the hook's decorators call
    jaxtyping.install_import_hook(modules, "runtime_types.checked")
