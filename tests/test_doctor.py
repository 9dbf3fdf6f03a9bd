"""The doctor: what it reports is what is there, and every problem comes with what to do."""

import json
import os
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from typer.testing import CliRunner

from mechfourier import doctor
from mechfourier.cli import app
from mechfourier.doctor import Doctor, Extra, FoundModel, Package
from mechfourier.models.catalogue import ModelInfo, find

HUB = ModelInfo(name="nowhere", title="", licence="", repo="nobody/nowhere-1b", download_bytes=2_000_000_000)


@pytest.fixture(scope="module")
def report() -> Doctor:
    return doctor.examine()


def test_it_comes_back_from_json(report: Doctor) -> None:
    assert Doctor.from_json(report.to_json()) == report


def test_the_packaged_models_are_found_where_load_finds_them(report: Doctor) -> None:
    folders = {m.name: m.folder for m in report.models}
    calendar = find("calendar")
    assert calendar is not None and folders["calendar"] == str(calendar.folder())


def test_the_table_has_everything_that_was_looked_for(report: Doctor) -> None:
    rows = report.frame().to_dict("records")
    table = {(row["what"], row["name"]): row["found"] for row in rows}
    assert len(rows) == len(report.packages) + len(report.models) + len(report.extras)
    assert table["model", "calendar"] == next(m.folder for m in report.models if m.name == "calendar")


def test_versions_are_those_of_the_imported_libraries(report: Doctor) -> None:
    import torch

    found = next(p for p in report.packages if p.name == "torch").version
    # the build after the plus may stand in the library alone
    assert found is not None and found.split("+")[0] == str(torch.__version__).split("+")[0]
    assert report.devices is not None and report.devices.threads == torch.get_num_threads()


def test_a_missing_and_an_old_package_are_problems_with_a_command() -> None:
    packages = doctor.required_packages([Requirement("no-such-package>=1"), Requirement("numpy<1")])
    assert [(p.version is None, p.fits) for p in packages] == [(True, False), (False, False)]
    first, second = doctor._package_problems(packages)
    assert "no-such-package is not installed" in first and "pip install 'no-such-package>=1'" in first
    assert second.startswith(f"numpy is {packages[1].version} and mechfourier needs <1")


def test_extras_name_what_they_lack() -> None:
    extras = {e.name: e for e in doctor.optional_extras()}
    assert {"minilm", "video", "docs"} <= set(extras)
    for extra in extras.values():
        assert extra.command == f"pip install 'mechfourier[{extra.name}]'"
        assert set(extra.missing) <= {r.name for r in doctor.requirements(extra.name)}
    assert "hypothesis" not in extras["dev"].missing  # it runs these tests


def test_an_extra_asks_for_more_than_the_package_does() -> None:
    base = {r.name for r in doctor.requirements()}
    assert "torch" in base and "torch" not in {r.name for r in doctor.requirements("minilm")}


def test_folder_bytes_counts_a_linked_file_once(tmp_path: Path) -> None:
    (tmp_path / "blobs").mkdir()
    (tmp_path / "blobs" / "a").write_bytes(b"x" * 1000)
    (tmp_path / "snapshot").symlink_to(tmp_path / "blobs" / "a")
    assert doctor.folder_bytes(tmp_path) == 1000
    assert doctor.folder_bytes(tmp_path / "nowhere") == 0


def test_a_missing_hub_model_says_where_it_would_come_from(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    (online,) = doctor.found_models([HUB])
    assert online.folder is None and online.todo is not None
    assert (
        "huggingface.co/nobody/nowhere-1b, 2 GB" in online.todo
        and "$MECHFOURIER_MODELS/nowhere" in online.todo
    )
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    (offline,) = doctor.found_models([HUB])
    assert offline.todo is not None and offline.todo.startswith("HF_HUB_OFFLINE is set")


def test_a_packaged_model_that_is_gone_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MECHFOURIER_MODELS", raising=False)
    (gone,) = doctor.found_models([ModelInfo(name="gone", title="", licence="")])
    (problem,) = doctor._model_problems([gone])
    assert "the packaged model gone is not in the package" in problem and "pip install" in problem
    assert not list(doctor._model_problems([FoundModel("qwen", None, "huggingface.co/x", "…")]))


def test_a_models_folder_that_is_not_there_is_a_problem(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MECHFOURIER_MODELS", str(tmp_path / "nowhere"))
    (problem,) = doctor._model_problems([])
    assert str(tmp_path / "nowhere") in problem


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_cache_is_a_problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tmp_path.chmod(0o500)
    monkeypatch.setenv("MECHFOURIER_CACHE", str(tmp_path / "cache"))
    problems = list(doctor._cache_problems(doctor.found_caches()))
    tmp_path.chmod(0o700)
    assert any("MECHFOURIER_CACHE" in problem for problem in problems)


def test_a_full_disk_is_a_problem() -> None:
    full = doctor.Cache("activations", "/x", 5, 10_000_000, True, "MECHFOURIER_CACHE")
    (problem,) = doctor._cache_problems([full])
    assert "10 MB left" in problem and "mechfourier cache clear" in problem


def test_a_torch_that_does_not_import_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)  # import torch raises ImportError
    devices, trouble = doctor._devices()
    assert devices is None and "torch cannot be used" in trouble[0]


@pytest.mark.parametrize(("ratio", "word"), [(3.0, "float32"), (0.5, "pays"), (1.0, "memory")])
def test_the_hint_follows_the_ratio(ratio: float, word: str) -> None:
    assert word in doctor.bfloat16_hint(ratio, "cpu")


def test_the_command_says_what_the_report_holds(report: Doctor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "examine", lambda: report)
    done = CliRunner().invoke(app, ["doctor"])
    assert done.exit_code == (0 if report.healthy else 1)
    assert f"mechfourier {report.mechfourier}" in done.stdout and "calendar" in done.stdout
    told = json.loads(CliRunner().invoke(app, ["doctor", "--json"]).stdout)
    assert told.pop("healthy") == report.healthy and told == report.to_dict()


def test_problems_end_the_report_and_fail_the_command(
    report: Doctor, monkeypatch: pytest.MonkeyPatch
) -> None:
    import dataclasses

    ill = dataclasses.replace(
        report,
        packages=(Package("torch", "1.0", ">=2", False),),
        devices=None,
        extras=(Extra("ray", "", ("ray",), "pip install 'mechfourier[ray]'"),),
        problems=("torch is 1.0",),
    )
    monkeypatch.setattr(doctor, "examine", lambda: ill)
    done = CliRunner().invoke(app, ["doctor"])
    assert done.exit_code == 1
    assert done.stdout.rstrip().endswith("1 to mend:\n  - torch is 1.0")
    assert "lacks ray; run: pip install 'mechfourier[ray]'" in done.stdout
