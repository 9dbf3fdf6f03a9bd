"""Every kind of figure in Chromium, 1280 and 400 pixels wide: no two texts overlap, none leaves its figure or is cut, no tick
says what no value can be. All kinds lie in one page, which one browser opens twice."""

import gzip
import importlib.util
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from small_run import write_run
from test_browser import networks_page, opened
from text_boxes import problems

from mechfourier.drawing.html import Part as Chapter
from mechfourier.drawing.html import Section, report_page
from mechfourier.figures.animation import player
from mechfourier.figures.emergence import circle_stills, sine_stills
from mechfourier.figures.paper import COLUMN, paper, write_paper
from mechfourier.figures.png import HELP, drawn_page, find_chromium
from mechfourier.figures.report import run_part
from mechfourier.figures.sae import feature_sections
from mechfourier.figures.scene import WHAT, scene
from mechfourier.results.kinds import PLAIN_PART, class_of, modules
from mechfourier.sae.features import FeaturePage
from mechfourier.toys.one_layer import evolution

if importlib.util.find_spec("playwright") is None:
    pytest.skip("Playwright is not installed: pip install 'mechfourier[png]'", allow_module_level=True)
CHROMIUM = find_chromium()
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason=f"no Chromium here; {HELP}")
RESULTS = Path(__file__).parent / "data" / "figures.json.gz"
WIDTHS = (1280, 400)
OTHERWISE = {
    "progress-curves": "the page of a run, below",
    "one-layer-run": "the page of a run, below",
    "universal-analysis": "planted tables, below",
    "phase-diagram": "planted tables, below",
    "sweep": "as a phase diagram",
    "sae-feature": "planted, below",
    "training": "the curves of a run, below",
    "adder-run": "the curves of a run, below",
    "universal-run": "the curves of a run, below",
}


FEATURE = FeaturePage(
    name="dictionary",
    feature=12,
    site="blocks.0.hook_resid_post",
    model="calendar",
    density=0.02,
    strength=3.0,
    firings=(),
    domain="months",
    labels=("January", "February", "March", "September", "October", "November"),
    values=(0.0, 0.2, 1.5, 1.2, 0.0, 0.1),
    k=1,
    r2=0.7,
    neighbours=((3, 0.5),),
    raised=(("May", 1.0),),
    lowered=(("July", -1.0),),
)


def drawing(section: Section) -> Any:
    return section.body


def saved() -> dict[str, dict[str, Any]]:
    """One result of every kind, of small and of pretrained models, as they were saved."""
    return json.loads(gzip.decompress(RESULTS.read_bytes()))


def drawn(name: str, result: Any) -> Iterator[Section]:
    """The figures of a result's page, and the one that it plots alone."""
    for section in result.part().sections:
        if hasattr(section.body, "to_plotly_json"):
            yield Section(
                f"{name}: {section.heading}", section.body, wide=section.wide, message=section.message
            )
    if result.about.figure and result.about.part != PLAIN_PART:
        yield Section(f"{name}: alone", result.plot())


@pytest.fixture(scope="module")
def every(tmp_path_factory: pytest.TempPathFactory) -> list[Section]:
    """Every kind of figure."""
    folder = tmp_path_factory.mktemp("run")
    run = write_run(folder / "run", checkpoints=4)
    sections = [
        s for name, values in saved().items() for s in drawn(name, class_of(values["kind"]).from_dict(values))
    ]
    sections += [s for s in feature_sections(FEATURE) if hasattr(s.body, "to_plotly_json")]
    sections += [s for s in run_part(run).sections if hasattr(s.body, "to_plotly_json")]
    sections += [
        Section(f"player of {what}", player(scene(evolution(run, what, max_frames=3)))) for what in WHAT
    ]
    sections.append(Section("stills of a circle", circle_stills(evolution(run, "circle"))))
    sections.append(Section("stills of a sine", sine_stills(evolution(run, "sine"))))
    return sections


@pytest.fixture(scope="module")
def page(every: list[Section], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("boxes") / "figures.html"
    path.write_text(report_page("Figures", [Chapter("", every)]), encoding="utf-8")
    return path


def test_figures_for_print_are_one_column_wide_with_titles_and_letters(tmp_path: Path) -> None:
    # before the tests that keep a browser open: Playwright has one in a thread
    source = Path(__file__).parent / "data" / "results-0.1" / "lens.json"
    (svg, png) = write_paper([source], tmp_path, letters=True)
    text = svg.read_text(encoding="utf-8")
    assert 'width="321"' in text and ">a</tspan>" in text and "logit lens of" in text
    assert min(float(size) for size in re.findall(r"font-size: ([\d.]+)px", text)) >= 9.3  # 7 points
    assert png.read_bytes().startswith(b"\x89PNG")


def test_every_figure_in_print_too(every: list[Section]) -> None:
    """In one column of a paper, each under its title."""
    made: dict[str, Any] = {
        f"{i} {each.heading}": paper(drawing(each), title=each.title)
        for i, each in enumerate(every)
        if not each.heading.endswith(": alone")  # three in one: in print each stands by itself
    }
    with drawn_page(made, width=COLUMN, margin=0) as view:
        assert view.locator(".figure").count() > 60
        assert problems(view) == []


def test_there_is_a_result_of_every_kind_that_is_drawn() -> None:
    kinds = {name for name in modules() if (found := class_of(name)) is not None and found.about.figure}
    here = {values["kind"] for values in saved().values()} | set(OTHERWISE)
    assert kinds - here == set()


@pytest.mark.parametrize("width", WIDTHS)
def test_no_text_of_any_figure_overlaps_or_leaves_it(browser: Any, page: Path, width: int) -> None:
    view, complaints = opened(browser, page, width=width)
    assert not complaints
    assert view.locator(".figure").count() > 60
    assert problems(view) == []
    assert view.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    view.close()


@pytest.mark.parametrize("width", WIDTHS)
def test_planted_tables_too(browser: Any, tmp_path: Path, width: int) -> None:
    view, complaints = opened(browser, networks_page(tmp_path), width=width)
    assert not complaints and problems(view) == []
    view.close()


def test_what_is_wrong_is_found(browser: Any, tmp_path: Path) -> None:
    import plotly.graph_objects as go

    bad = go.Figure(go.Scatter(x=[1, 2, 3], y=[1, 2, 3]))
    for x in (1, 1.01):
        bad.add_annotation(x=x, y=2, text="a long label", showarrow=False)
    far = dict(x=1, y=1, xref="paper", yref="paper", xanchor="left", showarrow=False)
    bad.add_annotation(text="far to the right of everything", **far)
    bad.update_xaxes(dtick=0.5)
    path = tmp_path / "bad.html"
    path.write_text(report_page("Bad", [Chapter("", [Section("bad", bad)])]), encoding="utf-8")
    view, _ = opened(browser, path)
    found = "\n".join(problems(view))
    assert "a long label | a long label overlap" in found and "leaves the figure" in found
    assert "counts, and says" in found
    view.close()
