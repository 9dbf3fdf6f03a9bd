"""Chapters of pages: of any result (its text, its figure, its table, its notes), of summaries, of
reproductions."""

import dataclasses
import html
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from mechfourier.drawing.html import Part, Section, half, notes_section, verdict_card
from mechfourier.drawing.template import BLUE, GREEN, ORANGE
from mechfourier.figures.tokens import tokens_section
from mechfourier.results.base import Result

if TYPE_CHECKING:
    from mechfourier.reproduce.result import Reproduction

MAX_ROWS = 500  # of a table in a page; the JSON has them all


def summary_part(name: str, values: dict[str, Any]) -> Part:
    """A ``--json`` summary: its numbers as a table."""
    import pandas as pd

    simple = [(k, v) for k, v in values.items() if isinstance(v, (int, float, str)) or v is None]
    lists = [
        (k, ", ".join(f"{x:.4g}" if isinstance(x, float) else str(x) for x in v))
        for k, v in values.items()
        if isinstance(v, list) and v and len(v) <= 24 and not isinstance(v[0], (list, dict))
    ]
    sections = [half("Numbers", dict(simple))]
    if lists:
        sections.append(half("Lists", dict(lists)))
    if (power := values.get("embed_power")) and isinstance(power, list):
        frame = pd.DataFrame({"frequency": range(1, len(power) + 1), "share of W_E": power})
        sections.append(half("Spectrum of W_E", frame))
    return Part(f"Summary: {name}", sections, "The command printed a summary; save all of it with --out.")


def reproduction_part(result: "Reproduction") -> Part:
    """Published beside measured, claim by claim."""
    good = result.count("stands") == len(result.claims)
    reasons = [f"{each.word}: {each.claim}. {each.sentence}" for each in result.claims]
    card = verdict_card(result.summary, result.title, reasons, accent=GREEN if good else ORANGE)
    table = result.frame().drop(columns=["sentence"])
    controls = dict.fromkeys(each.chance_is for each in result.claims if each.chance_is)
    lead = "Low and high: 95 % interval of the measured figure."
    if controls:
        lead += f" Chance: {'; '.join(controls)}."
    if any(each.untrained or each.shuffled for each in result.claims):
        lead += " Untrained, shuffled: the same figure of the re-initialised network and of shuffled labels."
    sections = [Section("Claims", table, lead, command=result.command)]
    figure = result.plot()
    if any(value is not None for bar in figure.data for value in bar.x):
        sections.append(half("Published, measured, controls", figure))
    return Part(f"{result.title}: {result.model}", sections, f"experiment {result.experiment}", card)


def plain_part(result: Result) -> Part:
    """Any result: its text, its plot, its table, its notes."""
    kind = result.about.name.replace("-", " ").capitalize() or type(result).__name__
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
            sections.append(Section(html.unescape(made.layout.title.text or heading), made))
        elif heading == "Numbers" and len(made):
            cut = f"The first {MAX_ROWS} of {len(made)} rows." if len(made) > MAX_ROWS else ""
            sections.append(Section(heading, made.head(MAX_ROWS), cut))
    sections += tokens_section(getattr(result, "tokens", None))
    first, *lines = str(result).splitlines() or [""]
    words = "\n".join(line for line in lines if not line.startswith("note: "))
    if words.strip():
        sections.insert(0, Section("In words", Markup("<pre>{}</pre>").format(words)))
    title = f"{kind}: {where}" if where else kind
    return Part(title, [*sections, *notes_section(result)], card=verdict_card(kind, first, [], accent=BLUE))


def facts(result: Any) -> dict[str, Any]:
    """The configuration that a result carries: its own plain fields, and the seeds and permutations inside
    it."""
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
