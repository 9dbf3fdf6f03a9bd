"""The look of every figure: colours that colour-blind readers can tell apart, and a page that may be light or
dark.

The palette is Okabe and Ito's (2008, "Color Universal Design"); the sequential scale is cividis (Nuñez et al.
2018), which is also in order of lightness. Backgrounds are transparent, and text and grid take two greys that
read on white and on near-black; the page's script swaps the text for darker or lighter ink with the reader's
colour scheme.
"""

from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import plotly.graph_objects as go

PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#F0E442")
BLUE, VERMILION, GREEN, PINK, ORANGE, SKY, YELLOW = PALETTE
SCALE = "cividis"
DIVERGING = "RdBu_r"
TEXT = "#6E7681"
GRID = "rgba(128,128,128,0.25)"
FAMILY = "system-ui, -apple-system, 'Segoe UI', Roboto, Helvetica, Arial, sans-serif"


@cache
def template() -> "go.layout.Template":
    """The Plotly template ``mechfourier``, registered on first use."""
    import plotly.graph_objects as go
    import plotly.io as pio

    axis = dict(
        gridcolor=GRID,
        zerolinecolor=GRID,
        linecolor=TEXT,
        ticks="outside",
        tickcolor=GRID,
        automargin=True,
        title=dict(font=dict(size=13)),
    )
    made = go.layout.Template(
        layout=dict(
            colorway=list(PALETTE),
            font=dict(family=FAMILY, size=13, color=TEXT),
            title=dict(
                x=0.0,
                xanchor="left",
                yref="container",
                y=1.0,
                yanchor="top",
                pad=dict(t=14),
                font=dict(size=16),
            ),
            paper_bgcolor="rgba(0,0,0,0)",
            plot_bgcolor="rgba(0,0,0,0)",
            colorscale=dict(sequential=SCALE, diverging=DIVERGING),
            xaxis=axis,
            yaxis=axis,
            margin=dict(l=10, r=10, t=80, b=10),
            hoverlabel=dict(font=dict(family=FAMILY)),
            # above the plot: below it, the legend and the axis title would fight for the same place
            legend=dict(
                orientation="h", x=0.0, xanchor="left", y=1.02, yanchor="bottom", bgcolor="rgba(0,0,0,0)"
            ),
            modebar=dict(bgcolor="rgba(0,0,0,0)", color=GRID, activecolor=TEXT),
        )
    )
    pio.templates["mechfourier"] = made
    return made


def styled(figure: "go.Figure", *, title: str | None = None, height: int | None = None) -> "go.Figure":
    """``figure`` with the template; ``title`` is plain text."""
    figure.update_layout(template=template(), height=height)
    if title is not None:
        figure.update_layout(title_text=plain_text(title))
    return figure


def plain_text(text: Any) -> str:
    """Text that Plotly shows as it is: it would read <b> and &amp; as markup."""
    return str(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def panels(titles: list[str], *, columns: int, square: bool = False, **options: Any) -> "go.Figure":
    """Small multiples, row by row; ``square`` gives every panel equal units on both axes."""
    from plotly.subplots import make_subplots

    rows = -(-len(titles) // columns)
    figure = make_subplots(
        rows=rows,
        cols=columns,
        subplot_titles=[plain_text(t) for t in titles],
        **{
            "horizontal_spacing": 0.12 if columns > 1 else 0.0,
            "vertical_spacing": min(0.16, 0.4 / rows),
            **options,
        },
    )
    figure.update_annotations(font_size=13)
    if square:
        for i in range(len(titles)):
            name = "" if i == 0 else str(i + 1)
            figure.layout[f"yaxis{name}"].update(
                scaleanchor=f"x{name}", constrain="domain", constraintoward="top"
            )
            figure.layout[f"xaxis{name}"].update(constrain="domain")
    return figure


def stacked(count: int, *, columns: int = 2, height: int = 210, titled: bool = True) -> dict[str, Any]:
    """What ``layout.meta.narrow`` says so that ``count`` panels lie in fewer columns on a small screen, each
    ``height`` pixels with its heading and its axis titles; ``titled``: every panel has a heading."""
    rows = -(-count // columns)
    change: dict[str, Any] = {"height": 60 + height * rows}
    across, down = 1 / columns, 1 / rows
    for i in range(count):
        name, left, top = str(i + 1) if i else "", i % columns * across, 1 - i // columns * down
        right, high = left + (0.8 if columns > 1 else 1.0) * across, top - 0.08 * down
        change |= {f"xaxis{name}.domain": [left, right], f"yaxis{name}.domain": [top - 0.72 * down, high]}
        if i % columns == 0:
            change[f"yaxis{name}.showticklabels"] = True
        if titled:
            change |= {f"annotations[{i}].x": (left + right) / 2, f"annotations[{i}].y": high}
    return change


def cell(index: int, columns: int) -> dict[str, Any]:
    """Row and column (from 1) of the panel with this index."""
    return {"row": index // columns + 1, "col": index % columns + 1}
