"""Figures of the contest draw what the result holds: bars with intervals, one strip of words, the circle
beside its best rival."""

import dataclasses
from typing import Any

import numpy as np
import pytest
from test_examples import example
from value_arrays import wave

from mechfourier.figures.shapes import (
    STRIP,
    accent,
    contest_figure,
    fitted_path,
    rivals_figure,
    shape_sections,
    words_figure,
)
from mechfourier.probes.probe import probe
from mechfourier.probes.result import ProbeResult
from mechfourier.stats.verdict import WORDS


@pytest.fixture(scope="module")
def found() -> ProbeResult:
    return probe(example("own_model").Clock(), "mod-12", sites="embed,resid_post", n_permutations=199)


def test_bars_are_the_evidence_with_its_interval(found: ProbeResult) -> None:
    whole = found.sites[1]
    shapes = tuple(
        dataclasses.replace(s, low=s.evidence - 0.2, high=s.evidence + 0.1) for s in whole.shapes[:-1]
    )
    row = dataclasses.replace(whole, shapes=(*shapes, whole.shapes[-1]))  # the last without an interval
    figure: Any = contest_figure(dataclasses.replace(found, sites=(found.sites[0], row)))
    drawn = {name: value for bar in figure.data for name, value in zip(bar.y, bar.x, strict=True)}
    assert drawn == {shape.name: shape.evidence for shape in row.shapes}
    for bar in figure.data:
        for name, value, up in zip(bar.y, bar.x, bar.error_x.array, strict=True):
            shape = next(each for each in row.shapes if each.name == name)
            assert value + up == pytest.approx(shape.evidence if shape.high is None else shape.high)
    assert list(figure.layout.yaxis.categoryarray) == [shape.name for shape in row.shapes]


def test_the_strip_has_every_hook_point_once(found: ProbeResult) -> None:
    figure: Any = words_figure(found)
    at = sorted(x for bar in figure.data for x in bar.x)
    assert at == [0, 1] and {bar.name for bar in figure.data} == {"circular", "not testable"}
    colours = {
        STRIP[word]
        for word in ("circular", "open curve", "line", "wave", "clusters", "other period", "noise")
    }
    assert len(colours) == 7 and all(accent(word) for word in WORDS) and accent("undecided: a or b")


def test_the_circle_and_its_rival_are_fitted_to_the_drawn_points(found: ProbeResult) -> None:
    figure: Any = rivals_figure(found)
    closed, rival, points = figure.data
    assert found.circle is not None and list(points.x) == [x for x, _ in found.circle.points]
    assert (closed.x[0], closed.y[0]) == (closed.x[-1], closed.y[-1]) and len(rival.x) == 12


def test_a_path_is_that_of_its_shape() -> None:
    circle = wave(12, 1).numpy()
    assert np.allclose(fitted_path(circle, "circle")[:-1], circle)
    turned = np.roll(wave(12, 0.6, ends=True).numpy(), 4, axis=0)
    path = fitted_path(turned, "arc")
    assert np.allclose(path[0], turned[4], atol=0.1) and np.allclose(path[-1], turned[3], atol=0.1)


def test_a_result_without_a_contest_has_none_of_the_figures(found: ProbeResult) -> None:
    assert [section.heading for section in shape_sections(found)] == [
        "The contest of shapes",
        "The circle and its best rival",
        "Words by layer",
    ]
    rows = tuple(dataclasses.replace(row, word="", shapes=()) for row in found.sites)
    old = dataclasses.replace(found, sites=rows)
    assert shape_sections(old) == [] and not rivals_figure(old).data
    assert not any(len(bar.x) for bar in contest_figure(old).data)  # type: ignore
