"""Names of result files: other options, another file; the same call, the same file."""

import json
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mechfourier.cli import main
from mechfourier.files import LONGEST_STEM, named_with, result_name

FAST = ["--permutations", "99", "--no-controls", "--no-cache"]


def test_kind_model_and_domain_make_the_name() -> None:
    assert result_name("probe", "gemma3-270m", "months", "value") == "probe-gemma3-270m-months-value"


def test_options_follow_and_lists_are_not_ranges() -> None:
    with named_with(
        {"layers": "0-3", "controls": False, "all_pairs": True, "k": 2, "sites": "resid_post,mlp_post"}
    ):
        name = result_name("probe", "m", "months")
    assert name == "probe-m-months-layers-0-3-no-controls-all-pairs-k-2-sites-resid_post+mlp_post"
    with named_with({"layers": "0,3"}):
        assert result_name("probe", "m", "months") == "probe-m-months-layers-0+3"
    assert result_name("probe", "m", "months") == "probe-m-months"


def test_folders_of_the_same_name_differ() -> None:
    names = {result_name("probe", path, "months") for path in ("runs/a/final", "runs/b/final", "final")}
    assert len(names) == 3 and all(name.startswith("probe-final") for name in names)


@given(
    st.dictionaries(st.sampled_from(["layers", "sites", "task", "seed"]), st.text(min_size=1), max_size=4),
    st.text(min_size=1),
)
def test_names_are_safe_and_short(options: dict[str, str], model: str) -> None:
    with named_with(options):
        name = result_name("probe", model, "months")
    assert len(name.encode()) <= LONGEST_STEM
    assert not set(name) & set('/\\:*?"<>|\n\0 ') and not name.startswith(".")


@given(st.text(min_size=1), st.text(min_size=1))
def test_different_values_have_different_names(one: str, other: str) -> None:
    names = []
    for value in (one, other):
        with named_with({"task": value}):
            names.append(result_name("probe", "m", "months"))
    assert (names[0] == names[1]) is (one == other)


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    monkeypatch.setattr(sys, "argv", ["mechfourier", *arguments])
    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code in (None, 0)


def test_no_result_replaces_another(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    calls = (
        ["probe", "calendar", "--domain", "days", *FAST],
        ["probe", "calendar", "--domain", "days", "--layers", "0", *FAST],
        ["probe", "calendar", "--domain", "days", "--sites", "embed", *FAST],
        ["probe", "calendar", "--domain", "days", "--position", "last", *FAST],
        ["attention", "calendar", "--domain", "days", "--permutations", "20"],
        ["lens", "calendar", "--domain", "days", "--permutations", "20"],
    )
    for call in calls:
        run(monkeypatch, *call, "--out", str(tmp_path))
    names = sorted(path.name for path in tmp_path.glob("*.json"))
    assert len(names) == len(calls)
    assert "probe-calendar-days-value-layers-0-permutations-99-no-controls.json" in names
    assert "lens-calendar-days-permutations-20.json" in names
    run(monkeypatch, *calls[1], "--out", str(tmp_path))
    assert sorted(path.name for path in tmp_path.glob("*.json")) == names
    capsys.readouterr()
    run(monkeypatch, "report", str(tmp_path), "--out", str(tmp_path / "all.html"), "--json")
    assert json.loads(capsys.readouterr().out)["bytes"] > 0
