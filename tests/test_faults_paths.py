"""Names and manifests from anybody: nothing is written outside the folder given, and no manifest says what is
read elsewhere."""

import json
import os
import time
from collections.abc import Iterator
from contextlib import chdir
from pathlib import Path

import pytest
import torch
from command_lines import run
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from test_faults_fuzz import call, run_tiny

from mechfourier.errors import BadCheckpoint, MechFourierError, UnknownModel, UsageError
from mechfourier.files import keep_inside, slug, write_files_with, write_text
from mechfourier.harvest import open_harvest, verify
from mechfourier.harvest.index import DTYPES, Config, Index, Shard, file_checksum
from mechfourier.models.catalogue import cached_folders
from mechfourier.models.folder import INDEX, weight_files
from mechfourier.models.registry import resolve
from mechfourier.results.saved import read
from mechfourier.sae.load import load_sae
from mechfourier.sweep.grid import slug as point_slug
from mechfourier.sweep.run import TABLE, Sweep
from mechfourier.training.run_folder import RunFolder

fuzz = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)
HOSTILE = [
    "../../x",
    "..",
    ".",
    "",
    "/tmp/x",
    "a/../../x",
    "~/x",
    "x" * 300,
    "é" * 200,
    "\x00",
    "\udc80",
    "-rf",
    "a\\..\\b",
    "\n",
    "𝔘" * 90,
]
names = st.sampled_from(HOSTILE) | st.text(max_size=40)


def snapshot(folder: Path) -> dict[str, tuple[int, int]]:
    """Every file and folder below, with the time of its last change and its size."""
    found = {}
    for path in sorted(folder.rglob("*")):
        status = path.lstat()
        found[str(path.relative_to(folder))] = (status.st_mtime_ns, status.st_size)
    return found


@pytest.fixture()
def ground(tmp_path: Path) -> Iterator[Path]:
    """A working folder deep inside others, all of which must stay as they are but for ``out`` and the
    defaults of commands in it."""
    work = tmp_path / "a" / "b" / "work"
    work.mkdir(parents=True)
    (tmp_path / "a" / "precious").write_text("text")
    with chdir(work):
        yield tmp_path


def outside(ground: Path) -> dict[str, tuple[int, int]]:
    """The surroundings of the working folder (whose own time changes where something is made in it)."""
    work = "a/b/work"
    return {name: mark for name, mark in snapshot(ground).items() if not name.startswith((work, "cache"))}


@fuzz
@given(text=names)
def test_a_slug_is_one_short_name(text: str) -> None:
    for name in (slug(text), point_slug({"seed": text})):
        assert Path(name).name == name and name not in (".", "..") and "\x00" not in name
        assert len(name.encode()) <= 130
    assert len(slug(text).encode()) <= 70


def test_long_names_stay_apart() -> None:
    assert slug("x" * 300) != slug("x" * 301)
    assert slug("/a/b/Months") == "months" and slug("runs/one/") == "one"


@fuzz
@given(name=names)
def test_an_index_of_weights_names_files_of_its_folder_only(tmp_path: Path, name: str) -> None:
    (tmp_path / "model").mkdir(exist_ok=True)
    save_file({"w": torch.zeros(1)}, tmp_path / "x.safetensors")
    (tmp_path / "model" / INDEX).write_text(json.dumps({"weight_map": {"w": name}}))
    try:
        found = weight_files(tmp_path / "model")
    except MechFourierError:
        return
    assert all(path.parent == tmp_path / "model" for path in found)


@pytest.mark.parametrize("value", [None, 1, ["x"], {"a": 1}, "../x.safetensors"])
def test_an_index_of_weights_that_names_no_file_is_one_sentence(tmp_path: Path, value: object) -> None:
    (tmp_path / INDEX).write_text(json.dumps({"weight_map": {"v": "a.safetensors", "w": value}}))
    with pytest.raises(BadCheckpoint):
        weight_files(tmp_path)


@pytest.mark.parametrize("name", ["a/..", "a/.", "../x", "a/...", "/none", "a/b/../../.."])
def test_a_name_of_the_hub_never_leads_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    run_tiny(tmp_path)
    (tmp_path / "models").mkdir()
    (tmp_path / "away").mkdir()
    monkeypatch.setenv("MECHFOURIER_MODELS", str(tmp_path / "models"))
    monkeypatch.chdir(tmp_path / "away")
    with pytest.raises(UnknownModel):
        resolve(name)


def test_the_branch_of_a_cache_names_one_of_its_snapshots(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    root = tmp_path / "models--org--name"
    (root / "refs").mkdir(parents=True)
    for name in ("aaa", "bbb"):
        (root / "snapshots" / name).mkdir(parents=True)
    for text, first in (("bbb\n", "bbb"), ("../../../elsewhere", "aaa"), (str(tmp_path), "aaa")):
        (root / "refs" / "main").write_text(text)
        found = cached_folders("org/name")
        assert found[0].name == first and {path.parent for path in found} == {root / "snapshots"}


@pytest.mark.parametrize("name", ["a/b:../../x", "a/b:/etc", "../x:y", "a/..:y", "a/b:c/../d"])
def test_a_release_of_dictionaries_never_leads_up(name: str) -> None:
    with pytest.raises(UsageError, match="is no release"):
        load_sae(name)


def harvest(folder: Path, file: str) -> None:
    """A harvest of one whole shard, whose index says it is in ``file``."""
    folder.mkdir(exist_ok=True)
    path = folder / "shard-000000.safetensors"
    rows = torch.arange(4)
    save_file(
        {"hook_embed": rows.float()[:, None], "token": rows.int(), "document": rows, "position": rows.int()},
        path,
    )
    config = Config("m", "w", "t", {"name": "own"}, {}, ("hook_embed",), (1,), "float32", 0, 4)
    assert config.dtype in DTYPES
    shard = Shard(0, file, 4, path.stat().st_size, file_checksum(path), "")
    Index(config, 4, True, {0: shard}).write(folder)


def test_an_index_that_names_another_file_is_not_followed(tmp_path: Path) -> None:
    harvest(tmp_path / "good", "shard-000000.safetensors")
    assert open_harvest(tmp_path / "good").site("hook_embed")[0].shape == (4, 1)
    for file in (
        "../good/shard-000000.safetensors",
        str(tmp_path / "good" / "shard-000000.safetensors"),
        "x",
    ):
        harvest(tmp_path / "bad", file)
        for check in (open_harvest, verify):
            with pytest.raises(BadCheckpoint, match="no shard's name"):
                check(tmp_path / "bad")


def test_a_sweep_read_back_takes_its_table_from_beside_it(tmp_path: Path) -> None:
    import pandas as pd

    for name in ("sweep", "secret"):
        (tmp_path / name).mkdir()
        pd.DataFrame({"seed": [name]}).to_parquet(tmp_path / name / TABLE)
    (tmp_path / "work").mkdir()

    def read_back(saved: Path, folder: str) -> str:
        Sweep("one-layer", ("seed",), folder, 1, 0, 0, 1.0).save(saved)
        result = read(saved).result
        assert isinstance(result, Sweep)
        return str(result.frame()["seed"][0])

    with chdir(tmp_path / "work"):
        assert read_back(tmp_path / "sweep" / "x.json", "/nowhere") == "sweep"
        assert read_back(tmp_path / "x.json", "sweep") == "sweep"
        for folder in ("../secret", str(tmp_path / "secret"), "nowhere"):
            with pytest.raises(BadCheckpoint, match="neither here nor beside it"):
                read_back(Path("x.json"), folder)
    (tmp_path / "sweep" / TABLE).write_bytes(b"PAR1")
    with pytest.raises(BadCheckpoint, match="cannot be read"):
        read_back(tmp_path / "sweep" / "x.json", "sweep")


# links


def test_a_link_in_the_way_of_a_file_is_replaced_not_followed(tmp_path: Path) -> None:
    precious, out = tmp_path / "precious", tmp_path / "out"
    precious.write_text("text")
    out.mkdir()
    for name in ("a.txt", "b.txt"):
        (out / name).symlink_to(precious)
    write_text(out / "a.txt", "new")
    write_files_with(out, lambda scratch: (Path(scratch) / "b.txt").write_text("new"))
    assert precious.read_text() == "text"
    assert [(out / n).read_text() for n in ("a.txt", "b.txt")] == ["new", "new"]


def test_a_folder_that_leads_out_is_refused_and_one_that_stays_is_not(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / ".tmpABCDEF").write_text("theirs")
    run = tmp_path / "run"
    (run / "inner").mkdir(parents=True)
    (run / "checkpoints").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(MechFourierError, match=r"leads out of .*nothing is written"), RunFolder(run).owned():
        pass
    assert (tmp_path / "elsewhere" / ".tmpABCDEF").exists()
    (run / "checkpoints").unlink()
    (run / "checkpoints").symlink_to("inner")
    with RunFolder(run).owned():
        keep_inside(run, "none", "checkpoints")


def test_a_sweep_writes_through_no_link(tmp_path: Path) -> None:
    from mechfourier.sweep.grid import axis
    from mechfourier.sweep.run import sweep

    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "precious").write_text("text")
    folder = tmp_path / "sweep"
    (folder / "runs").mkdir(parents=True)
    run = folder / "runs" / "seed=0"
    run.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(MechFourierError, match="leads out of"):
        sweep("one-layer", [axis("seed=0")], folder, fixed={"p": 1}, jobs=1)
    assert not list((tmp_path / "elsewhere").iterdir())
    run.unlink()
    run.mkdir()
    (run / ".running").symlink_to(tmp_path / "precious")
    assert sweep("one-layer", [axis("seed=0")], folder, fixed={"p": 1}, jobs=1).failed == 1
    assert (tmp_path / "precious").read_text() == "text"


# command lines

REFUSED = [
    ["train", "one-layer", "--recipe", "../../../x"],
    ["train", "one-layer", "--task", "../../../x"],
    ["train", "adder", "--recipe", "../../../x"],
    ["train", "miras", "--form", "../../../x"],
    ["train", "miras", "--moduli", "../../../x"],
    ["train", "miras", "--loss", "../../../x"],
    ["sweep", "../../../x", "--grid", "seed=0:2"],
    ["animate", "one-layer", "--what", "../../../x"],
    ["reproduce", "../../../x"],
    ["probe", "one-layer", "--domain", "../../../x"],
    ["ablate", "one-layer", "--site", "../../../x", "--dim", "1"],
    ["sae", "train", "one-layer", "--site", "../../../x"],
    ["sae", "train", "one-layer", "--site", "hook_embed", "--architecture", "../../../x"],
    ["sae", "eval", "a/b:../../../x"],
    ["capture", "one-layer", "--sites", "../../../x"],
    ["capture", "one-layer", "--dataset", "../../../precious:x:y"],
    ["import", "../../precious", "--out", "out"],
    ["report", "../../precious"],
    ["analyze", "../../precious"],
]


@pytest.mark.parametrize("words", REFUSED, ids=" ".join)
def test_a_hostile_name_is_refused_and_leaves_no_trace(ground: Path, words: list[str]) -> None:
    before = snapshot(ground)
    code, said = call(*words)
    assert code in (1, 2) and "Traceback" not in said and "unexpected" not in said, said
    cache = {name for name in snapshot(ground) if name.startswith("cache")}
    assert {n: m for n, m in snapshot(ground).items() if n not in cache} == before


DOMAIN = """
title = "x"
unit = "steps"
values = ["0", "1", "2", "3", "4", "5", "6"]
position = "last"
templates = ["{value} + 0 mod 7 =", "{value} + 1 mod 7 =", "{value} + 2 mod 7 =", "{value} + 3 mod 7 =", "{value} + 4 mod 7 =",
             "{value} + 5 mod 7 =", "{value} + 6 mod 7 =", "0 + {value} mod 7 ="]
[operation]
templates = ["{value} + {offset} mod 7 ="]
"""


@pytest.mark.parametrize("name", ["..", "-rf", "a b", "ü" * 100, "x" * 200, "a%2f..%2fb"], ids=range(6))
def test_whatever_a_model_and_a_domain_are_called_their_results_lie_in_out(ground: Path, name: str) -> None:
    model = ground / "models" / name if name != ".." else ground / "models" / "x" / ".."
    (ground / "models" / "x").mkdir(parents=True)
    run_tiny(model)
    file = ground / f"{name}.toml"
    file.write_text(DOMAIN)
    before = outside(ground)
    for words in (
        ["lens", "--permutations", "20"],
        ["attention", "--permutations", "20"],
        ["attribution"],
        ["analogies", "--permutations", "20"],
    ):
        command, *options = words
        code, said = call(command, str(model), "--domain", str(file), *options, "--out", "out")
        assert code == 0, said
    written = [path for path in Path().rglob("*") if path.is_file() and not path.name.startswith("plotly-")]
    assert (
        len(written) == 5
        and len({path.stem for path in written}) == 4
        and {path.parent for path in written} == {Path("out")}
    )
    assert outside(ground) == before


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(model=names, domain=names)
@example("../../../x", "../../../y")
@example("../../x", "\udc80")
def test_a_result_with_hostile_names_is_a_page_in_out(ground: Path, model: str, domain: str) -> None:
    from mechfourier.reproduce.result import Reproduction

    saved = Path("saved.json")
    if (ground / "a" / "b" / "work") != Path.cwd():
        os.chdir(ground / "a" / "b" / "work")
    hostile = {
        "experiment": model,
        "title": domain,
        "model": model,
        "weights": domain,
        "settings": {domain: model},
        "claims": [],
        "command": model,
        "seconds": 1.0,
        "provenance": {"command": domain, "versions": {model: domain}, "machine": {}},
    }
    saved.write_text(json.dumps(hostile))
    if "\udc80" in (model, domain):  # half a character is no text
        with pytest.raises(BadCheckpoint, match="surrogates not allowed"):
            read(saved)
    else:
        assert isinstance(read(saved).result, Reproduction)
    before = outside(ground)
    code, said = call("report", "saved.json", "--out", "out/page.html")
    assert code in (0, 1, 2) and "Traceback" not in said and "unexpected" not in said, said
    assert outside(ground) == before
    assert {p.name for p in Path().iterdir()} <= {"saved.json", "out"}


@pytest.mark.parametrize("command", ["probe", "hooks", "analyze", "study", "atlas", "animate"])
def test_a_pipe_as_a_model_is_not_read(tmp_path: Path, command: str) -> None:
    os.mkfifo(tmp_path / "model.gguf")
    code, _, err = run(command, str(tmp_path / "model.gguf"))
    assert code == 2 and "is a pipe or a device" in err


@pytest.mark.parametrize(
    "command", ["probe calendar", "atlas calendar --quick", "reproduce --model calendar"]
)
@pytest.mark.parametrize("out", ["a file", "/dev/null", "/proc/x"])
def test_an_out_that_is_no_folder_is_said_before_work(tmp_path: Path, command: str, out: str) -> None:
    (tmp_path / "a file").write_text("mine")
    place = out if out.startswith("/") else str(tmp_path / out)
    began = time.monotonic()
    code, _, err = run(*command.split(), "--out", place)
    assert code in (1, 2) and err.startswith("error: ") and time.monotonic() - began < 5
    assert (tmp_path / "a file").read_text() == "mine"


def test_text_that_turns_the_direction_of_writing_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('title = "\u202egnp"\n', encoding="utf-8")
    code, out, err = run("domains", "show", str(path))
    assert code == 2 and "holds a control character" in err and "\u202e" not in out + err


def test_ten_thousand_values_are_counted_before_they_are_made(tmp_path: Path) -> None:
    values = ", ".join(f'"{i}"' for i in range(10_000))
    templates = ", ".join(f'"{i} is {{value}}"' for i in range(8))
    text = f'title = "t"\nunit = "u"\nvalues = [{values}]\ntemplates = [{templates}]\n'
    (tmp_path / "many.toml").write_text(text + '[operation]\ntemplates = ["{value} + {offset} ="]\n')
    began = time.monotonic()
    code, _, err = run("domains", "show", str(tmp_path / "many.toml"))
    assert code == 2 and "400,000,000 prompts" in err and time.monotonic() - began < 5
