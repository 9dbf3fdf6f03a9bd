"""Training as it happens, in the terminal: curves, the spectrum of the embedding, and its strongest
circle."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from mechfourier.fourier.circle import project_circle
from mechfourier.fourier.key_freqs import matrix_share

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.text import Text

BLOCKS = " ▁▂▃▄▅▆▇█"
# bit of every dot in a braille character, by (row, column)
DOTS = np.array([[0x01, 0x08], [0x02, 0x10], [0x04, 0x20], [0x40, 0x80]])
TRAIN, TEST, KEY, REST = "blue", "dark_orange3", "dark_orange3", "sky_blue3"
KEPT = 4000  # evaluations; every second one is dropped when there are more


class Braille:
    """A drawing of ``width`` × ``height`` characters, each two dots wide and four high; one colour per
    character."""

    def __init__(self, width: int, height: int) -> None:
        self.width, self.height = width, height
        self.bits = np.zeros((height, width), dtype=int)
        self.colours: dict[tuple[int, int], str] = {}

    def dot(self, x: float, y: float, colour: str) -> None:
        """A dot at ``x``, ``y`` in 0..1 from the lower left; outside it nothing is drawn."""
        if not (0 <= x <= 1 and 0 <= y <= 1):
            return
        column = min(int(x * self.width * 2), self.width * 2 - 1)
        row = min(int((1 - y) * self.height * 4), self.height * 4 - 1)
        self.bits[row // 4, column // 2] |= DOTS[row % 4, column % 2]
        self.colours[(row // 4, column // 2)] = colour

    def text(self) -> "Text":
        from rich.text import Text

        out = Text(no_wrap=True)
        for row in range(self.height):
            for column in range(self.width):
                out.append(chr(0x2800 + int(self.bits[row, column])), self.colours.get((row, column)))
            if row < self.height - 1:
                out.append("\n")
        return out


def curve(
    series: Sequence[tuple[Sequence[float], Sequence[float], str]], *, width: int, height: int, log: bool
) -> "Text":
    """Lines over a common axis that begins at the first x; ``log`` draws log₁₀ of the values."""
    canvas = Braille(width, height)
    drawn = [(np.asarray(x, float), np.asarray(y, float), colour) for x, y, colour in series if len(x)]
    if log:
        drawn = [(x, np.log10(np.maximum(y, 1e-12)), colour) for x, y, colour in drawn]
    if not drawn:
        return canvas.text()
    left, right = min(x[0] for x, _, _ in drawn), max(x[-1] for x, _, _ in drawn)
    low = min(float(y.min()) for _, y, _ in drawn) if log else 0.0
    high = max(float(y.max()) for _, y, _ in drawn) if log else 1.0
    for x, y, colour in drawn:
        grid = np.linspace(left, right, width * 8)
        for at, value in zip(grid, np.interp(grid, x, y), strict=True):
            canvas.dot((at - left) / ((right - left) or 1.0), (value - low) / ((high - low) or 1.0), colour)
    return canvas.text()


def bars(shares: Sequence[float], key: Sequence[int], *, width: int, height: int) -> "Text":
    """A bar per frequency k = 1, 2, … (several columns each where there is room; the tallest fills the
    height)."""
    from rich.text import Text

    step = max(1, width // max(1, len(shares)))
    every = math.ceil(len(shares) / width)
    groups = [shares[i : i + every] for i in range(0, len(shares), every)]
    keys = [any(i * every < k <= (i + 1) * every for k in key) for i in range(len(groups))]
    top = max(max(group) for group in groups) or 1.0
    out = Text(no_wrap=True)
    for row in range(height - 1, -1, -1):
        for group, is_key in zip(groups, keys, strict=True):
            level = max(group) / top * height - row
            block = BLOCKS[int(np.clip(round(level * 8), 0, 8))]
            out.append(block * max(1, step - 1) + " " * (step > 1), KEY if is_key else REST)
        if row:
            out.append("\n")
    return out


class LiveView:
    """Give it to ``train_one_layer(watch=…)`` inside ``with``: it redraws at every evaluation."""

    def __init__(self, console: "Console | None" = None) -> None:
        from rich.console import Console
        from rich.live import Live

        self.console = console or Console(stderr=True)
        self.rows: list[dict[str, float]] = []
        self.live = Live(console=self.console, auto_refresh=False, transient=False)

    def __enter__(self) -> "LiveView":
        self.live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.live.stop()

    def __call__(self, trainee: Any, step: int, metrics: dict[str, float]) -> None:
        """Draw the state of ``trainee`` (an ``OneLayerTrainee``) after ``step`` steps."""
        self.rows.append({"step": step, "train_loss": trainee.train_loss, **metrics})
        if len(self.rows) > KEPT:
            self.rows = self.rows[::2]
        w_e = trainee.weights()["embed.W_E"][: trainee.model.p].cpu()
        self.live.update(self.draw(w_e, step), refresh=True)

    def draw(self, w_e: Any, step: int) -> "RenderableType":
        """The panels for the embedding ``w_e [p, d]`` and what was recorded so far."""
        from rich.panel import Panel
        from rich.table import Table

        width = max(24, min(64, (self.console.width - 4) // 2 - 4))
        last, share = self.rows[-1], matrix_share(w_e)
        k = int(share.argmax()) + 1
        key = tuple(int(i) + 1 for i in (share > 3 * share.mean()).nonzero().flatten())
        circle = project_circle(w_e, k)
        panels = [
            (
                self._curves("loss", width, log=True),
                f"loss (nats): train {last['train_loss']:.2g}, test {last['test_loss']:.2g}",
            ),
            (
                self._curves("accuracy", width, log=False),
                f"accuracy: train {last['train_accuracy']:.1%}, test {last['test_accuracy']:.1%}",
            ),
            (
                bars(share.tolist(), key, width=width, height=9),
                f"W_E by frequency; k = {k} holds {float(share.max()):.0%}",
            ),
            (
                _circle(circle.points.numpy(), width),
                f"circle of k = {k}: circularity {circle.circularity:.2f}",
            ),
        ]
        boxes = [Panel(body, title=title, width=width + 4, height=11) for body, title in panels]
        grid = Table.grid()
        grid.add_row(*boxes[:2])
        grid.add_row(*boxes[2:])
        return Panel(grid, title=f"epoch {step}", border_style="dim", width=2 * width + 12)

    def _curves(self, kind: str, width: int, *, log: bool) -> "Text":
        series = []
        for part, colour in (("train", TRAIN), ("test", TEST)):
            rows = [
                (r["step"], r[f"{part}_{kind}"]) for r in self.rows if not math.isnan(r[f"{part}_{kind}"])
            ]
            series.append(([x for x, _ in rows], [y for _, y in rows], colour))
        return curve(series, width=width, height=9, log=log)


def _circle(points: np.ndarray, width: int) -> "Text":
    """The values of the cycle; a character is about twice as high as wide, a braille dot is square."""
    canvas = Braille(width, 9)
    bound = float(np.abs(points).max()) * 1.05 or 1.0
    narrow = 9 * 4 / (width * 2)
    for x, y in points:
        canvas.dot(0.5 + x / bound / 2 * narrow, 0.5 + y / bound / 2, TEST)
    return canvas.text()
