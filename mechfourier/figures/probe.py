"""Figures of a probe: the spectrum of every site, the circle, the null beside what was observed, the
verdict."""

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mechfourier.drawing.html import Part, Section, half, notes_section, verdict_card, write_page
from mechfourier.drawing.marks import among, dots, figure, heat, line
from mechfourier.drawing.template import GRID, SKY, VERMILION, plain_text, styled
from mechfourier.figures.shapes import accent, shape_sections
from mechfourier.figures.tokens import tokens_section
from mechfourier.files import result_name

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from mechfourier.probes.arrays.grid import GridProbe
    from mechfourier.probes.result import Circle, ProbeResult


def spectrum_figure(result: "ProbeResult") -> "go.Figure":
    """Share of the between-value power at every harmonic (across) and hook point (down)."""
    sites = [row.site for row in result.sites]
    if not sites:
        return figure(height=260)
    shares = [list(row.spectrum) for row in result.sites]
    width = max(map(len, shares))
    x = {
        "title": f"harmonic k (cycles per {result.n} {plain_text(result.unit)})",
        "dtick": 1 if width < 16 else 5,
    }
    spectra = heat(list(range(1, width + 1)), sites, shares, hover="%{y}<br>k = %{x}: %{z:.1%}")
    return figure(spectra, x=x, height=max(260, 110 + 26 * len(sites)))


def circle_figure(result: "ProbeResult") -> "go.Figure":
    """The values in the fitted plane at the best site, each where it was predicted without being fitted; the
    dashed line is the seam, ellipses are one standard deviation over templates."""
    circle = result.circle
    if circle is None:
        return figure(height=460)
    turns = "" if circle.k == 1 else f"·{circle.k}"
    reach = 1.5 * max(abs(x) for x, _ in circle.points)  # room for the labels, which stand outside the circle
    x = {
        "title": f"cos 2π{turns}v/{result.n}, held out",
        "scaleanchor": "y",
        "autorangeoptions": {"include": [-reach, reach]},
    }
    y = {"title": f"sin 2π{turns}v/{result.n}, held out"}
    return figure(*circle_traces(circle), x=x, y=y, height=460)


def circle_traces(circle: "Circle") -> list[Any]:
    """Path in the order of the values, the seam, the ellipses, the labelled points."""
    x, y = zip(*circle.points, strict=True)
    around: list[tuple[float | None, float | None]] = []
    for point, spread in zip(circle.points, circle.spread, strict=True):
        around += [*ellipse(point, spread), (None, None)]
    seam = line([x[-1], x[0]], [y[-1], y[0]], colour=VERMILION, dash="dash")
    labels: dict[str, Any] = {
        "text": [plain_text(label) for label in circle.labels],
        "textposition": [outward(*p) for p in circle.points],
    }
    return [
        line([p[0] for p in around], [p[1] for p in around], colour=SKY, opacity=0.7),
        line(x, y, colour=GRID),
        seam,
        dots(x, y, mode="markers+text", cliponaxis=False, hover="%{text}: (%{x:.2f}, %{y:.2f})", **labels),
    ]


def null_figure(result: "ProbeResult") -> "go.Figure":
    """Best circle score over all sites and harmonics under permuted labels, and the observed one."""
    evidence = result.value
    if evidence is None or evidence.best_site is None:
        return figure(height=320)
    label, x = f"observed, p = {evidence.p_value:.2g}", "best circle score (1 = a perfect circle)"
    options = {"y": "share of permutations", "height": 320, "histnorm": "probability"}
    return among(evidence.null, evidence.best_site.score, x=x, label=label, name="labels permuted", **options)


def probe_figure(result: "ProbeResult") -> "go.Figure":
    """Spectrum, circle and null side by side, under the verdict."""
    from plotly.subplots import make_subplots

    parts: list[Any] = [spectrum_figure(result), circle_figure(result), null_figure(result)]
    drawn = [part for part in parts if part.data]
    made = make_subplots(rows=1, cols=max(1, len(drawn)), horizontal_spacing=0.12)
    for column, part in enumerate(drawn, 1):
        made.add_traces(part.data, rows=1, cols=column)
        made.update_xaxes(title=part.layout.xaxis.title, row=1, col=column)
        made.update_yaxes(title=part.layout.yaxis.title, row=1, col=column)
    made.update_traces(colorbar=dict(x=1.02), selector=dict(type="heatmap"))
    return styled(made, title=f"{result.verdict}: {result.domain} in {result.model}", height=460)


def ellipse(
    centre: tuple[float, float], spread: tuple[float, float, float], *, points: int = 41
) -> list[tuple[float, float]]:
    """One standard deviation of a 2-D normal with deviations and correlation ``spread``."""
    (x, y), (sx, sy, correlation) = centre, spread
    rest = math.sqrt(max(0.0, 1 - correlation**2))
    angles = [2 * math.pi * i / (points - 1) for i in range(points)]
    return [(x + sx * math.cos(a), y + sy * (correlation * math.cos(a) + rest * math.sin(a))) for a in angles]


def outward(x: float, y: float) -> str:
    """Where the label of a point stands: away from the centre, so that neighbours' labels and the path stay
    clear of it."""
    across = "right" if x > abs(y) / 4 else "left" if -x > abs(y) / 4 else "center"
    up = "top" if y > abs(x) / 2 else "bottom" if -y > abs(x) / 2 else "middle"
    return f"{up} {across}"


def write_probe(result: "ProbeResult | GridProbe", folder: str | Path) -> Path:
    """Write the page of a probe into ``folder`` and return its path."""
    of = result.model if result.arrays is None else result.arrays.source
    design = getattr(result, "design", "grid")
    name = result_name("probe", of, result.domain, design, without=("design",))
    return write_page(Path(folder) / f"{name}.html", result.part())


def probe_part(result: "ProbeResult") -> Part:
    """Verdict, circle, contest of shapes, null, spectrum, evidence."""
    used = f"use by the model: {result.used}"
    card = verdict_card(result.verdict, used, result.reasons, accent=accent(result.verdict))
    title = f"Probe: {result.domain} in {result.model}"
    return Part(title, probe_sections(result), probe_lead(result), card)


def probe_lead(result: "ProbeResult") -> str:
    if result.arrays is not None:
        return str(result.arrays)
    grid = f"{result.prompts} prompts, {result.design} design, read at the "
    read = grid + ("value's last token" if result.position == "value" else "last token")
    return read if result.tokens is None else f"{read}; {result.tokens.beginning()}"


def probe_sections(result: "ProbeResult") -> list[Section]:
    sections = []
    if result.circle is not None:
        lead = (
            "Every point was predicted by a plane fitted without it; the dashed line joins the last value "
            "to the first."
        )
        heading = f"The plane of k = {result.circle.k}"
        sections.append(half(heading, circle_figure(result), lead))
    sections += shape_sections(result)
    if result.value is not None and result.value.null:
        lead = (
            "The best circle score over all sites and harmonics, with permuted labels and with the true ones."
        )
        sections.append(half("Label permutation null", null_figure(result), lead))
    if result.sites:
        sections.append(Section("Harmonic spectrum", spectrum_figure(result), "Template noise removed."))
        sections.append(Section("Evidence", result.frame()))
    sections += tokens_section(result.tokens)
    if steps := result.next_steps():
        sections.append(Section("Next steps", steps))
    return [*sections, *notes_section(result)]
