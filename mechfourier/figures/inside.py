"""Figures of what happens inside a pretrained model: logit lens, attention roles, open and closed curves."""

from typing import TYPE_CHECKING

from mechfourier.drawing.html import Part, Section, notes_section
from mechfourier.drawing.template import (
    BLUE,
    GREEN,
    ORANGE,
    SCALE,
    SKY,
    TEXT,
    VERMILION,
    panels,
    plain_text,
    styled,
)
from mechfourier.figures.tokens import tokens_section

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

    from mechfourier.probes.attention import AttentionResult
    from mechfourier.probes.lens import LensResult
    from mechfourier.probes.result import ProbeResult


def lens_figure(result: "LensResult") -> "go.Figure":
    """Accuracy after every layer with its 95 % interval, beside shuffled answers and chance, over a heat map of both."""
    import plotly.graph_objects as go

    frame = result.frame()
    figure = panels(["", ""], columns=1, shared_xaxes=True, row_heights=[0.7, 0.3])
    band = dict(line_width=0, showlegend=False, hoverinfo="skip", mode="lines")
    x = frame["site"].tolist()
    figure.add_trace(go.Scatter(x=x, y=frame["accuracy_high"], **band), row=1, col=1)
    figure.add_trace(
        go.Scatter(x=x, y=frame["accuracy_low"], fill="tonexty", fillcolor="rgba(0,114,178,0.2)", **band), row=1, col=1
    )  # fmt: skip
    lines = (("accuracy", "right answer first", BLUE, "solid"), ("null_accuracy", "answers shuffled", TEXT, "dash"),
             ("chance", "chance", TEXT, "dot"), ("probability", "its probability", VERMILION, "solid"))  # fmt: skip
    for column, name, colour, dash in lines:
        figure.add_trace(
            go.Scatter(
                x=x, y=frame[column], name=name, line=dict(color=colour, dash=dash), mode="lines+markers" if dash == "solid" else "lines",
                hovertemplate=f"%{{x}}: {name} %{{y:.1%}}<extra></extra>",
            ),
            row=1, col=1,
        )  # fmt: skip
    heat = go.Heatmap(
        x=x, y=["accuracy", "probability"], z=[frame["accuracy"], frame["probability"]], zmin=0, zmax=1, colorscale=SCALE,
        colorbar=dict(title="share", thickness=12, len=0.3, y=0, yanchor="bottom", tickformat=".0%"),
        hovertemplate="%{x}: %{y} %{z:.1%}<extra></extra>",
    )  # fmt: skip
    figure.add_trace(heat, row=2, col=1)
    figure.update_yaxes(title="share of prompts", range=[0, 1.02], tickformat=".0%", row=1, col=1)
    figure.update_xaxes(type="category", tickangle=-45, row=2, col=1)
    return styled(figure, title=f"Logit lens: {result.domain} in {result.model}", height=520)


def roles_figure(result: "AttentionResult") -> "go.Figure":
    """Mean attention of every head (down) to every role of the prompt (across)."""
    import plotly.graph_objects as go

    frame = result.frame()
    frame["name"] = [f"{layer}.{head}" for layer, head in zip(frame["layer"], frame["head"], strict=True)]
    heads, roles = list(dict.fromkeys(frame["name"])), list(dict.fromkeys(frame["role"]))
    grid = frame.pivot(index="name", columns="role", values="attention").loc[heads, roles]
    p = frame.pivot(index="name", columns="role", values="p_value").loc[heads, roles]
    heat = go.Heatmap(
        x=roles, y=heads, z=grid.to_numpy(), customdata=p.to_numpy(), zmin=0, zmax=1, colorscale=SCALE,
        colorbar=dict(title="attention", thickness=12),
        hovertemplate="head %{y}, %{x}: %{z:.2f}, family-wise p = %{customdata:.2g}<extra></extra>",
    )  # fmt: skip
    figure = go.Figure(heat)
    figure.update_xaxes(title="role of the token", type="category")
    figure.update_yaxes(title="layer.head", type="category", autorange="reversed")
    title = f"Where the reading position looks: {result.domain} in {result.model}"
    return styled(figure, title=title, height=min(900, 200 + 22 * len(heads)))


def closure_figure(result: "ProbeResult") -> "go.Figure":
    """How well open and closed curves predict left-out values at the best site."""
    import plotly.graph_objects as go

    figure = go.Figure()
    models = () if result.value is None else result.value.models
    for closed, colour, name in ((False, ORANGE, "open"), (True, GREEN, "closed")):
        part = [m for m in models if m.closed == closed]
        figure.add_trace(
            go.Bar(
                y=[plain_text(m.name) for m in part], x=[m.q2 for m in part], orientation="h", name=name, marker_color=colour,
                customdata=[m.parameters for m in part],
                hovertemplate="%{y}: Q² %{x:.3f} with %{customdata} parameters<extra></extra>",
            )
        )  # fmt: skip
    low = min([0.0, *(m.q2 for m in models)])
    figure.update_xaxes(
        title="Q² on left-out values (1 = perfect, 0 = the mean)", range=[max(low, -1.0) * 1.05, 1.05]
    )
    figure.update_yaxes(autorange="reversed", type="category")
    return styled(
        figure, title="Does an open or a closed curve predict?", height=120 + 44 * max(1, len(models))
    )


def seam_figure(result: "ProbeResult") -> "go.Figure":
    """Intervals that a closed circle and an open arc differ in, at the best site: turns, contest of shapes, seam."""
    import plotly.graph_objects as go

    figure = go.Figure()
    site = None if result.value is None else result.value.best_site
    closure = None if site is None else site.closure
    if closure is not None:
        names = ("turns", "closed − open<br>shape (R²)", "seam −<br>neighbours")
        parts = (closure.turns, closure.contest, closure.seam)
        figure.add_trace(
            go.Scatter(
                x=[i.value for i in parts], y=list(names), mode="markers", marker=dict(color=BLUE, size=11), showlegend=False,
                error_x=dict(
                    array=[i.high - i.value for i in parts], arrayminus=[i.value - i.low for i in parts], symmetric=False, color=SKY
                ),
                hovertemplate="%{y}: %{x:.3f}<extra></extra>",
            )
        )  # fmt: skip
        figure.add_vline(x=0, line=dict(color=TEXT, dash="dot", width=1))
    figure.update_yaxes(autorange="reversed", type="category")
    figure.update_xaxes(title="value, 95 % interval")
    return styled(figure, title="Does it close?", height=280)


def lens_part(result: "LensResult") -> Part:
    """Where the answer arises."""
    lead = (
        "The final norm and the unembedding applied after every layer; chance and shuffled answers beside it."
    )
    sections = [
        Section("Logit lens", lens_figure(result), lead),
        Section("Layers", result.frame()),
        *tokens_section(result.tokens),
        *notes_section(result),
    ]
    return Part(f"Logit lens: {result.domain} in {result.model}", sections, str(result))


def attention_part(result: "AttentionResult") -> Part:
    """Where the reading position looks."""
    sections = [
        Section("Attention to roles", roles_figure(result), "Mean over the prompts, from the position that answers.", wide=False),
        Section("Heads and roles", result.frame(), wide=False),
        Section("Fourier content of the heads", _content_table(result), result.carries()),
        *tokens_section(result.tokens),
        *notes_section(result),
    ]  # fmt: skip
    return Part(f"Attention: {result.domain} in {result.model}", sections, result.sink() or result.route())


def _content_table(result: "AttentionResult") -> "pd.DataFrame":
    """Fourier content, the heads' outputs first and the largest shares of the sum on top."""
    frame = result.fourier_frame()
    if not len(frame):
        return frame
    frame = frame.assign(first=frame["what"] == "z").sort_values(["first", "sum_line"], ascending=False)
    return frame.drop(columns="first").head(500)
