"""What the commands share: error sentences, JSON output, option types."""

import contextlib
import errno
import functools
import inspect
import json
import math
import os
import re
import shutil
import sys
import textwrap
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mechfourier.errors import MechFourierError, OutOfRange, UsageError
from mechfourier.models.folder import out_of_memory
from mechfourier.results.provenance import weights_of_name

if TYPE_CHECKING:
    from mechfourier.domains.definition import Domain

LONGEST_RANGE = 1_000_000


def finite(value: Any) -> Any:
    """Callback of every option that is a real number: "nan" reads as one, and is neither below nor above
    anything."""
    for number in value if isinstance(value, (list, tuple)) else [value]:
        if number is not None and not math.isfinite(number):
            raise typer.BadParameter(f"{number} is no number that can be used")
    return value


# Limits of options, so that a wrong number is said before a model is loaded: ``typer.Option(help=…,
# **SEED)``. A limit is far above what anybody waits for and below what fills the memory; the library has
# limits of its own by model and domain.
Limits = dict[str, Any]
SEED: Limits = {"min": 0, "max": 2**32 - 1}
COUNT: Limits = {"min": 1, "max": 1_000_000}
FROM_NONE: Limits = {"min": 0, "max": 1_000_000}
BATCH: Limits = {"min": 2, "max": 1_000_000}
CONTROLS: Limits = {"min": 0, "max": 100_000}
CYCLES: Limits = {"min": 1, "max": 100}
LAYER: Limits = {"min": 0, "max": 9_999}
DIGITS: Limits = {"min": 1, "max": 100}
MODULUS: Limits = {"min": 2, "max": 100_000}
CONTEXT: Limits = {"min": 2, "max": 1_000_000}
TOKENS: Limits = {"min": 1, "max": 10**15}
STEPS: Limits = {"min": 1, "max": 10**9}
PROCESSES: Limits = {"min": 1, "max": 4096}
# An option of its own, as many commands ask a model questions.
TASK = typer.Option(
    help="A task of the domain by name (mechfourier tasks lists them; default: the best one answered above "
    "chance)."
)
SHARE: Limits = {"min": 0, "max": 1, "callback": finite}
PERIOD: Limits = {"min": 1e-6, "max": 1e9, "callback": finite}


def number_list(text: str, option: str, what: str, example: str, *, ranges: bool = False) -> list[int]:
    """``"8"``, ``"8,35"`` and with ``ranges`` ``"0-3,7"`` as numbers; raises ``UsageError``, and
    ``OutOfRange`` for a range without end."""
    found: list[int] = []
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d{1,12})\s*(?:-\s*(\d{1,12})\s*)?", part)
        if not match or (match[2] and (not ranges or int(match[2]) < int(match[1]))):
            raise UsageError(f"{option} {text[:60]!r} is no list of {what}; write {example}")
        low, high = int(match[1]), int(match[2] or match[1])
        if high - low > LONGEST_RANGE:
            raise OutOfRange(
                f"{option} {text[:60]!r} names {high - low + 1} {what}; at most {LONGEST_RANGE + 1}"
            )
        found += range(low, high + 1)
    return found


def report_error(error: BaseException) -> int:
    """Print one sentence for ``error`` on standard error and return the exit code."""
    if isinstance(error, KeyboardInterrupt) or (isinstance(error, SystemExit) and error.code == 130):
        return _say("interrupted; what was saved is kept, and the same command goes on from there", 130)
    if isinstance(error, SystemExit):
        return error.code if isinstance(error.code, int) else 0 if error.code is None else 1
    if isinstance(error, MechFourierError):
        return _say(str(error), error.exit_code)
    if isinstance(error, BrokenPipeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    if out_of_memory(error):
        return _say("out of memory; use fewer layers (--layers) or a smaller batch", 1)
    if isinstance(error, OverflowError) or "Overflow when unpacking" in str(error):
        return _say(f"a number given is too large ({error}); seeds and counts end at 2**63 - 1", 2)
    if isinstance(error, ValueError) and "embedded null" in str(error):
        return _say("a path or a name given holds a null character, which no file has; give another", 2)
    if isinstance(error, OSError):
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        where = "on the disk" if error.filename is None else f"on the disk ({error.filename})"
        return _say(f"no space left {where}" if full else f"{error}", 1)
    first = next(iter(str(error).strip().splitlines()), "")
    return _say(f"unexpected {type(error).__name__}: {first}; run again with --debug for the traceback", 1)


def _say(sentence: str, code: int) -> int:
    shown = re.sub(r"(\S{100})\S{300,}", r"\1…", sentence)  # a word of thousands of digits is no help
    print(f"error: {shown}", file=sys.stderr)
    return code


def domain_of(given: str | None, model: str, default: str = "months", *, task: str | None = None) -> "Domain":
    """The domain asked for; where none was, the task that the model was trained on, or ``default``; it has the
    ``task``. No model is loaded for that."""
    from mechfourier.domains.definition import domain
    from mechfourier.models.catalogue import own_task

    chosen = domain(given or own_task(model) or default)
    if task is not None:
        from mechfourier.domains.tasks import task_named

        task_named(chosen, task)
    return chosen


def emit_json(value: dict[str, Any]) -> None:
    """Exactly one JSON object on standard output; one about a model says what its weights are."""
    if "model" in value and "weights" not in value:
        value = {**value, "weights": weights_of_name(value["model"])}
    plain = (sys.stdout.encoding or "").lower().replace("-", "") != "utf8"  # machines read every character
    typer.echo(json.dumps(value, allow_nan=False, ensure_ascii=plain))


def quiet_libraries() -> None:
    """Keep the chatter of imported libraries off the terminal; ours goes to standard error."""
    warnings.filterwarnings(
        "ignore", module=r"(transformer_lens|transformers|torch|sae_lens|huggingface_hub)(\..*)?"
    )
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")


NO_CHECK = Annotated[
    bool,
    typer.Option(
        "--no-check", help="Skip the comparison with Hugging Face's forward pass (noted in every result)."
    ),
]
# parameters of commands that name a model to load
MODEL_PARAMETERS = ("model", "network")


def add_no_check(app: typer.Typer) -> None:
    """Give every command that loads a model the option ``--no-check``; called once, when all commands are
    there."""
    for command in app.registered_commands:
        if command.callback is not None:
            command.callback = _with_no_check(command.callback)
    for group in app.registered_groups:
        if group.typer_instance is not None:
            add_no_check(group.typer_instance)


def _with_no_check(callback: Callable[..., Any]) -> Callable[..., Any]:
    signature = inspect.signature(callback)
    if not set(MODEL_PARAMETERS) & set(signature.parameters):
        return callback

    @functools.wraps(callback)
    def command(*args: Any, no_check: bool = False, **options: Any) -> Any:
        from mechfourier.models.registry import unchecked

        with unchecked() if no_check else contextlib.nullcontext():
            return callback(*args, **options)

    added = inspect.Parameter("no_check", inspect.Parameter.KEYWORD_ONLY, default=False, annotation=NO_CHECK)
    known = [*signature.parameters.values(), added]
    command.__signature__ = signature.replace(parameters=known)  # type: ignore[attr-defined]
    command.__annotations__ = {**callback.__annotations__, "no_check": NO_CHECK}
    return command


def note(text: str) -> None:
    """A line for people, on standard error; on a terminal wrapped at words."""
    print(wrapped(text) if sys.stderr.isatty() else text, file=sys.stderr)


def wrapped(text: str) -> str:
    """Every line at the width of the terminal, what is over under its beginning."""
    width, lines = max(40, shutil.get_terminal_size().columns), []
    for line in text.splitlines():
        indent = " " * (len(line) - len(line.lstrip()) + 2)
        lines.append(
            textwrap.fill(
                line, width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
            )
        )
    return "\n".join(lines)
