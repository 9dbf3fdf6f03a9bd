"""Figures of progress measures over training."""

from typing import TYPE_CHECKING, Any

import numpy as np

from mechfourier.drawing.marks import figure, heat, line
from mechfourier.drawing.template import BLUE, GREEN, ORANGE, PINK, TEXT, VERMILION, styled
from mechfourier.training.figures import STEPS, first_shown, mark_phases, two_rows

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from mechfourier.toys.one_layer import Phases, ProgressCurves

LOSSES = {
    "loss_train": ("train", BLUE, "solid"),
    "loss_test": ("test", VERMILION, "solid"),
    "restricted_loss": ("restricted", GREEN, "dash"),
    "excluded_loss_train": ("excluded (train)", PINK, "dash"),
    "trig_loss": ("trig", TEXT, "dot"),
}
SHARES = {
    "logit_share": ("logits in cos(w(a+b−c))", GREEN, "solid"),
    "gini_W_E": ("Gini of W_E", BLUE, "solid"),
    "gini_W_L": ("Gini of W_L", ORANGE, "dot"),
}


def progress_figure(curves: "ProgressCurves", phases: "Phases | None" = None) -> "go.Figure":
    """Losses with only and without the key frequencies (above), and how Fourier-like the network is
    (below)."""
    frame: Any = curves.frame()
    made = two_rows()
    for row, group in ((1, LOSSES), (2, SHARES)):
        for column, (name, colour, dash) in group.items():
            if frame[column].notna().any():
                hover = f"step %{{x}}: {name} %{{y:.4g}}"
                look: dict[str, Any] = {"colour": colour, "dash": dash, "hover": hover}
                trace = line(
                    frame["step"], frame[column], name, **look, legend="legend2" if row == 2 else None
                )
                made.add_trace(trace, row=row, col=1)
    # a legend of its own for each panel
    made.update_layout(legend2=dict(orientation="h", x=0, y=0.44, xanchor="left", yanchor="bottom"))
    made.update_yaxes(domain=[0, 0.42], row=2, col=1)
    narrow = {
        "yaxis.domain": [0.58, 1],
        "yaxis2.domain": [0, 0.34],
        "legend2.y": 0.35,
        "legend2.font.size": 11,
    }
    made.update_layout(meta={"narrow": narrow})
    made.update_yaxes(title="share, Gini", range=[0, 1.02], row=2, col=1)
    mark_phases(made, phases, first=first_shown(frame))
    return styled(made, title="Progress measures", height=600)


def power_figure(curves: "ProgressCurves") -> "go.Figure":
    """The spectrum of W_E at every checkpoint: key frequencies rise out of an even floor."""
    power = np.array(curves.embed_power, dtype=np.float32)
    ks = list(range(1, power.shape[1] + 1))
    shares = heat(
        list(curves.step),
        ks,
        power.T,
        bar="share of the power",
        colorbar={"tickformat": ".0%"},
        hover="step %{x}, k = %{y}: %{z:.1%}",
    )
    return figure(shares, x=STEPS, y="frequency k", title="Spectrum of W_E over training", height=400)
