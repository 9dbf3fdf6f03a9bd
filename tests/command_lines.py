"""Command lines in this process."""

import contextlib
import io
import sys

from typer.testing import CliRunner

from mechfourier.cli.app import app, main


def run(*words: str) -> tuple[int, str, str]:
    """Exit code, output and errors of a command line, through ``main``."""
    out, err, before = io.StringIO(), io.StringIO(), sys.argv
    sys.argv = ["mechfourier", *words]
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            main()
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else 0 if stop.code is None else 1
    else:
        code = 0
    finally:
        sys.argv = before
    return code, out.getvalue(), err.getvalue()


def output_of(*arguments: object) -> str:
    """What a command prints that ends well; its errors are raised."""
    outcome = CliRunner().invoke(app, [str(a) for a in arguments], catch_exceptions=False)
    assert outcome.exit_code == 0
    return outcome.stdout
