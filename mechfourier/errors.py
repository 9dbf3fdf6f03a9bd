"""Errors: one sentence with the value, the nearest match and the next step.

``exit_code`` is what the command line returns: 2 for a wrong call, 1 for a failure at run time.
"""

import difflib
import importlib
import re
from collections.abc import Iterable
from types import ModuleType
from typing import Any

CONTROL = re.compile(
    r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]"
)  # and what turns the direction of writing


class MechFourierError(Exception):
    """Something failed at run time (weights absent, disk full, a hook that never fired)."""

    exit_code = 1

    def __str__(self) -> str:
        return printable(super().__str__())


def printable(text: str) -> str:
    """One line that moves no cursor and rings no bell: control characters, which names in files may hold, as
    escapes."""
    return CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


class UsageError(MechFourierError):
    """The call was wrong: unknown name, value out of range, contradictory options."""

    exit_code = 2


class UnknownModel(UsageError):
    """No model of that name, and no folder of that path."""


class UnknownDomain(UsageError):
    """No packaged domain of that name, and no file of that path."""


class UnknownSite(UsageError):
    """The model has no hook point of that name, kind or layer."""


class OutOfRange(UsageError):
    """A layer, dimension, position or option value outside its range."""


class DomainSchemaError(UsageError):
    """A domain file that does not fit the schema; names the line and the key."""


class NotExpressible(UsageError):
    """The model's tokenizer cannot express the domain's values."""


class WeightsNotFound(MechFourierError):
    """A known model whose weights are in none of the places looked at."""


class UnsafeCheckpoint(MechFourierError):
    """A checkpoint that would have to run code to be read."""


class BadCheckpoint(MechFourierError):
    """A checkpoint that is truncated, or whose tensors do not fit the model."""


class EngineDiffers(MechFourierError):
    """A hooked model whose residual stream or logits are not Hugging Face's; it is not loaded."""


class DiskFull(MechFourierError):
    """No space is left where something was to be written: what asked for it can be done again as it is."""


class FolderInUse(MechFourierError):
    """Another process is writing to the same folder."""


class DeviceUnavailable(MechFourierError):
    """The device asked for is not there."""


class HookNeverFired(MechFourierError):
    """An intervention or a capture whose hook point did not run."""


class InterventionChangedNothing(MechFourierError):
    """An intervention that fired and left every activation as it was."""


class MissingExtra(MechFourierError):
    """An optional dependency is not installed."""


def brief_repr(value: Any) -> str:
    """A value that was given, and of which type it is, in a readable length."""
    try:
        shown = " ".join(repr(value).split())
    except Exception:  # a class of the caller's own
        shown = "an object"
    return f"{shown[:60]}{'…' * (len(shown) > 60)} ({type(value).__name__})"


def nearest(name: str, options: Iterable[str], *, count: int = 3) -> str:
    """The closest ``options`` to ``name`` as readable text; the first few options where none is close."""
    known = [str(option) for option in options]
    lowered = {option.lower(): option for option in reversed(known)}
    close = [lowered[m] for m in difflib.get_close_matches(name.lower(), list(lowered), n=count, cutoff=0.4)]
    return ", ".join(close or known[:count]) or "none"


def need(module: str, *, extra: str) -> ModuleType:
    """Import an optional dependency, or raise ``MissingExtra`` with the pip command that installs it."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingExtra(
            f"{module!r} is not installed; install it with: pip install 'mechfourier[{extra}]'"
        ) from error
