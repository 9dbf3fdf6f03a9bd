"""Progress on standard error: a bar on a terminal when the work takes longer than a second, elsewhere a line
now and then."""

import contextlib
import sys
import time
from collections.abc import Iterable, Iterator
from typing import Any, ClassVar, TypeVar

T = TypeVar("T")
PATIENCE_SECONDS = 1.0
LINE_SECONDS = (
    10.0  # between the lines that stand for the bar where standard error is no terminal (a log, a pipe)
)
IDLE_SECONDS = 5.0  # without work after which silence is counted anew
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

    Work inside work shows one bar, that of whoever was first: two would write over each other. Lines name both, and many
    short works in a row are no reason for silence.
    """

    _shown: "Progress | None" = None
    _running: ClassVar[list["Progress"]] = []  # the outermost first
    _quiet_since = _ended = float("-inf")

    def __init__(self, label: str, total: int | None) -> None:
        self.label, self.total, self.done, self.text = label, total, 0, ""
        self._start = time.monotonic()
        self._bar: Any = None
        self._task: Any = None
        if not Progress._running and self._start - Progress._ended > IDLE_SECONDS:
            Progress._quiet_since = self._start
        Progress._running.append(self)

    def advance(self, step: int = 1) -> None:
        self.done += step
        waited = time.monotonic() - Progress._quiet_since > PATIENCE_SECONDS
        if self._bar is None and waited and Progress._shown is None and sys.stderr.isatty():
            self._open()
        if self._bar is not None:
            self._bar.update(self._task, completed=self.done, note=self.text)
        elif Progress._shown is None and not sys.stderr.isatty():
            self._say()

    def _say(self) -> None:
        """A line every ``LINE_SECONDS``: how much is done, and how long the rest takes at this pace."""
        now = time.monotonic()
        first = next((each for each in Progress._running if each.done), self)
        ended = first is self and self.done == self.total and Progress._quiet_since >= self._start
        if _hidden or now - Progress._quiet_since < LINE_SECONDS or not first.done or ended:
            return
        Progress._quiet_since = now
        inside = "" if first is self else f" ({self._so_far()})"
        left = "" if first.total is None else f", about {first._left(now):.0f} s left"
        print(f"{first._so_far()}{left}{inside}", file=sys.stderr, flush=True)

    def _so_far(self) -> str:
        return f"{self.label}: {self.done} {'done' if self.total is None else f'of {self.total}'}"

    def _left(self, now: float) -> float:
        return (now - self._start) / self.done * max((self.total or 0) - self.done, 0)

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
        Progress._ended = time.monotonic()
        Progress._running.remove(self)
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
            Progress._shown = None
            Progress._quiet_since = Progress._ended


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
