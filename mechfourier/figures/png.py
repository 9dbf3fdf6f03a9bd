"""Figures as pictures: Plotly draws in a browser, so a headless Chromium takes them."""

import base64
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from mechfourier.drawing.html import Part, Section, report_page
from mechfourier.errors import MissingExtra, need
from mechfourier.files import write_with

if TYPE_CHECKING:
    import plotly.graph_objects as go

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
WIDTH = 900
HELP = (
    "install one (Debian: apt-get install chromium; anywhere: playwright install chromium) or set CHROMIUM "
    "to its path"
)
IMAGE = """([index, format, scale]) => {
  const plot = document.querySelectorAll('.figure')[index];
  return Plotly.toImage(window.shown(plot), {format, scale, width: plot.clientWidth, height: plot.clientHeight});
}"""


def find_chromium() -> str | None:
    """The browser's path: ``$CHROMIUM``, then what is on PATH, then the one that Playwright brings; None
    where there is none."""
    named = os.environ.get("CHROMIUM")
    found = [named] if named else [path for name in BROWSERS if (path := shutil.which(name))]
    if not found:
        from playwright.sync_api import sync_playwright

        with sync_playwright() as play:
            found = [play.chromium.executable_path]
    return next((path for path in found if Path(path).is_file()), None)


@contextmanager
def drawn_page(
    figures: Mapping[str, "go.Figure"],
    *,
    width: int = WIDTH,
    scale: float = 1.0,
    dark: bool = False,
    margin: int | None = None,
) -> Iterator[Any]:
    """A browser's page with every figure drawn, ``width`` pixels wide. ``margin``: of the page at either side, where
    the figures themselves are to be that wide. Raises ``MissingExtra`` without Playwright or a Chromium."""
    need("playwright.sync_api", extra="png")
    from playwright.sync_api import sync_playwright

    browser_path = find_chromium()
    if browser_path is None:
        raise MissingExtra(f"pictures need a Chromium; {HELP}")
    with TemporaryDirectory() as scratch, sync_playwright() as play:
        browser = play.chromium.launch(executable_path=browser_path, args=["--no-sandbox"])
        scheme: Any = "dark" if dark else "light"
        view = browser.new_page(
            viewport={"width": width, "height": 900}, device_scale_factor=scale, color_scheme=scheme
        )
        page = report_page("figures", [Part("", [Section(n, f) for n, f in figures.items()])])
        if margin is not None:
            page = page.replace("</style>", f"body {{ padding: {margin}px !important; }}</style>", 1)
        source = Path(scratch) / "figures.html"
        source.write_text(page, encoding="utf-8")
        view.goto(source.as_uri())
        view.wait_for_function(
            "Array.from(document.querySelectorAll('.figure')).every(f => f.dataset.state === 'drawn')",
            timeout=120_000,
        )
        view.wait_for_timeout(300)
        yield view
        browser.close()


def write_image(view: Any, index: int, path: Path, scale: float) -> Path:
    """The figure with this index as SVG or PNG, by the ending of ``path``."""
    text = view.evaluate(IMAGE, [index, path.suffix[1:], scale])
    head, _, body = text.partition(",")
    content = base64.b64decode(body) if head.endswith("base64") else unquote(body).encode()
    return write_with(path, lambda target: target.write_bytes(content))


def write_pngs(
    figures: Mapping[str, "go.Figure"],
    folder: str | Path,
    *,
    width: int = WIDTH,
    scale: float = 1.5,
    dark: bool = False,
    margin: int | None = None,
) -> list[Path]:
    """``folder/NAME.png`` for every figure, at its own height. Raises ``MissingExtra`` without Playwright or
    a Chromium."""
    with drawn_page(figures, width=width, scale=scale, dark=dark, margin=margin) as view:
        places = view.locator(".figure")
        return [
            write_with(
                Path(folder) / f"{name}.png",
                lambda target, i=i: target.write_bytes(places.nth(i).screenshot(type="png")),
            )
            for i, name in enumerate(figures)
        ]
