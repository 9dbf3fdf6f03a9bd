"""Figures and the chapter of a study: the ladder of shares, the map of layers and tokens, every test beside
its controls."""

from typing import TYPE_CHECKING

from mechfourier.causal.heads import strongest
from mechfourier.causal.where import LEAST
from mechfourier.drawing.html import Part, Section, half, notes_section, verdict_card
from mechfourier.drawing.marks import bars, figure, heat, whiskers
from mechfourier.drawing.template import BLUE, SKY, plain_text, styled
from mechfourier.figures.causal import ablation_figure, arms_figure, random_turns_figure, rotation_figure
from mechfourier.figures.probe import (
    CIRCLE_LEAD,
    SPECTRUM_LEAD,
    circle_figure,
    circle_message,
    spectrum_figure,
    spectrum_message,
)
from mechfourier.figures.shapes import accent

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

    from mechfourier.causal.study import StudyResult


ALIKE = 0.02
"""Shares that differ by less are told as one."""


def study_figure(result: "StudyResult") -> "go.Figure":
    """The ladder of shares under the verdict; the rotation's hit matrix where there is none, and nothing
    where nothing was turned."""
    if result.ladder:
        drawn = ladder_figure(result)
    else:
        drawn = figure() if result.rotation is None else rotation_figure(result.rotation)
    title = f"{result.verdict}, {result.used}: {result.domain} in {result.model}"
    return styled(drawn, title=title, height=520)


def ladder_figure(result: "StudyResult") -> "go.Figure":
    """Share of answers that move by exactly δ, by edit, with intervals; controls are light."""
    frame = result.ladder_frame()
    controls = ("random planes", "foreign", "sham")
    colour = [SKY if name.startswith(controls) else BLUE for name in frame["name"]]
    shown = [plain_text(name) for name in frame["name"]]
    drawn = bars(
        shown,
        frame["moved"],
        colour=colour,
        error_y=whiskers(list(frame["moved"]), list(frame["low"]), list(frame["high"])),
        hover="%{x}: %{y:.1%} move by exactly δ",
    )
    return figure(
        drawn,
        y={"title": "answers that move by exactly δ", "range": [0, 1.02], "tickformat": ".0%"},
        title=f"Ladder at {result.site} ({result.position} token)",
        height=420,
    )


def map_figure(result: "StudyResult", what: str, bar: str) -> "go.Figure":
    """A column of the map by layer (down) and token (across)."""
    frame = result.map_frame()
    table = frame.pivot(index="site", columns="position", values=what)
    sites, positions = list(dict.fromkeys(frame["site"])), list(dict.fromkeys(frame["position"]))
    layers = ["embedding" if "blocks" not in site else site.split(".")[1] for site in sites]
    values = table.loc[sites, positions].to_numpy(dtype=float)
    drawn = heat(
        positions,
        layers,
        values,
        bar=bar,
        colorbar={"tickformat": ".0%"},
        zmax=1,
        hover="layer %{y}, %{x} token: %{z:.1%}",
    )
    return figure(
        drawn,
        x={"title": "token"},
        y={"title": "after layer", "type": "category", "autorange": "reversed"},
        height=460,
    )


def study_sections(result: "StudyResult") -> list[Section]:
    """The parts of a study's page: shares, map, interventions, then what the probe saw."""
    sections = _share_sections(result) + _map_sections(result)
    if (turned := result.rotation) is not None:
        lead = "If the model reads this circle, turning it by δ moves the answer by δ: the diagonal."
        told = f"Turning the circle by δ moves {turned.exact_share:.0%} of the answers by exactly δ"
        sections.append(half("Rotation", rotation_figure(turned), lead, message=told))
        lead = "The same displacement in random planes, on the same prompts."
        told = f"On these prompts turns of the circle move {turned.paired_share:.0%} of the answers exactly"
        if turned.p_value is not None:
            told += f"; turns in {turned.n_controls} random planes: p = {turned.p_value:.2g}"
        sections.append(half("Random planes", random_turns_figure(turned), lead, message=told))
    if (arms := result.arms) is not None:
        lead = (
            "Share of prompts. Patch: the circle, as many principal components, or the whole activation comes from a prompt with another "
            "first operand (the donor). Average: the whole activation is set to its mean over the prompts; zero: the circle's part of it, or "
            "all but that, is."
        )
        given = dict(zip(arms.frame()["arm"], arms.frame()["donor's answer"], strict=True)).get(
            "patch circle"
        )
        told = (
            ""
            if given is None
            else f"The donor's circle alone brings the donor's answer in {given:.0%} of prompts"
        )
        sections.append(half("Causal arms", arms_figure(arms), lead, message=told))
    if (ablated := result.ablation) is not None:
        lead = "The circle set to its mean, beside the same of the subspaces of its size that are closest in variance and second moment."
        p = (
            ""
            if ablated.p_controls is None
            else f" (p = {ablated.p_controls:.2g} against {ablated.n_controls} controls)"
        )
        told = f"Without the circle the logit difference changes by {ablated.logit_diff_change:+.2g}{p}"
        sections.append(
            half("Ablation", ablation_figure(ablated, "the circle"), lead, message=told.replace("-", "−"))
        )
    if len(frame := result.frame()):
        sections.append(Section("Interventions", frame))
    tables = {"Arms in numbers": arms, "Ablation in numbers": ablated}
    sections += [Section(name, part.frame()) for name, part in tables.items() if part is not None]
    if result.candidates:
        import pandas as pd

        lead = (
            "Where a turn by a random δ moved the answer by δ, on prompts that the rotation above did not "
            "use."
        )
        rows = [vars(each) | {"ks": ", ".join(map(str, each.ks))} for each in result.candidates]
        sections.append(Section("Places looked at", pd.DataFrame(rows), lead))
    return [*sections, *_probe_sections(result), *notes_section(result)]


def _share_sections(result: "StudyResult") -> list[Section]:
    if not result.ladder:
        return []
    lead = (
        "Every edit stands for another value by δ steps; whole class mean: all that the token says of the value. "
        f"Share of the circle: {result.share} of the exact moves, {result.share_difference} of the rise of the "
        "score difference. Light: controls (random planes, another domain's plane, and a step of 0, the sham); whiskers: 95 % "
        "intervals over prompts."
    )
    told = f"How much the circle carries of what the token says of the value: {result.share}"
    return [
        Section("How much", ladder_figure(result), lead, message=told),
        Section("Ladder in numbers", result.ladder_frame()),
    ]


def _map_sections(result: "StudyResult") -> list[Section]:
    if result.map is None:
        return []
    lead = "Share of answers that move by exactly δ when {} is changed to that of a value δ steps on, at one token after one layer."
    sections = [
        _map_section(
            result, "Where the circle turns answers", "moved", "moved by δ", lead.format("the circle")
        ),
        _map_section(
            result,
            "Where the whole class mean turns answers",
            "moved_whole",
            "moved by δ",
            lead.format("the whole class mean"),
        ),
    ]
    if any(cell.recovered is not None for cell in result.map.cells):
        lead = "Share of a donor's score difference that its activation brings."
        sections.append(_map_section(result, "Where the value is", "recovered", "recovered", lead))
    lead = (
        "p: family-wise over the cells whose whole activation brings at least "
        f"{LEAST:.0%} of a donor's score difference; elsewhere nothing is there to be used."
    )
    sections.append(Section("Map in numbers", result.map_frame(), lead))
    if result.map.heads:
        lead = "Path patching: value token → head → answer; p family-wise over the heads looked at."
        sections.append(Section("Heads that carry it", _heads(result), lead))
    return sections


def _map_section(result: "StudyResult", heading: str, what: str, bar: str, lead: str) -> Section:
    """A column of the map, and in a sentence where it is largest."""
    frame = result.map_frame().dropna(subset=[what])
    message = ""
    if len(frame):
        top = frame[frame[what] >= frame[what].max() - ALIKE].iloc[
            0
        ]  # of places alike the first of a forward pass
        layer = f"layer {top['site'].split('.')[1]}" if "blocks" in top["site"] else "the embedding"
        message = (
            f"{heading}: up to {frame[what].max():.0%}, first at the {top['position']} token after {layer}"
        )
    return half(heading, map_figure(result, what, bar), lead, message=message)


def _heads(result: "StudyResult") -> "pd.DataFrame":
    import pandas as pd

    heads = () if result.map is None else result.map.heads
    rows = strongest(heads) or sorted(heads, key=lambda head: -head.recovered)[:5]
    return pd.DataFrame([vars(head) for head in rows])


def _probe_sections(result: "StudyResult") -> list[Section]:
    probed, sections = result.probe, []
    if probed.circle is not None:
        heading, lead = (
            f"The probe's circle, k = {probed.circle.k}",
            CIRCLE_LEAD,
        )
        sections.append(half(heading, circle_figure(probed), lead, message=circle_message(probed)))
    if probed.sites:
        sections.append(
            half(
                "Harmonic spectrum", spectrum_figure(probed), SPECTRUM_LEAD, message=spectrum_message(probed)
            )
        )
        sections.append(Section("Evidence of the probe", probed.frame()))
    return sections


def study_part(result: "StudyResult") -> Part:
    """Verdict and use, rotation, arms, ablation, and the probe's evidence."""
    lead = "Only the probe was run."
    if result.site is not None:
        k = ", ".join(map(str, result.ks))
        at = f"Tested at {result.site}, {result.position} token, k = {k}"
        lead = (
            f"{at}; accuracy {result.accuracy or 0.0:.1%}. Used: turns raise the answers that they should "
            f"give, or ablating the planes lowers the right ones, beyond every control."
        )
    second = "what it is, and whether the model uses it"
    card = verdict_card(
        f"{result.verdict}, {result.used}", second, result.reasons, accent=accent(result.verdict)
    )
    return Part(f"Study: {result.domain} in {result.model}", study_sections(result), lead, card)
