"""Figures of a training run: losses and accuracies with the phases of grokking, several runs overlaid, any metrics."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from mechfourier.drawing.template import (
    BLUE,
    GREEN,
    ORANGE,
    PALETTE,
    SKY,
    VERMILION,
    panels,
    plain_text,
    styled,
)

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

PHASE_COLOURS = {"memorisation": SKY, "circuit formation": ORANGE, "clean-up": GREEN}
MAX_POINTS = 2000  # per curve; more cannot be seen and make the page heavy


def curves_figure(history: "pd.DataFrame", phases: Any = None) -> "go.Figure":
    """Losses (above) and accuracies (below) over the steps, with the phases as bands where there are any.

    ``history`` has ``step`` and any of ``train_loss``, ``test_loss``, ``train_accuracy``, ``test_accuracy``.
    """
    import plotly.graph_objects as go

    figure = panels(["", ""], columns=1, shared_xaxes=True, vertical_spacing=0.06)
    for row, kind in ((1, "loss"), (2, "accuracy")):
        for part, colour in (("train", BLUE), ("test", VERMILION)):
            if (name := f"{part}_{kind}") not in history.columns:
                continue
            shown = thinned(history.loc[:, ["step", name]].dropna())
            figure.add_trace(
                go.Scatter(
                    x=shown["step"], y=shown[name], name=part, legendgroup=part, showlegend=row == 1, mode="lines",
                    line=dict(color=colour, width=2), hovertemplate=f"step %{{x}}: {part} {kind} %{{y:.4g}}<extra></extra>",
                ),
                row=row, col=1,
            )  # fmt: skip
    figure.update_yaxes(
        title="loss (nats)",
        type="log",
        exponentformat="power",
        tickfont=dict(size=10),
        dtick=_decades(history),
        row=1,
        col=1,
    )
    figure.update_yaxes(title="accuracy", range=[-0.02, 1.02], tickformat=".0%", row=2, col=1)
    figure.update_xaxes(type="log", dtick=1)
    figure.update_xaxes(title="step", row=2, col=1)
    mark_phases(figure, phases, first=first_step(history))
    return styled(figure, title="Training", height=520)


def first_step(frame: "pd.DataFrame") -> float:
    """The first step that a logarithmic axis can show."""
    return max(1.0, float(frame["step"].to_numpy().min()))


def _decades(history: "pd.DataFrame") -> int:
    """Ticks at every decade, or fewer where the losses span many."""
    losses = history[[c for c in ("train_loss", "test_loss") if c in history.columns]].to_numpy(float)
    losses = losses[np.isfinite(losses) & (losses > 0)]
    return 1 if len(losses) == 0 else max(1, round(float(np.log10(losses.max() / losses.min())) / 5))


def thinned(frame: "pd.DataFrame") -> "pd.DataFrame":
    """At most ``MAX_POINTS`` rows, denser at the beginning, where a logarithmic axis is wide."""
    if len(frame) <= MAX_POINTS:
        return frame
    spread = np.geomspace(1, len(frame), MAX_POINTS // 2)
    even = np.linspace(1, len(frame), MAX_POINTS // 2)
    return frame.iloc[np.unique(np.concatenate([spread, even]).round().astype(int)) - 1]


def mark_phases(figure: "go.Figure", phases: Any, *, first: float = 1.0) -> None:
    """The three phases as bands with their names; nothing where the run does not show three phases."""
    if phases is None or phases.verdict != "three phases":
        return
    for row in phases.frame().itertuples(index=False):
        start, end = max(first, float(row[1])), float(row[2])
        colour = PHASE_COLOURS[str(row[0])]
        figure.add_vrect(x0=start, x1=end, fillcolor=colour, opacity=0.12, line_width=0, row="all", col="all")
        figure.add_annotation(
            x=(np.log10(start) + np.log10(end)) / 2, y=0.02, xref="x", yref="y domain", yanchor="bottom",
            text=plain_text(row[0]).replace(" ", "<br>"), showarrow=False, font=dict(size=11),
        )  # fmt: skip


def overlay_figure(histories: Mapping[str, "pd.DataFrame"], column: str, *, axis: str) -> "go.Figure":
    """One metric of several runs over their steps."""
    import plotly.graph_objects as go

    figure = go.Figure()
    dashes = ("solid", "dash", "dot", "dashdot")
    colours = PALETTE[:-1]
    for i, (name, history) in enumerate(histories.items()):
        if column not in history.columns:
            continue
        shown = thinned(history.loc[:, ["step", column]].dropna())
        line: dict[str, Any] = dict(
            color=colours[i % len(colours)], dash=dashes[i // len(colours) % len(dashes)], width=2
        )
        figure.add_trace(
            go.Scatter(
                x=shown["step"], y=shown[column], name=plain_text(name), mode="lines", line=line,
                hovertemplate="step %{x}: %{y:.4g}<extra>%{fullData.name}</extra>",
            )
        )  # fmt: skip
    scale: dict[str, Any] = dict(rangemode="tozero")
    if "loss" in column:
        scale = dict(type="log", exponentformat="power", tickfont=dict(size=10))
    figure.update_xaxes(title="step", type="log", dtick=1)
    figure.update_yaxes(title=axis, **scale)
    figure.update_layout(showlegend=True)
    return styled(figure, title=f"{axis} of {len(histories)} runs", height=400)


def run_figure(result: Any) -> "go.Figure":
    """All metrics of a finished run over its steps: losses on the left, shares (accuracies) on the right."""
    import plotly.graph_objects as go

    frame = result.frame()
    figure = go.Figure()
    for name in frame.columns.drop(["step", "seconds"], errors="ignore"):
        shown = thinned(frame.loc[:, ["step", name]].dropna())
        figure.add_scatter(
            x=shown["step"], y=shown[name], name=plain_text(name), mode="lines", yaxis="y2" if "accuracy" in name else "y"
        )  # fmt: skip
    figure.update_layout(
        xaxis_title="step",
        yaxis=dict(title="loss (nats)", type="log"),
        yaxis2=dict(title="accuracy", overlaying="y", side="right", range=[0, 1.02]),
    )
    return styled(figure, title="Metrics", height=420)
