"""Progress where standard error is no terminal: a line now and then, with what is left."""

import pytest

from mechfourier import progress as module
from mechfourier.progress import hidden, progress


@pytest.fixture()
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A clock that a test sets, and no work before it."""
    time = [1000.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: time[0])
    monkeypatch.setattr(module.Progress, "_ended", float("-inf"))
    return time


def test_a_log_gets_a_line_now_and_then(now: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    with progress("controls", total=40) as bar:
        for _ in range(10):
            now[0] += 4.0
            bar.advance()
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        "controls: 3 of 40, about 148 s left",
        "controls: 6 of 40, about 136 s left",
        "controls: 9 of 40, about 124 s left",
    ]


def test_nothing_is_said_of_the_last_step(now: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    with progress("steps", total=2) as bar:
        now[0] += 30.0
        bar.advance(2)
    assert capsys.readouterr().err == ""


def test_short_work_and_hidden_work_say_nothing(now: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    with progress("short", total=2) as bar:
        bar.advance(2)
    with hidden(), progress("hidden") as bar:
        now[0] += 100.0
        bar.advance()
    assert capsys.readouterr().err == ""


def test_many_short_works_in_a_row_are_no_silence(
    now: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    for _ in range(6):
        with progress("turns", total=4) as bar:
            now[0] += 4.0
            bar.advance(4)
    assert capsys.readouterr().err.splitlines() == ["turns: 4 of 4, about 0 s left"] * 2


def test_work_inside_work_is_named_with_what_is_left_of_the_whole(
    now: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    with progress("map", total=10) as outer:
        for _ in range(3):
            with progress("turns", total=2) as bar:
                for _ in range(2):
                    now[0] += 4.0
                    bar.advance()
            outer.advance()
    assert capsys.readouterr().err.splitlines() == [
        "map: 1 of 10, about 108 s left (turns: 1 of 2)",
        "map: 2 of 10, about 96 s left (turns: 2 of 2)",
    ]
