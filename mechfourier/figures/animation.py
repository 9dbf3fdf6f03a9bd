"""A scene as an interactive player: Plotly frames with a slider and a play button."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mechfourier._version import __version__
from mechfourier.drawing.html import Part, Section, report_page
from mechfourier.drawing.template import (
    BLUE,
    GREEN,
    GRID,
    ORANGE,
    SCALE,
    SKY,
    TEXT,
    VERMILION,
    plain_text,
    styled,
)
from mechfourier.figures.scene import Bars, Circle, Curves, Heat, Panel, Scene, Wave, scene
from mechfourier.files import write_text

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from mechfourier.toys.one_layer import Evolution

FRAME_MS = 60
SERIES = (VERMILION, GREEN, BLUE, ORANGE)
HEIGHT, NARROW_HEIGHT = 620, 900
FLOOR = 1e-6


def player(shown: Scene) -> "go.Figure":
    """The scene with one frame per checkpoint; it begins at the last one, and plays from the first."""
    import plotly.graph_objects as go

    figure: Any = go.Figure()
    moving: list[int] = []  # the traces that change
    at: list[Callable[[int], list[Any]]] = []
    for index, panel in enumerate(shown.panels):
        still, changing = DRAW[type(panel)](panel, f"x{index + 1}", f"y{index + 1}", shown.steps)
        figure.add_traces(still)
        first = len(figure.data)
        figure.add_traces(changing(len(shown.steps) - 1))
        moving += range(first, len(figure.data))
        at.append(changing)
        _axes(figure, panel, index)
    figure.frames = [
        go.Frame(
            name=str(t), traces=moving, data=[trace for make in at for trace in make(t)],
            layout=dict(annotations=[_heading(panel, t) for panel in shown.panels]),
        )
        for t in range(len(shown.steps))
    ]  # fmt: skip
    figure.update_layout(
        annotations=[_heading(panel, -1) for panel in shown.panels], meta={"narrow": _narrow(shown)}
    )
    curves = next(panel for panel in shown.panels if isinstance(panel, Curves))
    figure.update_layout(legend=_legend_in(curves.box))
    _controls(figure, shown.steps)
    return styled(figure, title=shown.title, height=HEIGHT)


def write_player(evolution: "Evolution", out: str | Path) -> Path:
    """The page with the player and the table behind its curves."""
    shown = scene(evolution)
    sections = [Section("Player", player(shown), shown.caption), Section("Checkpoints", evolution.frame())]
    part = Part("", sections)
    return write_text(
        out, report_page(shown.title, [part], footer=f"mechfourier {__version__}. One frame per checkpoint.")
    )


def _heading(panel: Panel, t: int) -> dict[str, Any]:
    """The title over a panel. Its place is that of the axes, wherever the page puts them."""
    text = "" if isinstance(panel, Curves) else panel.titles[t]  # the slider says the step
    left, _, _, top = panel.box
    return dict(
        text=plain_text(text), x=left, y=top, xref="paper", yref="paper", xanchor="left", yanchor="bottom", showarrow=False,
        font=dict(size=13),
    )  # fmt: skip


def _axes(figure: "go.Figure", panel: Panel, index: int) -> None:
    name = "" if index == 0 else str(index + 1)
    left, right, bottom, top = panel.box
    x: dict[str, Any] = dict(domain=[left, right], anchor=f"y{index + 1}", title=plain_text(panel.x_label))
    y: dict[str, Any] = dict(domain=[bottom, top], anchor=f"x{index + 1}", title=plain_text(panel.y_label))
    if isinstance(panel, Circle):
        bound = 1.08 * float(np.abs(panel.points).max())
        x |= dict(range=[-bound, bound], constrain="domain")
        y |= dict(range=[-bound, bound], scaleanchor=f"x{name}", constrain="domain", constraintoward="top")
    elif isinstance(panel, Heat):
        x |= dict(constrain="domain")
        y |= dict(scaleanchor=f"x{name}", constrain="domain", constraintoward="top")
    elif isinstance(panel, Bars):
        y |= dict(range=[0, 1.05 * float(panel.y.max())], tickformat=".0%")
    elif isinstance(panel, Wave):
        low, high = float(min(panel.y.min(), panel.fit.min())), float(max(panel.y.max(), panel.fit.max()))
        margin = 0.05 * (high - low or 1.0)
        y |= dict(range=[low - margin, high + margin])
    elif isinstance(panel, Curves):
        x |= dict(type="log", dtick=1)
        y |= dict(range=[-0.02, 1.05])
    figure.update_layout({f"xaxis{name}": x, f"yaxis{name}": y})


def _legend_in(box: tuple[float, float, float, float]) -> dict[str, Any]:
    """The legend in the upper left corner of the curves, which begin low."""
    return dict(
        orientation="v", x=box[0] + 0.01, xanchor="left", y=box[3], yanchor="top", font=dict(size=11), bgcolor="rgba(128,128,128,0.12)"
    )  # fmt: skip


def _narrow(shown: Scene) -> dict[str, Any]:
    """What the page changes on a small screen: the panels one below the other."""
    change: dict[str, Any] = {
        "height": NARROW_HEIGHT, "margin.t": 20,
        "sliders[0].x": 0, "sliders[0].len": 1, "updatemenus[0].pad.t": 115,
    }  # fmt: skip
    for index, panel in enumerate(shown.panels):
        name = "" if index == 0 else str(index + 1)
        left, right, bottom, top = panel.narrow
        if isinstance(panel, Curves):
            change |= {
                f"legend.{key}": value for key, value in _legend_in(panel.narrow).items() if key in ("x", "y")
            }
        change |= {f"xaxis{name}.domain": [left, right], f"yaxis{name}.domain": [bottom, top]}
        change |= {
            f"annotations[{index}].x": left,
            f"annotations[{index}].y": top,
            f"annotations[{index}].font.size": 11,
        }
    return change


def _controls(figure: "go.Figure", steps: np.ndarray) -> None:
    still: dict[str, Any] = dict(mode="immediate", transition=dict(duration=0))
    play = [None, still | dict(frame=dict(duration=FRAME_MS, redraw=True), fromcurrent=True)]
    pause = [[None], still | dict(frame=dict(duration=0, redraw=False))]
    jump = still | dict(frame=dict(duration=0, redraw=True))
    moves = [
        dict(method="animate", label=str(step), args=[[str(t)], jump])
        for t, step in enumerate(steps.tolist())
    ]
    slider = dict(
        active=len(steps) - 1, steps=moves, x=0.16, len=0.84, y=0, yanchor="top", pad=dict(t=55), ticklen=0, minorticklen=0,
        font=dict(size=1, color="rgba(0,0,0,0)"), tickwidth=0, currentvalue=dict(prefix="step ", font=dict(size=14, color=TEXT), xanchor="left"),
    )  # fmt: skip
    buttons = [
        dict(label="Play", method="animate", args=play),
        dict(label="Pause", method="animate", args=pause),
    ]
    menu = dict(
        type="buttons", direction="left", buttons=buttons, showactive=False, bgcolor="#eef1f4", font=dict(color="#1f2328"), x=0, xanchor="left", y=0, yanchor="top", pad=dict(t=75)
    )  # fmt: skip
    figure.update_layout(sliders=[slider], updatemenus=[menu], hovermode="closest")


Made = tuple[list[Any], Callable[[int], list[Any]]]


def _draw_circle(panel: Circle, x: str, y: str, _steps: np.ndarray) -> Made:
    import plotly.graph_objects as go

    walk = np.array(panel.walk)
    closed = np.append(walk, walk[0])
    points = panel.points.astype(np.float32)
    n = points.shape[1]

    def at(t: int) -> list[Any]:
        line = go.Scatter(
            x=points[t, closed, 0], y=points[t, closed, 1], xaxis=x, yaxis=y, mode="lines", line=dict(color=GRID, width=1),
            hoverinfo="skip", showlegend=False,
        )  # fmt: skip
        dots = go.Scatter(
            x=points[t, :, 0], y=points[t, :, 1], xaxis=x, yaxis=y, mode="markers", showlegend=False,
            marker=dict(color=np.arange(n), colorscale="phase", cmin=0, cmax=n, size=8), text=[str(v) for v in range(n)],
            hovertemplate="value %{text}<extra></extra>",
        )  # fmt: skip
        return [line, dots]

    return [], at


def _draw_wave(panel: Wave, x: str, y: str, _steps: np.ndarray) -> Made:
    import plotly.graph_objects as go

    values, fitted = panel.y.astype(np.float32), panel.fit.astype(np.float32)

    def at(t: int) -> list[Any]:
        dots = go.Scatter(
            x=panel.x, y=values[t], xaxis=x, yaxis=y, mode="markers", marker=dict(color=BLUE, size=6), showlegend=False,
            hovertemplate="%{x}: %{y:.3f}<extra></extra>",
        )  # fmt: skip
        curve = go.Scatter(
            x=panel.x, y=fitted[t], xaxis=x, yaxis=y, mode="lines", line=dict(color=VERMILION, width=2), showlegend=False,
            hoverinfo="skip",
        )  # fmt: skip
        return [dots, curve]

    return [], at


def _draw_bars(panel: Bars, x: str, y: str, _steps: np.ndarray) -> Made:
    import plotly.graph_objects as go

    share = panel.y.astype(np.float32)
    ks = np.arange(1, share.shape[1] + 1)
    colours = [VERMILION if k in panel.key else SKY for k in ks]

    def at(t: int) -> list[Any]:
        return [
            go.Bar(
                x=ks, y=share[t], xaxis=x, yaxis=y, marker=dict(color=colours, line_width=0), showlegend=False,
                hovertemplate="k = %{x}: %{y:.1%}<extra></extra>",
            )
        ]  # fmt: skip

    return [], at


def _draw_heat(panel: Heat, x: str, y: str, _steps: np.ndarray) -> Made:
    import plotly.graph_objects as go

    logs = np.log10(np.maximum(panel.z, FLOOR)).astype(np.float32)

    def at(t: int) -> list[Any]:
        return [
            go.Heatmap(
                z=logs[t], xaxis=x, yaxis=y, zmin=-6, zmax=0, colorscale=SCALE, showscale=False,
                hovertemplate="k_a = %{x}, k_b = %{y}: 10^%{z:.1f} of the variance<extra></extra>",
            )
        ]  # fmt: skip

    return [], at


def _draw_curves(panel: Curves, x: str, y: str, steps: np.ndarray) -> Made:
    import plotly.graph_objects as go

    still = [
        go.Scatter(
            x=sx, y=np.asarray(sy, dtype=np.float32), xaxis=x, yaxis=y, mode="lines", name=name, line=dict(color=colour, width=2),
            hovertemplate=f"step %{{x}}: {name} %{{y:.3f}}<extra></extra>",
        )
        for (name, (sx, sy)), colour in zip(panel.series.items(), SERIES, strict=False)
    ]  # fmt: skip

    def at(t: int) -> list[Any]:
        now = int(steps[t])
        return [
            go.Scatter(
                x=[now, now], y=[-0.02, 1.05], xaxis=x, yaxis=y, mode="lines", line=dict(color=TEXT, width=1.5, dash="dot"),
                hoverinfo="skip", showlegend=False,
            )
        ]  # fmt: skip

    return still, at


DRAW: dict[type, Callable[..., Made]] = {
    Circle: _draw_circle, Wave: _draw_wave, Bars: _draw_bars, Heat: _draw_heat, Curves: _draw_curves,
}  # fmt: skip
