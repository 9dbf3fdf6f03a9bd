"""Figures for print: one column (8.5 cm) wide, text of 7 points or more, titles, dark ink on white, panel letters on
request; as SVG and PNG."""

from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path
from string import ascii_lowercase
from typing import TYPE_CHECKING, Any

from mechfourier.drawing.template import plain_text
from mechfourier.errors import UsageError
from mechfourier.figures.png import drawn_page, write_image
from mechfourier.figures.report import parts_of
from mechfourier.files import slug

if TYPE_CHECKING:
    import plotly.graph_objects as go

COLUMN = 321  # CSS pixels (96 per inch): 8.5 cm
TEXT_SIZE, TITLE_SIZE = 9.5, 10.5  # pixels: 7.1 and 7.9 points
LINE = 50  # characters of a title that fit into the column
DOTS = 600 / 96  # of a PNG per CSS pixel: 600 per inch
INK = "#1f2328"


def paper(figure: "go.Figure", *, title: str = "", letter: str = "") -> "go.Figure":
    """A copy of ``figure`` for one column of a paper. ``title`` (plain text) stands in place of its own; ``letter`` ("a") goes
    before it."""
    made: Any = deepcopy(figure)
    text = _wrapped(plain_text(title) or made.layout.title.text or "")
    head = f"<b>{letter}</b>  " if letter else ""
    lines, font = text.count("<br>") + 1, {"size": TEXT_SIZE, "color": INK}
    above, names = 8 + 13 * lines, _legend_rows(made) * 16
    meta = dict(made.layout.meta or {})
    narrow = dict(meta.get("narrow", {}))
    stacked = narrow.pop("height", None)  # panels below each other: every one has its titles
    height = (
        max(170, round(0.95 * stacked if stacked else 0.62 * (made.layout.height or 450))) + above + names
    )
    made.update_layout(
        font=font,
        title={
            "text": head + text,
            "font": {"size": TITLE_SIZE, "color": INK},
            "pad": {"t": 4 + 7 * (lines - 1)},
        },
        legend={"font": font, "yref": "container", "y": 1 - above / height, "yanchor": "top"},
        height=height,
        margin={"t": above + names + 4, "l": 4, "r": 18, "b": 4},
        paper_bgcolor="white",
        meta={**meta, "narrow": narrow, "print": above},
    )
    made.update_xaxes(title_font_size=TEXT_SIZE, tickfont_size=TEXT_SIZE, ticklen=3)
    made.update_yaxes(title_font_size=TEXT_SIZE, tickfont_size=TEXT_SIZE, ticklen=3)
    made.update_annotations(font={"size": TEXT_SIZE, "color": INK})
    made.update_traces(textfont_size=TEXT_SIZE, selector={"mode": "text"})
    return made


def _legend_rows(figure: Any) -> int:
    """Rows that the names of a legend take, which stand in columns of equal width."""
    drawn: list[Any] = [*figure.data, *figure.layout.shapes]
    named = [each for each in drawn if each.name and each.showlegend is not False]
    names = [each.name for each in named if each.showlegend or (each in figure.data and len(figure.data) > 1)]
    if not names or figure.layout.showlegend is False:
        return 0
    widest = max(map(len, names)) * 5.3 + 45
    return -(-len(names) // max(1, int((COLUMN - 10) / widest)))


def _wrapped(text: str) -> str:
    lines = [""]
    for word in text.replace("<br>", " ").split():
        if lines[-1] and len(lines[-1]) + len(word) >= LINE:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return "<br>".join(lines)


def write_paper(sources: Sequence[str | Path], folder: str | Path, *, letters: bool = False) -> list[Path]:
    """Every figure of ``sources`` (run folders, saved results) as SVG and PNG for one column, in ``folder``.

    Raises ``UsageError`` where nothing is drawn, ``MissingExtra`` without Playwright or a Chromium.
    """
    figures: dict[str, Any] = {}
    for source in sources:
        for part in parts_of(source):
            for section in part.sections:
                if hasattr(section.body, "to_plotly_json"):
                    name, count = slug(section.heading), 2
                    while name in figures:
                        name, count = f"{slug(section.heading)}-{count}", count + 1
                    letter = ascii_lowercase[len(figures) % 26] if letters else ""
                    body: Any = section.body
                    figures[name] = paper(body, title=section.title, letter=letter)
    if not figures:
        raise UsageError("nothing is drawn of these; give saved results or runs that have figures")
    written = []
    with drawn_page(figures, width=COLUMN, margin=0) as view:
        for i, name in enumerate(figures):
            for form, scale in (("svg", 1.0), ("png", DOTS)):
                written.append(write_image(view, i, Path(folder) / f"{name}.{form}", scale))
    return written
