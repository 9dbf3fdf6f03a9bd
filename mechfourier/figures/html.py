"""One HTML file that holds all it needs: no network, no second file, every text escaped, light and dark."""

import html
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mechfourier.files import write_text

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go


@dataclass(frozen=True)
class Section:
    """A heading, a sentence under it, and a body: a Plotly figure, a pandas frame, or lines of plain text."""

    heading: str
    body: "go.Figure | pd.DataFrame | Sequence[str]"
    lead: str = ""
    wide: bool = True


STYLE = """
:root { color-scheme: light dark; --ink: #1f2328; --soft: #59636e; --paper: #ffffff; --card: #f6f8fa; --line: #d1d9e0; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #f0f6fc; --soft: #9198a1; --paper: #0d1117; --card: #151b23; --line: #3d444d; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.5rem; max-width: 76rem; background: var(--paper); color: var(--ink);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, Helvetica, Arial, sans-serif; }
h1 { font-size: 1.5rem; margin: 0 0 .25rem; } h2 { font-size: 1.1rem; margin: 0 0 .5rem; }
.lead { color: var(--soft); margin: 0 0 1rem; }
.card { border: 1px solid var(--line); border-left: .5rem solid var(--accent, #56B4E9); background: var(--card);
  padding: 1rem 1.25rem; border-radius: .5rem; margin: 1rem 0 1.5rem; }
.verdict { font-size: 2rem; font-weight: 700; line-height: 1.2; } .used { color: var(--soft); }
.grid { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 30rem), 1fr)); gap: 1.5rem; }
.wide { grid-column: 1 / -1; } section { min-width: 0; }
.scroll { overflow-x: auto; } table { border-collapse: collapse; width: 100%; font-size: .875rem; }
th, td { padding: .35rem .6rem; border-bottom: 1px solid var(--line); text-align: right; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; } code { font-size: .9em; }
footer { color: var(--soft); font-size: .85rem; margin-top: 2rem; border-top: 1px solid var(--line); padding-top: .75rem; }
"""

# A figure is drawn before the sections after it exist, so its column may have been wider then: fit it once all are there.
# Plotly draws with fixed colours; follow the reader's colour scheme, now and when it changes.
SCRIPT = """
(function () {
  var dark = window.matchMedia("(prefers-color-scheme: dark)");
  function paint() {
    document.querySelectorAll(".js-plotly-plot").forEach(function (plot) {
      Plotly.relayout(plot, {"font.color": dark.matches ? "#f0f6fc" : "#1f2328"});
    });
  }
  document.querySelectorAll(".js-plotly-plot").forEach(function (plot) { Plotly.Plots.resize(plot); });
  paint();
  dark.addEventListener("change", paint);
})();
"""


def escape(text: Any) -> str:
    """Text for HTML, quotes included."""
    return html.escape(str(text), quote=True)


def page(title: str, sections: Iterable[Section], *, card: str = "", lead: str = "", footer: str = "") -> str:
    """The document as text. ``card`` is HTML made by :func:`verdict_card`; everything else is escaped here."""
    bodies, plotted = [], False
    for section in sections:
        body, drew = _body(section.body, with_library=not plotted)
        plotted = plotted or drew
        note = f'<p class="lead">{escape(section.lead)}</p>' if section.lead else ""
        kind = ' class="wide"' if section.wide else ""
        bodies.append(f"<section{kind}><h2>{escape(section.heading)}</h2>{note}{body}</section>")
    script = f"<script>{SCRIPT}</script>" if plotted else ""
    under = f'<p class="lead">{escape(lead)}</p>' if lead else ""
    foot = f"<footer>{escape(footer)}</footer>" if footer else ""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head><body>"
        f'<h1>{escape(title)}</h1>{under}{card}<div class="grid">{"".join(bodies)}</div>{foot}{script}</body></html>\n'
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


def _body(body: Any, *, with_library: bool) -> tuple[str, bool]:
    if hasattr(body, "to_plotly_json"):
        drawn = body.to_html(
            full_html=False,
            include_plotlyjs=with_library,
            config={"responsive": True, "displaylogo": False},
            default_width="100%",
        )
        return drawn, True
    if hasattr(body, "itertuples"):
        return table(body), False
    return "<ul>" + "".join(f"<li>{escape(line)}</li>" for line in body) + "</ul>", False


def table(frame: "pd.DataFrame") -> str:
    """A frame as an HTML table: four significant digits, a dash for NaN."""
    head = "".join(f"<th>{escape(name)}</th>" for name in frame.columns)
    rows = "".join(
        "<tr>" + "".join(f"<td>{escape(_cell(value))}</td>" for value in row) + "</tr>"
        for row in frame.itertuples(index=False)
    )
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>'


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return "–" if value != value else f"{value:.4g}"
    return str(value)
