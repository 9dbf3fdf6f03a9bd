"""The Typer application and its error handling. A new command: a module beside this one, a line in
``COMMANDS``, and one in ``contents.OTHERS``."""

import importlib
import signal
import sys
import threading
import warnings
from types import FrameType
from typing import Annotated, Any

import typer

from mechfourier._version import __version__
from mechfourier.cli.common import add_no_check, report_error
from mechfourier.cli.contents import Contents
from mechfourier.cli.encoding import show_everything
from mechfourier.cli.naming import name_results
from mechfourier.errors import MechFourierError
from mechfourier.results.provenance import remember_command

app = typer.Typer(
    name="mechfourier",
    cls=Contents,
    help="Find, test and explain Fourier (circular) features in transformers.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)

# Modules of mechfourier.cli, each with ``register(app)``; none of them imports torch at the top.
COMMANDS: tuple[str, ...] = (
    "ablate",
    "analyze",
    "animate",
    "atlas",
    "attention",
    "attribution",
    "behaviour",
    "cache",
    "capture",
    "doctor",
    "domains",
    "find_plane",
    "gallery",
    "hooks",
    "import_",
    "lens",
    "numbers",
    "scan",
    "serve",
    "models",
    "patch",
    "periods",
    "probe",
    "report",
    "reproduce",
    "rotate",
    "sae",
    "stability",
    "steer",
    "study",
    "sweep",
    "sweep_ablate",
    "sweep_accuracy",
    "tasks",
    "train",
    "validate",
)


def _version(show: bool) -> None:
    if show:
        typer.echo(f"mechfourier {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    del version, debug  # --debug is read from sys.argv in main, before Typer parses


def _of_threads(told: threading.ExceptHookArgs) -> None:
    """What goes wrong in the thread of a pool that was interrupted is raised in the main thread as well."""
    if told.thread is None or "Executor" not in told.thread.name:
        threading.__excepthook__(told)


def _warning(message: Warning | str, *_: Any) -> None:
    """A warning without the line of source that it comes from."""
    print(f"note: {message}", file=sys.stderr)


_INTERRUPTED = threading.Event()


def _interrupt(number: int, frame: FrameType | None) -> None:
    """Ctrl-C, noted: a library that is being imported may raise an error of its own instead."""
    _INTERRUPTED.set()
    signal.default_int_handler(number, frame)


def main() -> None:
    """Entry point: every failure is one sentence on standard error and an exit code (2 usage, 1 run time)."""
    arguments = [a for a in sys.argv[1:] if a != "--debug"]
    debug = len(arguments) < len(sys.argv) - 1
    remember_command(arguments)
    show_everything()
    if not debug:
        threading.excepthook = _of_threads
        warnings.showwarning = _warning
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _interrupt)
    try:
        app(args=arguments, prog_name="mechfourier")
    except BaseException as error:
        if debug and not isinstance(error, SystemExit):
            raise
        late = _INTERRUPTED.is_set() and not isinstance(error, MechFourierError | SystemExit)
        raise SystemExit(report_error(KeyboardInterrupt() if late else error)) from None


for _name in COMMANDS:
    importlib.import_module(f"mechfourier.cli.{_name}").register(app)
name_results(app)
add_no_check(app)
