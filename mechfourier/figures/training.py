"""Figures of a training run: losses and accuracies with the phases of grokking, progress measures, several runs overlaid."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from mechfourier.drawing.template import (
    BLUE,
    GREEN,
    ORANGE,
    PALETTE,
    PINK,
    SKY,
    TEXT,
    VERMILION,
    panels,
    plain_text,
    styled,
)

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

    from mechfourier.toys.one_layer import Phases, ProgressCurves

PHASE_COLOURS = {"memorisation": SKY, "circuit formation": ORANGE, "clean-up": GREEN}
MAX_POINTS = 2000  # per curve; more cannot be seen and make the page heavy


def curves_figure(history: "pd.DataFrame", phases: "Phases | None" = None) -> "go.Figure":
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
    mark_phases(figure, phases, first=_first(history))
    return styled(figure, title="Training", height=520)


def _first(frame: "pd.DataFrame") -> float:
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


def mark_phases(figure: "go.Figure", phases: "Phases | None", *, first: float = 1.0) -> None:
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


def progress_figure(curves: "ProgressCurves", phases: "Phases | None" = None) -> "go.Figure":
    """Losses with only and without the key frequencies (above), and how Fourier-like the network is (below)."""
    import plotly.graph_objects as go

    frame = curves.frame()
    figure = panels(["", ""], columns=1, shared_xaxes=True, vertical_spacing=0.06)
    losses = (
        ("loss_train", "train", BLUE, "solid"), ("loss_test", "test", VERMILION, "solid"),
        ("restricted_loss", "restricted", GREEN, "dash"), ("excluded_loss_train", "excluded (train)", PINK, "dash"),
        ("trig_loss", "trig", TEXT, "dot"),
    )  # fmt: skip
    shares = (
        ("logit_share", "logits in cos(w(a+b−c))", GREEN, "solid"), ("gini_W_E", "Gini of W_E", BLUE, "solid"),
        ("gini_W_L", "Gini of W_L", ORANGE, "dot"),
    )  # fmt: skip
    for row, group in ((1, losses), (2, shares)):
        for column, name, colour, dash in group:
            if not frame[column].notna().to_numpy().any():
                continue
            figure.add_trace(
                go.Scatter(
                    x=frame["step"], y=frame[column], name=name, mode="lines", line=dict(color=colour, width=2, dash=dash),
                    hovertemplate=f"step %{{x}}: {name} %{{y:.4g}}<extra></extra>",
                ),
                row=row, col=1,
            )  # fmt: skip
    figure.update_yaxes(
        title="loss (nats)", type="log", exponentformat="power", tickfont=dict(size=10), row=1, col=1
    )
    figure.update_yaxes(title="share, Gini", range=[0, 1.02], row=2, col=1)
    figure.update_xaxes(type="log", dtick=1)
    figure.update_xaxes(title="step", row=2, col=1)
    mark_phases(figure, phases, first=_first(frame))
    return styled(figure, title="Progress measures", height=560)


def power_figure(curves: "ProgressCurves") -> "go.Figure":
    """The spectrum of W_E at every checkpoint: key frequencies rise out of an even floor."""
    import plotly.graph_objects as go

    power = np.array(curves.embed_power, dtype=np.float32)
    heat = go.Heatmap(
        x=list(curves.step), y=list(range(1, power.shape[1] + 1)), z=power.T, colorscale="cividis",
        colorbar=dict(title="share", thickness=12, tickformat=".0%"),
        hovertemplate="step %{x}, k = %{y}: %{z:.1%}<extra></extra>",
    )  # fmt: skip
    figure = go.Figure(heat)
    figure.update_xaxes(title="step", type="log", dtick=1)
    figure.update_yaxes(title="frequency k")
    return styled(figure, title="Spectrum of W_E over training", height=400)


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
