"""Figures of interventions: the hit matrix of a rotation, the causal arms, controls beside what was tested;
chapters of studies and ablations."""

from typing import TYPE_CHECKING

from mechfourier.drawing.html import Part, Section, half, notes_section, verdict_card
from mechfourier.drawing.marks import among, bars, figure, heat
from mechfourier.drawing.template import BLUE, GREEN, ORANGE, VERMILION, plain_text, styled
from mechfourier.figures.probe import circle_figure, spectrum_figure
from mechfourier.figures.shapes import accent

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from mechfourier.causal.arms import ArmsResult
    from mechfourier.causal.patch import PatchResult
    from mechfourier.causal.result import AblationResult
    from mechfourier.causal.rotate import RotationResult
    from mechfourier.causal.study import StudyResult


def rotation_figure(result: "RotationResult") -> "go.Figure":
    """Share of prompts by turn δ (down) and by how far the answer moved (across); a used circle fills the
    diagonal."""
    ticks, unit = 1 if result.n < 16 else 10, plain_text(result.unit)
    steps = list(range(len(result.hits)))
    hits = [list(row) for row in result.hits]
    hover = "turned by δ = %{y}, answer moved by %{x}: %{z:.1%}"
    return figure(
        heat(list(range(len(hits[0]))), steps, hits, zmax=1, hover=hover),
        x={"title": f"the answer moved by ({unit})", "dtick": ticks, "constrain": "domain"},
        y={
            "title": f"turned by δ ({unit})",
            "dtick": ticks,
            "autorange": "reversed",
            "scaleanchor": "x",
            "constrain": "domain",
        },
        title=f"Turning k = {', '.join(map(str, result.ks))} at {result.site}: {result.exact_share:.1%} "
        f"exact",
        height=520,
    )


def arms_figure(result: "ArmsResult") -> "go.Figure":
    """Share of prompts that give the donor's answer and their own, for every arm."""
    frame = result.frame()
    return figure(
        *(
            bars(frame["arm"], frame[column], column, colour=colour, hover="%{x}: %{y:.1%}")
            for column, colour in (("donor's answer", VERMILION), ("own answer", BLUE))
        ),
        y={"title": "share of prompts", "range": [0, 1.02]},
        title=f"Causal arms at {result.site} ({result.position} token)",
        height=420,
        barmode="group",
    )


def patch_figure(result: "PatchResult") -> "go.Figure":
    """The share of the donor's difference that the patch recovers, among random subspaces; where that share
    is not defined, the rise of the difference."""
    name = f"{result.n_controls} random subspaces"
    if result.recovered is not None:
        x = "share of the donor's difference recovered"
        return among(result.control_recovered, result.recovered, x=x, label=result.what, name=name)
    rise = result.difference - result.difference_before
    x = "rise of the donor's difference (the share is not defined: donor and recipient hardly differ)"
    return among((), rise, x=x, label=result.what, name=name)


def ablation_figure(result: "AblationResult") -> "go.Figure":
    """The change of the logit difference among that of the controls."""
    x = "change of the logit difference" + (" (nats)" if result.outcome == "log-probability" else "")
    name = f"{result.n_controls} matched controls"
    return among(result.control_changes, result.logit_diff_change, x=x, label=result.what, name=name)


def random_turns_figure(result: "RotationResult") -> "go.Figure":
    """The share of exact turns among that of random planes."""
    name = f"{result.n_controls} random planes"
    return among(
        result.control_shares, result.paired_share, x="share of exact turns", label="the planes", name=name
    )


def study_figure(result: "StudyResult") -> "go.Figure":
    """The rotation's hit matrix under the verdict; empty where nothing was turned."""
    drawn = figure() if result.rotation is None else rotation_figure(result.rotation)
    title = f"{result.verdict}, {result.used}: {result.domain} in {result.model}"
    return styled(drawn, title=title, height=520)


def study_sections(result: "StudyResult") -> list[Section]:
    """The parts of a study's page: interventions first, then what the probe saw."""
    sections = []
    if (turned := result.rotation) is not None:
        lead = "If the model reads this circle, turning it by δ moves the answer by δ: the diagonal."
        sections.append(half("Rotation", rotation_figure(turned), lead))
        lead = "The same displacement in random planes, on the same prompts."
        sections.append(half("Random planes", random_turns_figure(turned), lead))
    if (arms := result.arms) is not None:
        lead = (
            "Donors differ in the first operand; zero means: the component relative to the mean is taken out."
        )
        sections.append(half("Causal arms", arms_figure(arms), lead))
    if (ablated := result.ablation) is not None:
        lead = "The planes set to their mean, beside the same of matched controls."
        sections.append(half("Ablation", ablation_figure(ablated), lead))
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


def _probe_sections(result: "StudyResult") -> list[Section]:
    probed, sections = result.probe, []
    if probed.circle is not None:
        heading, lead = (
            f"The probe's circle, k = {probed.circle.k}",
            "Held-out positions of the values in the plane of the probe.",
        )
        sections.append(half(heading, circle_figure(probed), lead))
    if probed.sites:
        sections.append(half("Harmonic spectrum", spectrum_figure(probed)))
        sections.append(Section("Evidence of the probe", probed.frame()))
    return sections


def study_part(result: "StudyResult") -> Part:
    """Verdict and use, rotation, arms, ablation, and the probe's evidence."""
    lead = "Only the probe was run."
    if result.site is not None:
        k = ", ".join(map(str, result.ks))
        at = f"Tested at {result.site}, {result.position} token, k = {k}"
        lead = (
            f"{at}; accuracy {result.accuracy or 0.0:.1%}. Used: the answer turns with the planes, or falls "
            f"without them, beyond every control."
        )
    second = "what it is, and whether the model uses it"
    card = verdict_card(
        f"{result.verdict}, {result.used}", second, result.reasons, accent=accent(result.verdict)
    )
    return Part(f"Study: {result.domain} in {result.model}", study_sections(result), lead, card)


def ablation_part(result: "AblationResult") -> Part:
    """The change beside that of the controls."""
    low, high = result.logit_diff_ci
    unit = " nats" if result.outcome == "log-probability" else ""
    reasons = [
        f"accuracy {result.base.accuracy:.1%} → {result.ablated.accuracy:.1%} "
        f"({result.became_wrong} became wrong, {result.became_right} right; McNemar p = "
        f"{result.mcnemar_p:.2g})",
        f"logit difference changed by {result.logit_diff_change:+.3g} [{low:+.3g}, {high:+.3g}]{unit}",
    ]
    p, word, colour = result.p_controls, "not compared", ORANGE
    if p is not None:
        reasons.append(f"{result.n_controls} matched controls: p = {p:.2g}")
        hurts = p < 0.05 and result.logit_diff_change < 0
        word, colour = ("it matters here", GREEN) if hurts else ("no more than its controls", ORANGE)
    card = verdict_card(word, f"{result.what}: {result.mode}", reasons, accent=colour)
    lead = (
        "The change of the logit difference among that of units of the same layer with like variance and "
        "mean."
    )
    sections = [
        half("Among its controls", ablation_figure(result), lead),
        half("Before and after", result.frame()),
    ]
    return Part(
        f"Ablation: {result.domain} in {result.model}", [*sections, *notes_section(result)], card=card
    )
