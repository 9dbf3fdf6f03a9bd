"""Figures of sweeps, attributions and causal planes."""

from typing import TYPE_CHECKING, Any

from mechfourier.drawing.html import Part, Section, notes_section
from mechfourier.drawing.marks import bars, figure, heat, site_labels, whiskers
from mechfourier.drawing.template import BLUE, ORANGE, PALETTE

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from mechfourier.causal.attribution import AttributionResult
    from mechfourier.causal.find_plane import CausalPlane
    from mechfourier.causal.sweep import SweepResult


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
        x=result.unit,
        y={"title": kind, "autorange": "reversed", "type": "category"},
        title=f"Drop of the margin by {result.unit}: {result.domain} in {result.model}",
        height=220 + 26 * len(result.sites),
    )


def attribution_figure(result: "AttributionResult") -> "go.Figure":
    """What every part and head adds to the margin, with 95 % intervals."""
    traces = []
    for kind, rows, colour in (("part", result.parts, BLUE), ("head", result.heads, ORANGE)):
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
    names = list(found[0].written_by) if found else []
    ks = [h.k for h in found]
    traces = [
        bars(
            ks,
            [h.share * h.written_by[name] for h in found],
            name,
            colour=PALETTE[i % len(PALETTE)],
            hover=f"k = %{{x}}, {name}: %{{y:.1%}}",
        )
        for i, name in enumerate(names)
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
    sections = [Section("Parts", attribution_figure(result))]
    if result.harmonics:
        sections.append(Section("Harmonics", written_figure(result)))
    sections += [Section("Numbers", result.frame()), *notes_section(result)]
    title = f"Attribution: {result.domain} in {result.model}"
    return Part(title, sections, lead=str(result).splitlines()[0])
