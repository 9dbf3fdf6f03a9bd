"""Progress on standard error: a bar on a terminal when the work takes longer than a second, elsewhere a line
now and then."""

import contextlib
import sys
import time
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

T = TypeVar("T")
PATIENCE_SECONDS = 1.0
LINE_SECONDS = (
    10.0  # between the lines that stand for the bar where standard error is no terminal (a log, a pipe)
)
_hidden = False


@contextlib.contextmanager
def hidden() -> Iterator[None]:
    """No bars inside: something else draws on the terminal."""
    global _hidden
    before, _hidden = _hidden, True
    try:
        yield
    finally:
        _hidden = before


class Progress:
    """A bar that appears after ``PATIENCE_SECONDS``; ``advance`` moves it, ``note`` sets the text beside it.

    Work inside work shows one bar, that of whoever was first: two would write over each other.
    """

    _shown: "Progress | None" = None

    def __init__(self, label: str, total: int | None) -> None:
        self.label, self.total, self.done, self.text = label, total, 0, ""
        self._start = self._said = time.monotonic()
        self._bar: Any = None
        self._task: Any = None

    def advance(self, step: int = 1) -> None:
        self.done += step
        waited = time.monotonic() - self._start > PATIENCE_SECONDS
        if self._bar is None and waited and Progress._shown is None and sys.stderr.isatty():
            self._open()
        if self._bar is not None:
            self._bar.update(self._task, completed=self.done, note=self.text)
        elif Progress._shown is None and not sys.stderr.isatty():
            self._say()

    def _say(self) -> None:
        """A line every ``LINE_SECONDS``: how much is done, and how long the rest takes at this pace."""
        now = time.monotonic()
        if _hidden or now - self._said < LINE_SECONDS or self.done in (0, self.total):
            return
        self._said = now
        if self.total is None:
            print(f"{self.label}: {self.done} done", file=sys.stderr, flush=True)
            return
        left = (now - self._start) / self.done * (self.total - self.done)
        print(
            f"{self.label}: {self.done} of {self.total}, about {left:.0f} s left", file=sys.stderr, flush=True
        )

    def note(self, text: str) -> None:
        self.text = text

    def _open(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as RichProgress

        columns = [
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
        ]
        self._bar = RichProgress(*columns, console=Console(stderr=True), transient=True)
        self._bar.start()
        Progress._shown = self
        self._task = self._bar.add_task(self.label, total=self.total, note=self.text)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
            Progress._shown = None


@contextlib.contextmanager
def progress(label: str, total: int | None = None) -> Iterator[Progress]:
    """``with progress("capture", total=10) as bar: bar.advance()``."""
    bar = Progress(label, total)
    try:
        yield bar
    finally:
        bar.close()


def tracked(items: Iterable[T], label: str, total: int | None = None) -> Iterator[T]:
    """Iterate over ``items`` with a progress bar."""
    with progress(label, total) as bar:
        for item in items:
            yield item
            bar.advance()
