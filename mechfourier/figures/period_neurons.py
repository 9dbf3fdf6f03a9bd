"""Figures of the neurons that write each period: where they lie, and who writes the period beside them."""

from typing import TYPE_CHECKING, Any

from mechfourier.drawing.html import Part, Section, notes_section
from mechfourier.drawing.marks import bars, dots, figure
from mechfourier.drawing.template import PALETTE

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from mechfourier.causal.period_result import PeriodNeurons

LEVEL = 0.05


def neurons_figure(result: "PeriodNeurons") -> "go.Figure":
    """What the largest neurons of every period add, by their place in the model; filled: more than any neuron adds with
    exchanged answers."""
    frame, drawn = result.frame(), []
    deep = result.n_layers > 1
    for (period, rows), colour in zip(frame.groupby("period", sort=False), PALETTE * 9, strict=False):
        filled = rows["p_value"] < LEVEL
        at = rows["layer"] + rows["index"] / result.width if deep else rows["index"]
        marker = {
            "color": [colour if each else "white" for each in filled],
            "line": {"color": colour, "width": 1.5},
            "size": 9,
        }
        drawn.append(
            dots(
                at,
                rows["lead"],
                f"period {period:.4g}",
                hover="neuron %{customdata[0]}.%{customdata[1]}: %{y:.3g} nats, p = %{customdata[2]:.2g}",
                customdata=rows[["layer", "index", "p_value"]].to_numpy(),
                marker=marker,
            )
        )
    layers = {
        "title": "layer, from its first neuron to its last",
        "range": [0, result.n_layers],
        "dtick": max(1, result.n_layers // 8),
    }
    return figure(
        *drawn,
        x=layers if deep else {"title": "neuron", "rangemode": "tozero"},
        y={"title": "adds to the lead (nats)", "rangemode": "tozero"},
        title=f"Neurons by period: {result.domain} in {result.model}",
        height=440,
    )


def writers_figure(result: "PeriodNeurons") -> "go.Figure":
    """Every period's part of the lead, split over those who write it."""
    frame = result.period_frame()
    names = [f"{period:.4g}" for period in frame["period"]]
    groups = [writer.name for writer in result.periods[0].writers] if result.periods else []
    drawn: list[Any] = []
    for name, colour in zip(groups, PALETTE * 9, strict=False):
        added = (frame[name].astype(float) * frame["lead"]).fillna(0.0)
        drawn.append(bars(names, added, name, colour=colour, hover=f"period %{{x}}, {name}: %{{y:.3g}} nats"))
    return figure(
        *drawn,
        x={"title": "period", "type": "category"},
        y={"title": "adds to the lead (nats)"},
        barmode="relative",
        title="Who writes each period",
        height=400,
    )


def neurons_part(result: "PeriodNeurons") -> Part:
    """The neurons, who writes each period, and the numbers."""
    sections = [
        Section("Neurons", neurons_figure(result)),
        Section("Who writes each period", writers_figure(result)),
        Section("Periods", result.period_frame()),
        Section("Neurons in numbers", result.frame()),
        *notes_section(result),
    ]
    title = f"Neurons by period: {result.domain} in {result.model}"
    return Part(title, sections, lead="\n".join(str(result).splitlines()[:3]))
