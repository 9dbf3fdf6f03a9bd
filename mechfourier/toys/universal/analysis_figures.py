"""The figures and the page of ``mechfourier analyze`` for the models of every modulus: each draws what the
result's tables hold."""

from typing import TYPE_CHECKING, Any

from mechfourier.drawing.html import Part, Section, half, verdict_card
from mechfourier.drawing.marks import dots, figure, whiskers
from mechfourier.drawing.template import (
    BLUE,
    GREEN,
    ORANGE,
    PALETTE,
    TEXT,
    VERMILION,
    panels,
    plain_text,
    stacked,
    styled,
)
from mechfourier.toys.universal.figures import extrapolation_figure

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from mechfourier.toys.universal.algorithm import Algorithm
    from mechfourier.toys.universal.analysis import MirasAnalysis

LONGEST = 34  # characters of a label beside its axis
HALF = 0.5  # of a neuron's variance: below, its best harmonic says little about it
SYMBOLS = ("circle", "square", "diamond", "cross", "triangle-up", "x", "star")
EFFECTS = {
    "wrap_accuracy": ("right, wraps", VERMILION, "circle"),
    "no_wrap_accuracy": ("right, does not wrap", BLUE, "square-open"),
    "as_predicted": ("as the intervention predicts", GREEN, "x-thin-open"),
}
TOKENS = ("m", "a", "b", "=")


def adaptation_figure(result: "MirasAnalysis") -> "go.Figure":
    """R² of every neuron of the last layer against the frequency of its best harmonic, by modulus: how much of the
    layer is periodic, and at which frequencies."""
    frame: Any = result.frame()
    frame = frame[frame["layer"] == frame["layer"].max()]
    traces = []
    for i, (m, rows) in enumerate(frame.groupby("m")):
        periodic = int((rows["r2"] >= HALF).sum())
        hover = f"neuron %{{customdata[0]}} mod {m}: k = %{{customdata[1]}}, R² %{{y:.2f}}"
        look = {
            "color": PALETTE[i % len(PALETTE)],
            "symbol": SYMBOLS[i % len(SYMBOLS)],
            "size": 6,
            "opacity": 0.7,
        }
        name = f"mod {m}: {periodic} of {len(rows)}"
        told = rows[["neuron", "k"]].to_numpy()
        traces.append(
            dots(rows["cycles_per_unit"], rows["r2"], name, marker=look, hover=hover, customdata=told)
        )
    made = figure(
        *traces,
        x={"title": "k/m of its best harmonic (cycles per unit)", "range": [-0.01, 0.51]},
        y={"title": "R² of that harmonic", "range": [-0.02, 1.04]},
        title=f"Neurons above R² {HALF:g} by modulus: {result.model}, last layer",
        height=460,
    )
    return made.add_hline(y=HALF, line=dict(color=TEXT, dash="dot"))


def flow_figure(result: "MirasAnalysis") -> "go.Figure":
    """Where every position looks: a bar per head and position, divided among m, a, b and ``=``; a panel per
    modulus."""
    import plotly.graph_objects as go

    moduli, names = list(dict.fromkeys(f.m for f in result.attention)), list[str]()
    made = panels([f"mod {m}" for m in moduli], columns=len(moduli), shared_yaxes=True)
    for column, m in enumerate(moduli, 1):
        rows = [f for f in result.attention if f.m == m]
        names = [f"layer {f.layer}, head {f.head}, from {f.source}" for f in rows]
        for i, token in enumerate(TOKENS):
            made.add_trace(
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
    narrow = stacked(len(moduli), columns=1, height=height - 60)
    made.update_layout(barmode="stack", legend_y=1 + 60 / height, meta={"narrow": narrow})
    made.update_xaxes(title="share of attention", range=[0, 1])
    made.update_yaxes(autorange="reversed")
    return styled(made, title=f"Attention: {result.model}", height=height)


def effects_figure(algorithm: "Algorithm") -> "go.Figure":
    """Accuracy after every intervention: questions that wrap, that do not, and answers as the intervention
    predicts; the mean over the moduli, with the lowest and the highest."""
    names = list(dict.fromkeys(e.what for e in algorithm.effects))
    traces = []
    for kind, (name, colour, symbol) in EFFECTS.items():
        values = {what: [getattr(e, kind) for e in algorithm.effects if e.what == what] for what in names}
        known = {what: [v for v in found if v == v] for what, found in values.items()}
        shown = [what for what in names if known[what]]
        means = [sum(known[what]) / len(known[what]) for what in shown]
        spread = whiskers(means, [min(known[w]) for w in shown], [max(known[w]) for w in shown], colour)
        marker = {"color": colour, "symbol": symbol, "size": 9}
        told = [plain_text(what) for what in shown]
        at, hover = [_short(what) for what in shown], f"%{{customdata}}: %{{x:.1%}} {name}"
        traces.append(dots(means, at, name, marker=marker, error_x=spread, hover=hover, customdata=told))
    moduli = ", ".join(map(str, algorithm.moduli))
    return figure(
        *traces,
        x={
            "title": "share of answers",
            "range": [-0.04, 1.04],
            "tickformat": ".0%",
        },
        y={"autorange": "reversed", "type": "category", "dtick": 1},
        title=f"What each part does (mean and range over m = {moduli})",
        height=190 + 24 * len(names),
    )


def _short(text: str) -> str:
    return plain_text(text if len(text) <= LONGEST else text[: LONGEST - 1] + "…")


def thresholds_figure(algorithm: "Algorithm") -> "go.Figure":
    """Share of answers a + b − m as the size of m is moved and the waves stay."""
    import plotly.graph_objects as go

    made = go.Figure()
    for i, (m, cell) in enumerate(dict.fromkeys((t.m, t.cell) for t in algorithm.thresholds)):
        rows = [t for t in algorithm.thresholds if (t.m, t.cell) == (m, cell)]
        made.add_trace(
            go.Scatter(
                x=[t.margin for t in rows],
                y=[t.wrapped for t in rows],
                mode="lines",
                name=f"mod {m}, waves say {cell}",
                line=dict(color=PALETTE[(i // 2) % len(PALETTE)], dash="solid" if cell == 0 else "dot"),
            )
        )
    made.add_vline(x=-0.5, line=dict(color=TEXT, dash="dash", width=1))
    made.update_xaxes(title="a + b − m as the sizes say")
    made.update_yaxes(title="share answered a + b − m", range=[-0.02, 1.02], tickformat=".0%")
    return styled(made, title="Where the wrap tips over", height=420)


def memory_figure(result: "MirasAnalysis") -> "go.Figure":
    """Accuracy with the memory's state changed, and how often the answer follows the state put in."""
    import plotly.graph_objects as go

    names = [e.what for e in result.memory]
    made = go.Figure()
    for name, colour, values in (
        ("right for the question asked", BLUE, [e.accuracy for e in result.memory]),
        ("right for the donor's modulus", ORANGE, [e.follows_donor for e in result.memory]),
    ):
        shown = [None if v != v else v for v in values]
        made.add_trace(go.Bar(x=names, y=shown, name=name, marker_color=colour))
    made.update_yaxes(title="share of answers", range=[0, 1.02], tickformat=".0%")
    return styled(made, title=f"The memory's state: {result.model}", height=380)


def interference_figure(result: "MirasAnalysis") -> "go.Figure":
    """Accuracy of small, medium and large moduli over training: does learning the large ones cost the
    others?"""
    import plotly.graph_objects as go

    made = go.Figure()
    for low, high in dict.fromkeys((b.low, b.high) for b in result.interference):
        rows = [b for b in result.interference if (b.low, b.high) == (low, high)]
        made.add_trace(
            go.Scatter(
                x=[b.step for b in rows],
                y=[b.accuracy for b in rows],
                mode="lines+markers",
                name=f"m = {low} to {high}",
            )
        )
    made.update_xaxes(title="step")
    made.update_yaxes(title="accuracy", range=[-0.02, 1.02], tickformat=".0%")
    return styled(made, title=f"Moduli over training: {result.model}", height=380)


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
