"""Figures of the model that adds modulo any m: accuracy by modulus, what wraps apart from what does not."""

from typing import TYPE_CHECKING

from mechfourier.drawing.html import Part, Section, verdict_card
from mechfourier.drawing.template import BLUE, GREEN, ORANGE, TEXT, VERMILION, styled

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from mechfourier.toys.universal.accuracy import AccuracySweep


def extrapolation_figure(result: "AccuracySweep") -> "go.Figure":
    """Accuracy over the modulus: questions that wrap and that do not apart, beside never wrapping; what was trained on ends at the line."""
    import plotly.graph_objects as go

    frame = result.frame()
    figure = go.Figure()
    figure.add_trace(
        go.Scatter(
            x=frame["m"], y=frame["high"], mode="lines", line_width=0, showlegend=False, hoverinfo="skip"
        )
    )
    figure.add_trace(
        go.Scatter(
            x=frame["m"], y=frame["low"], mode="lines", line_width=0, showlegend=False, hoverinfo="skip", fill="tonexty",
            fillcolor="rgba(0,114,178,0.2)",
        )
    )  # fmt: skip
    lines = (
        ("accuracy", "all questions", BLUE, "solid"), ("wrap_accuracy", "a + b ≥ m (wraps)", VERMILION, "solid"),
        ("no_wrap_accuracy", "a + b < m", GREEN, "dash"), ("never_wrap", "a model that never wraps", TEXT, "dot"),
    )  # fmt: skip
    for column, name, colour, dash in lines:
        figure.add_trace(
            go.Scatter(
                x=frame["m"], y=frame[column], name=name, mode="lines+markers" if column == "accuracy" else "lines",
                line=dict(color=colour, dash=dash, width=2), marker_size=4, customdata=frame["role"],
                hovertemplate=f"m = %{{x}} (%{{customdata}}): {name} %{{y:.1%}}<extra></extra>",
            )
        )  # fmt: skip
    figure.add_vline(x=result.trained_to + 0.5, line=dict(color=ORANGE, width=2, dash="dash"))
    figure.add_annotation(
        x=result.trained_to + 0.5, y=0.03, yref="paper", text="trained up to here ", xanchor="right", showarrow=False, font=dict(size=11)
    )  # fmt: skip
    figure.update_xaxes(title="modulus m")
    figure.update_yaxes(title="accuracy", range=[-0.02, 1.03], tickformat=".0%")
    return styled(figure, title=f"Accuracy by modulus: {result.model}", height=440)


def accuracy_part(result: "AccuracySweep") -> Part:
    """Accuracy by modulus, what wraps apart from what does not."""
    import pandas as pd

    lead = "Beyond the moduli trained on, a model that only adds is right where nothing wraps; only the wrapping questions tell."
    sections = [
        Section("Extrapolation", extrapolation_figure(result), lead),
        Section("Trained, held out and beyond", pd.DataFrame([vars(group) for group in result.groups()])),
        Section("Moduli", result.frame()),
    ]
    lines = str(result).splitlines()
    return Part(
        f"Moduli: {result.model}",
        sections,
        card=verdict_card("Accuracy by modulus", lines[0], lines[1:], accent=BLUE),
    )
