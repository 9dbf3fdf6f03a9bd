"""The figures and the page of ``mechfourier analyze`` for the models of every modulus: each draws what the
result's tables hold."""

from typing import TYPE_CHECKING, Any

from mechfourier.drawing.html import Part, Section, half, verdict_card
from mechfourier.drawing.template import BLUE, ORANGE, PALETTE, SCALE, TEXT, panels, styled
from mechfourier.toys.universal.figures import extrapolation_figure

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from mechfourier.toys.universal.algorithm import Algorithm
    from mechfourier.toys.universal.analysis import MirasAnalysis

HALF = 0.5  # of a neuron's variance: below, its best harmonic says little about it
FOLLOWED = 60  # neurons in the heat map
TOKENS = ("m", "a", "b", "=")


def adaptation_figure(result: "MirasAnalysis") -> "go.Figure":
    """Left: the frequency of every periodic neuron of the last layer at every modulus; right: R² of the
    steadiest ones, modulus by modulus."""
    import plotly.graph_objects as go

    frame = result.frame()
    frame = frame[frame["layer"] == frame["layer"].max()]
    strong = frame.query("r2 >= @HALF")
    figure = panels(["frequency of a neuron (R² ≥ .5)", "R² of the steadiest neurons"], columns=2)
    figure.add_trace(
        go.Scatter(
            x=strong["m"].astype(str),
            y=strong["cycles_per_unit"],
            mode="markers",
            showlegend=False,
            customdata=strong.filter(["neuron", "k", "r2"]).to_numpy(),
            marker=dict(color=BLUE, opacity=0.35, size=7),
            hovertemplate="neuron %{customdata[0]} mod %{x}: k = %{customdata[1]}, R² "
            "%{customdata[2]:.2f}<extra></extra>",
        ),
        row=1,
        col=1,
    )
    table = frame.pivot(index="neuron", columns="m", values="r2")
    steadiest = table.min(axis=1).sort_values(ascending=False).index[:FOLLOWED]
    table = table.loc[steadiest]
    figure.add_trace(
        go.Heatmap(
            x=[str(m) for m in table.columns],
            y=[str(n) for n in table.index],
            z=table.to_numpy(),
            zmin=0,
            zmax=1,
            colorscale=SCALE,
            colorbar=dict(title="R²", thickness=12),
            hovertemplate="neuron %{y} mod %{x}: R² %{z:.2f}<extra></extra>",
        ),
        row=1,
        col=2,
    )
    figure.update_xaxes(title="modulus m", type="category")
    figure.update_yaxes(title="k/m (cycles per unit)", row=1, col=1)
    figure.update_yaxes(title="neuron", showticklabels=False, type="category", row=1, col=2)
    return styled(figure, title=f"Neurons across moduli: {result.model}, last layer", height=460)


def flow_figure(result: "MirasAnalysis") -> "go.Figure":
    """Where every position looks: a bar per head and position, divided among m, a, b and ``=``; a panel per
    modulus."""
    import plotly.graph_objects as go

    moduli, names = list(dict.fromkeys(f.m for f in result.attention)), list[str]()
    figure = panels([f"mod {m}" for m in moduli], columns=len(moduli), shared_yaxes=True)
    for column, m in enumerate(moduli, 1):
        rows = [f for f in result.attention if f.m == m]
        names = [f"layer {f.layer}, head {f.head}, from {f.source}" for f in rows]
        for i, token in enumerate(TOKENS):
            figure.add_trace(
                go.Bar(
                    x=[f.weights[i] for f in rows],
                    y=names,
                    orientation="h",
                    name=f"to {token}",
                    legendgroup=token,
                    showlegend=column == 1,
                    marker_color=PALETTE[i],
                    hovertemplate=f"mod {m}, %{{y}}, to {token}: %{{x:.2f}}<extra></extra>",
                ),
                row=1,
                col=column,
            )
    height = 200 + 26 * len(names)
    figure.update_layout(barmode="stack", legend_y=1 + 60 / height)
    figure.update_xaxes(title="share of attention", range=[0, 1])
    figure.update_yaxes(autorange="reversed")
    return styled(figure, title=f"Attention: {result.model}", height=height)


def effects_figure(algorithm: "Algorithm") -> "go.Figure":
    """Accuracy after every intervention: questions that wrap, that do not, and answers as the intervention
    predicts."""
    import plotly.graph_objects as go

    kinds = ("wrap_accuracy", "no_wrap_accuracy", "as_predicted")
    figure = panels(["wrap: right, %", "no wrap: right, %", "as predicted, %"], columns=3, shared_yaxes=True)
    names = list(dict.fromkeys(e.what for e in algorithm.effects))
    for column, kind in enumerate(kinds, 1):
        value = {(e.what, e.m): getattr(e, kind) for e in algorithm.effects}
        z = [[value.get((name, m)) for m in algorithm.moduli] for name in names]
        figure.add_trace(
            go.Heatmap(
                x=[str(m) for m in algorithm.moduli],
                y=names,
                z=z,
                zmin=0,
                zmax=1,
                colorscale=SCALE,
                showscale=column == 3,
                hoverongaps=False,
                text=[["" if v is None or v != v else f"{100 * v:.0f}" for v in row] for row in z],
                texttemplate="%{text}",
                colorbar=dict(title="share", thickness=12),
                hovertemplate="%{y}, mod %{x}: %{z:.1%}<extra></extra>",
            ),
            row=1,
            col=column,
        )
    figure.update_xaxes(title="modulus m", type="category")
    figure.update_yaxes(autorange="reversed")
    return styled(figure, title="What each part does", height=190 + 26 * len(names))


def thresholds_figure(algorithm: "Algorithm") -> "go.Figure":
    """Share of answers a + b − m as the size of m is moved and the waves stay."""
    import plotly.graph_objects as go

    figure = go.Figure()
    for i, (m, cell) in enumerate(dict.fromkeys((t.m, t.cell) for t in algorithm.thresholds)):
        rows = [t for t in algorithm.thresholds if (t.m, t.cell) == (m, cell)]
        figure.add_trace(
            go.Scatter(
                x=[t.margin for t in rows],
                y=[t.wrapped for t in rows],
                mode="lines",
                name=f"mod {m}, waves say {cell}",
                line=dict(color=PALETTE[(i // 2) % len(PALETTE)], dash="solid" if cell == 0 else "dot"),
            )
        )
    figure.add_vline(x=-0.5, line=dict(color=TEXT, dash="dash", width=1))
    figure.update_xaxes(title="a + b − m as the sizes say")
    figure.update_yaxes(title="share answered a + b − m", range=[-0.02, 1.02], tickformat=".0%")
    return styled(figure, title="Where the wrap tips over", height=420)


def memory_figure(result: "MirasAnalysis") -> "go.Figure":
    """Accuracy with the memory's state changed, and how often the answer follows the state put in."""
    import plotly.graph_objects as go

    names = [e.what for e in result.memory]
    figure = go.Figure()
    for name, colour, values in (
        ("right for the question asked", BLUE, [e.accuracy for e in result.memory]),
        ("right for the donor's modulus", ORANGE, [e.follows_donor for e in result.memory]),
    ):
        shown = [None if v != v else v for v in values]
        figure.add_trace(go.Bar(x=names, y=shown, name=name, marker_color=colour))
    figure.update_yaxes(title="share of answers", range=[0, 1.02], tickformat=".0%")
    return styled(figure, title=f"The memory's state: {result.model}", height=380)


def interference_figure(result: "MirasAnalysis") -> "go.Figure":
    """Accuracy of small, medium and large moduli over training: does learning the large ones cost the
    others?"""
    import plotly.graph_objects as go

    figure = go.Figure()
    for low, high in dict.fromkeys((b.low, b.high) for b in result.interference):
        rows = [b for b in result.interference if (b.low, b.high) == (low, high)]
        figure.add_trace(
            go.Scatter(
                x=[b.step for b in rows],
                y=[b.accuracy for b in rows],
                mode="lines+markers",
                name=f"m = {low} to {high}",
            )
        )
    figure.update_xaxes(title="step")
    figure.update_yaxes(title="accuracy", range=[-0.02, 1.02], tickformat=".0%")
    return styled(figure, title=f"Moduli over training: {result.model}", height=380)


def analysis_sections(result: "MirasAnalysis") -> list[Section]:
    """All that the analysis holds; what a model does not have (a memory, checkpoints, sizes) is left out."""
    import pandas as pd

    tables: list[Any] = [vars(t) for t in result.neurons]
    sections = [
        Section(
            "Accuracy by modulus",
            extrapolation_figure(result.accuracy),
            "A model that only adds is right where nothing wraps; only the wrapping questions tell.",
        ),
        Section(
            "Neurons across moduli",
            adaptation_figure(result),
            "The harmonic of (a + b) mod m that explains most of a neuron at =, on the whole grid.",
        ),
        Section(
            "Neurons in numbers",
            pd.DataFrame(tables),
            "bound: the best of all neurons and harmonics in white noise (95 %); untrained: the best of a "
            "re-initialised network.",
        ),
        Section("Attention flow", flow_figure(result), "Mean over random questions (and frequency draws)."),
    ]
    if result.algorithm is not None:
        lead = (
            "Waves carry a number as phases, sizes as a magnitude; each is changed apart from the other. "
            "Nothing is masked, candidates below 0 included."
        )
        sections += [
            Section("What decides, what composes", effects_figure(result.algorithm), lead),
            half("The tipping point", thresholds_figure(result.algorithm)),
        ]
    if result.memory:
        sections.append(
            Section(
                "Memory",
                memory_figure(result),
                "Zeroed, mixed between questions, or that of the next modulus.",
            )
        )
    if result.interference:
        sections.append(Section("Interference", interference_figure(result)))
    return sections


def analysis_part(result: "MirasAnalysis") -> Part:
    """A model of every modulus taken apart."""
    lines = str(result.accuracy).splitlines()
    card = verdict_card("Every modulus", lines[0], lines[1:], accent=BLUE)
    return Part(f"Every modulus: {result.model}", analysis_sections(result), card=card)
