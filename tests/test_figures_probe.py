"""The page of a probe: draws what the result holds, needs no network, escapes every text, is written whole or
not at all."""

import dataclasses
import re
from pathlib import Path
from typing import Any

import plotly.io as pio
import pytest
from test_examples import example

from mechfourier.drawing.html import Part, Section, report_page, table, write_page
from mechfourier.drawing.template import PALETTE, plain_text, template
from mechfourier.errors import MechFourierError
from mechfourier.figures.probe import circle_figure, ellipse, null_figure, spectrum_figure, write_probe
from mechfourier.figures.tokens import tokens_section
from mechfourier.probes.probe import probe
from mechfourier.probes.result import ProbeResult


@pytest.fixture(scope="module")
def found() -> ProbeResult:
    return probe(example("own_model").Clock(), "mod-12", sites="embed,resid_post", n_permutations=199)


def test_figures_draw_what_the_result_holds(found: ProbeResult) -> None:
    heat: Any = spectrum_figure(found).data[0]
    assert [list(row) for row in heat.z] == [list(row.spectrum) for row in found.sites]
    points: Any = circle_figure(found).data[-1]
    null: Any = null_figure(found).data[0]
    assert found.circle is not None
    assert list(points.x) == [x for x, _ in found.circle.points] and list(points.text) == list(
        found.circle.labels
    )
    assert found.value is not None
    assert list(null.x) == list(found.value.null)
    assert {trace.type for trace in found.plot().data} == {"heatmap", "scatter", "histogram"}


def test_the_page_needs_no_network(found: ProbeResult, tmp_path: Path) -> None:
    path = write_probe(found, tmp_path / "out")
    text = path.read_text(encoding="utf-8")
    assert path.name == "probe-clock-mod-12-value.html"
    (library,) = re.findall(r"<(?:script|link|img)[^>]+(?:src|href)=\"([^\"]*)", text)
    assert "plotly.js v" in (path.parent / library).read_text(encoding="utf-8")[:200]
    shown = re.sub(r"<(script|style).*?</\1>", "", text, flags=re.DOTALL)
    assert "http" not in shown
    assert shown.index("circular") < shown.index("Evidence") < shown.index("Next steps")
    assert sorted(p.name for p in path.parent.iterdir()) == sorted([path.name, library])


def test_pages_of_a_folder_share_the_library_and_are_small(found: ProbeResult, tmp_path: Path) -> None:
    first = write_probe(found, tmp_path)
    (library,) = tmp_path.glob("plotly-*.packed.js")
    library.write_text("half")  # of a write that was cut
    for i in range(49):
        write_probe(dataclasses.replace(found, domain=f"mod-12-{i}"), tmp_path)
    assert first.stat().st_size < 1.5e6 and len(list(tmp_path.glob("*.packed.js"))) == 1
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) < 10e6
    bare = write_page(tmp_path / "bare" / "x.html", Part("t", [Section("Notes", ["a"])]))
    assert [path.name for path in bare.parent.iterdir()] == ["x.html"]


def test_the_page_marks_the_token_that_is_read(found: ProbeResult, tmp_path: Path) -> None:
    assert found.tokens is not None
    text = write_probe(found, tmp_path).read_text(encoding="utf-8")
    assert "What is read where" in text and text.count('<mark title="read">') == len(found.tokens.templates)
    row = dataclasses.replace(found.tokens.templates[0], tokens=("<b>", " x\n"), read=1, value_tokens=(1, 3))
    markup = str(tokens_section(dataclasses.replace(found.tokens, templates=(row,)))[0].body)
    assert "<span>&lt;b&gt;</span>" in markup and '<mark title="read">␣x⏎</mark>' in markup
    assert "values of 1 to 3 tokens" in markup
    assert tokens_section(None) == []


def test_the_page_of_one_vector_per_value_has_no_intervals_and_no_nan(tmp_path: Path) -> None:
    single = probe(example("own_model").Clock(), "mod-12", sites="embed", n_permutations=99, controls=False)
    text = write_probe(single, tmp_path).read_text(encoding="utf-8")
    assert "agreement between templates is not evidence" in text
    shown = re.sub(r"<(script|style).*?</\1>", "", text, flags=re.DOTALL)
    assert "nan" not in re.findall(r"\w+", shown)
    assert single.part().sections and all(
        "NaN" not in str(pio.to_json(s.body))
        for s in single.part().sections
        if hasattr(s.body, "to_plotly_json")
    )


def test_no_text_becomes_markup(found: ProbeResult, tmp_path: Path) -> None:
    evil = "<script>alert(1)</script>"
    assert found.circle is not None
    attacked = dataclasses.replace(
        found,
        model=evil,
        domain=evil,
        unit=evil,
        reasons=(evil,),
        notes=(evil,),
        circle=dataclasses.replace(found.circle, labels=(evil,) * 12),
    )
    text = write_probe(attacked, tmp_path).read_text(encoding="utf-8")
    assert "alert(1)</script>" not in text and evil not in text
    assert "&lt;script&gt;alert(1)" in text


def test_a_result_without_evidence_still_has_a_page(found: ProbeResult, tmp_path: Path) -> None:
    empty = dataclasses.replace(
        found, verdict="not testable", best=None, sites=(), circle=None, value=None, reasons=("too few",)
    )
    assert "too few" in write_probe(empty, tmp_path).read_text(encoding="utf-8")
    assert empty.frame().empty and not empty.plot().data


def test_a_folder_that_cannot_be_written_is_one_sentence(found: ProbeResult, tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(MechFourierError, match="cannot write"):
        write_probe(found, blocked / "out")


def test_the_library_is_embedded_once_however_many_figures(found: ProbeResult) -> None:
    one = report_page("t", [Part("", [Section("a", spectrum_figure(found))])])
    two = report_page(
        "t", [Part("", [Section("a", spectrum_figure(found)), Section("b", null_figure(found))])]
    )
    assert len(two) - len(one) < 200_000 < len(one)


def test_tables_show_a_dash_for_nan_and_four_digits(found: ProbeResult) -> None:
    frame = found.frame().assign(p=[float("nan"), 0.123456])
    text = table(frame)
    assert "<td>–</td>" in text and "0.1235" in text


def test_an_ellipse_has_the_deviations_it_was_given() -> None:
    points = ellipse((1.0, 2.0), (0.5, 0.25, 0.0))
    assert max(x for x, _ in points) == pytest.approx(1.5) and min(y for _, y in points) == pytest.approx(
        1.75
    )


def test_the_template_is_registered_and_its_colours_differ() -> None:
    import plotly.io as pio

    template()
    assert "mechfourier" in pio.templates and len(set(PALETTE)) == 7
    assert plain_text("<b>&") == "&lt;b&gt;&amp;"
    assert re.fullmatch(r"#[0-9A-F]{6}", PALETTE[0])
