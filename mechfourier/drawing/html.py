"""One HTML file that holds all it needs: no network, no second file, every text escaped, light and dark.

The templates in ``assets`` escape all they are given. Figures lie in the page as JSON in inert script
elements, and a few lines of script (``page.js``) draw those on the screen first. Plotly's script is packed
(1.9 MB in place of 4.8): once in a page that is to be moved alone, once in a folder whose pages lie together.
"""

import base64
import gzip
import html
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from mechfourier._version import __version__
from mechfourier.files import write_text
from mechfourier.results.provenance import weights_loaded

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go


@dataclass(frozen=True)
class Section:
    """A heading, a sentence under it, and a body: a Plotly figure, a pandas frame, lines of plain text,
    ``Markup``, or (a mapping) facts. ``command`` is what makes it again; ``message`` what a figure shows in one sentence: its title
    where it stands alone, in print and in galleries."""

    heading: str
    body: "go.Figure | pd.DataFrame | Sequence[str] | Mapping[str, Any]"
    lead: str = ""
    wide: bool = True
    command: str = ""
    message: str = ""

    @property
    def title(self) -> str:
        """What stands over the figure where no heading does: the message, else the figure's own title, else the heading."""
        layout: Any = getattr(self.body, "layout", None)
        own = "" if layout is None else layout.title.text or ""
        return self.message or html.unescape(own.replace("<br>", " ")) or self.heading


def half(heading: str, body: Any, lead: str = "", command: str = "", message: str = "") -> Section:
    """A section that shares its row with another where the screen is wide."""
    return Section(heading, body, lead, wide=False, command=command, message=message)


@dataclass(frozen=True)
class Part:
    """A chapter of a report: one run or result. ``card`` is what :func:`verdict_card` made; plain text in its
    place is escaped."""

    title: str
    sections: Sequence[Section] = ()
    lead: str = ""
    card: str = ""


@cache
def asset(name: str) -> Markup:
    """The text of a file in ``drawing/assets``."""
    return Markup((files("mechfourier.drawing") / "assets" / name).read_text(encoding="utf-8"))


@cache
def plotly_script() -> str:
    """Plotly's own minified script."""
    from plotly.offline import get_plotlyjs

    return get_plotlyjs()


@cache
def packed_script() -> str:
    """A script that leaves Plotly's packed (gzip, base64) for ``page.js`` to unpack."""
    packed = base64.b64encode(gzip.compress(plotly_script().encode(), mtime=0)).decode()
    about = f"plotly.js v{_plotly_version()}, MIT licence (https://plotly.com/javascript), packed"
    return f'/* {about} */\nwindow.packedPlotly = "{packed}";\n'


def _plotly_version() -> str:
    found = re.search(r"plotly\.js v([\w.-]+)", plotly_script()[:500])
    return found[1] if found else "unknown"


def _shared_library(folder: Path) -> str:
    """The name of the file with Plotly's script in ``folder``; written where it is not there."""
    path = folder / f"plotly-{_plotly_version()}.packed.js"
    whole = len(packed_script())
    if not path.is_file() or path.stat().st_size != whole:
        write_text(path, packed_script())
    return path.name


@cache
def _templates() -> Environment:
    return Environment(
        loader=PackageLoader("mechfourier.drawing", "assets"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def block(name: str, *values: Any) -> Markup:
    """A block of ``assets/blocks.html``, every text in it escaped."""
    return getattr(_templates().get_template("blocks.html").module, name)(*values)


def report_page(
    title: str, parts: Sequence[Part], *, lead: str = "", footer: str = "", plotly: str | None = None
) -> str:
    """A page of several chapters, with a contents list where there are three sections or more.

    ``plotly`` is the address of Plotly's script for a page that a server gives or that lies beside it; by
    default the script is embedded.
    """
    numbers = count(1)
    shown = [_part(part, index, numbers) for index, part in enumerate(parts)]
    lone = len(parts) == 1 and not parts[0].title  # its verdict stands above the contents
    card = shown[0].pop("card") if lone else ""
    body = Markup(
        _templates().get_template("parts.html").render(parts=[{"card": "", **part} for part in shown])
    )
    text = escape(title) + escape(lead) + escape(card) + body
    weights = [f"Weights of {m}: {w}." for m, w in weights_loaded().items() if escape(m) in text]
    leads = [each for each in (lead, *weights) if each]
    return (
        _templates()
        .get_template("page.html")
        .render(
            title=title,
            leads=leads,
            card=card,
            parts=shown,
            body=body,
            footer=footer,
            css=asset("page.css"),
            js=asset("page.js"),
            library=_library(plotly) if next(numbers) > 1 else "",
        )
    )


def render(name: str, **values: Any) -> Markup:
    """A template of ``assets``, every text in it escaped."""
    return Markup(_templates().get_template(name).render(**values))


def own_page(
    title: str, body: Markup, *, leads: Sequence[str] = (), assets: Sequence[str] = (), footer: str = ""
) -> str:
    """A page whose body is no chapter of sections; ``assets``: its own styles and scripts beside the common
    ones. Plotly is not in it."""
    styles = Markup("\n").join([asset("page.css"), *(asset(a) for a in assets if a.endswith(".css"))])
    scripts = Markup("\n").join([asset("page.js"), *(asset(a) for a in assets if a.endswith(".js"))])
    text = escape(title) + escape(" ".join(leads)) + body
    weights = [f"Weights of {m}: {w}." for m, w in weights_loaded().items() if escape(m) in text]
    return render(
        "page.html",
        title=title,
        leads=[*leads, *weights],
        card="",
        parts=[],
        body=body,
        footer=footer,
        css=styles,
        js=scripts,
        library="",
    )


def write_page(path: str | Path, part: Part, *, whole: bool = False) -> Path:
    """Write the page of one chapter, atomically. Pages of a folder share one copy of Plotly's script, in a
    file beside them; a ``whole`` page holds its own, and can be moved alone. Raises ``MechFourierError`` where
    the disk is full or the folder is read-only."""
    alone = Part("", part.sections, card=part.card)
    foot = (
        f"mechfourier {__version__}. A probe shows what is represented; only an intervention shows what is "
        f"used."
    )
    draws = any(hasattr(section.body, "to_plotly_json") for section in part.sections)
    library = _shared_library(Path(path).parent) if draws and not whole else None
    return write_text(path, report_page(part.title, [alone], lead=part.lead, footer=foot, plotly=library))


def verdict_card(word: str, second: str, reasons: Iterable[str], *, accent: str) -> Markup:
    """The verdict as an HTML card."""
    return block("card", word, second, list(reasons), accent)


def notes_section(result: Any) -> list[Section]:
    """The notes of a result as a section; none of one that has none."""
    notes = [*getattr(result, "notes", ())]
    notes += [note] if (note := result.unknown_note()) else []
    return [Section("Notes", notes)] if notes else []


def _part(part: Part, index: int, numbers: Iterator[int]) -> dict[str, Any]:
    sections = [
        {**vars(section), "anchor": f"part-{index}-{i}", "shown": _shown(section, numbers)}
        for i, section in enumerate(part.sections)
    ]
    return {**vars(part), "sections": sections, "count": len(sections)}


def _shown(section: Section, numbers: Iterator[int]) -> Markup:
    body: Any = section.body
    if isinstance(body, Markup):
        return body
    if hasattr(body, "to_plotly_json"):
        return _figure(body, f"figure-{next(numbers)}", section.heading)
    if hasattr(body, "itertuples"):
        return table(body)
    if isinstance(body, Mapping):
        return block("facts", [(key, _cell(value)) for key, value in body.items()])
    return block("lines", list(body)) if len(body) else Markup("")


def inert(text: str) -> Markup:
    """JSON that cannot end the script element it lies in."""
    return Markup(text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"))


def _figure(figure: Any, name: str, heading: str) -> Markup:
    """The place of a figure. The heading above it stands for the title that it has when it is alone or in print."""
    import plotly.io as pio

    made = figure.to_plotly_json()
    in_print = "print" in (made["layout"].get("meta") or {})
    layout = {key: value for key, value in made["layout"].items() if in_print or key != "title"}
    layout.setdefault("margin", {"t": 20, "l": 10, "r": 10, "b": 10})
    data = inert(str(pio.to_json({**made, "layout": layout}, validate=False, engine="json")))
    # the place keeps the figure's height before it is drawn, so that nothing moves under the reader
    return block("figure", name, data, layout.get("height") or 450, heading)


def _library(address: str | None) -> Markup:
    if address is not None:
        return Markup('<script src="{}"></script>').format(address)
    return Markup(f"<script>{packed_script()}</script>")


def table(frame: "pd.DataFrame") -> Markup:
    """A frame as an HTML table that sorts by its headings: four significant digits, a dash for NaN."""
    text = [not _numeric(frame[name]) for name in frame.columns]
    rows = [
        [(_cell(value), t, _exact(value, t)) for value, t in zip(row, text, strict=True)]
        for row in frame.itertuples(index=False)
    ]
    return block("table", list(zip(frame.columns, text, strict=True)), rows)


def _numeric(column: Any) -> bool:
    import pandas as pd

    return pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column)


def _exact(value: Any, text: bool) -> str:
    """A number's full value, by which a column is sorted."""
    number = isinstance(value, (int, float)) or hasattr(value, "dtype")
    return "" if text or not number or value != value else repr(float(value))


def _cell(value: Any) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float) or re.fullmatch(r"float\d+", type(value).__name__):
        return f"{value:.4g}"
    return str(value)
