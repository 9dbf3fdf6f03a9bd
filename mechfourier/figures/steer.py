"""Figures of steering: which value the model answers for, and how that changes with the dose."""

from typing import TYPE_CHECKING, Any

from mechfourier.drawing.html import Part, Section, half, notes_section, verdict_card
from mechfourier.drawing.marks import band, bars, figure, line
from mechfourier.drawing.template import BLUE, GREEN, ORANGE, TEXT, VERMILION, plain_text
from mechfourier.figures.tokens import tokens_section

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from mechfourier.causal.dose import DoseResult
    from mechfourier.causal.steer import SteerResult

COLOURS = {"circle": BLUE, "straight": VERMILION}
SHARES = {"start": (BLUE, "own value"), "between": (GREEN, "values between"), "target": (VERMILION, "target")}
PATHS = {"circle": "along the circle", "straight": "straight across"}
ENDS = {
    "circle": "share of the way along the circle",
    "straight": "share of the way straight across",
    "radius": "radius (1: as it is)",
}


def steer_figure(result: "SteerResult") -> "go.Figure":
    """Mean probability of the answer for every value, counted from the target, before and after."""
    n = len(result.acts_on)
    steps = [(i + (n - 1) // 2) % n - (n - 1) // 2 for i in range(n)]
    order = sorted(range(n), key=lambda i: steps[i])
    drawn = [
        bars(
            [steps[i] for i in order],
            [column[i] for i in order],
            name,
            colour=colour,
            hover=f"%{{x}} from the target: {name} %{{y:.1%}}",
        )
        for name, column, colour in (
            ("before", result.acts_on_before, TEXT),
            ("after", result.acts_on, VERMILION),
        )
    ]
    return figure(
        *drawn,
        x=f"value answered for, counted from the target ({plain_text(result.unit)})",
        y={"title": "mean probability", "range": [0, 1.02], "tickformat": ".0%"},
        title=f"Steered to {result.to} at {result.site}: {result.success:.0%} of the answers",
        height=420,
        barmode="group",
    )


def dose_figure(result: "DoseResult") -> "go.Figure":
    """Share of answers for the value nearest on the circle, along the circle and straight across, by dose."""
    frame = result.frame()
    drawn: list[Any] = []
    for path, colour in COLOURS.items():
        rows = frame[frame["path"] == path]
        area = band(rows["dose"], rows["nearest_low"], rows["nearest_high"])
        area[1].fillcolor = faint(colour)
        name = PATHS[path]
        hover = f"{name}, %{{x:.0%}} of the way: %{{y:.0%}}"
        drawn += [*area, line(rows["dose"], rows["nearest"], name, colour=colour, hover=hover)]
    return figure(
        *drawn,
        x={
            "title": f"share of the way to {plain_text(result.to)}; edits of equal length",
            "tickformat": ".0%",
        },
        y={"title": "answers for the nearest value", "range": [-0.02, 1.04], "tickformat": ".0%"},
        title=f"{result.verdict.capitalize()}: {result.domain} in {result.model}",
        height=420,
    )


def shares_figure(result: "DoseResult", path: str) -> "go.Figure":
    """Probability of the answers for the own value, those between, the target, and the rest, by dose."""
    frame = result.frame()
    rows = frame[frame["path"] == path]
    shown = {"start": SHARES["start"]} if path == "radius" else SHARES
    lines = [
        line(rows["dose"], rows[column], name, colour=colour, hover=f"%{{x:.2f}}: {name} %{{y:.0%}}")
        for column, (colour, name) in shown.items()
    ]
    others = 1 - sum(rows[column] for column in shown)
    lines.append(
        line(rows["dose"], others, "others", colour=TEXT, dash="dot", hover="%{x:.2f}: others %{y:.0%}")
    )
    return figure(
        *lines,
        x={"title": ENDS[path], "tickformat": "" if path == "radius" else ".0%"},
        y={"title": "probability", "range": [-0.02, 1.04], "tickformat": ".0%"},
        height=340,
    )


def entropy_figure(result: "DoseResult") -> "go.Figure":
    """Entropy of the answers along both paths."""
    frame = result.frame()
    drawn: list[Any] = []
    for path, colour in COLOURS.items():
        rows = frame[frame["path"] == path]
        area = band(rows["dose"], rows["entropy_low"], rows["entropy_high"])
        area[1].fillcolor = faint(colour)
        drawn += [
            *area,
            line(
                rows["dose"],
                rows["entropy"],
                f"{PATHS[path]} (95 % interval)",
                colour=colour,
                hover="%{x:.0%}: %{y:.2f} nats",
            ),
        ]
    return figure(
        *drawn,
        x={"title": "share of the way", "tickformat": ".0%"},
        y={"title": "entropy of the answers (nats)", "rangemode": "tozero"},
        height=340,
    )


def dose_part(result: "DoseResult") -> Part:
    """Verdict, the two paths, the radius, the table."""
    (a, b), (c, d) = result.nearest_gap_ci, result.entropy_gap_ci
    reasons = [
        f"answers for the nearest value, circle minus straight, middle half of the way: {result.nearest_gap:+.1%} "
        f"[{a:+.1%}, {b:+.1%}]",
        f"entropy, straight minus circle: {result.entropy_gap:+.3f} [{c:+.3f}, {d:+.3f}] nats",
    ]
    second = f"turned to {result.to}, {result.n_prompts} prompts at {result.site}, {result.position} token"
    accent = GREEN if result.verdict == "along the circle" else ORANGE
    lead = "Both paths join the same two points, and at every dose both edits have the same length."
    told = f"Answers for the nearest value, circle minus straight: {100 * result.nearest_gap:+.0f} [{100 * a:+.0f}, {100 * b:+.0f}] percentage points"
    shares = "Mean probability of the answers for the own value, the target, those between, and all others."
    sections = [
        Section(
            "Along the circle and straight across",
            dose_figure(result),
            f"{lead} Bands: 95 % intervals over prompts.",
            message=told,
        ),
        half("Answers along the circle", shares_figure(result, "circle"), shares),
        half("Answers straight across", shares_figure(result, "straight"), shares),
        half(
            "Entropy",
            entropy_figure(result),
            "Of the answers, along both paths; bands: 95 % intervals over prompts.",
        ),
        half(
            "Answers by radius",
            shares_figure(result, "radius"),
            "Mean probability of the answer for the own value; 0: the plane's centre; 2: twice as far out.",
        ),
        Section("Numbers", result.frame()),
        *tokens_section(result.tokens),
    ]
    card = verdict_card(result.verdict, second, reasons, accent=accent)
    return Part(f"Dose: {result.domain} in {result.model}", [*sections, *notes_section(result)], card=card)


def faint(colour: str) -> str:
    """The same colour as a transparent area."""
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},0.18)"
