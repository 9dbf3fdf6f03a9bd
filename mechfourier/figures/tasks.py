"""Accuracy of every task, with its exact interval, beside chance."""

from typing import TYPE_CHECKING

from mechfourier.drawing.marks import bars, dots, figure, whiskers
from mechfourier.drawing.template import VERMILION

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from mechfourier.domains.tasks import TasksResult


def tasks_figure(result: "TasksResult") -> "go.Figure":
    """One bar per task, grouped by domain; chance as a mark."""
    rows = result.tasks
    names = [[row.domain for row in rows], [row.task for row in rows]]
    shares = [row.accuracy.share for row in rows]
    error = whiskers(shares, [row.accuracy.low for row in rows], [row.accuracy.high for row in rows])
    mark = {"symbol": "line-ew-open", "size": 34, "color": VERMILION, "line": {"width": 3}}
    return figure(
        bars(names, shares, "right, 95 % interval", hover="%{x}: %{y:.1%}", error_y=error),
        dots(names, [row.chance for row in rows], "chance", marker=mark, hover="chance %{y:.1%}"),
        y={"title": "share of prompts", "range": [0, 1.02], "tickformat": ".0%"},
        title=f"Accuracy by task: {result.model}",
        height=440,
    )
