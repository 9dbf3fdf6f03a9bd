"""The live view: dots where the values are, bars as high as the shares, and a picture per evaluation."""

import io
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from mechfourier.figures.live import Braille, LiveView, bars, curve
from mechfourier.toys.one_layer.train import train_one_layer


def test_dots_are_where_they_were_put() -> None:
    canvas = Braille(2, 1)
    canvas.dot(0.0, 1.0, "red")  # upper left
    canvas.dot(1.0, 0.0, "red")  # lower right
    canvas.dot(2.0, 0.5, "red")  # outside
    assert canvas.text().plain == chr(0x2801) + chr(0x2880)


def test_a_rising_line_rises() -> None:
    text = curve([([0, 1], [0.0, 1.0], "red")], width=10, height=5, log=False).plain.split("\n")
    filled = [np.flatnonzero([c != chr(0x2800) for c in row]) for row in text]
    assert all(len(row) for row in filled) and filled[0].min() > filled[-1].max()
    assert set(curve([], width=4, height=2, log=True).plain) == {chr(0x2800), "\n"}


def test_bars_are_as_high_as_the_shares() -> None:
    rows = bars([1.0, 0.5, 0.0], [1], width=6, height=4).plain.split("\n")
    assert [sum(row[2 * i] == "█" for row in rows) for i in range(3)] == [4, 2, 0]
    assert len(bars([0.1] * 200, [3], width=50, height=2).plain.split("\n")[0]) <= 50


def test_training_is_drawn_at_every_evaluation(tmp_path: Path) -> None:
    screen = Console(file=io.StringIO(), force_terminal=True, width=100, height=40)
    with LiveView(screen) as view:
        train_one_layer(tmp_path / "run", p=11, epochs=30, train_fraction=0.6, watch=view)
    assert [row["step"] for row in view.rows] == [10, 20, 30]
    text = screen.file.getvalue()  # pyright: ignore[reportAttributeAccessIssue]
    assert "epoch 30" in text and "circularity" in text and "W_E by frequency" in text


def test_long_runs_keep_half_of_their_points(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("mechfourier.figures.live.KEPT", 2)
    with LiveView(Console(file=io.StringIO(), width=80)) as view:
        train_one_layer(tmp_path / "run", p=11, epochs=30, train_fraction=0.6, watch=view)
    assert len(view.rows) == 2
