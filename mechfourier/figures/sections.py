"""What a page shows of each kind of result: a card, figures, tables. A kind without a function here gets its plot and its table."""

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from mechfourier.drawing.html import Part, Section, verdict_card
from mechfourier.drawing.template import BLUE, GREEN, ORANGE, SKY
from mechfourier.figures.probe import ACCENT
from mechfourier.figures.tokens import tokens_section
from mechfourier.models.architectures import lookup
from mechfourier.results.base import Result

if TYPE_CHECKING:
    import pandas as pd

    from mechfourier.causal.result import AblationResult
    from mechfourier.causal.study import StudyResult
    from mechfourier.probes.attention import AttentionResult
    from mechfourier.probes.lens import LensResult
    from mechfourier.probes.result import ProbeResult
    from mechfourier.reproduce.result import Reproduction

MAX_ROWS = 500  # of a table in a page; the JSON has them all


def part_of(result: Result) -> Part:
    """The chapter of a result."""
    name = type(result).__name__
    function = PARTS.get(name) or lookup("parts", name)
    return function(result) if function is not None else _plain_part(result)


def probe_part(result: "ProbeResult") -> Part:
    """Verdict, circle, closure, null, spectrum, evidence."""
    from mechfourier.figures.inside import closure_figure, seam_figure
    from mechfourier.figures.probe import probe_lead, probe_sections

    sections = probe_sections(result)
    if result.value is not None and result.value.models:
        site = result.value.best_site
        lead = "Curves through the values, each scored on values and templates it was not fitted to."
        sections.insert(
            1, Section("Open and closed curves, compared", closure_figure(result), lead, wide=False)
        )
        if site is not None and site.closure is not None:
            lead = "A circle has one turn (or k), beats the open shapes, and is as alike across the seam as elsewhere."
            sections.insert(2, Section("Closure", seam_figure(result), lead, wide=False))
    used = f"use by the model: {result.used}"
    card = verdict_card(result.verdict, used, result.reasons, accent=ACCENT.get(result.verdict, SKY))
    return Part(f"Probe: {result.domain} in {result.model}", sections, probe_lead(result), card)


def study_part(result: "StudyResult") -> Part:
    """Verdict and use, rotation, arms, ablation, and the probe's evidence."""
    from mechfourier.figures.causal import study_lead, study_sections

    word = f"{result.verdict}, {result.used}"
    second = "what it is, and whether the model uses it"
    card = verdict_card(word, second, result.reasons, accent=ACCENT.get(result.verdict, SKY))
    title = f"Study: {result.domain} in {result.model}"
    return Part(title, study_sections(result), study_lead(result), card)


def ablation_part(result: "AblationResult") -> Part:
    """The change beside that of the controls."""
    from mechfourier.figures.causal import ablation_figure

    low, high = result.logit_diff_ci
    reasons = [
        f"accuracy {result.base.accuracy:.1%} → {result.ablated.accuracy:.1%} "
        f"({result.became_wrong} became wrong, {result.became_right} right; McNemar p = {result.mcnemar_p:.2g})",
        f"logit difference changed by {result.logit_diff_change:+.3g} [{low:+.3g}, {high:+.3g}] nats",
    ]
    hurts = result.p_controls is not None and result.p_controls < 0.05 and result.logit_diff_change < 0
    if result.p_controls is not None:
        reasons.append(f"{result.n_controls} matched controls: p = {result.p_controls:.2g}")
    word = (
        "it matters here"
        if hurts
        else "no more than its controls"
        if result.p_controls is not None
        else "not compared"
    )
    card = verdict_card(word, f"{result.what}: {result.mode}", reasons, accent=GREEN if hurts else ORANGE)
    lead = "The change of the logit difference among that of units of the same layer with like variance and mean."
    sections = [Section("Among its controls", ablation_figure(result), lead, wide=False)]
    sections.append(Section("Before and after", result.frame(), wide=False))
    return Part(f"Ablation: {result.domain} in {result.model}", [*sections, *_notes(result)], card=card)


def lens_part(result: "LensResult") -> Part:
    """Where the answer arises."""
    from mechfourier.figures.inside import lens_figure

    lead = (
        "The final norm and the unembedding applied after every layer; chance and shuffled answers beside it."
    )
    sections = [
        Section("Logit lens", lens_figure(result), lead),
        Section("Layers", result.frame()),
        *tokens_section(result.tokens),
        *_notes(result),
    ]
    return Part(f"Logit lens: {result.domain} in {result.model}", sections, str(result))


def attention_part(result: "AttentionResult") -> Part:
    """Where the reading position looks."""
    from mechfourier.figures.inside import roles_figure

    sections = [
        Section("Attention to roles", roles_figure(result), "Mean over the prompts, from the position that answers.", wide=False),
        Section("Heads and roles", result.frame(), wide=False),
        Section("Fourier content of the heads", _content_table(result), result.carries()),
        *tokens_section(result.tokens),
        *_notes(result),
    ]  # fmt: skip
    return Part(f"Attention: {result.domain} in {result.model}", sections, result.sink() or result.route())


def _content_table(result: "AttentionResult") -> "pd.DataFrame":
    """Fourier content, the heads' outputs first and the largest shares of the sum on top."""
    frame = result.fourier_frame()
    if not len(frame):
        return frame
    frame = frame.assign(first=frame["what"] == "z").sort_values(["first", "sum_line"], ascending=False)
    return frame.drop(columns="first").head(MAX_ROWS)


def summary_part(name: str, values: dict[str, Any]) -> Part:
    """A ``--json`` summary: its numbers as a table."""
    import pandas as pd

    simple = [(k, v) for k, v in values.items() if isinstance(v, (int, float, str)) or v is None]
    lists = [
        (k, ", ".join(f"{x:.4g}" if isinstance(x, float) else str(x) for x in v))
        for k, v in values.items()
        if isinstance(v, list) and v and len(v) <= 24 and not isinstance(v[0], (list, dict))
    ]
    sections = [Section("Numbers", dict(simple), wide=False)]
    if lists:
        sections.append(Section("Lists", dict(lists), wide=False))
    if (power := values.get("embed_power")) and isinstance(power, list):
        frame = pd.DataFrame({"frequency": range(1, len(power) + 1), "share of W_E": power})
        sections.append(Section("Spectrum of W_E", frame, wide=False))
    return Part(f"Summary: {name}", sections, "The command printed a summary; save all of it with --out.")


def reproduction_part(result: "Reproduction") -> Part:
    """Published beside measured, claim by claim."""
    good = result.count("stands") == len(result.claims)
    reasons = [f"{each.word}: {each.claim}. {each.sentence}" for each in result.claims]
    card = verdict_card(result.summary, result.title, reasons, accent=GREEN if good else ORANGE)
    table = result.frame().drop(columns=["sentence"])
    controls = dict.fromkeys(each.chance_is for each in result.claims if each.chance_is)
    lead = (
        f"Low and high: 95 % interval of the measured figure. Chance: {'; '.join(controls) or 'no control'}."
    )
    sections = [Section("Claims", table, lead, command=result.command)]
    figure = result.plot()
    if any(value is not None for bar in figure.data for value in bar.x):
        sections.append(Section("Published, measured, chance", figure, wide=False))
    return Part(f"{result.title}: {result.model}", sections, f"experiment {result.experiment}", card)


def _plain_part(result: Result) -> Part:
    """Any result: its text, its plot, its table, its notes."""
    kind = type(result).__name__.removesuffix("Result")
    where = " in ".join(
        str(v) for v in (getattr(result, "domain", None), getattr(result, "model", None)) if v
    )
    sections = []
    for heading, make in (("Figure", result.plot), ("Numbers", result.frame)):
        try:
            made = make()
        except NotImplementedError:
            continue
        if heading == "Figure" and len(made.data):
            sections.append(Section(heading, made))
        elif heading == "Numbers" and len(made):
            cut = f"The first {MAX_ROWS} of {len(made)} rows." if len(made) > MAX_ROWS else ""
            sections.append(Section(heading, made.head(MAX_ROWS), cut))
    sections += tokens_section(getattr(result, "tokens", None))
    lines = str(result).splitlines()
    card = verdict_card(kind, lines[0] if lines else "", lines[1:], accent=BLUE)
    return Part(f"{kind}: {where}" if where else kind, [*sections, *_notes(result)], card=card)


def _notes(result: Any) -> list[Section]:
    notes = getattr(result, "notes", ())
    return [Section("Notes", notes)] if notes else []


def facts(result: Any) -> dict[str, Any]:
    """The configuration that a result carries: its own plain fields, and the seeds and permutations inside it."""
    if isinstance(result, dict):
        return {}
    skipped = {"verdict", "used", "name"}
    own = {
        f.name: getattr(result, f.name)
        for f in dataclasses.fields(result)
        if isinstance(getattr(result, f.name), (int, str)) and f.name not in skipped
    }
    for f in dataclasses.fields(result):
        inner = getattr(result, f.name)
        if dataclasses.is_dataclass(inner):
            own |= {n: getattr(inner, n) for n in ("seed", "permutations") if hasattr(inner, n)}
    return {key.replace("_", " "): value for key, value in own.items()}


PARTS: dict[str, Callable[[Any], Part]] = {
    "ProbeResult": probe_part,
    "StudyResult": study_part,
    "AblationResult": ablation_part,
    "LensResult": lens_part,
    "AttentionResult": attention_part,
    "Reproduction": reproduction_part,
}
