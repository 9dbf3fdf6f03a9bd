"""Figures of a probe: the spectrum of every site, the circle, the null beside what was observed, the verdict."""

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mechfourier._version import __version__
from mechfourier.drawing.html import Section, verdict_card, write_page
from mechfourier.drawing.template import (
    BLUE,
    GREEN,
    GRID,
    ORANGE,
    PINK,
    SCALE,
    SKY,
    TEXT,
    VERMILION,
    plain_text,
    styled,
)  # fmt: skip
from mechfourier.figures.tokens import tokens_section
from mechfourier.files import result_name

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from mechfourier.probes.result import Circle, ProbeResult

ACCENT = {
    "circular": GREEN, "modular": BLUE, "open arc": ORANGE, "magnitude": ORANGE, "interaction": SKY, "token identity": SKY,
    "noise": PINK, "not testable": VERMILION,
}  # fmt: skip


def spectrum_figure(result: "ProbeResult") -> "go.Figure":
    """Share of the between-value power at every harmonic (across) and hook point (down)."""
    import plotly.graph_objects as go

    sites = [row.site for row in result.sites]
    shares = [list(row.spectrum) for row in result.sites]
    if not sites:
        return styled(go.Figure(), height=260)
    width = max((len(row) for row in shares), default=0)
    heat = go.Heatmap(
        x=list(range(1, width + 1)),
        y=sites,
        z=shares,
        zmin=0,
        colorscale=SCALE,
        colorbar=dict(title="share", thickness=12),
        hovertemplate="%{y}<br>k = %{x}: %{z:.1%}<extra></extra>",
    )
    figure = go.Figure(heat)
    figure.update_xaxes(
        title=f"harmonic k (cycles per {result.n} {plain_text(result.unit)})", dtick=1 if width < 16 else 5
    )
    return styled(figure, height=max(260, 110 + 26 * len(sites)))


def circle_figure(result: "ProbeResult") -> "go.Figure":
    """The values in the fitted plane at the best site, each where it was predicted without being fitted; the dashed line
    is the seam, ellipses are one standard deviation over templates."""
    import plotly.graph_objects as go

    figure = go.Figure()
    circle = result.circle
    if circle is None:
        return styled(figure, height=460)
    figure.add_traces(circle_traces(circle))
    turns = "" if circle.k == 1 else f"·{circle.k}"
    reach = 1.5 * max(abs(x) for x, _ in circle.points)  # room for the labels, which stand outside the circle
    include = dict(include=[-reach, reach])
    figure.update_xaxes(
        scaleanchor="y", title=f"cos 2π{turns}v/{result.n}, held out", autorangeoptions=include
    )
    figure.update_yaxes(title=f"sin 2π{turns}v/{result.n}, held out")
    return styled(figure, height=460)


def circle_traces(circle: "Circle") -> list[Any]:
    """Path in the order of the values, the seam, the ellipses, the labelled points."""
    import plotly.graph_objects as go

    x, y = [p[0] for p in circle.points], [p[1] for p in circle.points]
    labels = [plain_text(label) for label in circle.labels]
    ellipses_x: list[float | None] = []
    ellipses_y: list[float | None] = []
    for point, spread in zip(circle.points, circle.spread, strict=True):
        for ex, ey in ellipse(point, spread):
            ellipses_x.append(ex)
            ellipses_y.append(ey)
        ellipses_x.append(None)
        ellipses_y.append(None)
    quiet = dict(hoverinfo="skip", showlegend=False)
    return [
        go.Scatter(x=ellipses_x, y=ellipses_y, mode="lines", line=dict(color=SKY, width=1), opacity=0.7, **quiet),
        go.Scatter(x=x, y=y, mode="lines", line=dict(color=GRID, width=2), **quiet),
        go.Scatter(x=[x[-1], x[0]], y=[y[-1], y[0]], mode="lines", line=dict(color=VERMILION, width=2, dash="dash"), **quiet),
        go.Scatter(
            x=x, y=y, mode="markers+text", text=labels, textposition=[outward(*p) for p in circle.points], showlegend=False,
            marker=dict(color=BLUE, size=9), hovertemplate="%{text}: (%{x:.2f}, %{y:.2f})<extra></extra>",
        ),
    ]  # fmt: skip


def outward(x: float, y: float) -> str:
    """Where the label of a point stands: away from the centre, so that neighbours' labels and the path stay clear of it."""
    across = "right" if x > abs(y) / 2 else "left" if -x > abs(y) / 2 else "center"
    up = "top" if y > abs(x) / 2 else "bottom" if -y > abs(x) / 2 else "middle"
    return f"{up} {across}"


def ellipse(
    centre: tuple[float, float], spread: tuple[float, float, float], *, points: int = 41
) -> list[tuple[float, float]]:
    """One standard deviation of a 2-D normal with deviations and correlation ``spread``."""
    sx, sy, correlation = spread
    rest = math.sqrt(max(0.0, 1 - correlation**2))
    out = []
    for i in range(points):
        a = 2 * math.pi * i / (points - 1)
        out.append(
            (
                centre[0] + sx * math.cos(a),
                centre[1] + sy * (correlation * math.cos(a) + rest * math.sin(a)),
            )
        )
    return out


def null_figure(result: "ProbeResult") -> "go.Figure":
    """Best circle score over all sites and harmonics under permuted labels, and the observed one."""
    import plotly.graph_objects as go

    figure = go.Figure()
    evidence = result.value
    if evidence is None or evidence.best_site is None:
        return styled(figure, height=320)
    figure.add_trace(
        go.Histogram(
            x=list(evidence.null), nbinsx=40, marker_color=SKY, name="labels permuted", histnorm="probability"
        )
    )
    figure.add_vline(
        x=evidence.best_site.score,
        line=dict(color=VERMILION, width=3),
        annotation_text=f"observed, p = {evidence.p_value:.2g}",
        annotation_position="top left",
        annotation_font_color=TEXT,
    )
    figure.update_xaxes(title="best circle score (1 = a perfect circle)")
    figure.update_yaxes(title="share of permutations")
    return styled(figure, height=320)


def probe_figure(result: "ProbeResult") -> "go.Figure":
    """Spectrum, circle and null side by side, under the verdict."""
    from plotly.subplots import make_subplots

    parts: list[Any] = [spectrum_figure(result), circle_figure(result), null_figure(result)]
    drawn = [part for part in parts if part.data]
    figure = make_subplots(rows=1, cols=max(1, len(drawn)), horizontal_spacing=0.12)
    for column, part in enumerate(drawn, 1):
        figure.add_traces(part.data, rows=1, cols=column)
        figure.update_xaxes(title=part.layout.xaxis.title, row=1, col=column)
        figure.update_yaxes(title=part.layout.yaxis.title, row=1, col=column)
    figure.update_traces(colorbar=dict(x=1.02), selector=dict(type="heatmap"))
    title = f"{result.verdict}: {result.domain} in {result.model}"
    return styled(figure, title=title, height=460)


def write_probe(result: "ProbeResult", folder: str | Path) -> Path:
    """Write the page of a probe into ``folder`` and return its path."""
    name = result_name("probe", result.model, result.domain, result.design, without=("design",))
    path = Path(folder) / f"{name}.html"
    return write_page(
        path,
        f"{result.domain} in {result.model}",
        probe_sections(result),
        card=verdict_card(
            result.verdict,
            f"use by the model: {result.used}",
            result.reasons,
            accent=ACCENT.get(result.verdict, SKY),
        ),
        lead=probe_lead(result),
        footer=f"mechfourier {__version__}. A probe shows what is represented; only an intervention shows what is used.",
    )


def probe_lead(result: "ProbeResult") -> str:
    grid = f"{result.prompts} prompts, {result.design} design, read at the "
    read = grid + ("value's last token" if result.position == "value" else "last token")
    return read if result.tokens is None else f"{read}; {result.tokens.beginning()}"


def probe_sections(result: "ProbeResult") -> list[Section]:
    sections = []
    if result.circle is not None:
        lead = "Every point was predicted by a plane fitted without it; the dashed line joins the last value to the first."
        sections.append(
            Section(f"The plane of k = {result.circle.k}", circle_figure(result), lead, wide=False)
        )
    if result.value is not None and result.value.null:
        lead = (
            "The best circle score over all sites and harmonics, with permuted labels and with the true ones."
        )
        sections.append(Section("Label permutation null", null_figure(result), lead, wide=False))
    if result.sites:
        sections.append(Section("Harmonic spectrum", spectrum_figure(result), "Template noise removed."))
        sections.append(Section("Evidence", result.frame()))
    sections += tokens_section(result.tokens)
    if result.value is not None and result.value.models:
        import pandas as pd

        rows = [vars(model) for model in result.value.models]
        lead = "Q² is on left-out values and templates; AIC and BIC compare models of the same data, lower is better."
        sections.append(Section("Open and closed curves", pd.DataFrame(rows), lead))
    if steps := result.next_steps():
        sections.append(Section("Next steps", steps))
    if result.notes:
        sections.append(Section("Notes", result.notes))
    return sections
