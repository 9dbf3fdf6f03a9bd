"""Figures of the contest of shapes: evidence of every shape, the words of all layers, the circle beside its
best rival."""

from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np

from mechfourier.domains.reads import some
from mechfourier.drawing.html import Section, half
from mechfourier.drawing.marks import bars, dots, figure, line, outward, whiskers
from mechfourier.drawing.template import BLUE, GREEN, ORANGE, PINK, SKY, VERMILION, YELLOW, plain_text
from mechfourier.probes.result import short_names
from mechfourier.stats.shapes.catalogue import SHAPES
from mechfourier.stats.shapes.families import family
from mechfourier.stats.value import LEVEL
from mechfourier.stats.words import CIRCLES, shapes_of, taking_part

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from mechfourier.probes.result import ProbeResult, SiteRow

CLOSED = {shape.name for shape in SHAPES if shape.closed}
ACCENT = {
    "circular": GREEN,
    "flattened circle": GREEN,
    "modular": BLUE,
    "nearly closed": YELLOW,
    "open curve": ORANGE,
    "open arc": ORANGE,
    "line": ORANGE,
    "magnitude": ORANGE,
    "wave": VERMILION,
    "clusters": PINK,
    "other period": BLUE,
    "values distinguishable": SKY,
    "token identity": SKY,
    "interaction": SKY,
    "noise": PINK,
    "not testable": VERMILION,
}
"""The colour of a verdict."""
STRIP = ACCENT | {
    "interaction": "#A6CEE3",
    "flattened circle": "#66C2A5",
    "line": "#B07D00",
    "noise": "#BBBBBB",
    "not testable": "#DDDDDD",
}
"""The same for words side by side, where no two may look alike."""
UNDECIDED = "#8C8C8C"


def accent(word: str) -> str:
    """The colour of a verdict; grey where it is undecided."""
    return ACCENT.get(word, UNDECIDED)


def best_row(result: "ProbeResult") -> "SiteRow | None":
    """The row of the site that speaks for the headline, where a contest was run there."""
    rows = [row for row in result.sites if result.best is not None and row.site == result.best.site]
    return rows[0] if rows and rows[0].shapes else None


def contest_figure(result: "ProbeResult") -> "go.Figure":
    """How much of the between-value power every shape predicts at the best site, of values left out, with 95
    % intervals."""
    row = best_row(result)
    shapes = () if row is None else row.shapes
    low = min([0.0, *(s.evidence if s.low is None else s.low for s in shapes)])
    traces = []
    for closed, colour, name in ((True, GREEN, "closed"), (False, ORANGE, "other shapes")):
        some = [shape for shape in shapes if (shape.name in CLOSED) == closed]
        values = [shape.evidence for shape in some]
        lows = [s.evidence if s.low is None else s.low for s in some]
        highs = [s.evidence if s.high is None else s.high for s in some]
        told = ["not asked" if s.p is None else f"{s.p:.2g}" for s in some]
        options: dict[str, Any] = {
            "orientation": "h",
            "customdata": told,
            "error_x": whiskers(values, lows, highs),
            "text": ["" if s.p is None else f"p = {s.p:.2g}" for s in some],
            "insidetextanchor": "start",
            "textposition": "inside",
        }
        hover = "%{y}: %{x:.1%}, p = %{customdata}"
        traces.append(
            bars(values, [plain_text(s.name) for s in some], name, colour=colour, hover=hover, **options)
        )
    order = [plain_text(shape.name) for shape in shapes]
    return figure(
        *traces,
        x={
            "title": "between-value power predicted",
            "range": [max(low, -1.0) * 1.05, 1.05],
            "tickformat": ".0%",
        },
        y={"autorange": "reversed", "type": "category", "categoryorder": "array", "categoryarray": order},
        height=150 + 30 * max(1, len(shapes)),
        uniformtext={"minsize": 9, "mode": "hide"},
    )


def words_figure(result: "ProbeResult") -> "go.Figure":
    """The word of every hook point, in the order of a forward pass, as one strip."""
    words = [row.word for row in result.sites]
    names = short_names([row.site for row in result.sites])
    order = sorted(set(words), key=lambda word: (word != result.verdict, words.index(word)))
    traces = []
    for word in order:
        at = [i for i, each in enumerate(words) if each == word]
        shown = [result.sites[i].label for i in at]
        colour = STRIP.get(word, UNDECIDED)
        hover = "%{customdata[0]}: %{customdata[1]}"
        about = [[result.sites[i].site, label] for i, label in zip(at, shown, strict=True)]
        traces.append(
            bars(
                at,
                [1] * len(at),
                word,
                colour=colour,
                hover=hover,
                customdata=about,
                width=0.96,
                showlegend=True,
            )
        )
    every = -(-len(names) // 14)
    ticks = {"tickvals": list(range(0, len(names), every)), "ticktext": names[::every]}
    kind = "layer" if all(name.isdigit() for name in names) else "hook point"
    return figure(
        *traces,
        x={"title": kind, "range": [-0.6, len(names) - 0.4], **ticks},
        y={"visible": False, "range": [0, 1], "fixedrange": True},
        height=190,
        barmode="overlay",
        margin={"t": 70},
    )


def rivals_figure(result: "ProbeResult") -> "go.Figure":
    """The values in the fitted plane, with the closed shape and the best rival fitted to the same points."""
    circle, row = result.circle, best_row(result)
    if circle is None or row is None:
        return figure(height=460)
    points = np.array(circle.points)
    traces = []
    for names, colour, dash in ((_closed_names(row), GREEN, "solid"), (_rival_names(row), VERMILION, "dash")):
        if names:
            path = fitted_path(points, names[0])
            traces.append(line(path[:, 0], path[:, 1], names[0], colour=colour, dash=dash))
    labels = [plain_text(label) for label in circle.labels]
    values = dots(
        points[:, 0],
        points[:, 1],
        mode="markers+text",
        text=labels,
        textposition=[outward(*p) for p in circle.points],
        cliponaxis=False,
        hover="%{text}: (%{x:.2f}, %{y:.2f})",
    )
    reach = 1.3 * float(np.abs(points).max())
    x = {"title": "cos, held out", "scaleanchor": "y", "autorangeoptions": {"include": [-reach, reach]}}
    return figure(*traces, values, x=x, y={"title": "sin, held out"}, height=460)


def _closed_names(row: "SiteRow") -> list[str]:
    return [shape.name for shape in row.shapes if shape.name in CLOSED]


def _rival_names(row: "SiteRow") -> list[str]:
    names = [
        shape.name for shape in row.shapes if shape.name not in CLOSED and shape.name != "distinct values"
    ]
    own = [name for name in names if row.word not in CIRCLES and name in shapes_of(row.word)]
    return own or names


def fitted_path(points: np.ndarray, name: str) -> np.ndarray:
    """``points [value 2]`` as the best design of a shape predicts them, along its own order; closed shapes
    come back to where they began."""
    kept = taking_part(len(points))
    own = points[kept] - points[kept].mean(0)
    designs = family(len(kept))
    members = designs.members(name)
    errors = designs.weights[members.start : members.stop] @ (own @ own.T).ravel()
    design = designs.designs[members[int(errors.argmin())]]
    order = (np.arange(len(kept)) + int(design.params.get("cut", 0))) % len(kept)
    path = (design.smoother @ own + points[kept].mean(0))[order]
    return np.concatenate([path, path[:1]]) if name in CLOSED else path


def _counted(result: "ProbeResult") -> str:
    """At how many hook points the verdict's word is given; where none has it, the commonest one."""
    counts = Counter(row.word for row in result.sites)
    word = result.verdict if counts[result.verdict] else counts.most_common(1)[0][0]
    return f"{word} at {counts[word]} of {len(result.sites)} hook points"


def shape_sections(result: "ProbeResult") -> list[Section]:
    """The contest, the words of all layers, and the circle beside its best rival."""
    row = best_row(result)
    if row is None or result.value is None:
        return []
    lead = (
        f"At {row.site}: left-out values, free parameters paid for, 95 % intervals. p under .05: data of "
        f"that shape would not look like these."
    )
    left = [shape.name for shape in row.shapes if shape.p is not None and shape.p >= LEVEL]
    told = f"{row.word} at {row.site}; shapes that are not rejected: {some(left, 3) or 'none'}"
    sections = [half("The contest of shapes", contest_figure(result), lead, message=told)]
    if result.circle is not None:
        told = (
            "Both fitted to the same held-out points; the contest sees all directions, this plane only two."
        )
        message = f"A closed curve and its best rival, fitted to the same points: {row.word} ({row.site})"
        sections.append(half("The circle and its best rival", rivals_figure(result), told, message=message))
    if len(result.sites) > 1:
        sections.append(
            Section(
                "Words by layer",
                words_figure(result),
                "Every hook point gets its own word.",
                message=f"{result.domain} in {result.model}: {_counted(result)}",
            )
        )
    return sections
