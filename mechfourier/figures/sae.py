"""Pages of sparse dictionaries: what a score found, and what single features stand for."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mechfourier.drawing.html import Part, Section, half, verdict_card, write_page
from mechfourier.drawing.marks import bars, figure
from mechfourier.drawing.template import GREEN, ORANGE, VERMILION, plain_text
from mechfourier.files import result_name

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from mechfourier.sae.features import FeaturePage
    from mechfourier.sae.score_result import SAEScore


def families_figure(result: "SAEScore") -> "go.Figure":
    """The best R² of every kind of direction, and the mean of the ten best."""
    frame = result.frame()
    names = [f"{plain_text(what)} ({n})" for what, n in zip(frame["what"], frame["count"], strict=True)]
    hover = "%{x}<br>R² %{y:.3f}, k = %{customdata[0]}, p = %{customdata[1]:.3g}"
    return figure(
        bars(names, frame["r2"], "best", hover=hover, customdata=frame[["k", "p_value"]]),
        bars(names, frame["top_ten_r2"], "mean of the ten best", colour=ORANGE),
        y={"title": "R² of one harmonic", "range": [0, 1]},
        height=380,
        barmode="group",
    )


def circles_figure(result: "SAEScore") -> "go.Figure":
    """Circle scores: groups of features, the whole site, random groups, the control's groups."""
    names = [
        f"features {', '.join(map(str, c.features[:4]))}{'…' * (len(c.features) > 4)}"
        for c in result.clusters
    ]
    values = [c.score for c in result.clusters]
    others = {
        "whole site": result.plane_score,
        "random groups": result.random_clusters,
        "re-initialised model": result.control_clusters,
    }
    others = {name: value for name, value in others.items() if not math.isnan(value)}
    colours = [GREEN if c.p_value < 0.05 else ORANGE for c in result.clusters] + [VERMILION] * len(others)
    shown, rows = [*values, *others.values()], [*names, *others]
    return figure(
        bars(shown, rows, colour=colours, orientation="h", hover="%{y}: %{x:.3g}"),
        x={"title": "circle score (1 = a circle and nothing else)", "range": [min(0, *values, 0), 1]},
        y={"autorange": "reversed"},
        height=140 + 30 * len(shown),
    )


def values_figure(page: "FeaturePage") -> "go.Figure":
    """Mean activation of a feature by value of the domain."""
    frame = page.frame()
    x = {"title": plain_text(page.domain), "type": "category"}
    drawn = bars([plain_text(v) for v in frame["value"]], frame["activation"])
    return figure(drawn, x=x, y="mean activation", height=280)


def feature_sections(page: "FeaturePage") -> list[Section]:
    """A feature's part of a page: activation by value, where it fires, neighbours and logit effects."""
    name = f"Feature {page.feature}"
    lead = f"Fires on {page.density:.2%} of held-out activations, at {page.strength:.3g} on average."
    found = []
    if page.values:
        by = f"{lead} Best harmonic over {page.domain}: k = {page.k}, R² {page.r2:.3f}."
        found.append(half(f"{name} by {page.domain}", values_figure(page), by))
    if page.firings:
        under = "" if page.values else lead
        found.append(half(f"{name}: strongest on", page.firing_frame(), under))
    lines = [f"feature {f}: cosine {c:.3f}" for f, c in page.neighbours]
    found.append(half(f"{name}: nearest directions", lines))
    if page.raised:
        lead = (
            "Change of the centred logits at the last position when the feature is added there at its usual "
            "strength."
        )
        moved = [f"raises {t!r} by {x:.3g}" for t, x in page.raised]
        moved += [f"lowers {t!r} by {-x:.3g}" for t, x in page.lowered]
        found.append(half(f"{name}: what it writes", moved, lead))
    return found


def write_score(result: "SAEScore", pages: Sequence["FeaturePage"], folder: str | Path) -> Path:
    """The page of a score with the pages of its best features."""
    sections = [
        half(
            "Periodic directions",
            families_figure(result),
            "One direction is periodic at best; its R² beside what others reach.",
        ),
        half(
            "Groups that draw a circle",
            circles_figure(result),
            "Green: family-wise p below .05 over all tested groups and harmonics.",
        ),
        Section("In numbers", result.frame()),
    ]
    if result.clusters:
        sections.append(Section("Groups in numbers", result.cluster_frame()))
    sections.append(
        Section(
            "Features",
            result.feature_frame().head(30),
            "The thirty with the highest R²; p is family-wise over all live features.",
        )
    )
    for page in pages:
        sections += feature_sections(page)
    card = verdict_card(*_answer(result), accent=GREEN if result.cleaner else ORANGE)
    lead = (
        f"{result.live} live features of {result.features} at {result.site} of {result.model}, "
        f"{result.prompts}"
    )
    name = result_name("sae", result.domain, result.name, without=("folder",))
    title = f"{result.domain} in the dictionary {Path(result.name).name}"
    return write_page(Path(folder) / f"{name}.html", Part(title, sections, lead, card))


def _answer(result: "SAEScore") -> tuple[str, str, list[str]]:
    head, _, tail = result.answer.partition(": ")
    return head, result.site, [part.strip() for part in tail.split(";")] + list(result.notes)


def write_features(pages: Sequence["FeaturePage"], folder: str | Path) -> Path:
    """Feature pages alone."""
    first = pages[0]
    numbers = "-".join(str(page.feature) for page in pages[:6])
    name = result_name("features", first.name, numbers, without=("folder", "feature", "features"))
    sections = [section for page in pages for section in feature_sections(page)]
    part = Part(f"Features of {Path(first.name).name}", sections, f"{first.site} of {first.model}")
    return write_page(Path(folder) / f"{name}.html", part)
