"""What the commands share: error sentences, JSON output, option types."""

import errno
import json
import os
import re
import sys
import warnings
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import typer

from mechfourier.errors import MechFourierError, OutOfRange
from mechfourier.models.folder import out_of_memory

if TYPE_CHECKING:
    from mechfourier.probes.domains import Domain


SEEDS = ("--seed", "--split-seed")


def check_seeds(arguments: list[str]) -> None:
    """Raise ``OutOfRange`` for a seed that some of the generators behind a command would not take."""
    words = [word for argument in arguments for word in argument.split("=", 1)]
    for name, value in pairwise(words):
        if name not in SEEDS or not re.fullmatch(r"-?[0-9]+", value):
            continue
        if len(value) > 19 or not 0 <= int(value) < 2**63:
            raise OutOfRange(f"{name} {value[:30]}: a seed is a whole number from 0 to 2**63 - 1")


def report_error(error: BaseException) -> int:
    """Print one sentence for ``error`` on standard error and return the exit code."""
    if isinstance(error, SystemExit):
        return error.code if isinstance(error.code, int) else 0 if error.code is None else 1
    if isinstance(error, MechFourierError):
        return _say(str(error), error.exit_code)
    if isinstance(error, KeyboardInterrupt):
        return _say("interrupted; what was finished is kept", 130)
    if isinstance(error, BrokenPipeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    if out_of_memory(error):
        return _say("out of memory; use fewer layers (--layers) or a smaller batch", 1)
    if isinstance(error, OverflowError) or "Overflow when unpacking" in str(error):
        return _say(f"a number given is too large ({error}); seeds and counts end at 2**63 - 1", 2)
    if isinstance(error, OSError):
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        return _say(f"no space left on the disk ({error.filename})" if full else f"{error}", 1)
    first = next(iter(str(error).strip().splitlines()), "")
    return _say(f"unexpected {type(error).__name__}: {first}; run again with --debug for the traceback", 1)


def _say(sentence: str, code: int) -> int:
    print(f"error: {sentence}", file=sys.stderr)
    return code


def domain_of(given: str | None, model: str, default: str = "months") -> "Domain":
    """The domain asked for; where none was, the task that the model was trained on, or ``default``. No model is loaded for that."""
    from mechfourier.models.catalogue import own_task
    from mechfourier.probes.domains import domain

    return domain(given or own_task(model) or default)


def emit_json(value: dict[str, Any]) -> None:
    """Exactly one JSON object on standard output."""
    typer.echo(json.dumps(value, allow_nan=False, ensure_ascii=False))


def quiet_libraries() -> None:
    """Keep the chatter of imported libraries off the terminal; ours goes to standard error."""
    warnings.filterwarnings(
        "ignore", module=r"(transformer_lens|transformers|torch|sae_lens|huggingface_hub)(\..*)?"
    )
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")


def note(text: str) -> None:
    """A line for people, on standard error."""
    print(text, file=sys.stderr)
