"""The targets of tools/fuzz.py on what they begin with, on changes of one value, and on every input that once
broke something."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mechfourier.errors import BadCheckpoint, OutOfRange, UnknownModel, UsageError
from mechfourier.models.registry import load
from mechfourier.models.sizes import MOST_LAYERS
from mechfourier.probes.result import ProbeResult
from mechfourier.results.kinds import class_of, modules
from mechfourier.results.saved import read
from mechfourier.sweep.run import Sweep
from mechfourier.toys.adder.config import AdderConfig
from mechfourier.toys.one_layer.weights import OneLayerConfig
from mechfourier.toys.universal.config import ExtrapolatingConfig, FaithfulConfig

TOOLS = Path(__file__).resolve().parents[1] / "tools"
TARGETS = ("domain", "axis", "result", "config", "weights", "harvest-index")
quick = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)


def _tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("fuzz", TOOLS / "fuzz.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


fuzz = _tool()
inputs = sys.modules["fuzz_inputs"]


def test_these_are_all_targets() -> None:
    assert set(TARGETS) == set(fuzz.TARGETS)


@pytest.mark.parametrize("name", ["domain", "axis", "config", "weights", "harvest-index"])
def test_what_the_search_begins_with_is_read(tmp_path: Path, name: str) -> None:
    """The last seed of ``weights`` is cut short."""
    target = fuzz.TARGETS[name]
    read = [target.run(seed, tmp_path) for seed in target.seeds()]
    assert len(read) >= (1 if name == "harvest-index" else 4)
    whole = read[:-1] if name == "weights" else read
    assert all(each is not None for each in whole)
    if name == "weights":
        assert [each[0][1] is not None for each in read] == [True, True, True, False]


def test_the_search_begins_with_a_result_of_every_kind(tmp_path: Path) -> None:
    opened = [fuzz.result(seed, tmp_path) for seed in inputs.result_seeds()]
    classes = {type(each.result) for each in opened if each is not None and not isinstance(each.result, dict)}
    assert classes == {class_of(kind) for kind in modules()} - {Sweep}  # a sweep needs its table beside it


@quick
@given(name=st.sampled_from(TARGETS), number=st.integers(0, 40), seed=st.integers(0, 2**32))
def test_a_seed_with_one_value_changed_is_read_or_one_sentence(
    tmp_path: Path, name: str, number: int, seed: int
) -> None:
    target = fuzz.TARGETS[name]
    seeds = target.seeds()
    data = seeds[number % len(seeds)]
    target.run(inputs.altered(data, seed) or data[: seed % (len(data) + 1)], tmp_path)


@pytest.mark.parametrize("name", ["domain", "result", "config", "weights", "harvest-index"])
def test_changes_are_of_one_value_and_still_parse(name: str) -> None:
    seed = fuzz.TARGETS[name].seeds()[0]
    changed = [inputs.altered(seed, n) for n in range(20)]
    assert changed == [inputs.altered(seed, n) for n in range(20)]
    assert len(set(changed)) > 10 and None not in changed
    assert all(inputs.altered(each, 0) is not None for each in changed[:5] if name != "domain")


def test_what_holds_no_values_is_not_changed() -> None:
    assert inputs.altered(b"\xff{", 0) is None


def test_a_target_lets_a_finding_through() -> None:
    with pytest.raises(ZeroDivisionError):
        fuzz.allowed(lambda: 1 // 0)
    with pytest.raises(ValueError, match="without a sentence"):
        fuzz.allowed(lambda: (_ for _ in ()).throw(BadCheckpoint(" ")))


def test_without_atheris_it_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "atheris", None)
    with pytest.raises(SystemExit, match=r"mechfourier\[fuzz\]"):
        fuzz.search("axis", 1, tmp_path)


@pytest.mark.skipif(importlib.util.find_spec("atheris") is None, reason="needs Atheris: the extra fuzz")
def test_the_search_itself_runs(tmp_path: Path) -> None:
    command = [sys.executable, str(TOOLS / "fuzz.py"), "axis", "--seconds", "1"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "Done " in done.stderr
    assert list(tmp_path.iterdir()) == []


# what was found


def in_folder(folder: Path, model: str, **changes: Any) -> Path:
    config, weights = inputs.tiny_models()[model]
    (folder / "config.json").write_text(json.dumps({**json.loads(config), **changes}))
    (folder / "model.safetensors").write_bytes(weights)
    return folder


@pytest.mark.parametrize("architecture", [{}, [], 1, True])
def test_an_architecture_that_is_no_name(tmp_path: Path, architecture: Any) -> None:
    with pytest.raises(UnknownModel, match="architecture"):
        load(in_folder(tmp_path, "one-layer", architecture=architecture), device="cpu")


@pytest.mark.parametrize("kind", [{}, []])
def test_a_kind_that_is_no_name(tmp_path: Path, kind: Any) -> None:
    with pytest.raises(UsageError, match="no kind"):
        load(in_folder(tmp_path, "faithful", kind=kind), device="cpu")


@pytest.mark.parametrize("layers", [10**30, MOST_LAYERS + 1])
@pytest.mark.parametrize("kind", ["adder", "miras", "faithful"])
def test_layers_without_end_are_refused_before_they_are_listed(
    tmp_path: Path, kind: str, layers: int
) -> None:
    with pytest.raises(OutOfRange, match="n_layers"):
        load(in_folder(tmp_path, kind, n_layers=layers), device="cpu")


@pytest.mark.parametrize(
    ("kind", "heads"),
    [("adder", "n_heads"), ("faithful", "n_heads"), ("miras", "heads"), ("one-layer", "n_heads")],
)
def test_no_heads(tmp_path: Path, kind: str, heads: str) -> None:
    with pytest.raises(OutOfRange, match=f"{heads} = 0"):
        load(in_folder(tmp_path, kind, **{heads: 0, "d_head": 0}), device="cpu")


@pytest.mark.parametrize("shape", [AdderConfig, OneLayerConfig])
def test_a_value_of_another_type_in_a_configuration(shape: Any) -> None:
    good = shape(p=7) if shape is OneLayerConfig else shape()
    assert shape.from_dict(good.to_dict()) == good
    for key, value in (("d_model", "8"), ("d_model", None), ("model_name", {}), ("d_mlp", 8.5)):
        with pytest.raises(TypeError):
            shape.from_dict({**good.to_dict(), key: value})


def test_configurations_of_every_modulus_survive_json() -> None:
    from mechfourier.toys.universal.config import config_from

    for each in (FaithfulConfig(), ExtrapolatingConfig()):
        assert config_from(json.loads(json.dumps(each.to_dict()))) == each


@pytest.mark.parametrize(
    ("place", "key", "value"),
    [
        ("shards", "rows", {}),
        ("shards", "rows", -5),
        ("shards", "file", "../x"),
        ("config", "dtype", "int3"),
        ("config", "widths", [8]),
        ("config", "sites", "ab"),
        ("", "tokens", "many"),
        ("", "complete", 1),
        ("config", "shard_rows", 0),
    ],
)
def test_an_index_with_a_right_checksum_and_a_wrong_value(
    tmp_path: Path, place: str, key: str, value: Any
) -> None:
    from mechfourier.harvest.index import INDEX, _digest, read_index

    (seed,) = inputs.harvest_index_seeds()
    values = json.loads(seed)
    values.pop("checksum")
    inside = {"": values, "config": values["config"], "shards": values["shards"][0]}[place]
    assert key in inside
    inside[key] = value
    (tmp_path / INDEX).write_text(json.dumps({**values, "checksum": _digest(values)}))
    with pytest.raises(BadCheckpoint, match="is damaged"):
        read_index(tmp_path)


def test_an_index_with_rows_beyond_any_disk_or_a_shard_twice(tmp_path: Path) -> None:
    from mechfourier.harvest.index import INDEX, _digest, read_index

    (seed,) = inputs.harvest_index_seeds()
    values = json.loads(seed)
    values.pop("checksum")
    first, second = values["shards"]
    for shards, said in (
        ([{**first, "rows": 2**63}], "more than a disk"),
        ([first, second, second], "twice"),
    ):
        changed = {**values, "shards": shards}
        (tmp_path / INDEX).write_text(json.dumps({**changed, "checksum": _digest(changed)}))
        with pytest.raises(BadCheckpoint, match=said):
            read_index(tmp_path)


def test_an_index_of_brackets_without_end(tmp_path: Path) -> None:
    from mechfourier.harvest.index import INDEX, read_index

    (tmp_path / INDEX).write_text("[" * 100_000)
    with pytest.raises(BadCheckpoint, match="is damaged"):
        read_index(tmp_path)


@pytest.mark.parametrize("half", [r"\ud800", r"\uDFFF", r"\ude00\ud83d"])
def test_half_a_character_is_refused_and_a_whole_one_kept(tmp_path: Path, half: str) -> None:
    """A page could not be written with it."""
    seed = inputs.result_seeds()[2].decode()
    path = tmp_path / "x.json"
    path.write_text(seed.replace('"x"', f'"{half}"'))
    with pytest.raises(BadCheckpoint, match="surrogates"):
        read(path)
    path.write_text(json.dumps({**json.loads(seed), "provenance": {"x": "PUT"}}).replace("PUT", half))
    with pytest.raises(BadCheckpoint, match="surrogates"):
        read(path)
    path.write_text(seed.replace('"x"', r'"\ud83d\ude00"'))
    assert "😀" in read(path).result.to_json()  # type: ignore[union-attr]


@pytest.mark.parametrize("folder", ["\x00", "x" * 5000, "a/../../b"])
def test_a_sweep_in_a_folder_that_cannot_be(tmp_path: Path, folder: str) -> None:
    seed = json.dumps({**inputs.example(Sweep), "folder": folder}).encode()
    (tmp_path / "sweep.json").write_bytes(seed)
    with pytest.raises(BadCheckpoint, match="neither here nor beside it"):
        read(tmp_path / "sweep.json")


def test_null_is_no_count() -> None:
    text = inputs.example(ProbeResult)
    count = next(key for key, value in text.items() if value == 2 and key != "schema")
    with pytest.raises(BadCheckpoint, match="null is no"):
        ProbeResult.from_json(json.dumps({**text, count: None}))
