"""Figure of stability: what turns with the planes in every run."""

from typing import TYPE_CHECKING

from mechfourier.drawing.marks import dots, figure, whiskers
from mechfourier.drawing.template import BLUE, plain_text

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from mechfourier.causal.stability import StabilityResult


def stability_figure(result: "StabilityResult") -> "go.Figure":
    """Share of answers that move by exactly δ in every run, with its 95 % interval."""
    frame = result.frame()
    rows = frame[frame["exact_share"].notna()]
    spread = whiskers(rows["exact_share"].tolist(), rows["low"].tolist(), rows["high"].tolist())
    names = [plain_text(str(name)[-24:]) for name in rows["name"]]
    hover = "%{x}, %{text}: %{y:.1%}"
    drawn = dots(
        names,
        rows["exact_share"],
        hover=hover,
        text=rows["verdict"] + ", " + rows["used"],
        error_y=spread,
        marker={"color": BLUE, "size": 10},
    )
    return figure(
        drawn,
        x={"type": "category", "tickangle": -25},
        y={"title": "answers that move by exactly δ", "range": [-0.02, 1.05], "tickformat": ".0%"},
        title=f"{result.domain} in {result.n_runs} runs: {result.verdict} in {result.verdict_count}, "
        f"{result.used} in {result.used_count}",
        height=400,
    )
