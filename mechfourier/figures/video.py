"""A scene as MP4 or GIF: Matplotlib draws what stays once and only what moves on every frame, ffmpeg encodes.

A browser per frame would take a second each; this takes some hundredths.
"""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from mechfourier.drawing.template import BLUE, GREEN, ORANGE, SKY, VERMILION
from mechfourier.errors import MechFourierError, MissingExtra, OutOfRange, UsageError, need
from mechfourier.figures.scene import Bars, Circle, Curves, Heat, Panel, Scene, Wave
from mechfourier.files import write_with
from mechfourier.progress import tracked

SIZE, DPI = (1280, 720), 100
SECONDS, SLOWEST, FASTEST = 12.0, 5, 30
HOLD = 1.5  # seconds that the last frame stays
SERIES = (VERMILION, GREEN, BLUE, ORANGE)
AREA = (0.07, 0.95, 0.10, 0.86)  # left, right, bottom, top of the panels in the frame
INK, SOFT, PAPER = "#1f2328", "#6e7681", "#ffffff"


def frames_per_second(frames: int, seconds: float | None = None) -> int:
    """So that the animation lasts about ``seconds`` (12 by default), between 5 and 30."""
    if seconds is not None and not 0.5 <= seconds <= 600:
        raise OutOfRange(f"{seconds:g} seconds; choose between 0.5 and 600")
    return int(np.clip(round(frames / (seconds or SECONDS)), SLOWEST, FASTEST))


def write_video(
    shown: Scene, out: str | Path, *, size: tuple[int, int] = SIZE, seconds: float | None = None
) -> Path:
    """Write ``out`` (.mp4 or .gif). Raises ``MissingExtra`` without the extra ``video`` or its ffmpeg,
    ``UsageError`` for another ending, ``OutOfRange`` for a size that is odd or out of reason."""
    out = Path(out)
    if out.suffix not in (".mp4", ".gif"):
        raise UsageError(f"{out.name} is neither .mp4 nor .gif; give one of the two")
    if any(side % 2 or not 64 <= side <= 4096 for side in size):
        raise OutOfRange(f"a video of {size[0]} × {size[1]}; both must be even and between 64 and 4096")
    ffmpeg = _ffmpeg()
    fps = frames_per_second(len(shown.steps), seconds)
    return write_with(out, lambda temporary: _encode(ffmpeg, shown, temporary, out.suffix, size, fps))


def _ffmpeg() -> Any:
    """The module, once it is sure that there is a binary behind it."""
    need("matplotlib", extra="video")
    ffmpeg = need("imageio_ffmpeg", extra="video")
    try:
        binary = shutil.which(ffmpeg.get_ffmpeg_exe())
    except RuntimeError:
        binary = None
    if binary is None:
        raise MissingExtra(
            "imageio-ffmpeg finds no ffmpeg on this machine; install ffmpeg or set IMAGEIO_FFMPEG_EXE to it, "
            "or leave --mp4 and --gif out for the HTML player"
        )
    return ffmpeg


def _encode(ffmpeg: Any, shown: Scene, path: Path, suffix: str, size: tuple[int, int], fps: int) -> None:
    mp4 = ["-f", "mp4", "-preset", "veryfast", "-movflags", "+faststart"]
    options: dict[str, Any] = {"codec": "libx264", "quality": 8, "output_params": mp4}
    if suffix == ".gif":
        palette = "split[a][b];[a]palettegen=max_colors=128[p];[b][p]paletteuse=dither=none"
        gif = ["-filter_complex", palette, "-f", "gif"]
        options = {"codec": "gif", "pix_fmt_out": "pal8", "quality": None, "output_params": gif}
    options |= {"fps": fps, "pix_fmt_in": "rgba", "macro_block_size": 2, "ffmpeg_log_level": "error"}
    writer = ffmpeg.write_frames(str(path.absolute()), size, **options)
    writer.send(None)
    try:
        last = b""
        for last in tracked(pictures(shown, size=size), "frames", len(shown.steps)):
            writer.send(last)
        for _ in range(round(HOLD * fps)):
            writer.send(last)
    except OSError as error:
        raise MechFourierError(f"ffmpeg stopped while it wrote the video ({error})") from error
    finally:
        writer.close()


def pictures(shown: Scene, *, size: tuple[int, int] = SIZE) -> Iterator[bytes]:
    """Every frame as RGBA bytes, row by row."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(size[0] / DPI, size[1] / DPI), dpi=DPI, facecolor=PAPER)
    canvas = FigureCanvasAgg(figure)
    figure.text(0.02, 0.97, shown.title, fontsize=15, weight="bold", color=INK, va="top")
    moving, update = [], []
    for panel in shown.panels:
        axes = _axes(figure, panel)
        artists, change = DRAW[type(panel)](axes, panel, shown.steps)
        heading = axes.text(0, 1.03, "", transform=axes.transAxes, fontsize=11, color=INK, va="bottom")
        moving += [(axes, artist) for artist in (*artists, heading)]
        update.append((change, heading, panel.titles))
    for _, artist in moving:
        artist.set_animated(True)
    canvas.draw()
    still = canvas.copy_from_bbox(figure.bbox)
    for t in range(len(shown.steps)):
        for change, heading, titles in update:
            change(t)
            heading.set_text(titles[t])
        canvas.restore_region(still)
        for axes, artist in moving:
            axes.draw_artist(artist)
        yield canvas.buffer_rgba().tobytes()


def _axes(figure: Any, panel: Panel) -> Any:
    left, right, bottom, top = panel.box
    width, height = AREA[1] - AREA[0], AREA[3] - AREA[2]
    place = (
        AREA[0] + left * width,
        AREA[2] + bottom * height,
        (right - left) * width,
        (top - bottom) * height,
    )
    axes = figure.add_axes(place)
    axes.set_xlabel(panel.x_label, fontsize=10, color=INK)
    axes.set_ylabel(panel.y_label, fontsize=10, color=INK)
    axes.tick_params(labelsize=9, colors=SOFT)
    axes.grid(True, color="#d1d9e0", linewidth=0.6)
    axes.set_axisbelow(True)
    for name, spine in axes.spines.items():
        spine.set_visible(name in ("left", "bottom"))
        spine.set_color("#d1d9e0")
    return axes


Drawn = tuple[list[Any], Callable[[int], None]]


def _draw_circle(axes: Any, panel: Circle, _steps: np.ndarray) -> Drawn:
    bound = 1.08 * float(np.abs(panel.points).max())
    axes.set(xlim=(-bound, bound), ylim=(-bound, bound), aspect="equal")
    closed = np.append(np.array(panel.walk), panel.walk[0])
    (line,) = axes.plot([], [], color="#afb8c1", linewidth=0.7)
    first = panel.points[0]
    dots = axes.scatter(
        first[:, 0], first[:, 1], c=np.arange(len(first)), cmap="twilight_shifted", s=26, zorder=3
    )

    def change(t: int) -> None:
        line.set_data(panel.points[t, closed, 0], panel.points[t, closed, 1])
        dots.set_offsets(panel.points[t])

    return [line, dots], change


def _draw_wave(axes: Any, panel: Wave, _steps: np.ndarray) -> Drawn:
    low, high = float(min(panel.y.min(), panel.fit.min())), float(max(panel.y.max(), panel.fit.max()))
    margin = 0.05 * (high - low or 1.0)
    axes.set(xlim=(-1, panel.x.max() + 1), ylim=(low - margin, high + margin))
    (dots,) = axes.plot([], [], "o", color=BLUE, markersize=4)
    (curve,) = axes.plot([], [], color=VERMILION, linewidth=1.8)

    def change(t: int) -> None:
        dots.set_data(panel.x, panel.y[t])
        curve.set_data(panel.x, panel.fit[t])

    return [dots, curve], change


def _draw_bars(axes: Any, panel: Bars, _steps: np.ndarray) -> Drawn:
    ks = np.arange(1, panel.y.shape[1] + 1)
    colours = [VERMILION if k in panel.key else SKY for k in ks]
    bars = axes.bar(ks, panel.y[0], color=colours, width=0.8)
    axes.set(ylim=(0, 1.05 * float(panel.y.max())), xlim=(0, len(ks) + 1))
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")

    def change(t: int) -> None:
        for bar, height in zip(bars, panel.y[t], strict=True):
            bar.set_height(height)

    return list(bars), change


def _draw_heat(axes: Any, panel: Heat, _steps: np.ndarray) -> Drawn:
    logs = np.log10(np.maximum(panel.z, 1e-6))
    axes.grid(False)
    image = axes.imshow(logs[0], vmin=-6, vmax=0, cmap="cividis", origin="lower", interpolation="nearest")

    def change(t: int) -> None:
        image.set_data(logs[t])

    return [image], change


def _draw_curves(axes: Any, panel: Curves, steps: np.ndarray) -> Drawn:
    for (name, (x, y)), colour in zip(panel.series.items(), SERIES, strict=False):
        axes.plot(x, y, color=colour, linewidth=1.8, label=name)
    axes.set(xscale="log", ylim=(-0.03, 1.05), xlim=(max(1, int(steps.min())), int(steps.max()) or 1))
    axes.legend(fontsize=9, frameon=False, loc="upper left")
    cursor = axes.axvline(steps[0], color=SOFT, linewidth=1.2, linestyle=":")

    def change(t: int) -> None:
        cursor.set_xdata([steps[t], steps[t]])

    return [cursor], change


DRAW: dict[type, Callable[..., Drawn]] = {}
DRAW |= {Circle: _draw_circle, Wave: _draw_wave, Bars: _draw_bars, Heat: _draw_heat, Curves: _draw_curves}
