"""Figures of number lines: what moving each part of the fit does, and every period by site."""

from typing import TYPE_CHECKING, Any

from mechfourier.drawing.marks import bars, figure, line, site_labels, whiskers
from mechfourier.drawing.template import BLUE, ORANGE, PALETTE, VERMILION

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from mechfourier.causal.periods import PeriodsResult
    from mechfourier.probes.numbers import NumberLine


def periods_figure(result: "PeriodsResult") -> "go.Figure":
    """Share of answers that move by exactly δ, and by δ modulo the period, for every part that was moved."""
    frame = result.frame()
    names = frame["name"].tolist()
    spread = whiskers(frame["exact"].tolist(), frame["low"].tolist(), frame["high"].tolist())
    drawn: list[Any] = [
        bars(
            names, frame["exact"], "exactly δ", colour=BLUE, error_y=spread, hover="%{x}: %{y:.1%} exactly δ"
        )
    ]
    rows = frame[frame["moved"].notna()]
    if len(rows):
        ends = [rows[column].tolist() for column in ("moved", "moved_low", "moved_high")]
        hover = "%{x}: %{y:.1%} by δ modulo the period"
        drawn += [
            bars(
                rows["name"],
                rows["moved"],
                "δ modulo the period",
                colour=VERMILION,
                error_y=whiskers(ends[0], ends[1], ends[2]),
                hover=hover,
            ),
            bars(rows["name"], rows["kept"], "and the rest kept", colour=ORANGE, hover="%{x}: %{y:.1%} kept"),
        ]
    return figure(
        *drawn,
        x={"type": "category", "categoryarray": names, "tickangle": -35},
        y={"title": "share of prompts", "range": [0, 1.05], "tickformat": ".0%"},
        title=f"Parts of a number moved by δ: {result.domain} in {result.model}",
        height=460,
        barmode="group",
    )


def number_line_figure(result: "NumberLine") -> "go.Figure":
    """Share of the power beside the line that every period has, by site; dashed: the untrained draws' largest."""
    frame = result.period_frame()
    drawn: list[Any] = []
    reads = frame["read"].iloc[-1:].tolist() if len(frame) else []
    rows = frame[frame["read"].isin(reads)] if len(frame) else frame
    sites = list(dict.fromkeys(rows["site"].tolist())) if len(frame) else []
    labels, at_title = site_labels(sites)
    short = dict(zip(sites, labels, strict=True))
    for (period, each), colour in zip(
        rows.groupby("period") if len(frame) else (), PALETTE * 9, strict=False
    ):
        name = f"period {period:g}"
        drawn.append(
            line(
                [short[site] for site in each["site"]],
                each["share"],
                name,
                colour=colour,
                hover=f"layer %{{x}}, {name}: %{{y:.1%}}",
            )
        )
        if result.n_untrained:
            hover = f"layer %{{x}}, {name}, untrained: %{{y:.1%}}"
            at = [short[site] for site in each["site"]]
            drawn.append(line(at, each["untrained_share"], colour=colour, dash="dash", hover=hover))
    beside = "; dashed: untrained" if result.n_untrained else ""
    return figure(
        *drawn,
        x={"title": at_title, "type": "category"},
        y={"title": "share of the power beside the line", "tickformat": ".0%", "rangemode": "tozero"},
        title=f"Periods of {result.low} to {result.high} in {result.model}{beside}",
        height=480,
    )
