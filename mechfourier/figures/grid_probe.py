"""Figures of two cycles at once: the power at every pair of harmonics, and the chapters of both factors."""

import dataclasses
from typing import TYPE_CHECKING

from mechfourier.drawing.html import Part, Section, notes_section, verdict_card
from mechfourier.drawing.marks import figure, heat
from mechfourier.drawing.template import plain_text
from mechfourier.figures.probe import probe_sections
from mechfourier.figures.shapes import accent

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from mechfourier.probes.arrays.grid import GridProbe


def grid_figure(result: "GridProbe") -> "go.Figure":
    """Share of the power between cells at k cycles of the first factor (down) and l of the second (across)."""
    first, second = result.domain.split(",")
    low = -(result.n[1] // 2)
    across = [low + i for i in range(result.n[1])]
    shown = heat(
        across,
        list(range(len(result.power))),
        [list(row) for row in result.power],
        hover="k = %{y}, l = %{x}: %{z:.1%}",
    )
    x = {"title": f"l, cycles of {plain_text(second)}"}
    return figure(
        shown,
        x=x,
        y={"title": f"k, cycles of {plain_text(first)}", "dtick": 1 if len(result.power) < 16 else 5},
        height=360,
    )


def grid_part(result: "GridProbe") -> Part:
    """Verdict, power at pairs of harmonics, then the chapter of each factor and of their product."""
    lead = "Template noise removed where there are templates; k = 0 or l = 0: one factor alone."
    sections = [Section("Power at pairs of harmonics", grid_figure(result), lead)]
    for factor in (*result.factors, *([result.product] if result.product is not None else [])):
        own = [each for each in probe_sections(factor) if each.heading != "Notes"]
        sections += [dataclasses.replace(each, heading=f"{factor.domain}: {each.heading}") for each in own]
    card = verdict_card(
        result.verdict,
        f"use by the model: {result.used}",
        result.reasons,
        accent=accent("circular" if result.verdict == "torus" else result.verdict),
    )
    return Part(
        f"Probe: {result.domain} in {result.model}",
        [*sections, *notes_section(result)],
        str(result.arrays),
        card,
    )
