"""Players and videos: a frame per checkpoint, drawn from the evolution, and clear words where something is
missing."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_run import P, write_run

from mechfourier.errors import MissingExtra, OutOfRange, UsageError
from mechfourier.figures.animation import player, write_player
from mechfourier.figures.scene import WHAT, Circle, Curves, by_phase, scene
from mechfourier.figures.video import frames_per_second, pictures, write_video
from mechfourier.toys.one_layer import Evolution, evolution


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(tmp_path_factory.mktemp("runs") / "small")


@pytest.fixture(scope="module")
def circle(run: Path) -> Evolution:
    return evolution(run, "circle")


@pytest.mark.parametrize("what", WHAT)
def test_a_player_has_a_frame_per_checkpoint(run: Path, what: str) -> None:
    shown = scene(evolution(run, what))
    figure: Any = player(shown)
    assert len(figure.frames) == 6 == len(figure.layout.sliders[0].steps)
    assert [button.label for button in figure.layout.updatemenus[0].buttons] == ["Play", "Pause"]
    for frame in figure.frames:
        assert len(frame.data) == len(frame.traces) and len(frame.layout.annotations) == len(shown.panels)
    assert any(isinstance(panel, Curves) for panel in shown.panels)


def test_the_frames_draw_the_evolution(circle: Evolution) -> None:
    figure: Any = player(scene(circle))
    for t, frame in enumerate(figure.frames):
        line, dots, bars, cursor = frame.data
        assert np.allclose(dots.x, circle.circle[t, :, 0]) and np.allclose(dots.y, circle.circle[t, :, 1])
        assert len(line.x) == P + 1 and np.allclose(bars.y, circle.embed_power[t])
        assert set(cursor.x) == {circle.step[t]}
    shown = scene(circle)
    assert isinstance(shown.panels[0], Circle) and "PCA" in shown.caption
    assert list(by_phase(P, 5) * 5 % P) == list(range(P))


def test_a_player_is_one_page_without_network(circle: Evolution, tmp_path: Path) -> None:
    evil = dataclasses.replace(circle, name="<script>alert(1)</script>")
    text = write_player(evil, tmp_path / "a.html").read_text(encoding="utf-8")
    assert "plotly.js v" in text and "alert(1)</script>" not in text


@pytest.mark.parametrize("what", WHAT)
def test_every_scene_can_be_rasterised_and_moves(run: Path, what: str) -> None:
    frames = list(pictures(scene(evolution(run, what)), size=(640, 360)))
    arrays = [np.frombuffer(frame, np.uint8).reshape(360, 640, 4) for frame in frames]
    assert len(arrays) == 6 and (arrays[0] != arrays[-1]).any()
    assert all((a[..., 3] == 255).all() and a[..., :3].std() > 5 for a in arrays)


@pytest.mark.parametrize("suffix", [".mp4", ".gif"])
def test_a_video_holds_every_frame(circle: Evolution, tmp_path: Path, suffix: str) -> None:
    import imageio_ffmpeg

    path = write_video(scene(circle), tmp_path / f"a{suffix}", size=(320, 180))
    counted: Any = imageio_ffmpeg.count_frames_and_secs(str(path))
    assert counted[0] >= 6 and counted[1] >= 6 / 30
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_the_speed_follows_from_the_length() -> None:
    assert frames_per_second(240) == 20 and frames_per_second(10) == 5 and frames_per_second(10_000) == 30
    assert frames_per_second(100, 10.0) == 10
    with pytest.raises(OutOfRange, match="between"):
        frames_per_second(100, 0.0001)


def test_what_a_video_cannot_be_is_said(
    circle: Evolution, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UsageError, match=r"neither \.mp4 nor \.gif"):
        write_video(scene(circle), tmp_path / "a.avi")
    with pytest.raises(OutOfRange, match="even"):
        write_video(scene(circle), tmp_path / "a.mp4", size=(321, 180))
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", str(tmp_path / "no-ffmpeg"))
    with pytest.raises(MissingExtra, match="no ffmpeg"):
        write_video(scene(circle), tmp_path / "a.mp4", size=(320, 180))
    assert not list(tmp_path.iterdir())
