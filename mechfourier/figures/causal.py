"""Figures of interventions: the hit matrix of a rotation, the causal arms, controls beside what was tested; the chapters of studies and ablations."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from mechfourier.drawing.html import Part, Section, notes_section, verdict_card
from mechfourier.drawing.template import BLUE, GREEN, ORANGE, SCALE, SKY, TEXT, VERMILION, plain_text, styled
from mechfourier.figures.probe import ACCENT, circle_figure, spectrum_figure

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from mechfourier.causal.arms import ArmsResult
    from mechfourier.causal.patch import PatchResult
    from mechfourier.causal.result import AblationResult
    from mechfourier.causal.rotate import RotationResult
    from mechfourier.causal.study import StudyResult


def rotation_figure(result: "RotationResult") -> "go.Figure":
    """Share of prompts by turn δ (down) and by how far the answer moved (across); a used circle fills the diagonal."""
    import plotly.graph_objects as go

    heat = go.Heatmap(
        x=list(range(len(result.hits[0]))),
        y=list(range(len(result.hits))),
        z=[list(row) for row in result.hits],
        zmin=0,
        zmax=1,
        colorscale=SCALE,
        colorbar=dict(title="share", thickness=12),
        hovertemplate="turned by δ = %{y}, answer moved by %{x}: %{z:.1%}<extra></extra>",
    )
    figure = go.Figure(heat)
    ticks = 1 if result.n < 16 else 10
    unit = plain_text(result.unit)
    figure.update_xaxes(title=f"the answer moved by ({unit})", dtick=ticks, constrain="domain")
    figure.update_yaxes(title=f"turned by δ ({unit})", dtick=ticks, autorange="reversed", scaleanchor="x")
    k = ", ".join(map(str, result.ks))
    return styled(
        figure, title=f"Turning k = {k} at {result.site}: {result.exact_share:.1%} exact", height=520
    )


def arms_figure(result: "ArmsResult") -> "go.Figure":
    """Share of prompts that give the donor's answer and their own, for every arm."""
    import plotly.graph_objects as go

    frame = result.frame()
    figure = go.Figure()
    for column, colour in (("donor's answer", VERMILION), ("own answer", BLUE)):
        figure.add_trace(
            go.Bar(
                x=frame["arm"],
                y=frame[column],
                name=column,
                marker_color=colour,
                hovertemplate="%{x}: %{y:.1%}<extra></extra>",
            )
        )
    figure.update_yaxes(title="share of prompts", range=[0, 1.02])
    figure.update_layout(barmode="group")
    return styled(figure, title=f"Causal arms at {result.site} ({result.position} token)", height=420)


def control_figure(
    values: Sequence[float], observed: float, *, axis: str, label: str, controls: str
) -> "go.Figure":
    """A histogram of controls with what was tested as a line."""
    import plotly.graph_objects as go

    figure = go.Figure()
    if values:
        figure.add_trace(go.Histogram(x=list(values), nbinsx=40, marker_color=SKY, name=plain_text(controls)))
    figure.add_vline(
        x=observed,
        line=dict(color=VERMILION, width=3),
        annotation_text=plain_text(label),
        annotation_position="top left"
        if values and observed > sorted(values)[len(values) // 2]
        else "top right",
        annotation_font_color=TEXT,
    )
    figure.update_xaxes(title=axis)
    figure.update_yaxes(title="controls")
    return styled(figure, height=340)


def patch_figure(result: "PatchResult") -> "go.Figure":
    """The share of the donor's difference that the patch recovers, among random subspaces; where that share is not defined,
    the rise of the difference."""
    if result.recovered is None:
        return control_figure(
            (),
            result.difference - result.difference_before,
            axis="rise of the donor's difference (the share is not defined: donor and recipient hardly differ)",
            label=result.what,
            controls="random subspaces",
        )
    return control_figure(
        result.control_recovered,
        result.recovered,
        axis="share of the donor's difference recovered",
        label=result.what,
        controls=f"{result.n_controls} random subspaces",
    )


def ablation_figure(result: "AblationResult") -> "go.Figure":
    """The change of the logit difference among that of the controls."""
    return control_figure(
        result.control_changes,
        result.logit_diff_change,
        axis="change of the logit difference" + (" (nats)" if result.outcome == "log-probability" else ""),
        label=result.what,
        controls=f"{result.n_controls} matched controls",
    )


def random_turns_figure(result: "RotationResult") -> "go.Figure":
    """The share of exact turns among that of random planes."""
    return control_figure(
        result.control_shares,
        result.paired_share,
        axis="share of exact turns",
        label="the planes",
        controls=f"{result.n_controls} random planes",
    )


def study_figure(result: "StudyResult") -> "go.Figure":
    """The rotation's hit matrix under the verdict; empty where nothing was turned."""
    import plotly.graph_objects as go

    figure = go.Figure() if result.rotation is None else rotation_figure(result.rotation)
    title = f"{result.verdict}, {result.used}: {result.domain} in {result.model}"
    return styled(figure, title=title, height=520)


def study_sections(result: "StudyResult") -> list[Section]:
    """The parts of a study's page: interventions first, then what the probe saw."""
    sections = []
    if result.rotation is not None:
        lead = "If the model reads this circle, turning it by δ moves the answer by δ: the diagonal."
        sections.append(Section("Rotation", rotation_figure(result.rotation), lead, wide=False))
        lead = "The same displacement in random planes, on the same prompts."
        sections.append(Section("Random planes", random_turns_figure(result.rotation), lead, wide=False))
    if result.arms is not None:
        lead = (
            "Donors differ in the first operand; zero means: the component relative to the mean is taken out."
        )
        sections.append(Section("Causal arms", arms_figure(result.arms), lead, wide=False))
    if result.ablation is not None:
        lead = "The planes set to their mean, beside the same of matched controls."
        sections.append(Section("Ablation", ablation_figure(result.ablation), lead, wide=False))
    if len(frame := result.frame()):
        sections.append(Section("Interventions", frame))
    if result.arms is not None:
        sections.append(Section("Arms in numbers", result.arms.frame()))
    if result.ablation is not None:
        sections.append(Section("Ablation in numbers", result.ablation.frame()))
    if result.candidates:
        import pandas as pd

        lead = "Where a turn by a random δ moved the answer by δ, on prompts that the rotation above did not use."
        rows = [vars(each) | {"ks": ", ".join(map(str, each.ks))} for each in result.candidates]
        sections.append(Section("Places looked at", pd.DataFrame(rows), lead))
    return [*sections, *_probe_sections(result)]


def _probe_sections(result: "StudyResult") -> list[Section]:
    probed, sections = result.probe, []
    if probed.circle is not None:
        lead = "Held-out positions of the values in the plane of the probe."
        sections.append(
            Section(f"The probe's circle, k = {probed.circle.k}", circle_figure(probed), lead, wide=False)
        )
    if probed.sites:
        sections.append(Section("Harmonic spectrum", spectrum_figure(probed), wide=False))
        sections.append(Section("Evidence of the probe", probed.frame()))
    return [*sections, *notes_section(result)]


def study_part(result: "StudyResult") -> Part:
    """Verdict and use, rotation, arms, ablation, and the probe's evidence."""
    lead = "Only the probe was run."
    if result.site is not None:
        k = ", ".join(map(str, result.ks))
        at = f"Tested at {result.site}, {result.position} token, k = {k}"
        lead = f"{at}; accuracy {result.accuracy or 0.0:.1%}. Used: the answer turns with the planes, or falls without them, beyond every control."
    second = "what it is, and whether the model uses it"
    accent = ACCENT.get(result.verdict, SKY)
    card = verdict_card(f"{result.verdict}, {result.used}", second, result.reasons, accent=accent)
    return Part(f"Study: {result.domain} in {result.model}", study_sections(result), lead, card)


def ablation_part(result: "AblationResult") -> Part:
    """The change beside that of the controls."""
    low, high = result.logit_diff_ci
    unit = " nats" if result.outcome == "log-probability" else ""
    reasons = [
        f"accuracy {result.base.accuracy:.1%} → {result.ablated.accuracy:.1%} "
        f"({result.became_wrong} became wrong, {result.became_right} right; McNemar p = {result.mcnemar_p:.2g})",
        f"logit difference changed by {result.logit_diff_change:+.3g} [{low:+.3g}, {high:+.3g}]{unit}",
    ]
    p, word, accent = result.p_controls, "not compared", ORANGE
    if p is not None:
        reasons.append(f"{result.n_controls} matched controls: p = {p:.2g}")
        hurts = p < 0.05 and result.logit_diff_change < 0
        word, accent = ("it matters here", GREEN) if hurts else ("no more than its controls", ORANGE)
    card = verdict_card(word, f"{result.what}: {result.mode}", reasons, accent=accent)
    lead = "The change of the logit difference among that of units of the same layer with like variance and mean."
    sections = [
        Section("Among its controls", ablation_figure(result), lead, wide=False),
        Section("Before and after", result.frame(), wide=False),
    ]
    return Part(f"Ablation: {result.domain} in {result.model}", [*sections, *notes_section(result)], card=card)
