"""Figures of a probe: the spectrum of every site, the circle, the null beside what was observed, the
verdict."""

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mechfourier.drawing.html import Part, Section, half, notes_section, verdict_card, write_page
from mechfourier.drawing.marks import among, dots, ellipse, figure, heat, line, outward, site_labels
from mechfourier.drawing.template import GRID, SKY, VERMILION, plain_text, styled
from mechfourier.figures.shapes import accent, shape_sections
from mechfourier.figures.tokens import tokens_section
from mechfourier.files import result_name

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from mechfourier.probes.arrays.grid import GridProbe
    from mechfourier.probes.result import Circle, ProbeResult

KEPT = ("title", "range", "constrain", "tickformat", "type", "dtick")
"""What an axis keeps where its figure is one of several."""


CIRCLE_LEAD = (
    "Every value stands where a plane fitted without it predicts it, the mean over templates; ellipses: one standard deviation over "
    "templates; the dashed line joins the last value to the first."
)
SPECTRUM_LEAD = (
    "Share of the power between values that every harmonic holds; what templates differ by is taken out."
)


def circle_message(result: "ProbeResult") -> str:
    """What the plane shows, in a sentence."""
    circle = result.circle
    assert circle is not None
    at = "" if result.best is None else f" at {result.best.site}"
    return f"{result.domain} in {result.model}{at}: {result.verdict}, k = {circle.k}"


def spectrum_message(result: "ProbeResult") -> str:
    """Which harmonic is largest, in a sentence."""
    rows = [row for row in result.sites if len(row.spectrum)]
    if not rows:
        return ""
    top = max(rows, key=lambda row: max(row.spectrum))
    k = max(range(len(top.spectrum)), key=lambda i: top.spectrum[i])
    return f"k = {k + 1} holds up to {top.spectrum[k]:.0%} of the power between values ({top.site})"


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
    labels, kind = site_labels(sites)
    hover, at = "%{customdata}<br>k = %{x}: %{z:.1%}", [[site] * width for site in sites]
    look = {"bar": "share of the power", "colorbar": {"tickformat": ".0%"}, "customdata": at}
    spectra = heat(list(range(1, width + 1)), labels, shares, hover=hover, **look)
    y = {"title": kind, "type": "category"}
    return figure(spectra, x=x, y=y, height=max(260, 110 + 22 * len(sites)))


def circle_figure(result: "ProbeResult") -> "go.Figure":
    """The values in the fitted plane at the best site, each where it was predicted without being fitted; the
    dashed line is the seam, ellipses are one standard deviation over templates."""
    circle = result.circle
    if circle is None:
        return figure(height=460)
    turns = "" if circle.k == 1 else f"·{circle.k}"
    reach = 1.5 * max(
        abs(x) for point in circle.points for x in point
    )  # room for the labels, outside the circle
    x = {
        "title": f"cos 2π{turns}v/{result.n}, held out",
        "scaleanchor": "y",
        "constrain": "domain",
        "range": [-reach, reach],
    }
    y = {"title": f"sin 2π{turns}v/{result.n}, held out", "constrain": "domain", "range": [-reach, reach]}
    return figure(*circle_traces(circle), x=x, y=y, height=460)


def circle_traces(circle: "Circle") -> list[Any]:
    """Path in the order of the values, the seam, the ellipses, the labelled points."""
    x, y = zip(*circle.points, strict=True)
    around: list[tuple[float | None, float | None]] = []
    for point, spread in zip(circle.points, circle.spread, strict=True):
        around += [*ellipse(point, spread), (None, None)]
    seam = line([x[-1], x[0]], [y[-1], y[0]], colour=VERMILION, dash="dash")
    labels = [plain_text(label) for label in circle.labels]
    beyond = [_beyond(*each) for each in zip(circle.points, circle.spread, strict=True)]
    told: dict[str, Any] = {"textposition": [outward(*p) for p in circle.points], "cliponaxis": False}
    return [
        line([p[0] for p in around], [p[1] for p in around], colour=SKY, opacity=0.7),
        line(x, y, colour=GRID),
        seam,
        dots([p[0] for p in beyond], [p[1] for p in beyond], mode="text", text=labels, **told),
        dots(x, y, text=labels, hover="%{text}: (%{x:.2f}, %{y:.2f})"),
    ]


def _beyond(point: tuple[float, float], spread: tuple[float, float, float]) -> tuple[float, float]:
    """Where the label of a point stands: outside its ellipse, on the line from the centre of the circle."""
    (x, y), far = point, math.hypot(*point) or 1.0
    across, up = x / far, y / far
    own = ellipse((0.0, 0.0), spread)
    step = max(a * across + b * up for a, b in own)
    return x + step * across, y + step * up


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
    made = make_subplots(rows=1, cols=max(1, len(drawn)), horizontal_spacing=0.14)
    for column, part in enumerate(drawn, 1):
        made.add_traces(part.data, rows=1, cols=column)
        for axis, update in ((part.layout.xaxis, made.update_xaxes), (part.layout.yaxis, made.update_yaxes)):
            told = {key: item for key, item in axis.to_plotly_json().items() if key in KEPT}
            update(**told, row=1, col=column)
        if part.layout.xaxis.scaleanchor:
            made.update_xaxes(scaleanchor=f"y{column}" if column > 1 else "y", row=1, col=column)
    made.update_traces(colorbar=dict(x=1.02), selector=dict(type="heatmap"))
    # on a small screen: one below the other
    change: dict[str, Any] = {"height": 380 * len(drawn)}
    for i in range(len(drawn)):
        name, low = str(i + 1) if i else "", (len(drawn) - 1 - i) / len(drawn)
        change |= {f"xaxis{name}.domain": [0, 1], f"yaxis{name}.domain": [low, low + 0.7 / len(drawn)]}
    made.update_layout(meta={"narrow": change})
    return styled(made, title=f"{result.verdict}: {result.domain} in {result.model}", height=460)


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
        heading = f"The plane of k = {result.circle.k}"
        sections.append(half(heading, circle_figure(result), CIRCLE_LEAD, message=circle_message(result)))
    sections += shape_sections(result)
    if result.value is not None and result.value.null:
        evidence = result.value
        lead = f"The best circle score over all sites and harmonics, with {evidence.permutations:,} permutations of the labels and with the true ones."
        told = f"The circle score beside permuted labels: p = {evidence.p_value:.2g}"
        sections.append(half("Label permutation null", null_figure(result), lead, message=told))
    if result.sites:
        told = spectrum_message(result)
        sections.append(Section("Harmonic spectrum", spectrum_figure(result), SPECTRUM_LEAD, message=told))
        sections.append(Section("Evidence", result.frame()))
    sections += tokens_section(result.tokens)
    if steps := result.next_steps():
        sections.append(Section("Next steps", steps))
    return [*sections, *notes_section(result)]
