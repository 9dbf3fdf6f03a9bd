"""What figures are made of: lines, dots, bars, bands and heat maps with the hover text and the colours of
this package."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from mechfourier.drawing.template import BLUE, DIVERGING, SCALE, SKY, TEXT, VERMILION, plain_text, styled

if TYPE_CHECKING:
    import plotly.graph_objects as go

BAND = "rgba(0,114,178,0.2)"
LOG: dict[str, Any] = dict(type="log", exponentformat="power", tickfont=dict(size=10))


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
    return go.Scatter(x=x, y=y, line={"color": colour, "dash": dash, "width": 2}, **shown)


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
    colours["colorbar"] = {"title": bar, "thickness": 12, **options.pop("colorbar", {})}
    return go.Heatmap(x=x, y=y, z=z, **{**colours, **hovering(hover), **options})


def whiskers(centre: Sequence[float], low: Sequence[float], high: Sequence[float], colour: str = TEXT) -> Any:
    """Error bars from ``low`` to ``high`` around ``centre``."""
    up = [b - a for a, b in zip(centre, high, strict=True)]
    down = [b - a for a, b in zip(low, centre, strict=True)]
    return {"type": "data", "symmetric": False, "array": up, "arrayminus": down, "color": colour}


def among(
    values: Sequence[float],
    observed: float,
    *,
    x: str,
    label: str,
    name: str,
    y: str = "controls",
    height: int = 340,
    **options: Any,
) -> "go.Figure":
    """A histogram of controls, and what was observed as a line with its label on the side that has room."""
    import plotly.graph_objects as go

    drawn = (
        [go.Histogram(x=list(values), nbinsx=40, marker_color=SKY, name=plain_text(name), **options)]
        if values
        else []
    )
    made = figure(*drawn, x=x, y=y, height=height)
    right = not values or observed <= sorted(values)[len(values) // 2]
    made.add_vline(
        x=observed,
        line={"color": VERMILION, "width": 3},
        annotation={"text": plain_text(label), "font": {"color": TEXT}, "yanchor": "bottom"},
        annotation_position="top right" if right else "top left",
    )
    return made
