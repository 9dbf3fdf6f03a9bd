"""What the commands share: error sentences, JSON output, option types."""

import errno
import json
import os
import sys
import warnings
from typing import TYPE_CHECKING, Any

import typer

from mechfourier.errors import MechFourierError

if TYPE_CHECKING:
    from mechfourier.probes.domains import Domain


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
    if isinstance(error, MemoryError):
        return _say("out of memory; use fewer layers (--layers) or a smaller batch", 1)
    if isinstance(error, OverflowError) or "Overflow when unpacking" in str(error):
        return _say(f"a number given is too large ({error}); seeds and counts end at 2**63 - 1", 2)
    if isinstance(error, OSError):
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        return _say(f"no space left on the disk ({error.filename})" if full else f"{error}", 1)
    return _say(f"unexpected {type(error).__name__}: {error}; run again with --debug for the traceback", 1)


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
