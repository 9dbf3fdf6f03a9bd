"""What a notebook shows of a result: verdict, table, and a small drawing that needs no script."""

import math
from typing import TYPE_CHECKING, Any

from markupsafe import Markup, escape

from mechfourier.drawing.html import table
from mechfourier.drawing.template import BLUE, SKY, VERMILION
from mechfourier.results.base import Result

if TYPE_CHECKING:
    from mechfourier.probes.result import Circle

ROWS = 12
SIZE = 220


def notebook_html(result: Result) -> str:
    """HTML for ``_repr_html_``; every text in it is escaped."""
    first, *lines = str(result).splitlines() or [""]
    rest = "\n".join(lines)
    parts = [Markup("<p><strong>{}</strong></p>").format(first)]
    if (circle := _circle_of(result)) is not None:
        parts.append(circle_svg(circle))
    if rest.strip():
        parts.append(Markup("<details><summary>why</summary><pre>{}</pre></details>").format(rest))
    parts.append(_table(result))
    style = Markup("<style>.mechfourier td, .mechfourier th {text-align: right} ")
    style += Markup(".mechfourier .text {text-align: left} .mechfourier button {all: unset}</style>")
    return str(style + Markup('<div class="mechfourier">{}</div>').format(Markup("").join(parts)))


def _circle_of(result: Any) -> "Circle | None":
    found = getattr(result, "circle", None) or getattr(getattr(result, "probe", None), "circle", None)
    return found if hasattr(found, "points") and hasattr(found, "labels") else None


def _table(result: Result) -> Markup:
    try:
        frame = result.frame()
    except NotImplementedError:
        return Markup("")
    if not len(frame):
        return Markup("")
    more = f"{ROWS} of {len(frame)} rows; all of them: .frame()" if len(frame) > ROWS else ""
    return table(frame.head(ROWS)) + Markup("<p>{}</p>").format(more)


def circle_svg(circle: "Circle") -> Markup:
    """The values in their plane with one standard deviation, as plain SVG."""
    reach = 1.35 * max([1.0, *(math.hypot(x, y) for x, y in circle.points)])

    def at(x: float, y: float) -> tuple[float, float]:
        return SIZE / 2 * (1 + x / reach), SIZE / 2 * (1 - y / reach)

    places = [at(x, y) for x, y in circle.points]
    drawn = [
        Markup('<polyline points="{}" fill="none" stroke="currentColor" stroke-opacity=".4"/>').format(
            " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        ),
        Markup('<path d="M{:.1f} {:.1f}L{:.1f} {:.1f}" stroke="{}" stroke-dasharray="4 3"/>').format(
            *places[-1], *places[0], VERMILION
        ),
    ]
    unit = SIZE / 2 / reach
    for (x, y), (sx, sy, _), label in zip(places, circle.spread, circle.labels, strict=True):
        drawn.append(
            Markup(
                '<ellipse cx="{:.1f}" cy="{:.1f}" rx="{:.1f}" ry="{:.1f}" fill="{}" fill-opacity=".2"/>'
            ).format(x, y, sx * unit, sy * unit, SKY)
        )
        drawn.append(Markup('<circle cx="{:.1f}" cy="{:.1f}" r="3" fill="{}"/>').format(x, y, BLUE))
        drawn.append(
            Markup('<text x="{:.1f}" y="{:.1f}" font-size="10" fill="currentColor">{}</text>').format(
                x + 4, y - 4, escape(label)
            )
        )
    head = Markup(
        '<svg width="{0}" height="{0}" viewBox="0 0 {0} {0}" role="img" aria-label="circle">'
    ).format(SIZE)
    return head + Markup("").join(drawn) + Markup("</svg>")
