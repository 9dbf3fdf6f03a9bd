"""Figures and pages of the adder: accuracy over lengths, categories and carries."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from mechfourier.drawing.html import Part, Section, half, notes_section, verdict_card
from mechfourier.drawing.marks import LYING, dots, figure, heat, whiskers
from mechfourier.drawing.template import BLUE, VERMILION
from mechfourier.stats.intervals import wilson

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from mechfourier.toys.adder.accuracy import AdderAccuracy


def lengths_figure(result: "AdderAccuracy") -> "go.Figure":
    """Exact match by the digits of the longer operand, with 95 % intervals over all its pairs of lengths; the
    dashed line marks the longest trained on."""
    longest = sorted({max(s.a, s.b) for s in result.of("lengths")})
    counts = [result.within(n, n) for n in longest]
    shares = [right / total for right, total in counts]
    lows, highs = zip(*(wilson(right, total) for right, total in counts), strict=True)
    made = figure(
        dots(
            longest,
            shares,
            error_y=whiskers(shares, lows, highs),
            customdata=counts,
            hover="%{x} digits: %{y:.2%} (%{customdata[0]} of %{customdata[1]})",
        ),
        x={"title": "digits of the longer operand", "tickformat": "d"},
        y={"title": "exact match", "range": _zoomed(lows), "tickformat": ".1%"},
        title=f"Exact match by length, trained on 1 to {result.trained_digits} digits (dashed)",
        height=400,
    )
    return made.add_vline(
        x=result.trained_digits + 0.5, line={"color": VERMILION, "width": 2, "dash": "dash"}
    )


def _zoomed(lows: Sequence[float]) -> list[float]:
    """The range of an axis of shares that begins a little below the lowest interval."""
    low = min(lows)
    return [max(-0.02, low - 0.1 * (1 - low)), 1 + 0.05 * (1 - low)]


def pairs_figure(result: "AdderAccuracy") -> "go.Figure":
    """Exact match by the digits of both operands; the frame marks the lengths trained on."""
    cells = result.of("lengths")
    size = max(max(s.a, s.b) for s in cells)
    z: list[list[float | None]] = [[None] * size for _ in range(size)]
    text = [[""] * size for _ in range(size)]
    for s in cells:
        z[s.a - 1][s.b - 1] = s.accuracy
        text[s.a - 1][s.b - 1] = f"{s.right} of {s.total}, 95 % [{s.low:.2f}, {s.high:.2f}]"
    axis, edge = list(range(1, size + 1)), result.trained_digits + 0.5
    hover = "a: %{y} digits, b: %{x} digits: %{z:.1%} (%{text})"
    made = figure(
        heat(
            axis,
            axis,
            z,
            bar="exact match",
            zmax=1,
            text=text,
            hover=hover,
            colorbar=LYING | {"tickformat": ".0%"},
        ),
        x={"title": "digits of b", "constrain": "domain"},
        y={"title": "digits of a", "scaleanchor": "x", "autorange": "reversed", "constrain": "domain"},
        title="Exact match by both lengths (framed: trained on)",
        height=600,
    )
    line = {"color": VERMILION, "width": 2}
    return made.add_shape(type="rect", x0=0.5, y0=0.5, x1=edge, y1=edge, line=line)


def shares_figure(result: "AdderAccuracy", group: str) -> "go.Figure":
    """One group's shares with their Wilson intervals."""
    shares = result.of(group)
    values = [s.accuracy for s in shares]
    return figure(
        dots(
            values,
            [s.label for s in shares],
            error_x=whiskers(values, [s.low for s in shares], [s.high for s in shares]),
            customdata=[[s.right, s.total] for s in shares],
            hover="%{y}: %{x:.2%} (%{customdata[0]} of %{customdata[1]})",
        ),
        x={
            "title": "character right" if group == "answer position" else "exact match",
            "range": _zoomed([s.low for s in shares]),
            "tickformat": ".1%",
        },
        y={"autorange": "reversed", "type": "category", "dtick": 1},
        title=group[0].upper() + group[1:],
        height=140 + 20 * len(shares),
    )


def _group_section(result: "AdderAccuracy", group: str) -> Section:
    """One group as a figure; as a sentence where every problem of it was right, which needs none."""
    heading, shares = f"Accuracy by {group}", result.of(group)
    total = sum(each.total for each in shares)
    if all(each.right == each.total for each in shares):
        low = min(each.low for each in shares)
        told = f"All right: {total:,} of {total:,} in {len(shares)} rows (the least certain row: 95 % interval from {low:.0%})."
        return half(heading, [told])
    worst = min(shares, key=lambda each: each.accuracy)
    message = f"{heading}: {worst.label} is worst ({worst.accuracy:.1%})"
    return half(
        heading, shares_figure(result, group), f"95 % Wilson intervals; {total:,} problems.", message=message
    )


def accuracy_part(result: "AdderAccuracy") -> Part:
    """Accuracy by lengths, carries and answer position, with 95 % Wilson intervals."""
    from mechfourier.toys.adder.accuracy import GROUPS

    lead = (
        f"{result.samples} problems per cell, greedy decoding, the whole answer right. Problems no longer "
        f"than "
        f"{result.trained_digits} digits are pairs never trained on."
    )
    told = "Exact match of sums by the longer operand"
    sections = [half("Accuracy by the lengths of the operands", lengths_figure(result), lead, message=told)]
    if min(s.accuracy for s in result.of("lengths")) < 0.9:  # else all of one colour
        sections.append(half("Accuracy by both lengths", pairs_figure(result)))
    sections += [_group_section(result, group) for group in GROUPS if group != "lengths" and result.of(group)]
    sections.append(Section("All shares", result.frame().head(500)))
    lines = str(result).splitlines()
    card = verdict_card("Addition", lines[0], lines[1:], accent=BLUE)
    return Part(f"Addition: {result.model}", [*sections, *notes_section(result)], card=card)
