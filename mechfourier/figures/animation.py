"""A scene as an interactive player: Plotly frames with a slider and a play button."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mechfourier.drawing.html import Part, Section, write_page
from mechfourier.drawing.marks import bars, dots, heat, line
from mechfourier.drawing.template import BLUE, GREEN, GRID, ORANGE, SKY, TEXT, VERMILION, plain_text, styled
from mechfourier.figures.scene import Bars, Circle, Curves, Heat, Panel, Scene, Wave, scene

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
        still, changing = DRAW[type(panel)](
            panel, {"xaxis": f"x{index + 1}", "yaxis": f"y{index + 1}"}, shown.steps
        )
        figure.add_traces(still)
        first = len(figure.data)
        figure.add_traces(changing(len(shown.steps) - 1))
        moving += range(first, len(figure.data))
        at.append(changing)
        _axes(figure, panel, index)
    figure.frames = [
        go.Frame(
            name=str(t),
            traces=moving,
            data=[trace for make in at for trace in make(t)],
            layout=dict(annotations=[_heading(panel, t) for panel in shown.panels]),
        )
        for t in range(len(shown.steps))
    ]
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
    return write_page(out, Part(shown.title, sections, "One frame per checkpoint."), whole=True)


def _heading(panel: Panel, t: int) -> dict[str, Any]:
    """The title over a panel. Its place is that of the axes, wherever the page puts them."""
    text = "" if isinstance(panel, Curves) else panel.titles[t]  # the slider says the step
    left, _, _, top = panel.box
    return dict(
        text=plain_text(text),
        x=left,
        y=top,
        xref="paper",
        yref="paper",
        xanchor="left",
        yanchor="bottom",
        showarrow=False,
        font=dict(size=13),
    )


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
    """The legend above the curves, which have no heading of their own."""
    return dict(orientation="h", x=box[0], xanchor="left", y=box[3], yanchor="bottom", font=dict(size=11))


def _narrow(shown: Scene) -> dict[str, Any]:
    """What the page changes on a small screen: the panels one below the other."""
    change: dict[str, Any] = {
        "height": NARROW_HEIGHT,
        "margin.t": 20,
        "sliders[0].x": 0,
        "sliders[0].len": 1,
        "updatemenus[0].pad.t": 115,
    }
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
    still: dict[str, Any] = {"mode": "immediate", "transition": {"duration": 0}}
    play = [None, still | {"frame": {"duration": FRAME_MS, "redraw": True}, "fromcurrent": True}]
    pause = [[None], still | {"frame": {"duration": 0, "redraw": False}}]
    jump = still | {"frame": {"duration": 0, "redraw": True}}
    moves = [
        {"method": "animate", "label": str(step), "args": [[str(t)], jump]}
        for t, step in enumerate(steps.tolist())
    ]
    told = {"prefix": "step ", "font": {"size": 14, "color": TEXT}, "xanchor": "left"}
    hidden = {"ticklen": 0, "minorticklen": 0, "tickwidth": 0, "font": {"size": 1, "color": "rgba(0,0,0,0)"}}
    place = {"x": 0.16, "len": 0.84, "y": 0, "yanchor": "top", "pad": {"t": 55}}
    slider = {"active": len(steps) - 1, "steps": moves, "currentvalue": told, **place, **hidden}
    buttons = [
        {"label": name, "method": "animate", "args": args}
        for name, args in (("Play", play), ("Pause", pause))
    ]
    place = {"x": 0, "xanchor": "left", "y": 0, "yanchor": "top", "pad": {"t": 75}, "direction": "left"}
    look = {"showactive": False, "bgcolor": "#eef1f4", "font": {"color": "#1f2328"}}
    menu = {"type": "buttons", "buttons": buttons, **place, **look}
    figure.update_layout(sliders=[slider], updatemenus=[menu], hovermode="closest")


Made = tuple[list[Any], Callable[[int], list[Any]]]


def _draw_circle(panel: Circle, axes: dict[str, str], _steps: np.ndarray) -> Made:
    closed = [*panel.walk, panel.walk[0]]
    points = panel.points.astype(np.float32)
    n = points.shape[1]
    look = {"color": np.arange(n) * panel.k % n, "colorscale": "phase", "cmin": 0, "cmax": n}
    values, hover = [str(v) for v in range(n)], "value %{text}"

    def at(t: int) -> list[Any]:
        path = line(points[t, closed, 0], points[t, closed, 1], colour=GRID, **axes)
        return [path, dots(points[t, :, 0], points[t, :, 1], marker=look, text=values, hover=hover, **axes)]

    return [], at


def _draw_wave(panel: Wave, axes: dict[str, str], _steps: np.ndarray) -> Made:
    values, fitted = panel.y.astype(np.float32), panel.fit.astype(np.float32)

    def at(t: int) -> list[Any]:
        measured = dots(panel.x, values[t], marker={"size": 6}, hover="%{x}: %{y:.3f}", **axes)
        return [measured, line(panel.x, fitted[t], colour=VERMILION, **axes)]

    return [], at


def _draw_bars(panel: Bars, axes: dict[str, str], _steps: np.ndarray) -> Made:
    share = panel.y.astype(np.float32)
    ks = np.arange(1, share.shape[1] + 1)
    look = {
        "colour": [VERMILION if k in panel.key else SKY for k in ks],
        "marker_line_width": 0,
        "showlegend": False,
    }
    return [], lambda t: [bars(ks, share[t], hover="k = %{x}: %{y:.1%}", **look, **axes)]


def _draw_heat(panel: Heat, axes: dict[str, Any], _steps: np.ndarray) -> Made:
    logs = np.log10(np.maximum(panel.z, FLOOR)).astype(np.float32)
    look: dict[str, Any] = {"zmin": -6, "zmax": 0, "showscale": False}
    hover = "k_a = %{x}, k_b = %{y}: 10^%{z:.1f} of the variance"
    return [], lambda t: [heat(None, None, logs[t], hover=hover, **look, **axes)]


def _draw_curves(panel: Curves, axes: dict[str, str], steps: np.ndarray) -> Made:
    still = [
        line(x, y.astype(np.float32), name, colour=colour, hover=f"step %{{x}}: {name} %{{y:.3f}}", **axes)
        for (name, (x, y)), colour in zip(panel.series.items(), SERIES, strict=False)
    ]
    return still, lambda t: [line([int(steps[t])] * 2, [-0.02, 1.05], colour=TEXT, dash="dot", **axes)]


DRAW: dict[type, Callable[..., Made]] = {}
DRAW |= {Circle: _draw_circle, Wave: _draw_wave, Bars: _draw_bars, Heat: _draw_heat, Curves: _draw_curves}
