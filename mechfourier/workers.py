"""Processes that work for this one, and end with it."""

import functools
import os
import threading
import time

SECONDS = 1.0
"""How long a process goes on after its parent was killed, at most."""


@functools.cache  # once in every process
def end_with(parent: int) -> None:
    """End this process when ``parent``, whose child it is, is gone: a killed one cannot stop its children, which would work on
    for nobody. Nothing happens in the parent itself."""
    if os.getppid() == parent:
        threading.Thread(target=_watch, args=(parent,), daemon=True).start()


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(SECONDS)
    os._exit(1)
