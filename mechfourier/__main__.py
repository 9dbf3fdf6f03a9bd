"""``python -m mechfourier``, and the ``mechfourier`` command: an interruption while Python still reads modules is one line too."""

import os
import sys
from pathlib import Path


def main() -> None:
    """Entry point of both."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by the caller, who wants nothing of it
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115
    try:
        from mechfourier.cli import main as run
    except KeyboardInterrupt:
        print("error: interrupted before anything was done", file=sys.stderr)
        raise SystemExit(130) from None
    run()


if __name__ == "__main__":
    main()
