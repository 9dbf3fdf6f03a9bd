"""The look of every figure: colours that colour-blind readers can tell apart, and a page that may be light or dark.

The palette is Okabe and Ito's (2008, "Color Universal Design"); the sequential scale is cividis (Nuñez et al. 2018),
which is also in order of lightness. Backgrounds are transparent, and text and grid take two greys that read on white and on
near-black; :mod:`mechfourier.figures.html` swaps them for darker or lighter ones with the reader's colour scheme.
"""

from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import plotly.graph_objects as go

PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#F0E442")
BLUE, VERMILION, GREEN, PINK, ORANGE, SKY, YELLOW = PALETTE
SCALE = "cividis"
TEXT = "#6E7681"
GRID = "rgba(128,128,128,0.25)"
FAMILY = "system-ui, -apple-system, 'Segoe UI', Roboto, Helvetica, Arial, sans-serif"


@cache
def template() -> "go.layout.Template":
    """The Plotly template ``mechfourier``, registered on first use."""
    import plotly.graph_objects as go
    import plotly.io as pio

    axis = dict(
        gridcolor=GRID, zerolinecolor=GRID, linecolor=TEXT, ticks="outside", tickcolor=GRID, automargin=True
    )
    made = go.layout.Template(
        layout=dict(
            colorway=list(PALETTE),
            font=dict(family=FAMILY, size=13, color=TEXT),
            title=dict(x=0.0, xanchor="left", font=dict(size=16)),
            paper_bgcolor="rgba(0,0,0,0)",
            plot_bgcolor="rgba(0,0,0,0)",
            colorscale=dict(sequential=SCALE, diverging="RdBu"),
            xaxis=axis,
            yaxis=axis,
            margin=dict(l=10, r=10, t=50, b=10),
            hoverlabel=dict(font=dict(family=FAMILY)),
            legend=dict(orientation="h", y=-0.2),
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


def plain_text(text: str) -> str:
    """Text that Plotly shows as it is: it would read <b> and &amp; as markup."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
