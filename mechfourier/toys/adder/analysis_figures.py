"""The figures and the page of ``mechfourier analyze`` for an adder: each draws what the result's tables
hold."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mechfourier.drawing.html import Part, Section, notes_section, verdict_card
from mechfourier.drawing.marks import LOG, dots, figure, heat, line
from mechfourier.drawing.template import BLUE, DIVERGING, PALETTE, TEXT, panels, stacked, styled

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

    from mechfourier.toys.adder.analysis import AdderAnalysis

CIRCLES = (
    "Ten vectors in more than ten dimensions always lie on a circle in the plane fitted to all of them. So "
    "each digit is left out of the fit and put into the plane of the other "
    "nine: a thin line leads from where a circle would have it."
)


DRAWN = 3
"""Neurons of a figure: more lines cannot be told apart."""
Cells = Iterable[tuple[Any, Any, float]]


def _heat(
    cells: Cells, *, title: str, bar: str, hover: str, height: int | None = None, **colours: Any
) -> "go.Figure":
    """A heat map of (row, column, value); rows and columns in the order in which they come."""
    table = {(y, x): value for y, x, value in cells}
    rows, columns = list(dict.fromkeys(y for y, _ in table)), list(dict.fromkeys(x for _, x in table))
    z = [[table.get((y, x)) for x in columns] for y in rows]
    y = {"autorange": "reversed", "type": "category", "dtick": 1}
    made = heat(
        columns, rows, z, bar=bar, hover=hover, **({"zmin": None, **colours} if colours else {"zmax": 1})
    )
    return figure(made, x={"type": "category"}, y=y, title=title, height=height or 180 + 24 * len(rows))


def _curves(
    curves: Mapping[str, Sequence[float]],
    *,
    title: str,
    x: str,
    y: str,
    height: int = 380,
    mode: str = "lines",
    start: int = 1,
    **axis: Any,
) -> "go.Figure":
    """Values over 1, 2, … (or from ``start``), a curve each."""
    import plotly.graph_objects as go

    figure = go.Figure()
    for i, (name, values) in enumerate(curves.items()):
        at = list(range(start, start + len(values)))
        look = {"color": PALETTE[i % 7], "dash": ("solid", "dash", "dot")[i // 7 % 3]}
        size = 4 if mode == "markers" else None
        figure.add_scatter(x=at, y=list(values), name=name, mode=mode, marker_size=size, line=look)
    return styled(figure.update_xaxes(title=x).update_yaxes(title=y, **axis), title=title, height=height)


def quantities_figure(result: "AdderAnalysis") -> "go.Figure":
    """Linear read-out accuracy above chance: 0 is guessing, 1 is every held-out problem."""
    readings = [q for q in result.quantities if q.design == "value"]
    cells = (
        (s.site, q.quantity, max(0.0, (s.decoded - s.chance) / (1 - s.chance)))
        for q in readings
        for s in q.sites
    )
    return _heat(
        cells, title="What a linear map reads", bar="above chance (1: all)", hover="%{y}<br>%{x}: %{z:.2f}"
    )


def history_figure(result: "AdderAnalysis") -> "go.Figure":
    """Exact match by number of digits, and the loss, over training."""
    steps, figure = [row.step for row in result.history], panels(["", ""], columns=1, shared_xaxes=True)
    for digits, colour in zip(result.history[0].accuracy, PALETTE * 9, strict=False):
        shares = [row.accuracy[digits] for row in result.history]
        figure.add_trace(line(steps, shares, f"{digits} digits", colour=colour), row=1, col=1)
    loss = [row.train_loss for row in result.history]
    figure.add_trace(line(steps, loss, "train loss", colour=TEXT, dash="dot"), row=2, col=1)
    figure.update_yaxes(title="exact match", range=[-0.02, 1.04], tickformat=".0%", row=1, col=1)
    figure.update_yaxes(title="loss (nats)", **LOG, row=2, col=1)
    figure.update_xaxes(title="step", row=2, col=1)
    return styled(figure, title="Training", height=520)


def heads_figure(result: "AdderAnalysis") -> "go.Figure":
    """Attention by relative significance, head by head."""
    x = [*(f"{o:+d}" if o else "0" for o in result.heads[0].offsets), "+ and =", "farther"]
    cells = (
        (f"{h.site.removesuffix('.hook_pattern')} head {h.head}", column, weight)
        for h in result.heads
        for column, weight in zip(x, [*h.weights, h.special, h.rest], strict=True)
    )
    hover = "%{y}<br>relative significance %{x}: %{z:.2f}"
    figure = _heat(cells, title="Attention by significance", bar="weight", hover=hover)
    return figure.update_xaxes(title="significance of the key minus that of the query")


def carry_figure(result: "AdderAnalysis") -> "go.Figure":
    """Share of the donor's carry that each patch brings."""
    cells = (
        (c.site, f"{c.distance} below, at " + (f"{c.place:+d}" if c.place else "0"), c.recovered)
        for c in result.carries
    )
    figure = _heat(
        cells, title="Carry patching", bar="recovered", hover="%{y}<br>carry begun %{x}: %{z:.2f}", height=380
    )
    figure.update_layout(meta={"narrow": {"height": 520}})
    return figure.update_xaxes(title="begin of carry, place")


def ablation_figure(result: "AdderAnalysis") -> "go.Figure":
    """Exact match left after each ablation, by category."""
    cells = (
        (
            f"{a.site.replace('.hook_', ' ')}, "
            + (f"head {a.unit}" if a.what == "head" else f"{a.unit} neurons"),
            a.category,
            a.exact,
        )
        for a in result.ablations
    )
    return _heat(cells, title="Exact match after ablation", bar="exact match", hover="%{y}<br>%{x}: %{z:.1%}")


def neurons_figure(result: "AdderAnalysis", index: int) -> "go.Figure":
    """Mean activation of the most periodic neurons against the digit sum."""
    n = result.neurons[index]
    curves = {f"neuron {neuron}": curve for neuron, curve in list(zip(n.top, n.curves, strict=True))[:DRAWN]}
    x = "a + b (digits at the place asked for)"
    figure = _curves(curves, title=n.site, x=x, y="mean activation", mode="lines+markers", start=0)
    return figure.update_xaxes(dtick=2, range=[-0.5, len(n.curves[0]) - 0.5])


def shares_figure(result: "AdderAnalysis", index: int) -> "go.Figure":
    """How much of each neuron one harmonic of the sum, any function of the sum, and a and b apart explain."""
    n = result.neurons[index]
    order = sorted(range(n.live), key=lambda i: -n.r2[i])
    explained = {
        "one harmonic of (a + b) mod 10": n.r2,
        "any function of (a + b) mod 10": n.mod_sum,
        "a and b apart": n.additive,
    }
    figure = _curves(
        {name: [values[i] for i in order] for name, values in explained.items()},
        title=n.site,
        x="neuron, by its best harmonic",
        y="share of its variance",
        mode="markers",
        range=[-0.02, 1.04],
        tickformat=".0%",
    )
    look = dict(color=TEXT, dash="dot")
    return figure.add_hline(y=n.null, line=look, name="best neuron of 95 % of nulls", showlegend=True)


def spectra_figure(result: "AdderAnalysis") -> "go.Figure":
    """Power of the digit vectors by frequency, with the bar that shuffled digits stay under."""
    import plotly.graph_objects as go

    figure = go.Figure(
        [
            go.Bar(x=[1, 2, 3, 4, 5], y=list(e.shares), name=f"{e.matrix} (p = {e.p:.2g})")
            for e in result.embeddings
        ]
    )
    told = "largest share in 95 % of shuffled digits"
    look = dict(color=TEXT, dash="dot")
    figure.add_hline(y=max(e.null for e in result.embeddings), line=look, name=told, showlegend=True)
    figure.update_xaxes(title="cycles per ten digits", dtick=1)
    figure.update_yaxes(title="share of the power", tickformat=".0%")
    return styled(figure, title="Digit vectors", height=360)


def digits_figure(result: "AdderAnalysis") -> "go.Figure":
    """Each digit in the plane of the strongest frequency that the other nine digits draw; on a true circle it
    falls on the ring, where it belongs."""
    import plotly.graph_objects as go

    shown = [e for e in result.embeddings if e.points]
    figure = panels(
        [f"{e.matrix[:12]}, k = {e.k} (p = {e.p:.2g})" for e in shown], columns=len(shown), square=True
    )
    turn = [2 * math.pi * t / 100 for t in range(101)]
    for column, e in enumerate(shown, 1):
        ring = go.Scatter(
            x=[math.cos(t) for t in turn],
            y=[math.sin(t) for t in turn],
            mode="lines",
            line=dict(color=TEXT, dash="dot", width=1),
            showlegend=False,
            hoverinfo="skip",
        )
        wanted = [
            (math.cos(2 * math.pi * e.k * d / 10), math.sin(2 * math.pi * e.k * d / 10)) for d in range(10)
        ]
        lines = [(a, b) for w, p in zip(wanted, e.points, strict=True) for a, b in (w, p, (None, None))]
        drift = go.Scatter(
            x=[a for a, _ in lines],
            y=[b for _, b in lines],
            mode="lines",
            line=dict(color=TEXT, width=1),
            showlegend=False,
            hoverinfo="skip",
        )
        digits = go.Scatter(
            x=[p[0] for p in e.points],
            y=[p[1] for p in e.points],
            mode="markers+text",
            text=[str(d) for d in range(10)],
            textposition="top center",
            marker=dict(color=BLUE, size=9),
            showlegend=False,
            hovertemplate="digit %{text}: (%{x:.2f}, %{y:.2f})<extra></extra>",
        )
        for trace in (ring, drift, digits):
            figure.add_trace(trace, row=1, col=column)
    figure.update_layout(meta={"narrow": stacked(len(shown), columns=1, height=330)})
    figure.update_xaxes(title="cosine direction (radii)")
    figure.update_yaxes(title="sine direction (radii)")
    return styled(figure, title="Digit circles, each digit left out of the fit", height=480)


def matrices_table(result: "AdderAnalysis") -> "pd.DataFrame":
    """How many directions every matrix uses: the participation ratio of its singular values, and the share of their squares in
    the first ten."""
    import pandas as pd

    rows = []
    for each in result.matrices:
        power = [value**2 for value in each.singular_values]
        full = min(each.rows, each.columns)
        rows.append(
            (each.matrix, f"{each.rows} × {each.columns}", full, each.rank, sum(power[:10]) / sum(power))
        )
    return pd.DataFrame(
        rows, columns=["matrix", "size", "full rank", "effective rank", "power of the first 10"]
    )


def logits_figure(result: "AdderAnalysis") -> "go.Figure":
    """Mean logit of each digit where each digit is right."""
    cells = (
        (str(y), str(x), value) for y, row in enumerate(result.logits.table) for x, value in enumerate(row)
    )
    hover, colours = "right %{y}, digit %{x}: %{z:.2f}", dict(colorscale=DIVERGING, zmid=0)
    figure = _heat(cells, title="Logits", bar="logit", hover=hover, height=440, **colours)
    return figure.update_xaxes(title="digit").update_yaxes(title="right digit")


def positions_figure(result: "AdderAnalysis") -> "go.Figure":
    """The margin of the right character in the order they are written, and above it the share of right ones."""
    made = panels(["", ""], columns=1, shared_xaxes=True, row_heights=[0.3, 0.7], vertical_spacing=0.08)
    rows = ((result.positions, "%{y:.1%} right"), (result.logits.by_step, "margin %{y:.2f} nats"))
    for row, (values, hover) in enumerate(rows, 1):
        at = list(range(1, len(values) + 1))
        made.add_trace(
            dots(at, list(values), mode="lines+markers", hover=f"character %{{x}}: {hover}"), row=row, col=1
        )
    made.update_yaxes(title="right", range=[0, 1.1], tickformat=".0%", nticks=3, row=1, col=1)
    made.update_yaxes(title="margin (nats)", rangemode="tozero", row=2, col=1)
    made.update_xaxes(title="character written", tickformat="d", row=2, col=1)
    worst = min(result.positions, default=1.0)
    return styled(made, title=f"Answer positions: right in {worst:.1%} of problems or more", height=400)


def analysis_sections(result: "AdderAnalysis") -> list[Section]:
    """All that the analysis holds, figure by figure."""
    import pandas as pd

    read = (
        "Held-out accuracy of a linear read-out, scaled so that guessing is 0. Whether it is a circle is "
        "another question: below."
    )
    verdicts = [
        {
            "quantity": q.quantity,
            "design": q.design,
            "read at": q.where,
            "verdict": q.verdict,
            "site": q.best,
            "why": " ".join(q.reasons),
        }
        for q in result.quantities
    ]
    sections = [
        Section("What every site knows", quantities_figure(result), read),
        Section(
            "Verdicts",
            pd.DataFrame(verdicts),
            "By the same probe, nulls and controls as for the pretrained models.",
        ),
        Section("Attention", heads_figure(result), "Averaged over queries that stand for a digit."),
    ]
    if result.carries:
        lead = "0: none of the donor's carry comes with the patch, 1: all of it."
        sections.append(Section("Where the carry is", carry_figure(result), lead))
    lead = "Heads, and the most variable neurons of each MLP, held at their mean."
    sections.append(Section("Ablations", ablation_figure(result), lead))
    for i, n in enumerate(result.neurons):
        lead = f"Over the 10 × 10 grid of both digits, read at {n.where}."
        sections.append(Section(f"Neurons of {n.site}", shares_figure(result, i), lead))
        lead = "Mean activation over both digits, by their sum, of the neurons whose activation one period describes best."
        sections.append(Section(f"Most periodic neurons of {n.site}", neurons_figure(result, i), lead))
    lead = "Power of the vectors of the ten digits, by harmonic: W_E reads digits, W_U writes them; p: of the largest, by shuffled digits."
    sections.append(Section("Digit vectors", spectra_figure(result), lead))
    if any(e.points for e in result.embeddings):
        sections.append(Section("Digit circles", digits_figure(result), CIRCLES))
    lead = "Mean logit of every digit (across) where a digit (down) is the right one."
    sections.append(Section("Logits", logits_figure(result), lead))
    worst = min(result.positions, default=1.0)
    lead = "Characters in the order in which they are written; the margin is the right character's logit less the best other's."
    told = "Every character of every answer is right"
    if worst < 1:
        told = f"Every character of the answer is right in at least {worst:.1%} of the problems"
    sections.append(Section("Answer positions", positions_figure(result), lead, message=told))
    lead = "Effective rank: (Σσ²)²/Σσ⁴ of the singular values σ (participation ratio)."
    sections.append(Section("Weight spectra", matrices_table(result), lead))
    return [*sections, *([Section("Training", history_figure(result))] if result.history else [])]


def analysis_lead(result: "AdderAnalysis") -> str:
    """What was asked of which model."""
    return (
        f"{result.architecture}, {result.parameters:,} parameters; {result.exact:.1%} of random "
        f"{result.digits}-digit problems answered exactly. "
        f"Asked about the answer digit of significance {result.place} (0 are the units)."
    )


def analysis_part(result: "AdderAnalysis") -> Part:
    """An adder taken apart."""
    lines = str(result).splitlines()
    card = verdict_card("Adder", lines[0], lines[1:], accent=BLUE)
    return Part(
        f"Adder: {result.model}",
        [*analysis_sections(result), *notes_section(result)],
        analysis_lead(result),
        card,
    )
