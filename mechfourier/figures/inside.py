"""Figures of what happens inside a pretrained model: logit lens and attention roles."""

from typing import TYPE_CHECKING

from mechfourier.drawing.html import Part, Section, half, notes_section
from mechfourier.drawing.marks import band, figure, heat, line, site_labels
from mechfourier.drawing.template import BLUE, ORANGE, SKY, TEXT
from mechfourier.figures.tokens import tokens_section

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

    from mechfourier.probes.attention_result import AttentionResult
    from mechfourier.probes.lens import LensResult

MAX_ROWS = 500  # of a table in a page; the JSON has them all


def lens_figure(result: "LensResult") -> "go.Figure":
    """Share of prompts whose right answer is first after every layer, with its 95 % interval, and the mean
    probability of that answer; beside them shuffled answers and chance."""
    frame = result.frame()
    x, title = site_labels(frame["site"].tolist())
    # probability above, wide and light: where both run together, the narrow line still shows on it
    lines = {
        "chance": ("chance", TEXT, "dot", {}),
        "null_accuracy": ("answers shuffled", ORANGE, "dash", {}),
        "probability": ("probability of the right answer (mean)", SKY, "solid", {"line_width": 7}),
        "accuracy": ("right answer first (95 % interval)", BLUE, "solid", {"mode": "lines+markers"}),
    }
    drawn = band(x, frame["accuracy_low"], frame["accuracy_high"])
    for column, (name, colour, dash, look) in lines.items():
        hover = f"%{{customdata}}: {name} %{{y:.1%}}"
        drawn.append(
            line(
                x,
                frame[column],
                name,
                colour=colour,
                dash=dash,
                hover=hover,
                customdata=frame["site"],
                **look,
            )
        )
    return figure(
        *drawn,
        x={"title": title, "type": "category"},
        y={"title": "share of prompts, probability", "range": [-0.02, 1.04], "tickformat": ".0%"},
        title=f"Where the answer arises: logit lens of {result.domain} in {result.model}",
        height=420,
    )


def roles_figure(result: "AttentionResult") -> "go.Figure":
    """Mean attention of every head (down) to every role of the prompt (across)."""
    frame = result.frame()
    frame["name"] = [f"{layer}.{head}" for layer, head in zip(frame["layer"], frame["head"], strict=True)]
    heads, roles = list(dict.fromkeys(frame["name"])), list(dict.fromkeys(frame["role"]))
    grid, p = (
        frame.pivot(index="name", columns="role", values=column).loc[heads, roles].to_numpy()
        for column in ("attention", "p_value")
    )
    hover = "head %{y}, %{x}: %{z:.2f}, family-wise p = %{customdata:.2g}"
    return figure(
        heat(roles, heads, grid, bar="attention", zmax=1, hover=hover, customdata=p),
        x={"title": "role of the token", "type": "category"},
        y={"title": "layer.head", "type": "category", "autorange": "reversed"},
        title=f"Where the reading position looks: {result.domain} in {result.model}",
        height=min(900, 200 + 22 * len(heads)),
    )


def lens_part(result: "LensResult") -> Part:
    """Where the answer arises."""
    lead = (
        "The final norm and the unembedding applied after every layer; chance and shuffled answers beside it."
    )
    sections = [Section("Logit lens", lens_figure(result), lead), Section("Layers", result.frame())]
    sections += [*tokens_section(result.tokens), *notes_section(result)]
    return Part(f"Logit lens: {result.domain} in {result.model}", sections, str(result))


def attention_part(result: "AttentionResult") -> Part:
    """Where the reading position looks."""
    lead = "Mean over the prompts, from the position that answers."
    frame = result.frame()
    top = frame.loc[frame["attention"].idxmax()]
    told = f"Head {top['layer']}.{top['head']} looks most at one role: {top['attention']:.0%} at the {top['role']}"
    sections = [
        half("Attention to roles", roles_figure(result), lead, message=told),
        half("Heads and roles", result.frame()),
        Section("Fourier content of the heads", _content_table(result), result.carries()),
        *tokens_section(result.tokens),
        *notes_section(result),
    ]
    return Part(f"Attention: {result.domain} in {result.model}", sections, result.sink() or result.route())


def _content_table(result: "AttentionResult") -> "pd.DataFrame":
    """Fourier content, the heads' outputs first and the largest shares of the sum on top."""
    frame = result.fourier_frame()
    if not len(frame):
        return frame
    frame = frame.assign(first=frame["what"] == "z").sort_values(["first", "sum_line"], ascending=False)
    return frame.drop(columns="first").head(MAX_ROWS)
