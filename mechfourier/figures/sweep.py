"""Figures of sweeps, attributions and causal planes."""

from typing import TYPE_CHECKING, Any

from mechfourier.drawing.html import Part, Section, notes_section
from mechfourier.drawing.marks import bars, figure, heat, site_labels, whiskers
from mechfourier.drawing.template import BLUE, ORANGE, PALETTE, TEXT

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from mechfourier.causal.attribution import AttributionResult
    from mechfourier.causal.find_plane import CausalPlane
    from mechfourier.causal.sweep import SweepResult


NAMED = 12
"""Bars of a kind that a figure has room to name."""


def sweep_figure(result: "SweepResult") -> "go.Figure":
    """Drop of the margin by unit (across) and site (down); white is no effect."""
    width = max(map(len, result.effects))

    def padded(rows: Any) -> list[list[float | None]]:
        return [[*row, *[None] * (width - len(row))] for row in rows]

    specific = padded(result.specific or result.effects)
    details = [list(zip(p, s, strict=True)) for p, s in zip(padded(result.p_values), specific, strict=True)]
    hover = f"{result.unit} %{{x}} of %{{customdata[2]}}: %{{z:.3g}}, family-wise p = %{{customdata[0]:.2g}}"
    hover += ", specific effect %{customdata[1]:.3g}" if result.specific else ""
    bound = max((abs(e) for row in result.effects for e in row), default=0.0) or 1.0
    labels, kind = site_labels(list(result.sites))
    sites = [[site] * width for site in result.sites]
    details = [
        [(*cell, site) for cell, site in zip(*row, strict=True)] for row in zip(details, sites, strict=True)
    ]
    return figure(
        heat(
            list(range(width)),
            labels,
            padded(result.effects),
            bar="drop of the margin",
            hover=hover,
            bound=bound,
            customdata=details,
        ),
        x={"dim": "dimension"}.get(result.unit, result.unit),
        y={"title": kind, "autorange": "reversed", "type": "category"},
        title=f"Drop of the margin by {result.unit}: {result.domain} in {result.model}",
        height=220 + 26 * len(result.sites),
    )


def attribution_figure(result: "AttributionResult") -> "go.Figure":
    """What the parts and heads that add or take most add to the margin, in the network's order, with 95 % intervals."""
    traces = []
    for kind, every, colour in (("part", result.parts, BLUE), ("head", result.heads, ORANGE)):
        largest = {row.name for row in sorted(every, key=lambda row: -abs(row.mean))[:NAMED]}
        rows = [row for row in every if row.name in largest]
        means = [row.mean for row in rows]
        error = whiskers(means, [row.low for row in rows], [row.high for row in rows])
        hover = "%{x}: %{y:.3g} nats"
        if rows:
            traces.append(
                bars([r.name for r in rows], means, kind, colour=colour, hover=hover, error_y=error)
            )
    title = f"Who writes the answer: {result.domain} in {result.model}"
    y = "adds to the margin (nats of logit)"
    return figure(*traces, x={"type": "category"}, y=y, title=title, height=420)


def written_figure(result: "AttributionResult") -> "go.Figure":
    """The harmonics of the answer in the logits, each split over the parts that write it."""
    found = result.harmonics
    every = list(found[0].written_by) if found else []
    ks = [h.k for h in found]
    writes = {name: [h.share * h.written_by[name] for h in found] for name in every}
    names = sorted(every, key=lambda name: -sum(map(abs, writes[name])))[: len(PALETTE) - 1]
    shown = {
        name: (writes[name], PALETTE[i]) for i, name in enumerate(each for each in every if each in names)
    }
    if left := [name for name in every if name not in names]:
        shown[f"the other {len(left)} together"] = (
            [sum(each) for each in zip(*(writes[n] for n in left), strict=True)],
            TEXT,
        )
    traces = [
        bars(ks, values, name, colour=colour, hover=f"k = %{{x}}, {name}: %{{y:.1%}}")
        for name, (values, colour) in shown.items()
    ]
    y = {"title": "share of the logits' variance", "tickformat": ".0%"}
    title = "Harmonics that write the answer"
    return figure(*traces, x="harmonic k of the answer", y=y, barmode="relative", title=title, height=420)


def plane_figure(result: "CausalPlane") -> "go.Figure":
    """Share of held-out pairs whose answer becomes the donor's, by what was exchanged."""
    frame = result.frame()
    return figure(
        bars(frame["interchange_accuracy"], frame["subspace"], orientation="h", hover="%{y}: %{x:.1%}"),
        x={"title": "donor's answer given", "range": [0, 1.02]},
        y={"autorange": "reversed"},
        title=f"What carries the answer at {result.site}",
        height=360,
    )


def attribution_part(result: "AttributionResult") -> Part:
    """What every part adds, and the harmonics that they write."""
    lead = f"The {NAMED} parts and the {NAMED} heads that add or take most, in the network's order (a head is a part of its attention layer); whiskers: 95 % intervals over prompts."
    every = [*result.parts, *result.heads]
    top = max(every, key=lambda row: row.mean)
    told = f"Of {len(result.parts)} parts and {len(result.heads)} heads, {top.name} adds most to the answer's margin ({top.mean:+.2g} nats)"
    sections = [Section("Parts", attribution_figure(result), lead, message=told)]
    if result.harmonics:
        told = "Which parts write the harmonics of the answer into the logits"
        sections.append(
            Section(
                "Harmonics",
                written_figure(result),
                "Shares of the logits' variance over the answers.",
                message=told,
            )
        )
    sections += [Section("Numbers", result.frame()), *notes_section(result)]
    title = f"Attribution: {result.domain} in {result.model}"
    return Part(title, sections, lead=str(result).splitlines()[0])
