"""Saved results come back as what they were, and stand side by side."""

from pathlib import Path

import pytest

import mechfourier as mf


@pytest.fixture(scope="module")
def probes() -> list[mf.ProbeResult]:
    model = mf.load("calendar")
    return [mf.probe(model, name, n_permutations=99) for name in ("days", "months")]


def test_a_saved_result_comes_back(probes: list[mf.ProbeResult], tmp_path: Path) -> None:
    path = tmp_path / "probe-days.json"
    path.write_text(probes[0].to_json(), encoding="utf-8")
    assert mf.load_result(path) == probes[0]
    with pytest.raises(mf.UsageError, match=r"closest beside it: probe-days\.json"):
        mf.load_result(tmp_path / "probe-day.json")
    with pytest.raises(mf.UsageError, match=r"it holds probe-days\.json"):
        mf.load_result(tmp_path)


def test_results_side_by_side(probes: list[mf.ProbeResult], tmp_path: Path) -> None:
    path = tmp_path / "probe-months.json"
    path.write_text(probes[1].to_json(), encoding="utf-8")
    frame = mf.compare(probes[0], path)
    assert list(frame.columns) == ["calendar, days", "calendar, months", "differ"]
    assert frame.loc["n"].tolist() == [7, 12, True]
    assert frame["differ"].to_dict()["model"] is False
    assert frame.loc["verdict"].tolist()[:2] == [each.verdict for each in probes]
    assert list(mf.compare(probes[0], probes[0]).columns)[1] == "calendar, days (2)"
    assert True not in mf.compare(probes[0], probes[0])["differ"].tolist()


def test_what_cannot_be_compared_is_said(probes: list[mf.ProbeResult]) -> None:
    with pytest.raises(mf.UsageError, match="at least two"):
        mf.compare(probes[0])


def test_numbers_of_parts_stand_beside_each_other(probes: list[mf.ProbeResult]) -> None:
    frame = mf.compare(*probes)
    assert {"value.circle_p", "value.signal_p"} <= set(frame.index)
    assert not any(name.endswith(".model") for name in frame.index)
