"""Figures of behaviour geometry: agreement of distances by site, and the pairs of the best one."""

from typing import TYPE_CHECKING, Any

from mechfourier.drawing.html import Part, Section, half, notes_section, verdict_card
from mechfourier.drawing.marks import band, dots, figure, line, site_labels
from mechfourier.drawing.template import BLUE, GREEN, ORANGE, TEXT, VERMILION
from mechfourier.figures.steer import faint

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

    from mechfourier.causal.behaviour import BehaviourResult


def behaviour_figure(result: "BehaviourResult") -> "go.Figure":
    """Correlation of the distances at every site with its 95 % interval, and what exchanged values reach."""
    frame = result.frame()
    sites = frame["site"].drop_duplicates().tolist()
    labels, title = site_labels(sites)
    short = dict(zip(sites, labels, strict=True))
    drawn: list[Any] = []
    for position, colour in (("value", BLUE), ("last", VERMILION)):
        rows = frame[frame["position"] == position]
        if not len(rows):
            continue
        at = [short[site] for site in rows["site"]]
        area = band(at, rows["low"], rows["high"])
        area[1].fillcolor = faint(colour)
        hover = f"%{{customdata}}, {position} token: r = %{{y:.2f}}"
        look = {"colour": colour, "hover": hover, "customdata": rows["site"], "mode": "lines+markers"}
        drawn += [*area, line(at, rows["r"], f"{position} token (95 % interval)", **look)]
    ends = [labels[0], labels[-1]]
    name = "95 % of exchanged values"
    drawn.append(line(ends, [result.null_upper] * 2, name, colour=TEXT, dash="dash", hover="%{y:.2f}"))
    return figure(
        *drawn,
        x={"title": title, "type": "category", "categoryorder": "array", "categoryarray": labels},
        y={"title": "correlation of distances", "autorangeoptions": {"include": [0, 1]}},
        title=f"Activations and answers: {result.domain} in {result.model}",
        height=480,
    )


def pairs_figure(result: "BehaviourResult") -> "go.Figure":
    """Every pair of values: distance of activations at the best site, and of answers."""
    first, second, x, y = zip(*result.pairs, strict=True)
    names = [f"{a}, {b}" for a, b in zip(first, second, strict=True)]
    return figure(
        dots(list(x), list(y), hover="%{text}: %{x:.2f}, %{y:.2f}", text=names),
        x="distance of activations (mean 1)",
        y="Hellinger distance of answers (mean 1)",
        height=400,
    )


def behaviour_part(result: "BehaviourResult") -> Part:
    """The shape of the answers, and the agreement by site."""
    best = result.best
    reasons = [
        *result.reasons,
        f"{result.agrees}: best at {best.site} ({best.position} token), r = {best.r:.2f} [{best.low:.2f}, "
        f"{best.high:.2f}], p = {best.p_value:.2g} over {len(result.sites)} sites",
    ]
    accent = GREEN if result.agrees == "agreement beyond chance" else ORANGE
    second = f"the shape of the answers, {result.n_templates} wordings of every value"
    lead = "The dashed line: with the values exchanged, the best of all sites stays below it in 95 %."
    sections = [
        Section(
            "Agreement by site",
            behaviour_figure(result),
            lead,
            message=f"Distances of activations and of answers: {result.agrees}",
        ),
        half(
            f"Pairs of values at {best.site}",
            pairs_figure(result),
            "A point per pair of values; both distances are divided by their mean.",
            message=f"Pairs of values: distances agree with r = {best.r:.2f} (p = {best.p_value:.2g} over all sites)",
        ),
        half("Shapes of the answers", _shapes(result)),
        Section("Numbers", result.frame()),
    ]
    card = verdict_card(result.shape, second, reasons, accent=accent)
    return Part(
        f"Behaviour: {result.domain} in {result.model}", [*sections, *notes_section(result)], card=card
    )


def _shapes(result: "BehaviourResult") -> "pd.DataFrame":
    import pandas as pd

    return pd.DataFrame(
        [vars(each) for each in result.evidence], columns=["name", "evidence", "low", "high", "p"]
    )
