"""The circle that is turned by hand: its answers, its slider where there are no widgets, and both by keyboard and pointer."""

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest
import torch

import mechfourier as mf
from mechfourier.errors import OutOfRange, UsageError
from mechfourier.figures.circle import STEPS, CircleEdit, CircleSlider, circle, circle_edit
from mechfourier.figures.png import find_chromium
from mechfourier.results.saved import read

SAVED = Path(__file__).parent / "data" / "results-0.1"


@pytest.fixture(scope="module")
def calendar() -> Any:
    return mf.load("calendar")


@pytest.fixture(scope="module")
def edit(calendar: Any) -> CircleEdit:
    result: Any = read(SAVED / "rotate.json").result
    return circle_edit(result, calendar, prompt=3)


def test_the_answer_follows_the_value(edit: CircleEdit) -> None:
    answers = torch.tensor(edit.answers([float(v) for v in range(edit.n)]))
    assert answers.shape == (edit.n, edit.n)
    assert answers.argmax(1).tolist() == list(range(edit.n))  # it answers as if the value were that one
    between = edit.answers([2.5])[0]
    assert sorted(sorted(range(edit.n), key=lambda i: -between[i])[:2]) == [2, 3] or max(between) > 0.5


def test_the_own_value_changes_nothing(edit: CircleEdit) -> None:
    prompt = int(edit.prompt)
    intact = edit.asked.baseline.scores[prompt].double().softmax(-1)[edit.columns]
    assert edit.answers([float(edit.own)])[0] == pytest.approx(intact.tolist(), abs=1e-4)


def test_without_widgets_a_slider_holds_the_answers(edit: CircleEdit, calendar: Any) -> None:
    result: Any = read(SAVED / "rotate.json").result
    shown = circle(result, calendar, prompt=3)
    if importlib.util.find_spec("anywidget") is None:
        assert isinstance(shown, CircleSlider)
    slider = CircleSlider(edit)
    assert len(slider.answers) == STEPS and slider.steps[0] == 0
    assert slider._repr_html_().startswith("<iframe srcdoc=")
    edit.text = "<script>window.attacked = 1</script>"
    assert "<script>window.attacked" not in CircleSlider(edit).page()


def test_what_has_no_circle_is_one_sentence(calendar: Any) -> None:
    lens: Any = read(SAVED / "lens.json").result
    with pytest.raises(UsageError, match="shows no circle"):
        circle(lens, calendar)
    rotation: Any = read(SAVED / "rotate.json").result
    with pytest.raises(OutOfRange, match="prompt 100000"):
        circle(rotation, calendar, prompt=100000)


@pytest.mark.skipif(
    importlib.util.find_spec("playwright") is None or find_chromium() is None, reason="no Chromium here"
)
def test_the_slider_is_moved_by_keys_and_by_pointer(edit: CircleEdit, tmp_path: Path) -> None:
    from playwright.sync_api import sync_playwright

    path = tmp_path / "circle.html"
    path.write_text(CircleSlider(edit).page(), encoding="utf-8")
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=find_chromium(), args=["--no-sandbox"])
        view = browser.new_page(viewport={"width": 400, "height": 900})
        complaints: list[str] = []
        view.on("pageerror", lambda error: complaints.append(str(error)))
        view.goto(path.as_uri())
        handle = view.locator("[role=slider]")
        said = "document.querySelector('[role=slider]').getAttribute('aria-valuetext')"
        first = view.evaluate(said)
        assert str(edit.values[edit.own]) in first
        handle.focus()
        view.keyboard.press("PageUp")
        moved = view.evaluate(said)
        assert moved != first and str(edit.values[(edit.own + 1) % edit.n]) in moved
        box: Any = handle.bounding_box()
        view.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
        view.mouse.down()
        view.mouse.move(200, 380, steps=5)
        view.mouse.up()
        assert view.evaluate(said) not in (first, moved) and not complaints
        assert view.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
        browser.close()


def test_what_a_page_is_told_is_json(edit: CircleEdit) -> None:
    told = json.loads(json.dumps(edit.told()))
    assert len(told["values"]) == len(told["points"]) == edit.n
    assert sum(x * x + y * y for x, y in told["points"]) == pytest.approx(edit.n, rel=0.3)
