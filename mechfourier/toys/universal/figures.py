"""Figures of the model that adds modulo any m: accuracy by modulus, what wraps apart from what does not."""

from typing import TYPE_CHECKING

from mechfourier.drawing.html import Part, Section, verdict_card
from mechfourier.drawing.marks import band, figure, line
from mechfourier.drawing.template import BLUE, GREEN, ORANGE, TEXT, VERMILION

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from mechfourier.toys.universal.accuracy import AccuracySweep


def extrapolation_figure(result: "AccuracySweep") -> "go.Figure":
    """Accuracy over the modulus: questions that wrap and that do not apart, beside never wrapping; what was
    trained on ends at the line."""
    frame = result.frame()
    lines = {
        "no_wrap_accuracy": ("a + b < m", GREEN, "solid"),
        "wrap_accuracy": ("a + b ≥ m (wraps)", VERMILION, "dash"),
        "accuracy": ("all questions", BLUE, "dot"),
        "never_wrap": ("a model that never wraps", TEXT, "dot"),
    }
    traces = band(frame["m"], frame["low"], frame["high"])
    for column, (name, colour, dash) in lines.items():
        look = {"colour": colour, "dash": dash, "marker_size": 4, "customdata": frame["role"]}
        look["line_width"] = (
            6 if column == "no_wrap_accuracy" else 2
        )  # shows under the others where all run together
        hover = f"m = %{{x}} (%{{customdata}}): {name} %{{y:.1%}}"
        traces.append(line(frame["m"], frame[column], name, hover=hover, **look))
    y = {"title": "accuracy", "range": [-0.02, 1.03], "tickformat": ".0%"}
    made = figure(*traces, x="modulus m", y=y, title=f"Accuracy by modulus: {result.model}", height=440)
    edge, look = result.trained_to + 0.5, {"color": ORANGE, "width": 2, "dash": "dash"}
    made.add_vline(x=edge, line=look)
    note = {"text": "trained up to here ", "xanchor": "right", "showarrow": False, "font": {"size": 11}}
    return made.add_annotation(x=edge, y=0.03, yref="paper", **note)


def accuracy_part(result: "AccuracySweep") -> Part:
    """Accuracy by modulus, what wraps apart from what does not."""
    import pandas as pd

    lead = (
        "Beyond the moduli trained on, a model that only adds is right where nothing wraps; only the "
        "wrapping questions tell."
    )
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
