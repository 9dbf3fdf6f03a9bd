"""What figures are made of: lines, dots, bars, bands and heat maps with the hover text and the colours of
this package."""

import math
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from mechfourier.drawing.template import BLUE, DIVERGING, SCALE, SKY, TEXT, VERMILION, plain_text, styled

if TYPE_CHECKING:
    import plotly.graph_objects as go

BAND = "rgba(0,114,178,0.2)"
LOG: dict[str, Any] = dict(type="log", exponentformat="power", tickfont=dict(size=10))
LYING: dict[str, Any] = dict(orientation="h", x=0.5, xanchor="center", y=1.02, yanchor="bottom", len=0.4)
"""A colour bar above a square plot: beside it, it would stand far away, at the edge of the figure."""
ROWS, COLUMNS = 8, 8
"""Of a heat map that shows its numbers, at most."""
WIDTHS = 40  # of a bin: a histogram is at most so many wide


def figure(
    *traces: Any,
    x: Any = None,
    y: Any = None,
    title: str | None = None,
    height: int | None = None,
    **layout: Any,
) -> "go.Figure":
    """A styled figure of traces. ``x`` and ``y`` are axis titles, or options of the axes."""
    import plotly.graph_objects as go

    made = go.Figure(list(traces))
    made.update_layout(**layout)
    made.update_xaxes(x if isinstance(x, dict) else {"title": x})
    made.update_yaxes(y if isinstance(y, dict) else {"title": y})
    return styled(made, title=title, height=height)


def hovering(hover: str) -> dict[str, Any]:
    """``hover`` as the whole hover text; nothing to hover over where it is empty."""
    return {"hovertemplate": f"{hover}<extra></extra>"} if hover else {"hoverinfo": "skip"}


def line(
    x: Any,
    y: Any,
    name: str = "",
    *,
    colour: str = BLUE,
    dash: str = "solid",
    hover: str = "",
    **options: Any,
) -> "go.Scatter":
    """A line; without a name it has no place in the legend."""
    import plotly.graph_objects as go

    shown = {
        "mode": "lines",
        "name": plain_text(name),
        "showlegend": bool(name),
        **hovering(hover),
        **options,
    }
    width = shown.pop("line_width", 2)
    return go.Scatter(x=x, y=y, line={"color": colour, "dash": dash, "width": width}, **shown)


def dots(x: Any, y: Any, name: str = "", *, hover: str = "", **options: Any) -> "go.Scatter":
    """Points."""
    import plotly.graph_objects as go

    marker = {"color": BLUE, "size": 8, **options.pop("marker", {})}
    shown = {
        "mode": "markers",
        "name": plain_text(name),
        "showlegend": bool(name),
        **hovering(hover),
        **options,
    }
    return go.Scatter(x=x, y=y, marker=marker, **shown)


def bars(
    x: Any, y: Any, name: str = "", *, colour: Any = BLUE, hover: str = "%{x}: %{y:.3g}", **options: Any
) -> "go.Bar":
    """Bars; with ``orientation="h"`` they lie."""
    import plotly.graph_objects as go

    return go.Bar(x=x, y=y, name=plain_text(name), marker_color=colour, **hovering(hover), **options)


def band(x: Any, low: Any, high: Any) -> list[Any]:
    """The area between two lines."""
    edge: dict[str, Any] = dict(line_width=0)
    return [line(x, high, **edge), line(x, low, fill="tonexty", fillcolor=BAND, **edge)]


def heat(
    x: Any, y: Any, z: Any, *, bar: str = "share", hover: str = "", bound: float | None = None, **options: Any
) -> "go.Heatmap":
    """A heat map; ``bound`` makes the scale diverge from 0 to ± that."""
    import plotly.graph_objects as go

    colours: dict[str, Any] = {"colorscale": SCALE, "zmin": 0}
    if bound is not None:
        colours = {"colorscale": DIVERGING, "zmin": -bound, "zmax": bound}
    asked = options.pop("colorbar", {})
    rows, columns = (len(z), len(z[0])) if len(z) else (0, 0)
    if (
        x is not None and rows <= ROWS and columns <= COLUMNS
    ):  # few cells are a table: their numbers stand in them
        colours |= {"texttemplate": f"%{{z:{asked.get('tickformat', '.2f')}}}", "textfont": {"size": 10}}
    side = "top" if asked.get("orientation") == "h" else "right"
    colours["colorbar"] = {"title": {"text": bar, "side": side}, "thickness": 12, **asked}
    return go.Heatmap(x=x, y=y, z=z, **{**colours, **hovering(hover), **options})


def whiskers(centre: Sequence[float], low: Sequence[float], high: Sequence[float], colour: str = TEXT) -> Any:
    """Error bars from ``low`` to ``high`` around ``centre``."""
    up = [b - a for a, b in zip(centre, high, strict=True)]
    down = [b - a for a, b in zip(low, centre, strict=True)]
    look = {"color": colour, "thickness": 1.5, "width": 4}
    return {"type": "data", "symmetric": False, "array": up, "arrayminus": down, **look}


_HOOK = re.compile(r"(?:(\w+)\.)?(\d+)\.(?:\w+\.)?hook_(\w+)")


def site_labels(names: Sequence[str]) -> tuple[list[str], str]:
    """Hook points as short tick labels, and the title of their axis: layer numbers where all are of one kind,
    else the kinds behind them."""
    names = [name.replace("blocks.0.hook_resid_pre", "hook_input") for name in names]
    found = [_HOOK.fullmatch(name) for name in names]
    kinds = {(match[1], match[3]) for match in found if match is not None}
    if len(kinds) == 1:
        kind = next(iter(kinds))[1].replace("_", " ")
        title = "after layer" if kind == "resid post" else f"layer ({kind})"
        short = [
            match[2] if match else name.removeprefix("hook_")
            for match, name in zip(found, names, strict=True)
        ]
    else:
        many = len({stack for stack, _ in kinds}) > 1
        title = "hook point"
        short = [
            f"{match[1] + ' ' if many else ''}{match[2]} {match[3]}" if match else name.removeprefix("hook_")
            for match, name in zip(found, names, strict=True)
        ]
    return (short, title) if len(set(short)) == len(set(names)) else (list(names), "hook point")


def among(
    values: Sequence[float],
    observed: float,
    *,
    x: str,
    label: str,
    name: str,
    y: str = "controls",
    height: int = 340,
    axis: dict[str, Any] | None = None,
    **options: Any,
) -> "go.Figure":
    """A histogram of controls, and what was observed as a line. The axis goes on beyond both, so that neither is
    glued to an edge."""
    import plotly.graph_objects as go

    every = [*values, observed]
    span = (max(every) - min(every)) or abs(observed) or 1.0
    low, high = min(every) - 0.06 * span, max(every) + 0.06 * span
    bins = {"start": low, "end": high, "size": (high - low) / WIDTHS}
    look = {"marker_color": SKY, "name": plain_text(name), "showlegend": True, "xbins": bins, **options}
    drawn = [go.Histogram(x=list(values), **look)] if values else []
    counts = {"tickformat": ".0%" if "histnorm" in options else "d", "rangemode": "tozero"}
    axis = {"title": x, **(axis or {}), "range": [low, high]}
    made = figure(*drawn, x=axis, y={"title": y, **counts}, height=height)
    # named in the legend: beside the line, the name may lie over bars or have no room
    made.add_vline(x=observed, line={"color": VERMILION, "width": 3}, name=plain_text(label), showlegend=True)
    return made.update_layout(showlegend=True)


def ellipse(
    centre: tuple[float, float], spread: tuple[float, float, float], *, points: int = 41
) -> list[tuple[float, float]]:
    """One standard deviation of a 2-D normal with deviations and correlation ``spread``."""
    (x, y), (sx, sy, correlation) = centre, spread
    rest = math.sqrt(max(0.0, 1 - correlation**2))
    angles = [2 * math.pi * i / (points - 1) for i in range(points)]
    return [(x + sx * math.cos(a), y + sy * (correlation * math.cos(a) + rest * math.sin(a))) for a in angles]


def outward(x: float, y: float) -> str:
    """Where the label of a point stands: away from the centre, so that neighbours' labels and the path stay
    clear of it."""
    across = "right" if x > abs(y) / 4 else "left" if -x > abs(y) / 4 else "center"
    up = "top" if y > abs(x) / 2 else "bottom" if -y > abs(x) / 2 else "middle"
    return f"{up} {across}"
