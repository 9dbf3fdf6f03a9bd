"""Figures of sweeps, attributions and causal planes."""

from typing import TYPE_CHECKING, Any

from mechfourier.drawing.html import Part, Section, notes_section
from mechfourier.drawing.template import BLUE, SKY, TEXT, styled

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from mechfourier.causal.attribution import AttributionResult
    from mechfourier.causal.find_plane import CausalPlane
    from mechfourier.causal.sweep import SweepResult


def sweep_figure(result: "SweepResult") -> "go.Figure":
    """Drop of the margin by unit (across) and site (down); white is no effect."""
    import plotly.graph_objects as go

    width = max(map(len, result.effects))

    def padded(rows: Any) -> list[list[float | None]]:
        return [[*row, *[None] * (width - len(row))] for row in rows]

    specific = padded(result.specific or result.effects)
    bound = max((abs(e) for row in result.effects for e in row), default=0.0) or 1.0
    heat = go.Heatmap(
        x=list(range(width)),
        y=list(result.sites),
        z=padded(result.effects),
        customdata=[
            list(zip(p, s, strict=True)) for p, s in zip(padded(result.p_values), specific, strict=True)
        ],
        zmin=-bound,
        zmax=bound,
        colorscale="RdBu_r",
        colorbar=dict(title="drop", thickness=12),
        hovertemplate=f"{result.unit} %{{x}} of %{{y}}: %{{z:.3g}}, family-wise p = %{{customdata[0]:.2g}}"
        + (", specific effect %{customdata[1]:.3g}<extra></extra>" if result.specific else "<extra></extra>"),
    )
    figure = go.Figure(heat)
    figure.update_xaxes(title=result.unit)
    figure.update_yaxes(autorange="reversed", type="category")
    title = f"Drop of the margin by {result.unit}: {result.domain} in {result.model}"
    return styled(figure, title=title, height=220 + 26 * len(result.sites))


def attribution_figure(result: "AttributionResult") -> "go.Figure":
    """What every part and head adds to the margin, with 95 % intervals."""
    import plotly.graph_objects as go

    figure = go.Figure()
    for kind, rows, colour in (("part", result.parts, BLUE), ("head", result.heads, SKY)):
        if not rows:
            continue
        figure.add_trace(
            go.Bar(
                x=[row.name for row in rows],
                y=[row.mean for row in rows],
                error_y=dict(
                    array=[row.high - row.mean for row in rows],
                    arrayminus=[row.mean - row.low for row in rows],
                    color=TEXT,
                ),
                name=kind,
                marker_color=colour,
                hovertemplate="%{x}: %{y:.3g} nats<extra></extra>",
            )
        )
    figure.update_yaxes(title="adds to the margin (nats of logit)")
    figure.update_xaxes(type="category")
    return styled(figure, title=f"Who writes the answer: {result.domain} in {result.model}", height=420)


def written_figure(result: "AttributionResult") -> "go.Figure":
    """The harmonics of the answer in the logits, each split over the parts that write it."""
    import plotly.graph_objects as go

    names = list(result.harmonics[0].written_by) if result.harmonics else []
    figure = go.Figure()
    for name in names:
        figure.add_trace(
            go.Bar(
                x=[h.k for h in result.harmonics],
                y=[h.share * h.written_by[name] for h in result.harmonics],
                name=name,
                hovertemplate=f"k = %{{x}}, {name}: %{{y:.1%}}<extra></extra>",
            )
        )
    figure.update_layout(barmode="relative")
    figure.update_xaxes(title="harmonic k of the answer")
    figure.update_yaxes(title="share of the logits' variance", tickformat=".0%")
    return styled(figure, title="Harmonics that write the answer", height=420)


def plane_figure(result: "CausalPlane") -> "go.Figure":
    """Share of held-out pairs whose answer becomes the donor's, by what was exchanged."""
    import plotly.graph_objects as go

    frame = result.frame()
    bars = go.Bar(
        x=frame["interchange_accuracy"],
        y=frame["subspace"],
        orientation="h",
        marker_color=BLUE,
        hovertemplate="%{y}: %{x:.1%}<extra></extra>",
    )
    figure = go.Figure(bars)
    figure.update_xaxes(title="share of pairs that take the donor's answer", range=[0, 1.02])
    figure.update_yaxes(autorange="reversed")
    return styled(figure, title=f"What carries the answer at {result.site}", height=360)


def attribution_part(result: "AttributionResult") -> Part:
    """What every part adds, and the harmonics that they write."""
    sections = [Section("Parts", attribution_figure(result))]
    if result.harmonics:
        sections.append(Section("Harmonics", written_figure(result)))
    sections += [Section("Numbers", result.frame()), *notes_section(result)]
    title = f"Attribution: {result.domain} in {result.model}"
    return Part(title, sections, lead=str(result).splitlines()[0])
