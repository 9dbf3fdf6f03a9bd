"""Figures of interventions: the hit matrix of a rotation, the causal arms, controls beside what was tested;
the chapter of an ablation."""

from typing import TYPE_CHECKING

from mechfourier.drawing.html import Part, half, notes_section, verdict_card
from mechfourier.drawing.marks import LYING, ROWS, among, bars, figure, heat, line
from mechfourier.drawing.template import BLUE, GREEN, ORANGE, VERMILION, plain_text

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from mechfourier.causal.arms import ArmsResult
    from mechfourier.causal.patch import PatchResult
    from mechfourier.causal.result import AblationResult
    from mechfourier.causal.rotate import RotationResult


def rotation_figure(result: "RotationResult") -> "go.Figure":
    """Share of prompts by turn δ (down) and by how far the answer moved (across); a used circle fills the
    diagonal."""
    ticks, unit = 1 if result.n < 16 else 10, plain_text(result.unit)
    steps = list(range(len(result.hits)))
    hits = [list(row) for row in result.hits]
    hover = "turned by δ = %{y}, answer moved by %{x}: %{z:.1%}"
    return figure(
        heat(
            list(range(len(hits[0]))),
            steps,
            hits,
            bar="share of prompts",
            zmax=1,
            hover=hover,
            colorbar=LYING | {"tickformat": ".0%"},
        ),
        *(
            [line([0, len(steps) - 1], [0, len(steps) - 1], colour=VERMILION, dash="dot", line_width=1)]
            if len(steps) > ROWS
            else []
        ),
        x={"title": f"the answer moved by ({unit})", "dtick": ticks, "constrain": "domain"},
        y={
            "title": f"turned by δ ({unit})",
            "dtick": ticks,
            "autorange": "reversed",
            "scaleanchor": "x",
            "constrain": "domain",
        },
        title=f"Turning k = {', '.join(map(str, result.ks))} at {result.site}: {result.exact_share:.1%} exact",
        height=540,
        margin={"t": 110},
    )


def arms_figure(result: "ArmsResult") -> "go.Figure":
    """Share of prompts that give the donor's answer and their own, for every arm."""
    frame = result.frame()
    return figure(
        *(
            bars(frame["arm"], frame[column], column, colour=colour, hover="%{x}: %{y:.1%}")
            for column, colour in (("donor's answer", VERMILION), ("own answer", BLUE))
        ),
        y={"title": "share of prompts", "range": [0, 1.02], "tickformat": ".0%"},
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
        shares = {"tickformat": ".0%"}
        return among(
            result.control_recovered, result.recovered, x=x, label=result.what, name=name, axis=shares
        )
    rise = result.difference - result.difference_before
    x = "rise of the donor's difference (the share is not defined: donor and recipient hardly differ)"
    return among((), rise, x=x, label=result.what, name=name)


def ablation_figure(result: "AblationResult", label: str = "") -> "go.Figure":
    """The change of the logit difference among that of the controls. ``label``: what was ablated, in the legend."""
    x = "change of the logit difference" + (" (nats)" if result.outcome == "log-probability" else "")
    name = f"{result.n_controls} matched controls"
    return among(result.control_changes, result.logit_diff_change, x=x, label=label or result.what, name=name)


def random_turns_figure(result: "RotationResult") -> "go.Figure":
    """The share of exact turns among that of random planes."""
    name = f"{result.n_controls} random planes"
    return among(
        result.control_shares,
        result.paired_share,
        x="share of exact turns",
        label="the circle",
        name=name,
        axis={"tickformat": ".0%"},
    )


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
