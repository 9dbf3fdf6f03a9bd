"""Whatever a file or a command line holds: one sentence or a result, no traceback, no code run, nothing
written outside --out.

The corpora begin with real files and are mutated by hypothesis; every input that once broke something stays
as an example.
"""

import json
import pickle
import random
import sys
from collections.abc import Iterator
from contextlib import chdir
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from command_lines import run
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from mechfourier.domains.definition import domain, list_domains, parse_domain
from mechfourier.errors import BadCheckpoint, MechFourierError, OutOfRange
from mechfourier.models.checkpoint import save_checkpoint
from mechfourier.models.registry import load
from mechfourier.probes.result import ProbeResult
from mechfourier.results.saved import read
from mechfourier.stats.analogies import analogies
from mechfourier.stats.helix import helix_fit
from mechfourier.stats.null import label_orders
from mechfourier.sweep.grid import axis, points, slug
from mechfourier.toys.one_layer.weights import OneLayerConfig, initial_weights

DOMAINS = Path(sys.modules["mechfourier"].__file__ or "").parent / "data" / "domains"
TINY = OneLayerConfig(p=7, d_model=8, n_heads=2, d_head=4, d_mlp=8)
fuzz = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25)


def mutated(content: bytes, seed: int, edits: int) -> bytes:
    """``content`` after a few random edits: bytes changed, dropped, doubled; pieces swapped; the end cut
    off."""
    rng, data = random.Random(seed), bytearray(content)
    for _ in range(edits):
        at, to = sorted(rng.randrange(len(data) + 1) for _ in range(2))
        kind = rng.randrange(5)
        if kind == 0 and data:
            data[min(at, len(data) - 1)] = rng.randrange(256)
        elif kind == 1:
            del data[at : min(to, at + 20)]
        elif kind == 2:
            data[at:at] = data[at : min(to, at + 40)]
        elif kind == 3:
            data[at:at] = rng.choice(
                [b"\x00", b"[" * 2000, b"9" * 5000, b"nan", b'"', b"{", b"../../x", b"-1", b"1e400"]
            )
        else:
            del data[at + len(data) // 2 :]
    return bytes(data)


edits = st.tuples(st.integers(0, 2**32), st.integers(1, 6))

# domains


@fuzz
@given(text=st.text(max_size=200))
@example("[" * 5000)
@example("n = " + "9" * 5000)
@example('title = "x"\nunit = "y"\nvalues = ["\\u0000"]')
def test_any_text_is_a_domain_or_one_sentence(text: str) -> None:
    with_one_sentence(lambda: parse_domain(text, name="x", where="x.toml", source="x"))


@fuzz
@given(name=st.sampled_from([d.name for d in list_domains()]), edit=edits)
def test_a_mutated_domain_is_a_domain_or_one_sentence(name: str, edit: tuple[int, int]) -> None:
    text = mutated((DOMAINS / f"{name}.toml").read_bytes(), *edit).decode("utf-8", "replace")
    found = with_one_sentence(lambda: parse_domain(text, name="x", where="x.toml", source="x"))
    if found is not None:
        assert len(found.value_design().prompts) == found.n * len(found.templates)


toml_values = st.recursive(
    st.one_of(
        st.integers(),
        st.booleans(),
        st.text(max_size=8),
        st.sampled_from(["nan", "-inf", "1e400", "1979-05-27"]),
    ),
    lambda inner: st.lists(inner, max_size=10),
    max_leaves=12,
)


@fuzz
@given(
    table=st.dictionaries(
        st.sampled_from(["title", "unit", "n", "position", "values", "templates", "operation"]), toml_values
    )
)
@example({"n": 10**30, "values": ["a", "b", "c"], "title": "t", "unit": "u", "templates": []})
def test_any_table_is_a_domain_or_one_sentence(table: dict[str, Any]) -> None:
    text = "\n".join(f"{key} = {json.dumps(value)}" for key, value in table.items())
    with_one_sentence(lambda: parse_domain(text, name="x", where="x.toml", source="x"))


@fuzz
@given(name=st.text(max_size=20))
@example("mod-" + "9" * 5000)
@example("carry-in@" + "9" * 5000)
@example("a\x00b")
@example("mod-٣")
@example("../../../etc/passwd")
def test_any_name_of_a_domain_is_known_or_one_sentence(name: str) -> None:
    with_one_sentence(lambda: domain(name))


def with_one_sentence(call: Any) -> Any:
    """The result, or None where it is refused; anything but a ``MechFourierError`` of one sentence fails the
    test."""
    try:
        return call()
    except MechFourierError as error:
        assert str(error).strip()
        return None


# results


@fuzz
@given(
    value=st.recursive(
        st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5),
        lambda x: st.lists(x, max_size=4) | st.dictionaries(st.text(max_size=5), x, max_size=4),
        max_leaves=10,
    )
)
def test_any_json_is_a_result_or_one_sentence(value: Any) -> None:
    with_one_sentence(lambda: ProbeResult.from_json(json.dumps(value)))


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    folder = tmp_path_factory.mktemp("saved")
    run_tiny(folder)
    found = call("analyze", str(folder), "--out", str(folder / "out"))
    assert found[0] == 0, found
    (path,) = (folder / "out").glob("*.json")
    return path.read_bytes()


@fuzz
@given(edit=edits)
@example((0, 0))
def test_a_mutated_result_is_read_or_one_sentence(
    tmp_path: Path, saved: bytes, edit: tuple[int, int]
) -> None:
    path = tmp_path / "result.json"
    path.write_bytes(mutated(saved, *edit))
    with_one_sentence(lambda: read(path))


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 50_000, "9" * 5000, '{"p": 1e400}', "NaN", ""])
def test_hostile_json_is_one_sentence(tmp_path: Path, text: str) -> None:
    path = tmp_path / "x.json"
    path.write_text(text)
    with pytest.raises(MechFourierError):
        read(path)
    with pytest.raises(BadCheckpoint):
        ProbeResult.from_json(text)


# checkpoints


def run_tiny(folder: Path) -> Path:
    config = {**TINY.to_dict(), "training": {"seed": 0, "split_seed": 0, "train_fraction": 0.5}}
    return save_checkpoint(folder, initial_weights(TINY, seed=0), config)


@fuzz
@given(file=st.sampled_from(["config.json", "model.safetensors"]), edit=edits)
def test_a_mutated_run_is_a_model_or_one_sentence(tmp_path: Path, file: str, edit: tuple[int, int]) -> None:
    run_tiny(tmp_path)
    (tmp_path / file).write_bytes(mutated((tmp_path / file).read_bytes(), *edit))
    with_one_sentence(lambda: load(tmp_path, device="cpu"))


hostile_values = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=5),
    st.just([]),
    st.just({}),
    st.sampled_from([10**30, 2**62, -1, 0]),
)


@fuzz
@given(key=st.sampled_from(sorted(TINY.to_dict())), value=hostile_values)
@example("d_model", 2**40)
@example("p", 10**9)
def test_a_config_with_another_value_is_a_model_or_one_sentence(tmp_path: Path, key: str, value: Any) -> None:
    run_tiny(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, key: value}))
    with_one_sentence(lambda: load(tmp_path, device="cpu"))


@pytest.mark.parametrize("change", ["shape", "dtype", "extra", "missing", "empty", "integers", "names"])
def test_tensors_that_do_not_fit_are_one_sentence(tmp_path: Path, change: str) -> None:
    run_tiny(tmp_path)
    weights = initial_weights(TINY, seed=0)
    first = next(iter(weights))
    changed: dict[str, dict[str, torch.Tensor]] = {
        "shape": {**weights, first: weights[first][:-1].contiguous()},
        "dtype": {k: v.to(torch.float16) for k, v in weights.items()},
        "extra": {**weights, "more": torch.zeros(2)},
        "missing": {k: v for k, v in weights.items() if k != first},
        "empty": {},
        "integers": {k: v.to(torch.int8) for k, v in weights.items()},
        "names": {f"../{k}": v for k, v in weights.items()},
    }
    save_file(changed[change], tmp_path / "model.safetensors")
    found = with_one_sentence(lambda: load(tmp_path, device="cpu"))
    assert found is None or change in ("dtype", "integers")


def test_a_pickle_in_place_of_weights_is_not_run(tmp_path: Path) -> None:
    run_tiny(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(pickle.dumps(Touch(tmp_path / "ran")))
    with pytest.raises(BadCheckpoint):
        load(tmp_path)
    assert not (tmp_path / "ran").exists()


class Touch:
    """Unpickling this would create a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.path,))


# sweeps


@fuzz
@given(text=st.text(max_size=30))
@example("a=" + "9" * 5000)
@example("a=0:" + "9" * 400)
@example("a=1e400")
@example("a=nan,nan")
@example("a=1:2:3:4:5")
@example("a=../../x")
def test_any_axis_is_one_or_one_sentence_and_its_points_stay_in_their_folder(text: str) -> None:
    found = with_one_sentence(lambda: axis(text))
    if found is None:
        return
    for point in points([found])[:3]:
        name = slug(point)
        assert Path(name).name == name and name not in (".", "..") and len(name.encode()) <= 255


# command lines


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Every command runs in a folder of its own, so that what it writes is seen."""
    work = tmp_path / "work"
    work.mkdir()
    with chdir(work):
        yield


def call(*arguments: str) -> tuple[int, str]:
    """Exit code and standard error of a command line, through ``main``."""
    code, _, said = run(*arguments)
    return code, said


COMMANDS = [
    "ablate",
    "analyze",
    "attention",
    "capture",
    "domains show",
    "find-plane",
    "helix",
    "hooks",
    "import",
    "lens",
    "patch",
    "probe",
    "report",
    "rotate",
    "sae train",
    "sae eval",
    "scan",
    "study",
    "sweep",
    "sweep-accuracy",
    "train one-layer",
    "train adder",
    "train miras",
    "validate",
]
WORDS = [
    "--domain",
    "--layer",
    "--dim",
    "--site",
    "--sites",
    "--out",
    "--seed",
    "--grid",
    "--tokens",
    "--json",
    "--debugg",
    "--k",
    "--p",
    "-1",
    "0",
    "nan",
    "inf",
    "1e400",
    "9" * 30,
    "9" * 5000,
    "mod-7",
    "months",
    "../../x",
    "no such",
    "",
    "\udc80",
    "a\tb",
    "=",
    "--",
    "seed=0:2",
    "seed=../../x",
    "resid_post",
    "0-3,7",
    "blocks.0.hook_resid_post",
]


@settings(max_examples=50)
@given(
    command=st.sampled_from(COMMANDS),
    words=st.lists(st.sampled_from(WORDS) | st.text(max_size=5), max_size=5),
)
@example("domains show", ["mod-" + "9" * 5000])
@example("domains show", ["days", "--cycles", "9" * 20])
@example("train one-layer", ["--p", "9" * 20])
@example("probe", ["months", "--seed", "9" * 20])
def test_no_command_line_gives_a_traceback(command: str, words: list[str]) -> None:
    if any(word in ("--help", "-h") for word in words) or command.startswith(
        ("train", "validate", "sweep", "capture")
    ):
        words = [*words, "--out", "\x00"]  # what gets so far as to train ends there
    code, said = call(*command.split(), *words)
    assert code in (0, 1, 2), said
    assert "Traceback" not in said and "error: unexpected" not in said, said


@pytest.mark.parametrize("permutations", [-1, 0, 10**20])
def test_permutations_that_are_none_or_endless_are_refused(permutations: int) -> None:
    vectors = np.random.default_rng(0).normal(size=(12, 4))
    with pytest.raises(OutOfRange, match="permutations"):
        analogies(vectors, permutations=permutations)
    with pytest.raises(OutOfRange, match="permutations"):
        helix_fit(vectors, np.arange(12), permutations=permutations)
    with pytest.raises(OutOfRange, match="permutations"):
        label_orders(12, permutations=permutations)
