"""One HTML file that holds all it needs: no network, no second file, every text escaped, light and dark.

Figures lie in the page as JSON in inert script elements, and a few lines of script (``assets/page.js``) draw those on the
screen first. Plotly itself is embedded once.
"""

import html
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mechfourier.files import write_text
from mechfourier.results.provenance import weights_loaded

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go


class Markup(str):
    """HTML made by this package, every text in it escaped: the body of a section as it stands."""


@dataclass(frozen=True)
class Section:
    """A heading, a sentence under it, and a body: a Plotly figure, a pandas frame, lines of plain text, ``Markup``, or (a mapping) facts.
    ``command`` is what makes it again."""

    heading: str
    body: "go.Figure | pd.DataFrame | Sequence[str] | Mapping[str, Any]"
    lead: str = ""
    wide: bool = True
    command: str = ""


@dataclass(frozen=True)
class Part:
    """A chapter of a report: one run or result. ``card`` is HTML made by :func:`verdict_card`."""

    title: str
    sections: Sequence[Section] = field(default=())
    lead: str = ""
    card: str = ""


@cache
def asset(name: str) -> str:
    """The text of a file in ``drawing/assets``."""
    return (files("mechfourier.drawing") / "assets" / name).read_text(encoding="utf-8")


@cache
def plotly_script() -> str:
    """Plotly's own minified script."""
    from plotly.offline import get_plotlyjs

    return get_plotlyjs()


def escape(text: Any) -> str:
    """Text for HTML, quotes included."""
    return html.escape(str(text), quote=True)


def page(
    title: str,
    sections: Iterable[Section],
    *,
    card: str = "",
    lead: str = "",
    footer: str = "",
    plotly: str | None = None,
) -> str:
    """A page with one chapter as text. ``card`` is HTML made by :func:`verdict_card`; everything else is escaped here.

    ``plotly`` is the address of Plotly's script for a page that a server gives; by default the script is embedded.
    """
    return report_page(title, [Part("", tuple(sections), card=card)], lead=lead, footer=footer, plotly=plotly)


def report_page(
    title: str, parts: Sequence[Part], *, lead: str = "", footer: str = "", plotly: str | None = None
) -> str:
    """A page of several chapters, with a contents list where there are three sections or more."""
    figures = _Figures()
    lone = len(parts) == 1 and not parts[0].title  # its verdict stands above the contents
    first = parts[0].card if lone else ""
    shown = [replace(parts[0], card="")] if lone else parts
    bodies = "".join(_part(part, index, figures) for index, part in enumerate(shown))
    shown_text = f"{escape(title)}{escape(lead)}{first}{bodies}"
    said = [
        f"Weights of {model}: {weights}."
        for model, weights in weights_loaded().items()
        if escape(model) in shown_text
    ]
    under = "".join(f'<p class="lead">{escape(text)}</p>' for text in (lead, *said) if text)
    foot = f"<footer>{escape(footer)}</footer>" if footer else ""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{asset('page.css')}</style></head><body>"
        f'<button class="theme" type="button">Dark</button><h1>{escape(title)}</h1>{under}{first}{_contents(parts)}'
        f"{bodies}{foot}{figures.library(plotly)}<script>{asset('page.js')}</script></body></html>\n"
    )


def write_page(path: str | Path, title: str, sections: Iterable[Section], **parts: str) -> Path:
    """Write :func:`page` atomically; raises ``MechFourierError`` where the disk is full or the folder is read-only."""
    return write_text(path, page(title, sections, **parts))


def verdict_card(word: str, second: str, reasons: Iterable[str], *, accent: str) -> str:
    """The verdict as an HTML card."""
    items = "".join(f"<li>{escape(reason)}</li>" for reason in reasons)
    return (
        f'<div class="card" style="--accent: {escape(accent)}"><div class="verdict">{escape(word)}</div>'
        f'<div class="used">{escape(second)}</div><ul>{items}</ul></div>'
    )


class _Figures:
    """The figures of a page, numbered, and whether Plotly is needed at all."""

    def __init__(self) -> None:
        self.count = 0

    def add(self, figure: Any, heading: str) -> str:
        """The place of a figure. The heading above it stands for the title that it has when it is alone."""
        self.count += 1
        made, name = figure.to_plotly_json(), f"figure-{self.count}"
        layout = {key: value for key, value in made["layout"].items() if key != "title"}
        # the place keeps the figure's height before it is drawn, so that nothing moves under the reader
        height = layout.get("height") or 450
        layout.setdefault("margin", {"t": 20, "l": 10, "r": 10, "b": 10})
        data = _json({**made, "layout": layout})
        return (
            f'<script type="application/json" id="{name}">{data}</script>'
            f'<div class="figure" data-figure="{name}" role="img" aria-label="{escape(heading)}" style="height:{height}px"></div>'
        )

    def library(self, address: str | None) -> str:
        if not self.count:
            return ""
        if address is not None:
            return f'<script src="{escape(address)}"></script>'
        return f"<script>{plotly_script()}</script>"


def _json(figure: dict[str, Any]) -> str:
    """A figure as JSON that cannot end the script element it lies in."""
    import plotly.io as pio

    text = pio.to_json(figure, validate=False, engine="json")
    return str(text).replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _contents(parts: Sequence[Part]) -> str:
    if sum(len(part.sections) for part in parts) < 3:
        return ""
    lists = []
    for index, part in enumerate(parts):
        items = "".join(
            f'<li><a href="#{_anchor(index, i)}">{escape(section.heading)}</a></li>'
            for i, section in enumerate(part.sections)
        )
        name = f'<p><a href="#part-{index}">{escape(part.title)}</a></p>' if part.title else ""
        lists.append(f"{name}<ul>{items}</ul>")
    return f'<nav class="contents" aria-label="Contents">{"".join(lists)}</nav>'


def _anchor(part: int, section: int) -> str:
    return f"part-{part}-{section}"


def _part(part: Part, index: int, figures: _Figures) -> str:
    head = f'<h2 class="part" id="part-{index}">{escape(part.title)}</h2>' if part.title else ""
    under = f'<p class="lead">{escape(part.lead)}</p>' if part.lead else ""
    sections = "".join(
        _section(section, _anchor(index, i), figures) for i, section in enumerate(part.sections)
    )
    return f'{head}{under}{part.card}<div class="grid">{sections}</div>'


def _section(section: Section, anchor: str, figures: _Figures) -> str:
    note = f'<p class="lead">{escape(section.lead)}</p>' if section.lead else ""
    command = f"<pre><code>{escape(section.command)}</code></pre>" if section.command else ""
    kind = ' class="wide"' if section.wide else ""
    body = _body(section, figures)
    return f'<section{kind} id="{anchor}"><h2>{escape(section.heading)}</h2>{note}{body}{command}</section>'


def _body(section: Section, figures: _Figures) -> str:
    body: Any = section.body
    if isinstance(body, Markup):
        return body
    if hasattr(body, "to_plotly_json"):
        return figures.add(body, section.heading)
    if hasattr(body, "itertuples"):
        return table(body)
    if isinstance(body, Mapping):
        rows = "".join(
            f"<dt>{escape(key)}</dt><dd>{escape(_cell(value))}</dd>" for key, value in body.items()
        )
        return f'<dl class="facts">{rows}</dl>'
    return "<ul>" + "".join(f"<li>{escape(line)}</li>" for line in body) + "</ul>" if len(body) else ""


def table(frame: "pd.DataFrame") -> str:
    """A frame as an HTML table that sorts by its headings: four significant digits, a dash for NaN."""
    text = [not _numeric(frame[name]) for name in frame.columns]
    head = "".join(
        f'<th scope="col"{_kind(t)}><button type="button">{escape(name)}</button></th>'
        for name, t in zip(frame.columns, text, strict=True)
    )
    rows = "".join(
        "<tr>" + "".join(_td(value, t) for value, t in zip(row, text, strict=True)) + "</tr>"
        for row in frame.itertuples(index=False)
    )
    return f'<div class="scroll" tabindex="0"><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>'


def _numeric(column: Any) -> bool:
    import pandas as pd

    return pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column)


def _kind(text: bool) -> str:
    return ' class="text"' if text else ""


def _td(value: Any, text: bool) -> str:
    """A cell; numbers carry their full value, by which a column is sorted."""
    number = isinstance(value, (int, float)) or hasattr(value, "dtype")
    exact = "" if text or not number or value != value else f' data-value="{float(value)!r}"'
    return f"<td{_kind(text)}{exact}>{escape(_cell(value))}</td>"


def _cell(value: Any) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float) or re.fullmatch(r"float\d+", type(value).__name__):
        return f"{value:.4g}"
    return str(value)
