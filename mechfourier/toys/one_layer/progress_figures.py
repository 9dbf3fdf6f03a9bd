"""Progress measures of a one-layer network over its training, and the spectrum of its embedding."""

from typing import TYPE_CHECKING

import numpy as np

from mechfourier.drawing.template import BLUE, GREEN, ORANGE, PINK, TEXT, VERMILION, panels, styled
from mechfourier.training.figures import first_step, mark_phases

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from mechfourier.toys.one_layer import Phases, ProgressCurves


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
    mark_phases(figure, phases, first=first_step(frame))
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
