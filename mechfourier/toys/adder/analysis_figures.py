"""The figures and the page of ``mechfourier analyze`` for an adder: each draws what the result's tables hold."""

import math
from typing import TYPE_CHECKING, Any

from mechfourier.drawing.html import Part, Section, notes_section, verdict_card
from mechfourier.drawing.template import BLUE, DIVERGING, SCALE, TEXT, panels, styled

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from mechfourier.toys.adder.analysis import AdderAnalysis

CIRCLES = (
    "Ten vectors in more than ten dimensions always lie on a circle in the plane fitted to all of them. So each digit is left out of the fit and put into the plane of the other "
    "nine: a thin line leads from where a circle would have it."
)


def _heat(
    z: Any,
    x: Any,
    y: Any,
    *,
    title: str,
    bar: str,
    hover: str,
    diverging: bool = False,
    height: int | None = None,
) -> "go.Figure":
    import plotly.graph_objects as go

    colours = dict(colorscale=DIVERGING, zmid=0) if diverging else dict(colorscale=SCALE, zmin=0, zmax=1)
    figure = go.Figure(
        go.Heatmap(
            z=z,
            x=x,
            y=y,
            colorbar=dict(title=bar, thickness=12),
            hovertemplate=hover + "<extra></extra>",
            **colours,
        )
    )
    figure.update_yaxes(autorange="reversed", type="category", dtick=1)
    figure.update_xaxes(type="category")
    return styled(figure, title=title, height=height or 180 + 24 * len(y))


def quantities_figure(result: "AdderAnalysis") -> "go.Figure":
    """Linear read-out accuracy above chance: 0 is guessing, 1 is every held-out problem."""
    readings = [q for q in result.quantities if q.design == "value"]
    names = list(dict.fromkeys(s.site for q in readings for s in q.sites))
    columns = list(dict.fromkeys(q.quantity for q in readings))
    z: list[list[float | None]] = [[None] * len(columns) for _ in names]
    for q in readings:
        for s in q.sites:
            z[names.index(s.site)][columns.index(q.quantity)] = max(
                0.0, (s.decoded - s.chance) / (1 - s.chance)
            )
    return _heat(
        z,
        columns,
        names,
        title="What a linear map reads",
        bar="above<br>chance",
        hover="%{y}<br>%{x}: %{z:.2f}",
    )


def history_figure(result: "AdderAnalysis") -> "go.Figure":
    """Exact match by number of digits, and the loss, over training."""
    import plotly.graph_objects as go

    steps = [row.step for row in result.history]
    figure = go.Figure()
    for digits in result.history[0].accuracy:
        figure.add_scatter(
            x=steps, y=[row.accuracy[digits] for row in result.history], name=f"{digits} digits"
        )
    loss = [row.train_loss for row in result.history]
    figure.add_scatter(x=steps, y=loss, name="train loss", yaxis="y2", line=dict(dash="dot"))
    figure.update_layout(
        xaxis_title="step", yaxis=dict(title="exact match", range=[-0.02, 1.02]),
        yaxis2=dict(title="loss (nats)", type="log", overlaying="y", side="right"),
    )  # fmt: skip
    return styled(figure, title="Training", height=420)


def heads_figure(result: "AdderAnalysis") -> "go.Figure":
    """Attention by relative significance, head by head."""
    heads = result.heads
    x = [*(f"{o:+d}" if o else "0" for o in heads[0].offsets), "+ and =", "farther"]
    z = [[*h.weights, h.special, h.rest] for h in heads]
    y = [f"{h.site.removesuffix('.hook_pattern')} head {h.head}" for h in heads]
    figure = _heat(
        z,
        x,
        y,
        title="Attention by significance",
        bar="weight",
        hover="%{y}<br>relative significance %{x}: %{z:.2f}",
    )
    return figure.update_xaxes(title="significance of the key minus that of the query")


def carry_figure(result: "AdderAnalysis") -> "go.Figure":
    """Share of the donor's carry that each patch brings."""
    sites = list(dict.fromkeys(c.site for c in result.carries))
    columns = list(dict.fromkeys((c.distance, c.place) for c in result.carries))
    z: list[list[float | None]] = [[None] * len(columns) for _ in sites]
    for c in result.carries:
        z[sites.index(c.site)][columns.index((c.distance, c.place))] = c.recovered
    x = [f"{d} below, at {p:+d}" if p else f"{d} below, at 0" for d, p in columns]
    figure = _heat(
        z,
        x,
        sites,
        title="Carry patching",
        bar="recovered",
        hover="%{y}<br>carry begun %{x}: %{z:.2f}",
        height=380,
    )
    return figure.update_xaxes(
        title="where the carry begins, and the significance patched (relative to the digit asked for)"
    )


def ablation_figure(result: "AdderAnalysis") -> "go.Figure":
    """Exact match left after each ablation, by category."""
    units = list(dict.fromkeys((a.site, a.what, a.unit) for a in result.ablations))
    categories = list(dict.fromkeys(a.category for a in result.ablations))
    z: list[list[float | None]] = [[None] * len(categories) for _ in units]
    for a in result.ablations:
        z[units.index((a.site, a.what, a.unit))][categories.index(a.category)] = a.exact
    y = [
        f"{site.replace('.hook_', ' ')}, {f'head {unit}' if what == 'head' else f'{unit} neurons'}"
        for site, what, unit in units
    ]
    return _heat(
        z,
        categories,
        y,
        title="Exact match after ablation",
        bar="exact<br>match",
        hover="%{y}<br>%{x}: %{z:.1%}",
    )


def neurons_figure(result: "AdderAnalysis", index: int) -> "go.Figure":
    """Mean activation of the most periodic neurons against the digit sum."""
    import plotly.graph_objects as go

    n = result.neurons[index]
    figure = go.Figure()
    for neuron, curve in zip(n.top, n.curves, strict=True):
        figure.add_scatter(
            x=list(range(len(curve))), y=list(curve), mode="lines+markers", name=f"neuron {neuron}"
        )
    figure.update_xaxes(title="a + b (digits at the place asked for)", dtick=1)
    figure.update_yaxes(title="mean activation")
    return styled(figure, title=n.site, height=380)


def shares_figure(result: "AdderAnalysis", index: int) -> "go.Figure":
    """How much of each neuron one harmonic of the sum, any function of the sum, and a and b apart explain."""
    import plotly.graph_objects as go

    n = result.neurons[index]
    order = sorted(range(n.live), key=lambda i: -n.r2[i])
    figure = go.Figure()
    for name, values in (
        ("one harmonic of (a + b) mod 10", n.r2),
        ("any function of (a + b) mod 10", n.mod_sum),
        ("a and b apart", n.additive),
    ):
        figure.add_scatter(
            x=list(range(1, n.live + 1)),
            y=[values[i] for i in order],
            name=name,
            mode="markers",
            marker=dict(size=4),
        )
    figure.add_hline(y=n.null, line=dict(dash="dot"), annotation_text="best neuron of 95 % of nulls")
    figure.update_xaxes(title="neuron, by its best harmonic")
    figure.update_yaxes(title="share of its variance", range=[-0.02, 1.02])
    return styled(figure, title=n.site, height=380)


def spectra_figure(result: "AdderAnalysis") -> "go.Figure":
    """Power of the digit vectors by frequency, with the bar that shuffled digits stay under."""
    import plotly.graph_objects as go

    figure = go.Figure()
    for e in result.embeddings:
        figure.add_bar(x=[1, 2, 3, 4, 5], y=list(e.shares), name=f"{e.matrix} (p = {e.p:.2g})")
    highest = max(e.null for e in result.embeddings)
    figure.add_hline(
        y=highest,
        line=dict(dash="dot"),
        annotation_text="the largest share stays under this in 95 % of shuffles of the digits",
    )
    figure.update_xaxes(title="cycles per ten digits", dtick=1)
    figure.update_yaxes(title="share of the power")
    return styled(figure, title="Digit vectors", height=360)


def digits_figure(result: "AdderAnalysis") -> "go.Figure":
    """Each digit in the plane of the strongest frequency that the other nine digits draw; on a true circle it falls on the ring, where it belongs."""
    import plotly.graph_objects as go

    shown = [e for e in result.embeddings if e.points]
    figure = panels(
        [f"{e.matrix}, k = {e.k} (p = {e.p:.2g})" for e in shown], columns=len(shown), square=True
    )
    turn = [2 * math.pi * t / 100 for t in range(101)]
    for column, e in enumerate(shown, 1):
        ring = go.Scatter(
            x=[math.cos(t) for t in turn], y=[math.sin(t) for t in turn], mode="lines", line=dict(color=TEXT, dash="dot", width=1),
            showlegend=False, hoverinfo="skip",
        )  # fmt: skip
        wanted = [
            (math.cos(2 * math.pi * e.k * d / 10), math.sin(2 * math.pi * e.k * d / 10)) for d in range(10)
        ]
        lines = [(a, b) for w, p in zip(wanted, e.points, strict=True) for a, b in (w, p, (None, None))]
        drift = go.Scatter(
            x=[a for a, _ in lines], y=[b for _, b in lines], mode="lines", line=dict(color=TEXT, width=1), showlegend=False, hoverinfo="skip"
        )  # fmt: skip
        digits = go.Scatter(
            x=[p[0] for p in e.points], y=[p[1] for p in e.points], mode="markers+text", text=[str(d) for d in range(10)], textposition="top center",
            marker=dict(color=BLUE, size=9), showlegend=False, hovertemplate="digit %{text}: (%{x:.2f}, %{y:.2f})<extra></extra>",
        )  # fmt: skip
        for trace in (ring, drift, digits):
            figure.add_trace(trace, row=1, col=column)
    figure.update_xaxes(title="cosine direction (radii)")
    figure.update_yaxes(title="sine direction (radii)")
    return styled(figure, title="Digit circles, each digit left out of the fit", height=480)


def matrices_figure(result: "AdderAnalysis") -> "go.Figure":
    """Singular values of every matrix, relative to the largest."""
    import plotly.graph_objects as go

    figure = go.Figure()
    for m in result.matrices:
        values = [s / max(m.singular_values) for s in m.singular_values]
        figure.add_scatter(
            x=list(range(1, len(values) + 1)), y=values, name=f"{m.matrix} (rank {m.rank:.0f})", mode="lines"
        )
    figure.update_xaxes(title="singular value")
    figure.update_yaxes(title="relative to the largest")
    return styled(figure, title="Weight spectra", height=480)


def logits_figure(result: "AdderAnalysis") -> "go.Figure":
    """Mean logit of each digit where each digit is right."""
    axis = [str(d) for d in range(10)]
    table = [list(row) for row in result.logits.table]
    figure = _heat(
        table,
        axis,
        axis,
        title="Logits",
        bar="logit",
        hover="right %{y}, digit %{x}: %{z:.2f}",
        diverging=True,
        height=440,
    )
    return figure.update_xaxes(title="digit").update_yaxes(title="right digit")


def positions_figure(result: "AdderAnalysis") -> "go.Figure":
    """Share of right characters in the order they are written, and the margin of the right one."""
    import plotly.graph_objects as go

    figure = go.Figure(
        go.Bar(x=list(range(1, len(result.positions) + 1)), y=list(result.positions), name="right")
    )
    margin = list(result.logits.by_step)
    figure.add_scatter(
        x=list(range(1, len(margin) + 1)), y=margin, name="margin of the right character", yaxis="y2"
    )
    figure.update_layout(
        xaxis_title="character written", yaxis=dict(title="share right", range=[0, 1.02]),
        yaxis2=dict(title="margin (nats)", overlaying="y", side="right", rangemode="tozero"),
    )  # fmt: skip
    return styled(figure, title="Answer positions", height=340)


def analysis_sections(result: "AdderAnalysis") -> list[Section]:
    """All that the analysis holds, figure by figure."""
    import pandas as pd

    sections = [
        Section(
            "What every site knows", quantities_figure(result),
            lead="Held-out accuracy of a linear read-out, scaled so that guessing is 0. Whether it is a circle is another question: below.",
        ),
        Section(
            "Verdicts",
            pd.DataFrame(
                [
                    {"quantity": q.quantity, "design": q.design, "read at": q.where, "verdict": q.verdict, "site": q.best, "why": " ".join(q.reasons)}
                    for q in result.quantities
                ]
            ),
            lead="By the same probe, nulls and controls as for the pretrained models.",
        ),
        Section("Attention", heads_figure(result), lead="Averaged over queries that stand for a digit."),
    ]  # fmt: skip
    if result.carries:
        sections.append(
            Section(
                "Where the carry is",
                carry_figure(result),
                lead="0: none of the donor's carry comes with the patch, 1: all of it.",
            )
        )
    sections.append(
        Section(
            "Ablations",
            ablation_figure(result),
            lead="Heads, and the most variable neurons of each MLP, held at their mean.",
        )
    )
    for i, n in enumerate(result.neurons):
        sections += [
            Section(
                f"Neurons of {n.site}",
                shares_figure(result, i),
                lead=f"Over the 10 × 10 grid of both digits, read at {n.where}.",
            ),
            Section(f"Most periodic neurons of {n.site}", neurons_figure(result, i)),
        ]
    sections += [
        Section("Digit vectors", spectra_figure(result)),
        *(
            [Section("Digit circles", digits_figure(result), CIRCLES)]
            if any(e.points for e in result.embeddings)
            else []
        ),
        Section("Logits", logits_figure(result)),
        Section("Answer positions", positions_figure(result)),
        Section("Weight spectra", matrices_figure(result)),
    ]
    if result.history:
        sections.append(Section("Training", history_figure(result)))
    return sections


def analysis_part(result: "AdderAnalysis") -> Part:
    """An adder taken apart."""
    lead = (
        f"{result.architecture}, {result.parameters:,} parameters; {result.exact:.1%} of random {result.digits}-digit problems answered exactly. "
        f"Asked about the answer digit of significance {result.place} (0 are the units)."
    )
    first, *lines = str(result).splitlines()
    card = verdict_card("Adder", first, lines, accent=BLUE)
    return Part(f"Adder: {result.model}", [*analysis_sections(result), *notes_section(result)], lead, card)
