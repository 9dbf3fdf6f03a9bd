"""Progress where standard error is no terminal: a line now and then, with what is left."""

import pytest

from mechfourier import progress as module
from mechfourier.progress import hidden, progress


def test_a_log_gets_a_line_now_and_then(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = [0.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
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


def test_nothing_is_said_of_the_last_step(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = [0.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    with progress("steps", total=2) as bar:
        now[0] += 30.0
        bar.advance(2)
    assert capsys.readouterr().err == ""


def test_short_work_and_hidden_work_say_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = [0.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    with progress("short", total=2) as bar:
        bar.advance(2)
    with hidden(), progress("hidden") as bar:
        now[0] += 100.0
        bar.advance()
    assert capsys.readouterr().err == ""
