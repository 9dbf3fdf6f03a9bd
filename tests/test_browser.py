"""Pages in a real headless Chromium: figures draw, the player plays, tables sort, dark mode switches, text
stays text."""

import dataclasses
import importlib.util
from pathlib import Path
from typing import Any

import pytest
from small_run import write_run
from test_examples import example

from mechfourier.figures.animation import write_player
from mechfourier.figures.png import HELP, find_chromium
from mechfourier.figures.report import write_report, write_result
from mechfourier.probes.probe import probe
from mechfourier.results.saved import read
from mechfourier.toys.one_layer import evolution
from mechfourier.toys.universal.config import FaithfulConfig

if importlib.util.find_spec("playwright") is None:
    pytest.skip("Playwright is not installed: pip install 'mechfourier[png]'", allow_module_level=True)
CHROMIUM = find_chromium()
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason=f"no Chromium here; {HELP}")
EVIL = "<script>window.attacked = 1</script><img src=x onerror='window.attacked = 1'>"
PATIENCE = 240_000  # ms; the machine may be busy
DRAWN = "Array.from(document.querySelectorAll('.figure')).every(f => f.dataset.state === 'drawn')"

SAVED = Path(__file__).parent / "data" / "results-0.1"
CUT = """() => Array.from(document.querySelectorAll('.figure')).flatMap(f => {
  const box = f.getBoundingClientRect();
  return Array.from(f.querySelectorAll('text')).filter(e => {
    const b = e.getBoundingClientRect();
    return b.width && (b.left < box.left - 1 || b.right > box.right + 1 || b.top < box.top - 1 || b.bottom > box.bottom + 1
      || e.closest('.textpoint') && e.closest('[clip-path]'));
  }).map(e => e.textContent); })"""
COVERED = """() => Array.from(document.querySelectorAll('.figure')).flatMap(f => {
  const texts = Array.from(f.querySelectorAll('.textpoint, .annotation-text, .xtitle, .ytitle, .cbfills, .cbtitle'));
  const boxes = texts.map(e => e.getBoundingClientRect());
  return texts.filter((e, i) => boxes.some((b, j) => j < i && boxes[i].width && b.width && b.left < boxes[i].right - 2
    && boxes[i].left < b.right - 2 && b.top < boxes[i].bottom - 2 && boxes[i].top < b.bottom - 2)).map(e => e.textContent); })"""


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A report of a run and of a probe whose every text attacks, and a player."""
    folder = tmp_path_factory.mktemp("pages")
    run = write_run(folder / "run")
    found = probe(example("own_model").Clock(), "mod-12", sites="embed,resid_post", n_permutations=99)
    assert found.circle is not None
    attacked = dataclasses.replace(
        found,
        model=EVIL,
        domain=EVIL,
        unit=EVIL,
        reasons=(EVIL,),
        notes=(EVIL,),
        circle=dataclasses.replace(found.circle, labels=(EVIL,) * 12),
        sites=tuple(dataclasses.replace(site, site="<b>blocks</b>.0.<i>hook</i>") for site in found.sites),
    )
    saved = attacked.save(folder / "evil.json")
    return {
        "networks": networks_page(folder / "networks"),
        "report": write_report([run, saved], folder / "report.html"),
        "player": write_player(evolution(run, "circle"), folder / "player.html"),
    }


def networks_page(folder: Path) -> Path:
    """The figures of the models of every modulus, of the adder's digits and of a sweep: a tiny trained run,
    and planted tables."""
    import pandas as pd
    import torch

    from mechfourier.drawing.html import Part, Section, write_page
    from mechfourier.sweep import phase_diagram
    from mechfourier.toys.adder import analysis_figures as adder_analysis
    from mechfourier.toys.adder.weights import embedding_spectrum
    from mechfourier.toys.universal import Algorithm, analyze
    from mechfourier.toys.universal import analysis_figures as miras_analysis
    from mechfourier.toys.universal.algorithm import Effect, Threshold
    from mechfourier.toys.universal.recipes import MirasRecipe
    from mechfourier.toys.universal.task import moduli
    from mechfourier.toys.universal.train import train_miras

    small = FaithfulConfig(n_values=20, d_model=16, n_heads=2, d_mlp=16, d_mem=8, trained_to=18)
    recipe = MirasRecipe(steps=2, batch=8, lr=1e-3, evaluate_every=1)
    train_miras(folder / "run", small, moduli("all", largest=18), recipe)
    rule = Algorithm(
        (23, 60),
        tuple(
            Effect(m, what, 0.9, 1.0, float("nan")) for m in (23, 60) for what in ("nothing changed", EVIL)
        ),
        tuple(
            Threshold(m, cell, x / 4, float(x > cell))
            for m in (23, 60)
            for cell in (-1, 0)
            for x in range(-8, 9)
        ),
        (0.3, 0.3),
    )
    result = dataclasses.replace(analyze(folder / "run"), algorithm=rule)
    digits: Any = type(
        "Digits",
        (),
        {"embeddings": [embedding_spectrum(torch.randn(10, 16, generator=torch.manual_seed(0)), EVIL)]},
    )
    runs = [
        {"weight_decay": w, "train_fraction": f, "memorised_at": 20.0, "grokked_at": 100.0 * w}
        for w in (1, 2)
        for f in (0.3, 0.4)
    ]
    diagram = phase_diagram(pd.DataFrame(runs), x="weight_decay", y="train_fraction")
    sections = [
        *miras_analysis.analysis_sections(result),
        Section("Digits", adder_analysis.digits_figure(digits)),
        Section("Phases", diagram.plot()),
    ]
    return write_page(folder / "networks.html", Part("Networks", sections))


def opened(browser: Any, path: Path, *, width: int = 1280, scheme: str = "light") -> tuple[Any, list[str]]:
    """The page with every figure drawn, and what its console complained of."""
    view = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    view.set_default_timeout(PATIENCE)
    complaints: list[str] = []
    view.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    view.on("pageerror", lambda error: complaints.append(str(error)))
    view.on(
        "request",
        lambda request: (
            None if request.url.startswith(("file:", "data:", "blob:")) else complaints.append(request.url)
        ),
    )
    view.goto(path.as_uri())
    view.wait_for_function(DRAWN, timeout=PATIENCE)
    return view, complaints


@pytest.mark.parametrize("width", [1280, 400])
@pytest.mark.parametrize("name", ["report", "player", "networks"])
def test_every_figure_draws_and_the_page_fits(
    browser: Any, pages: dict[str, Path], name: str, width: int
) -> None:
    view, complaints = opened(browser, pages[name], width=width)
    assert not complaints
    figures = view.locator(".figure")
    assert figures.count() >= {"report": 14, "networks": 8}.get(name, 1)
    assert view.evaluate("window.attacked") is None
    for i in range(figures.count()):
        assert figures.nth(i).locator(".xaxislayer-above, .xaxislayer-below").count() > 0
        assert figures.nth(i).locator("svg.main-svg").count() > 0
    assert view.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    # nothing that is drawn in a figure leaves it
    outside = view.evaluate(
        """Array.from(document.querySelectorAll('.figure')).filter(f => {
          const box = f.getBoundingClientRect();
          return Array.from(f.querySelectorAll('.legend, .xtitle, .ytitle, .cbtitle')).some(e => {
            const b = e.getBoundingClientRect();
            return b.width && (b.left < box.left - 2 || b.right > box.right + 2 || b.bottom > box.bottom + 2 || b.top < box.top - 2); });
        }).map(f => f.getAttribute('aria-label'))"""
    )
    assert outside == []
    view.close()


@pytest.mark.parametrize("width", [1280, 400])
@pytest.mark.parametrize("name", ["probe", "study", "ablate", "attention", "tasks"])
def test_no_label_of_a_figure_is_cut_or_covers_another(
    browser: Any, tmp_path: Path, name: str, width: int
) -> None:
    result: Any = read(SAVED / f"{name}.json").result
    view, complaints = opened(browser, write_result(result, tmp_path), width=width)
    assert not complaints and view.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    assert view.evaluate(CUT) == [] and view.evaluate(COVERED) == []
    view.close()


def test_a_page_without_its_library_says_what_is_missing(browser: Any, tmp_path: Path) -> None:
    result: Any = read(SAVED / "probe.json").result
    page = write_result(result, tmp_path)
    for library in tmp_path.glob("*.packed.js"):
        library.unlink()
    view = browser.new_page()
    view.goto(page.as_uri())
    view.wait_for_function("document.querySelector('.figure').dataset.state === 'missing'")
    assert "copy it along" in view.locator(".figure").first.inner_text()
    view.close()


def test_text_stays_text(browser: Any, pages: dict[str, Path]) -> None:
    view, complaints = opened(browser, pages["report"])
    assert view.evaluate("window.attacked") is None and not complaints
    assert view.locator(".card li").filter(has_text="<script>window.attacked").count() == 1
    assert view.locator("section img").count() == 0
    view.close()


def test_a_table_sorts_both_ways_by_number(browser: Any, pages: dict[str, Path]) -> None:
    view, _ = opened(browser, pages["report"])
    place = view.locator("section", has=view.locator("h2", has_text="Frequencies")).locator("table").first
    head = place.locator("th", has=view.get_by_text("embed_power", exact=True))
    column = head.evaluate("th => th.cellIndex")
    read = f"t => Array.from(t.tBodies[0].rows).map(r => parseFloat(r.cells[{column}].dataset.value))"
    head.locator("button").click()
    up = place.evaluate(read)
    head.locator("button").click()
    assert up == sorted(up) and place.evaluate(read) == sorted(up, reverse=True) and len(set(up)) > 2
    assert head.get_attribute("aria-sort") == "descending"
    view.close()


def test_dark_mode_follows_the_reader_and_the_button(browser: Any, pages: dict[str, Path]) -> None:
    ground = "getComputedStyle(document.body).backgroundColor"
    ink = "document.querySelector('.figure').layout.font.color"
    view, _ = opened(browser, pages["report"], scheme="dark")
    dark = view.evaluate(ground)
    assert view.evaluate(ink) == "#f0f6fc"
    view.click(".theme")
    view.wait_for_function(f"{ink} === '#1f2328'")
    assert view.evaluate(ground) != dark and view.inner_text(".theme") == "Dark"
    view.close()


def test_the_player_plays(browser: Any, pages: dict[str, Path]) -> None:
    view, complaints = opened(browser, pages["player"])
    step = "document.querySelector('.slider-label').textContent"
    place = "document.querySelector('.figure .scatterlayer .point').getAttribute('transform')"
    assert view.evaluate(step) == "step 320"
    end = view.evaluate(place)
    view.locator(".updatemenu-button", has_text="Play").click()
    view.wait_for_function(f"{place} !== {end!r} && {step} !== 'step 320'")
    view.wait_for_function(f"{place} === {end!r} && {step} === 'step 320'")
    assert not complaints
    view.close()


def test_a_printed_page_is_light_and_whole(browser: Any, pages: dict[str, Path]) -> None:
    view, _ = opened(browser, pages["report"], scheme="dark")
    view.emulate_media(media="print", color_scheme="dark")
    assert view.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert not view.is_visible(".theme") and not view.is_visible("nav.contents")
    assert len(view.pdf()) > 50_000
    view.close()
