"""What a picture says where it stands alone: its title, the numbers of small tables, and what is left out."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from mechfourier.drawing.html import Section
from mechfourier.drawing.marks import COLUMNS, ROWS, figure, heat
from mechfourier.figures.paper import paper
from mechfourier.figures.sweep import NAMED, attribution_figure, written_figure
from mechfourier.results.kinds import class_of

RESULTS = Path(__file__).parent / "data" / "figures.json.gz"


@pytest.fixture(scope="module")
def results() -> dict[str, Any]:
    """A result of every kind, by kind."""
    found = json.loads(gzip.decompress(RESULTS.read_bytes())).values()
    made: dict[str, Any] = {}
    for values in found:
        kind: Any = class_of(values["kind"])
        made.setdefault(values["kind"], kind.from_dict(values))
    return made


def traces(drawn: Any) -> Any:
    return drawn.data


def test_a_message_comes_before_the_figures_title_and_that_before_the_heading() -> None:
    drawn = figure(title="a <b> & c")
    assert Section("heading", drawn, message="what is seen").title == "what is seen"
    assert Section("heading", drawn).title == "a <b> & c"
    assert Section("heading", figure()).title == Section("heading", ["lines"]).title == "heading"
    printed: Any = paper(drawn, title="what is seen")
    assert printed.layout.title.text == "what is seen"


@pytest.mark.parametrize(
    ("rows", "columns", "shown"), [(ROWS, COLUMNS, True), (ROWS + 1, 2, False), (2, COLUMNS + 1, False)]
)
def test_few_cells_show_their_numbers(rows: int, columns: int, shown: bool) -> None:
    made = heat(
        list(range(columns)), list(range(rows)), [[0.25] * columns] * rows, colorbar={"tickformat": ".0%"}
    )
    assert (made.texttemplate == "%{z:.0%}") is shown


def test_figures_of_a_study_say_what_is_seen(results: dict[str, Any]) -> None:
    study = results["study"]
    sections = {s.heading: s for s in study.part().sections if hasattr(s.body, "to_plotly_json")}
    assert f"{study.rotation.exact_share:.0%} of the answers" in sections["Rotation"].title
    assert f"p = {study.rotation.p_value:.2g}" in sections["Random planes"].title
    if study.ladder:
        assert (
            str(study.share) in sections["How much"].title and "whiskers: 95 %" in sections["How much"].lead
        )
    spectrum = sections["Harmonic spectrum"].title
    top = max(max(row.spectrum) for row in study.probe.sites)
    assert f"up to {top:.0%}" in spectrum
    assert len({s.title for s in sections.values()}) == len(sections)


def test_words_are_counted_in_the_title(results: dict[str, Any]) -> None:
    probe = results["probe"]
    (words,) = [s for s in probe.part().sections if s.heading == "Words by layer"]
    word = probe.verdict
    count = sum(row.word == word for row in probe.sites)
    assert count and words.title.endswith(f": {word} at {count} of {len(probe.sites)} hook points")


def test_only_the_largest_parts_are_drawn_and_the_rest_is_one(results: dict[str, Any]) -> None:
    found = results["attribution"]
    for bars, rows in zip(traces(attribution_figure(found)), (found.parts, found.heads), strict=False):
        least = sorted((abs(row.mean) for row in rows), reverse=True)[:NAMED]
        assert sorted(map(abs, bars.y), reverse=True) == pytest.approx(least)
        assert list(bars.x) == [row.name for row in rows if row.name in bars.x]
    drawn = traces(written_figure(found))
    for i, harmonic in enumerate(found.harmonics):
        whole = harmonic.share * sum(harmonic.written_by.values())
        assert sum(trace.y[i] for trace in drawn) == pytest.approx(whole)


def test_groups_that_are_all_right_are_a_sentence(results: dict[str, Any]) -> None:
    found = results["adder-accuracy"]
    for section in found.part().sections:
        group = section.heading.removeprefix("Accuracy by ")
        if not (shares := found.of(group)) or group == "lengths":
            continue
        right, total = sum(s.right for s in shares), sum(s.total for s in shares)
        if right == total:
            assert section.body[0].startswith(f"All right: {total:,} of {total:,}")
        else:
            assert f"{min(s.accuracy for s in shares):.1%}" in section.title


def test_weight_spectra_are_a_table_of_ranks(results: dict[str, Any]) -> None:
    found = results["adder-analysis"]
    (section,) = [s for s in found.part().sections if s.heading == "Weight spectra"]
    table: Any = section.body
    assert len(table) == len(found.matrices)
    assert (table["effective rank"] <= table["full rank"] + 1e-6).all()
    assert table["power of the first 10"].between(0, 1 + 1e-9).all()
