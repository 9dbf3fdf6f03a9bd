"""``mechfourier atlas index``: one page that links to every atlas in a folder, for any web host."""

from pathlib import Path
from urllib.parse import quote

from mechfourier._version import __version__
from mechfourier.atlas.result import AtlasResult
from mechfourier.drawing.html import own_page, render
from mechfourier.errors import MechFourierError, UsageError
from mechfourier.files import own_path, write_text
from mechfourier.results.saved import read
from mechfourier.stats.words import CIRCLES

INDEX = "index.html"


def write_index(folder: str | Path) -> Path:
    """Write ``index.html`` into ``folder``: a row per saved atlas that has its page beside it, most
    circles first. Raises ``UsageError`` where there is none."""
    root = own_path(folder)
    if not root.is_dir():
        raise UsageError(f"{root} is no folder; give the one in which atlases were written (--out)")
    found = [(path, result) for path in sorted(root.glob("*.json")) if (result := _atlas_in(path))]
    if not found:
        raise UsageError(
            f"{root} holds no atlas with its page; write one there with: mechfourier atlas MODEL --out {root}"
        )
    rows = [_row(path, result) for path, result in found]
    rows.sort(key=lambda row: (-int(str(row["circles"])), str(row["model"])))
    body = render("atlas_index.html", rows=rows)
    lead = (
        f"{len(rows)} atlas{'es' * (len(rows) > 1)}: which domains lie on a circle, and which the model uses."
    )
    page = own_page(
        "Atlases", body, leads=[lead], footer=f"mechfourier {__version__}. Opens without a network."
    )
    return write_text(root / INDEX, page)


def _atlas_in(path: Path) -> AtlasResult | None:
    """The atlas of a file whose page lies beside it; None for any other file."""
    if not path.with_suffix(".html").is_file():
        return None
    try:
        result = read(path).result
    except MechFourierError:
        return None
    return result if isinstance(result, AtlasResult) else None


def _row(path: Path, result: AtlasResult) -> dict[str, object]:
    circles = [each.domain for each in result.domains if each.word in CIRCLES]
    used = [each.domain for each in result.domains if each.used == "used"]
    return {
        "address": quote(path.with_suffix(".html").name),
        "model": result.model,
        "domains": len(result.domains),
        "circles": len(circles),
        "named": ", ".join(circles) or "none",
        "used": (", ".join(used) or "none") if result.studied else "not tested",
    }
