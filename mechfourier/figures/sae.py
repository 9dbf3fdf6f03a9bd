"""Pages of sparse dictionaries: what a score found, and what single features stand for."""

import math
from pathlib import Path
from typing import TYPE_CHECKING

from mechfourier.drawing.html import Part, Section, verdict_card, write_page
from mechfourier.drawing.template import BLUE, GREEN, ORANGE, VERMILION, plain_text, styled
from mechfourier.files import result_name

if TYPE_CHECKING:
    from collections.abc import Sequence

    import plotly.graph_objects as go

    from mechfourier.sae.features import FeaturePage
    from mechfourier.sae.scoring import SAEScore


def families_figure(result: "SAEScore") -> "go.Figure":
    """The best R² of every kind of direction, and the mean of the ten best."""
    import plotly.graph_objects as go

    frame = result.frame()
    names = [
        f"{plain_text(what)} ({count})" for what, count in zip(frame["what"], frame["count"], strict=True)
    ]
    figure = go.Figure()
    figure.add_bar(x=names, y=frame["r2"], name="best", marker_color=BLUE, customdata=frame[["k", "p_value"]],
                   hovertemplate="%{x}<br>R² %{y:.3f}, k = %{customdata[0]}, p = %{customdata[1]:.3g}<extra></extra>")  # fmt: skip
    figure.add_bar(x=names, y=frame["top_ten_r2"], name="mean of the ten best", marker_color=ORANGE)
    figure.update_yaxes(title="R² of one harmonic", range=[0, 1])
    figure.update_layout(barmode="group")
    return styled(figure, height=380)


def circles_figure(result: "SAEScore") -> "go.Figure":
    """Circle scores: groups of features, the whole site, random groups, the control's groups."""
    import plotly.graph_objects as go

    names = [
        f"features {', '.join(map(str, c.features[:4]))}{'…' if len(c.features) > 4 else ''}"
        for c in result.clusters
    ]
    values = [c.score for c in result.clusters]
    others = [("whole site", result.plane_score), ("random groups", result.random_clusters), ("re-initialised model", result.control_clusters)]  # fmt: skip
    others = [(name, value) for name, value in others if not math.isnan(value)]
    colours = [GREEN if c.p_value < 0.05 else ORANGE for c in result.clusters] + [VERMILION] * len(others)
    figure = go.Figure(
        go.Bar(
            x=values + [v for _, v in others],
            y=names + [n for n, _ in others],
            orientation="h",
            marker_color=colours,
        )
    )
    figure.update_xaxes(title="circle score (1 = a circle and nothing else)", range=[min(0, *values, 0), 1])
    figure.update_yaxes(autorange="reversed")
    return styled(figure, height=140 + 30 * (len(values) + len(others)))


def values_figure(page: "FeaturePage") -> "go.Figure":
    """Mean activation of a feature by value of the domain."""
    import plotly.graph_objects as go

    frame = page.frame()
    figure = go.Figure(
        go.Bar(x=[plain_text(v) for v in frame["value"]], y=frame["activation"], marker_color=BLUE)
    )
    figure.update_xaxes(title=plain_text(page.domain), type="category")
    figure.update_yaxes(title="mean activation")
    return styled(figure, height=280)


def feature_sections(page: "FeaturePage") -> list[Section]:
    """A feature's part of a page: activation by value, where it fires, neighbours and logit effects."""
    name = f"Feature {page.feature}"
    lead = f"Fires on {page.density:.2%} of held-out activations, at {page.strength:.3g} on average."
    found = []
    if page.values:
        by = f"{lead} Best harmonic over {page.domain}: k = {page.k}, R² {page.r2:.3f}."
        found.append(Section(f"{name} by {page.domain}", values_figure(page), by, wide=False))
    if page.firings:
        found.append(
            Section(f"{name}: strongest on", page.firing_frame(), lead if not page.values else "", wide=False)
        )
    lines = [f"feature {f}: cosine {c:.3f}" for f, c in page.neighbours]
    found.append(Section(f"{name}: nearest directions", lines, wide=False))
    if page.raised:
        lead = "Change of the centred logits at the last position when the feature is added there at its usual strength."
        moved = [f"raises {t!r} by {x:.3g}" for t, x in page.raised] + [
            f"lowers {t!r} by {-x:.3g}" for t, x in page.lowered
        ]
        found.append(Section(f"{name}: what it writes", moved, lead, wide=False))
    return found


def write_score(result: "SAEScore", pages: "Sequence[FeaturePage]", folder: str | Path) -> Path:
    """The page of a score with the pages of its best features."""
    sections = [
        Section("Periodic directions", families_figure(result), "One direction is periodic at best; its R² beside what others reach.", wide=False),
        Section("Groups that draw a circle", circles_figure(result), "Green: family-wise p below .05 over all tested groups and harmonics.", wide=False),
        Section("In numbers", result.frame()),
    ]  # fmt: skip
    if result.clusters:
        sections.append(Section("Groups in numbers", result.cluster_frame()))
    sections.append(Section("Features", result.feature_frame().head(30), "The thirty with the highest R²; p is family-wise over all live features."))  # fmt: skip
    for page in pages:
        sections += feature_sections(page)
    card = verdict_card(*_answer(result), accent=GREEN if result.cleaner else ORANGE)
    lead = f"{result.live} live features of {result.features} at {result.site} of {result.model}, {result.prompts}"
    name = result_name("sae", result.domain, result.name, without=("folder",))
    title = f"{result.domain} in the dictionary {Path(result.name).name}"
    return write_page(Path(folder) / f"{name}.html", Part(title, sections, lead, card))


def _answer(result: "SAEScore") -> tuple[str, str, list[str]]:
    head, _, tail = result.answer.partition(": ")
    return head, result.site, [part.strip() for part in tail.split(";")] + list(result.notes)


def write_features(pages: "Sequence[FeaturePage]", folder: str | Path) -> Path:
    """Feature pages alone."""
    first = pages[0]
    numbers = "-".join(str(page.feature) for page in pages[:6])
    name = result_name("features", first.name, numbers, without=("folder", "feature", "features"))
    sections = [section for page in pages for section in feature_sections(page)]
    part = Part(f"Features of {Path(first.name).name}", sections, f"{first.site} of {first.model}")
    return write_page(Path(folder) / f"{name}.html", part)
