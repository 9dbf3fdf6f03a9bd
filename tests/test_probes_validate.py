"""The planted benchmark itself: intervals, bars, JSON, the command."""

import dataclasses
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest
from typer.testing import CliRunner

from mechfourier.cli.app import app
from mechfourier.errors import OutOfRange
from mechfourier.stats.planted import OPERATIONS
from mechfourier.stats.planted_values import VALUES
from mechfourier.stats.validate import (
    Cell,
    Validation,
    full_cells,
    quick_cells,
    run_cell,
    summary,
    validate,
    wilson,
)


@given(st.integers(1, 400), st.data())
def test_wilson_is_that_of_scipy(trials: int, data: st.DataObject) -> None:
    count = data.draw(st.integers(0, trials))
    expected = binomtest(count, trials).proportion_ci(method="wilson")
    assert wilson(count, trials) == pytest.approx((expected.low, expected.high), abs=1e-6)


def test_no_trials_no_interval() -> None:
    with pytest.raises(OutOfRange):
        wilson(0, 0)
    with pytest.raises(OutOfRange):
        validate(trials=0)


def test_a_cell_is_reproducible_and_tells_words() -> None:
    cell = Cell("operation", "circle", 12)
    first = run_cell(cell, trials=3, seed=1)
    assert first == run_cell(cell, trials=3, seed=1)
    assert first.circular == 3
    assert first.words == {"circular": 3}
    assert first.planted
    assert first.passed


def test_bars() -> None:
    circle = run_cell(Cell("value", "circle", 12, 1), trials=2, seed=0)
    noise = run_cell(Cell("value", "white", 12, 1), trials=2, seed=0)
    assert not dataclasses.replace(circle, trials=100, circular=94).passed
    assert dataclasses.replace(circle, trials=100, circular=95).passed
    assert dataclasses.replace(circle, n=7, trials=100, circular=10).passed
    assert dataclasses.replace(circle, snr=0.1, trials=100, circular=10).passed
    assert dataclasses.replace(noise, trials=100, circular=5).passed
    assert not dataclasses.replace(noise, trials=100, circular=6).passed
    few = dataclasses.replace(noise, trials=20, circular=2, low=wilson(2, 20)[0], high=wilson(2, 20)[1])
    assert few.passed
    assert not dataclasses.replace(few, circular=5, low=wilson(5, 20)[0]).passed
    assert not dataclasses.replace(circle, trials=20, circular=15, high=wilson(15, 20)[1]).passed
    assert not summary([], seed=0).passed


def test_every_generator_is_in_both_selections_and_cells_are_named_once() -> None:
    for cells in (quick_cells(), full_cells()):
        assert {c.name for c in cells if c.kind == "operation"} == {g.name for g in OPERATIONS}
        assert {c.name for c in cells if c.kind == "value"} == {g.name for g in VALUES}
        assert len({c.key for c in cells}) == len(cells)
    sizes = {(c.n, c.layers, c.d_model) for c in full_cells()}
    assert {n for n, _, _ in sizes} == {7, 12, 13, 23, 24, 26}
    assert {28, 1} <= {layers for _, layers, _ in sizes}
    assert {64, 1024} <= {d for _, _, d in sizes}


def test_results_round_trip_and_have_a_frame() -> None:
    result = validate(trials=2, cells=[Cell("operation", "white", 7), Cell("value", "ramp", 12, 1)])
    assert Validation.from_json(result.to_json()) == result
    frame = result.frame()
    assert list(frame["name"]) == ["white", "ramp"]
    assert {"name", "n", "layers", "d_model", "snr", "trials", "circular", "naive"} <= set(frame.columns)


def test_the_command_prints_one_json_object(monkeypatch: pytest.MonkeyPatch) -> None:
    few = [Cell("operation", "circle", 12), Cell("operation", "helix-10", 12), Cell("value", "white", 7, 1)]
    monkeypatch.setattr("mechfourier.stats.validate.quick_cells", lambda: few)
    answer = CliRunner().invoke(app, ["validate", "--trials", "2", "--json"])
    assert answer.exit_code == 0
    told = json.loads(answer.stdout)
    assert told["passed"] is True
    assert [row["name"] for row in told["generators"]] == ["circle", "helix-10", "white"]
    assert told["generators"][1]["naive"] == 2
    people = CliRunner().invoke(app, ["validate", "--trials", "2"])
    assert "called circular" in people.stdout
    assert "passed" in people.stdout


@pytest.mark.slow
def test_the_smallest_selection_holds_its_bars() -> None:
    """Five draws of what is hardest at n = 12; the whole table is in docs/planted.md."""
    hard = (
        "circle",
        "circle-basis",
        "circle+random-sum",
        "autocorrelated",
        "smooth-8",
        "modular-16",
        "label-arc",
        "digits",
    )
    result = validate(trials=5, cells=[Cell("operation", name, 12) for name in hard])
    assert result.passed, [row.words for row in result.failures()]
