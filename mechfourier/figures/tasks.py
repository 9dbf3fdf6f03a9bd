"""Accuracy of every task, with its exact interval, beside chance."""

from typing import TYPE_CHECKING

import plotly.graph_objects as go

from mechfourier.drawing.template import styled

if TYPE_CHECKING:
    from mechfourier.domains.tasks import TasksResult


def tasks_figure(result: "TasksResult") -> go.Figure:
    """One bar per task, grouped by domain; chance as a mark."""
    figure = go.Figure()
    rows = result.tasks
    names = [[row.domain for row in rows], [row.task for row in rows]]
    shares = [row.accuracy.share for row in rows]
    figure.add_bar(
        x=names,
        y=shares,
        name="right (best of the candidates)",
        error_y={
            "type": "data",
            "array": [row.accuracy.high - row.accuracy.share for row in rows],
            "arrayminus": [row.accuracy.share - row.accuracy.low for row in rows],
        },
    )
    figure.add_scatter(
        x=names,
        y=[row.chance for row in rows],
        mode="markers",
        marker={"symbol": "line-ew-open", "size": 18},
        name="chance",
    )
    figure.update_layout(
        title=f"Tasks of {result.model}", yaxis_title="share of prompts", yaxis_range=[0, 1.02]
    )
    return styled(figure)
