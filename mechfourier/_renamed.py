"""What wraps every public function: its arguments are checked (`mechfourier._arguments`), and keywords that got
a new name work under the old one until version ``GONE_IN``, with a warning that says so."""

import functools
import warnings
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from mechfourier._arguments import checked

P = ParamSpec("P")
R = TypeVar("R")

GONE_IN = "0.3"


def renamed(**names: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Decorate a function whose keywords were renamed: ``@renamed(permutations="n_permutations")``, old name
    to new name.

    The old keyword is passed on under its new name with a ``DeprecationWarning`` that names the version in
    which it goes; giving both raises ``TypeError``.
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        run = checked(function)

        @functools.wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> R:
            for old in names.keys() & kwargs.keys():
                new = names[old]
                if new in kwargs:
                    raise TypeError(
                        f"{function.__name__}() got {new} and {old}, its old name; give {new} only"
                    )
                warnings.warn(
                    f"{function.__name__}({old}=…) is called {new}=… now; {old} goes in mechfourier "
                    f"{GONE_IN}",
                    DeprecationWarning,
                    stacklevel=2,
                )
                kwargs[new] = kwargs.pop(old)
            return run(*args, **kwargs)

        return call

    return decorate
