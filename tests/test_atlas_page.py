"""The page of an atlas in a real headless Chromium: no error, no overflow, the keyboard's way, downloads."""

import dataclasses
import importlib.util
import math
from pathlib import Path
from typing import Any

import pytest
from test_atlas import hostile

from mechfourier.atlas import AtlasResult, atlas
from mechfourier.figures.atlas import write_atlas
from mechfourier.figures.png import HELP, find_chromium
from mechfourier.models.registry import load

if importlib.util.find_spec("playwright") is None:
    pytest.skip("Playwright is not installed: pip install 'mechfourier[png]'", allow_module_level=True)
CHROMIUM = find_chromium()
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason=f"no Chromium here; {HELP}")
MOST_BYTES = 6_000_000
OVERFLOW = "document.documentElement.scrollWidth - document.documentElement.clientWidth"


@pytest.fixture(scope="module")
def found() -> AtlasResult:
    made = atlas(load("calendar"), "days,months,compass", quick=True, n_permutations=99, n_jobs=1)
    assert isinstance(made, AtlasResult)
    # the page begins at a circle, whatever the contest says of seven days today
    said = [
        dataclasses.replace(each, word="circular") if each.domain == "days" else each for each in made.domains
    ]
    return dataclasses.replace(made, domains=tuple(said))


def opened(browser: Any, path: Path, width: int, **options: Any) -> tuple[Any, list[str]]:
    """The page, and what its console says or whatever it asks the network for."""
    page = browser.new_page(viewport={"width": width, "height": 900}, **options)
    heard: list[str] = []
    page.on("console", lambda message: heard.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: heard.append(str(error)))
    page.on(
        "request", lambda r: None if r.url.startswith(("file:", "data:", "blob:")) else heard.append(r.url)
    )
    page.goto(path.as_uri())
    page.wait_for_selector("#cell-title:not(:empty)")
    return page, heard


@pytest.mark.parametrize("width", [1280, 400])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_overflows_and_nothing_fails(
    browser: Any, found: AtlasResult, tmp_path: Path, width: int, scheme: str
) -> None:
    page, heard = opened(browser, write_atlas([found], tmp_path), width, color_scheme=scheme)
    assert "days in calendar" in page.inner_text("#cell-title")
    assert page.evaluate(OVERFLOW) == 0
    page.hover("#cell .num >> nth=0")
    assert page.is_visible("#null-tip") and page.inner_text("#null-tip")
    assert page.evaluate(OVERFLOW) == 0 and heard == []
    page.close()


def test_the_keyboard_reaches_every_cell(browser: Any, found: AtlasResult, tmp_path: Path) -> None:
    page, heard = opened(browser, write_atlas([found], tmp_path), 1280)
    page.focus(".theme")
    for _ in range(8):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.classList.contains('cell')"):
            break
    here = "[document.activeElement.dataset.domain, document.activeElement.dataset.site].join()"
    page.keyboard.press("Home")
    start = page.evaluate(here)
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowRight")
    row, column = page.evaluate(here).split(",")
    assert start == "0,0" and (row, column) == ("1", "1")
    page.keyboard.press("Enter")
    assert page.inner_text("#cell-title").startswith("months in calendar")
    assert page.evaluate("document.activeElement.id") == "cell-title"
    page.focus("#slider")
    before = page.inner_text("#cell-title")
    page.keyboard.press("ArrowLeft")
    assert page.inner_text("#cell-title") != before
    page.focus("#cell .num >> nth=0")
    assert page.is_visible("#null-tip")
    page.keyboard.press("Escape")
    assert page.is_hidden("#null-tip") and heard == []
    page.close()


def test_the_slider_moves_the_points(browser: Any, found: AtlasResult, tmp_path: Path) -> None:
    page, _ = opened(browser, write_atlas([found], tmp_path), 1280)
    place = (
        "Array.from(document.querySelectorAll('#cell svg g g')).map(g => g.getAttribute('transform')).join()"
    )
    page.focus("#slider")
    page.keyboard.press("Home")
    page.wait_for_timeout(400)
    first = page.evaluate(place)
    page.keyboard.press("End")
    page.wait_for_timeout(400)
    assert page.evaluate(place) != first
    page.close()


@pytest.mark.parametrize(("kind", "begins"), [("SVG", b"<svg"), ("PNG", b"\x89PNG"), ("CSV", b"value,x,y")])
def test_figures_download(browser: Any, found: AtlasResult, tmp_path: Path, kind: str, begins: bytes) -> None:
    page, heard = opened(browser, write_atlas([found], tmp_path), 1280)
    with page.expect_download() as waiting:
        page.click(f"figure[data-panel='Circle'] button:text-is('{kind}')")
    waiting.value.save_as(tmp_path / "saved")
    data = (tmp_path / "saved").read_bytes()
    assert data.startswith(begins) and waiting.value.suggested_filename.endswith(f".{kind.lower()}")
    if kind == "SVG":
        shown, _ = opened_svg(browser, tmp_path / "saved", tmp_path)
        assert "Monday" in shown
    assert heard == []
    page.close()


def opened_svg(browser: Any, path: Path, folder: Path) -> tuple[str, None]:
    """The text of a downloaded drawing, opened by itself."""
    alone = folder / "alone.svg"
    alone.write_bytes(path.read_bytes())
    page = browser.new_page()
    page.goto(alone.as_uri())
    text = page.evaluate("document.documentElement.textContent")
    page.close()
    return text, None


def test_hostile_names_stay_text(browser: Any, found: AtlasResult, tmp_path: Path) -> None:
    page, heard = opened(browser, write_atlas([hostile(found)], tmp_path), 400)
    page.click(".cell >> nth=0")
    assert page.evaluate("window.attacked") is None and heard == []
    assert page.evaluate(OVERFLOW) == 0
    page.close()


def test_twelve_domains_of_28_layers_are_small(browser: Any, found: AtlasResult, tmp_path: Path) -> None:
    written = write_atlas([widened(found, 12, 28)], tmp_path)
    assert written.stat().st_size < MOST_BYTES
    page, heard = opened(browser, written, 1280)
    assert page.locator(".cell").count() == 12 * 28 and heard == []
    page.close()


def widened(found: AtlasResult, domains: int, layers: int) -> AtlasResult:
    """An atlas of the size of a large model's: a real domain's numbers, many times."""
    row = found["months"]
    assert row.probe is not None and row.probe.value is not None
    names = [f"blocks.{i}.hook_resid_post" for i in range(layers)]

    def again(items: Any) -> tuple[Any, ...]:
        return tuple(dataclasses.replace(items[i % len(items)], site=name) for i, name in enumerate(names))

    value = dataclasses.replace(row.probe.value, sites=again(row.probe.value.sites))
    best = dataclasses.replace(row.probe.best, site=names[-1])  # type: ignore[type-var]
    wide = dataclasses.replace(row.probe, value=value, sites=again(row.probe.sites), best=best)
    rows = [
        dataclasses.replace(row, domain=f"domain {i}", probe=wide, circles=again(row.circles))
        for i in range(domains)
    ]
    return dataclasses.replace(found, domains=tuple(rows))


COVERED = """() => {
  const boxes = [...document.querySelectorAll('#cell svg g text.ink')].map(e => e.getBoundingClientRect());
  let covered = 0;
  boxes.forEach((a, i) => boxes.slice(i + 1).forEach(b => {
    const wide = Math.min(a.right, b.right) - Math.max(a.left, b.left), high = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
    if (wide > 3 && high > 5) { covered += 1; }
  }));
  return [boxes.length, covered];
}"""


@pytest.mark.parametrize("width", [1280, 400])
def test_names_of_near_values_do_not_cover_each_other(
    browser: Any, found: AtlasResult, tmp_path: Path, width: int
) -> None:
    """Twelve months in six pairs, each pair a hair apart."""
    angles = [2 * math.pi * (i // 2) / 6 + 0.04 * (i % 2) for i in range(12)]
    points = tuple((math.cos(a), math.sin(a)) for a in angles)
    months = found["months"]
    near = dataclasses.replace(
        months, circles=tuple(dataclasses.replace(each, points=points) for each in months.circles)
    )
    domains = tuple(near if each.domain == "months" else each for each in found.domains)
    page, heard = opened(
        browser,
        write_atlas([dataclasses.replace(found, domains=domains)], tmp_path),
        width,
        reduced_motion="reduce",
    )
    page.click('button[aria-label^="months, layer 0"]')
    assert page.evaluate(COVERED) == [12, 0] and heard == []
    page.close()
