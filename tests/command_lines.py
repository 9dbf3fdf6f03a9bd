"""Command lines in this process, through ``main``."""

import contextlib
import io
import sys

from mechfourier.cli.app import main


def run(*words: str) -> tuple[int, str, str]:
    """Exit code, output and errors of a command line."""
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
