"""Saved results: every kind is found by its name, old files are read, what is not known is kept, another
package's class is drawn."""

import dataclasses
import importlib
import json
import pkgutil
import sys
from pathlib import Path
from typing import Any

import pytest

import mechfourier
from mechfourier.errors import BadCheckpoint, MechFourierError, UsageError
from mechfourier.figures.report import report, write_result
from mechfourier.results.base import Result
from mechfourier.results.kinds import class_of, load, modules
from mechfourier.results.saved import read

OLD = sorted((Path(__file__).parent / "data" / "results-0.1").glob("*.json"))


@dataclasses.dataclass(frozen=True)
class Inner:
    value: float


@dataclasses.dataclass(frozen=True)
class Tide(Result, kind="test-tide", schema=2, renamed={"heights": "levels"}):
    place: str
    levels: tuple[float, ...]
    parts: tuple[Inner, ...] = ()
    earlier: "Tide | None" = None

    def __str__(self) -> str:
        return f"tide at {self.place}"


def _subclasses(of: type) -> set[type]:
    return {each for cls in of.__subclasses__() for each in (cls, *_subclasses(cls))}


def test_every_result_of_the_package_has_a_kind_and_what_draws_it_exists() -> None:
    for module in pkgutil.walk_packages(mechfourier.__path__, "mechfourier."):
        if module.name.rsplit(".", 1)[-1] != "__main__":
            importlib.import_module(module.name)
    ours = {cls for cls in _subclasses(Result) if cls.__module__.startswith("mechfourier.")}
    ours = {
        cls for cls in ours if "__dataclass_fields__" in vars(cls)
    }  # what has no fields of its own is a base
    assert {class_of(kind) for kind in modules()} == ours
    for cls in ours:
        assert callable(load(cls.about.part)) and (not cls.about.figure or callable(load(cls.about.figure)))  # type: ignore[attr-defined]


def test_a_file_says_its_kind_and_schema_and_is_read_by_them(tmp_path: Path) -> None:
    tide = Tide("pier", (1.0, 2.0), (Inner(0.5),), Tide("quay", (0.0,)))
    path = tide.save(tmp_path / "tide.json")
    values = json.loads(path.read_text())
    assert (values["kind"], values["schema"], values["earlier"]["kind"]) == ("test-tide", 2, "test-tide")
    assert read(path).result == tide and "command" in read(path).provenance


def test_an_older_schema_is_migrated_at_every_depth() -> None:
    old = {"place": "pier", "heights": [1.0], "earlier": {"place": "quay", "heights": [2.0]}}
    expected = Tide("pier", (1.0,), (), Tide("quay", (2.0,)))
    assert Tide.from_dict(old) == expected
    assert Tide.from_dict({"kind": "test-tide", "schema": 1, **old}) == expected


def test_fields_that_are_not_known_are_kept_said_and_written_back(tmp_path: Path) -> None:
    tide = Tide("pier", (1.0,), (Inner(0.5), Inner(0.6)), Tide("quay", (0.0,)))
    values = tide.to_dict() | {"moon": {"phase": 0.25}, "unknown": "a name like any other"}
    values["parts"][1]["sigma"] = 0.1
    values["earlier"]["moon"] = None
    path = tmp_path / "tide.json"
    path.write_text(json.dumps(values))
    found = read(path).result
    assert isinstance(found, Tide) and found.to_dict() == values
    assert (
        "the file also holds moon, unknown, parts, earlier" in str(found) and str(found).count("note:") == 1
    )
    assert "moon" in report([path])
    assert dataclasses.replace(found, parts=(Inner(0.5),)).to_dict()["moon"] == {"phase": 0.25}


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"levels": None}, BadCheckpoint, "null is no"),
        ({"kind": "test-ebb"}, UsageError, "kind 'test-ebb', which nothing installed defines"),
        ({"schema": 3, "levels": ...}, BadCheckpoint, "it lacks levels .*newer version wrote it: schema 3"),
        ({"schema": "2"}, BadCheckpoint, "its kind is"),
        ({"earlier": {"kind": "probe", "schema": 1}}, BadCheckpoint, "its kind is 'probe'"),
    ],
)
def test_what_cannot_be_read_is_one_sentence(
    tmp_path: Path, change: dict[str, object], error: type[MechFourierError], words: str
) -> None:
    values = {k: v for k, v in (Tide("pier", (1.0,)).to_dict() | change).items() if v is not ...}
    (tmp_path / "tide.json").write_text(json.dumps(values))
    with pytest.raises(error, match=words) as caught:
        read(tmp_path / "tide.json")
    assert "\n" not in str(caught.value)


def test_two_classes_cannot_have_one_kind() -> None:
    with pytest.raises(MechFourierError, match="two classes of results call themselves 'test-tide'"):

        class Other(Result, kind="test-tide"):
            pass


@pytest.mark.parametrize("path", OLD, ids=lambda path: path.stem)
def test_files_of_version_0_1_are_read_and_drawn(path: Path, tmp_path: Path) -> None:
    """Written by version 0.1 on the packaged model ``calendar``."""
    values = json.loads(path.read_text())
    assert "kind" not in values and "schema" not in values
    found = read(path).result
    assert isinstance(found, Result) and not found.unknown
    assert read(found.save(tmp_path / "again.json")).result.to_json() == found.to_json()  # type: ignore[union-attr]
    assert found.about.name.replace("-", " ").split()[0] in report([path]).lower()


def test_files_of_version_0_1_are_there() -> None:
    assert len(OLD) >= 6


@pytest.mark.parametrize(("kind", "field"), [("adder-analysis", "architecture"), ("sweep", "experiment")])
def test_the_field_that_was_called_kind_has_its_new_name(kind: str, field: str) -> None:
    old = {"kind": "of version 0.1", "seed": 0}
    assert class_of(kind).migrate(old, 1) == {field: "of version 0.1", "seed": 0}
    assert class_of(kind).migrate({field: "a"}, 2) == {field: "a"}


PACKAGE = """
import dataclasses, pandas as pd, plotly.graph_objects as go
from mechfourier.results import Result

@dataclasses.dataclass(frozen=True)
class Ebb(Result, kind="ebb", figure="ebbs:figure"):
    model: str
    levels: tuple[float, ...]

    def frame(self):
        return pd.DataFrame({"level": self.levels})

def figure(result):
    return go.Figure(go.Scatter(y=result.levels))
"""


def test_a_result_of_another_package_is_one_class_and_one_figure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What CONTRIBUTING says under "Add a result": the package is installed, and nothing of it is imported
    before the file is read."""
    (tmp_path / "ebbs.py").write_text(PACKAGE)
    info = tmp_path / "ebbs-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: ebbs\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[mechfourier.results]\nebb = ebbs:Ebb\n")
    monkeypatch.syspath_prepend(tmp_path)
    values = {"kind": "ebb", "schema": 1, "model": "<b>sea</b>", "levels": [1.0, 0.5]}
    (tmp_path / "ebb.json").write_text(json.dumps(values))
    assert "ebbs" not in sys.modules
    found = read(tmp_path / "ebb.json").result
    assert isinstance(found, Result) and list(found.plot().data[0].y) == [1.0, 0.5]
    page = report([tmp_path / "ebb.json"])
    assert "<h2>Figure</h2>" in page and "<h2>Numbers</h2>" in page and "<b>sea</b>" not in page
    assert write_result(found, tmp_path / "out").suffix == ".html"


@pytest.fixture(scope="module")
def saved_probe() -> dict[str, Any]:
    result = mechfourier.probe(
        mechfourier.load("calendar"), "days", sites="resid_post", n_permutations=99, controls=False
    )
    return json.loads(result.to_json())


def test_texts_of_a_file_move_no_cursor(saved_probe: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text(json.dumps({**saved_probe, "model": "a\x1b[31m\u202eb"}), encoding="utf-8")
    told = str(mechfourier.load_result(path))
    assert "\\x1b[31m\\u202eb" in told and "\x1b" not in told and "\u202e" not in told


def test_values_that_do_not_belong_together_are_said_when_a_file_is_read(tmp_path: Path) -> None:
    @dataclasses.dataclass(frozen=True)
    class Ebb(Result, kind="test-ebb"):
        levels: tuple[float, ...]

        def __str__(self) -> str:
            return f"lowest {self.levels[0]}"

    path = Ebb((1.0,)).save(tmp_path / "ebb.json")
    assert str(mechfourier.load_result(path)) == "lowest 1.0"
    path.write_text(path.read_text().replace("1.0", ""))
    with pytest.raises(
        BadCheckpoint, match=r"ebb.json holds values that do not belong together \(IndexError"
    ):
        mechfourier.load_result(path)


def test_a_link_to_nothing_and_a_folder_are_no_results(tmp_path: Path) -> None:
    (tmp_path / "folder.json").mkdir()
    (tmp_path / "link.json").symlink_to(tmp_path / "nothing")
    for name in ("folder.json", "link.json"):
        with pytest.raises(MechFourierError, match=name):
            mechfourier.load_result(tmp_path / name)
