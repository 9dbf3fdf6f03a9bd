"""Checkpoints come back as they went, damage is noticed, and nothing in a file is ever run."""

import json
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import nn

from mechfourier.errors import BadCheckpoint, UnsafeCheckpoint, UsageError
from mechfourier.models.checkpoint import (
    content_hash,
    load_checkpoint,
    load_foreign_tensors,
    read_safetensors,
    save_checkpoint,
)
from mechfourier.models.folder import count_parameters, has_weights, read_header

CONFIG = {"architecture": "one-layer", "p": 113}


def tensors() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(3, 4, generator=generator)
    return {"w": weight, "w_t": weight.T, "half": weight.bfloat16(), "scalar": torch.tensor(2.5)}


class Hostile:
    """Unpickling this would create a file."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, tuple[str, str]]:
        return (open, (str(self.marker), "w"))


def test_a_checkpoint_comes_back_as_it_went(tmp_path: Path) -> None:
    folder = save_checkpoint(tmp_path / "run", tensors(), CONFIG, {"accuracy": 1.0})
    loaded, config = load_checkpoint(folder)
    assert config == CONFIG
    assert loaded.keys() == tensors().keys()
    for name, value in tensors().items():
        assert loaded[name].dtype == value.dtype
        assert torch.equal(loaded[name], value)
    assert sorted(p.name for p in folder.iterdir()) == ["config.json", "metrics.json", "model.safetensors"]
    assert count_parameters(folder) == 12 + 12 + 12 + 1
    assert has_weights(folder)


def test_saving_again_replaces_and_leaves_no_parts(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, tensors(), CONFIG)
    save_checkpoint(tmp_path, {"w": torch.zeros(2)}, CONFIG)
    assert torch.equal(load_checkpoint(tmp_path)[0]["w"], torch.zeros(2))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["config.json", "model.safetensors"]


def test_the_content_hash_knows_names_shapes_and_values_but_not_their_order() -> None:
    base = tensors()
    assert content_hash(base) == content_hash(dict(reversed(base.items())))
    assert content_hash(base) != content_hash({**base, "w": base["w"] + 1e-7})
    assert content_hash(base) != content_hash({**base, "w": base["w"].reshape(4, 3)})
    assert content_hash(base) != content_hash({("v" if k == "w" else k): v for k, v in base.items()})


@given(position=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_a_flipped_bit_is_noticed_or_harmless(
    tmp_path_factory: pytest.TempPathFactory, position: float, bit: int
) -> None:
    folder = save_checkpoint(tmp_path_factory.mktemp("flip"), tensors(), CONFIG)
    path = folder / "model.safetensors"
    raw = bytearray(path.read_bytes())
    raw[int(position * len(raw))] ^= 1 << bit
    path.write_bytes(raw)
    try:
        loaded, _ = load_checkpoint(folder)
    except BadCheckpoint as error:
        assert "\n" not in str(error)
    else:  # only the names of metadata entries can change unnoticed; the weights are the same
        assert all(torch.equal(loaded[name], value) for name, value in tensors().items())


@given(share=st.floats(0, 1, exclude_max=True))
def test_a_truncated_file_is_noticed(tmp_path_factory: pytest.TempPathFactory, share: float) -> None:
    folder = save_checkpoint(tmp_path_factory.mktemp("cut"), tensors(), CONFIG)
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(BadCheckpoint, match="truncated"):
        load_checkpoint(folder)
    with pytest.raises(BadCheckpoint, match="truncated"):
        read_header(path)


@pytest.mark.parametrize("text", ["", "{", "[1]", "nan", '"x"', "[" * 100_000, "\x00"])
def test_a_config_that_is_no_object_is_refused(tmp_path: Path, text: str) -> None:
    save_checkpoint(tmp_path, tensors(), CONFIG)
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(BadCheckpoint, match=r"config\.json"):
        load_checkpoint(tmp_path)


def test_missing_files_are_named(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, tensors(), CONFIG)
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(BadCheckpoint, match=r"no model\.safetensors"):
        load_checkpoint(tmp_path)
    (tmp_path / "model.pt").write_bytes(b"")
    with pytest.raises(UnsafeCheckpoint, match=r"model\.pt is a pickle"):
        load_checkpoint(tmp_path)
    (tmp_path / "config.json").unlink()
    with pytest.raises(BadCheckpoint, match=r"no config\.json"):
        load_checkpoint(tmp_path)


def test_a_foreign_state_dict_is_flattened(tmp_path: Path) -> None:
    weight = torch.arange(6.0).reshape(2, 3)
    nested = {"model": {"embed.W_E": nn.Parameter(weight)}, "history": [weight, {"deep": weight}], "epoch": 3}
    torch.save(nested, tmp_path / "run.pt")
    found = load_foreign_tensors(tmp_path / "run.pt")
    assert sorted(found) == ["history.0", "history.1.deep", "model.embed.W_E"]
    assert all(torch.equal(value, weight) and not value.requires_grad for value in found.values())


def test_a_foreign_safetensors_file_is_read(tmp_path: Path) -> None:
    save_file({"w": torch.ones(2)}, tmp_path / "x.safetensors")
    assert torch.equal(load_foreign_tensors(tmp_path / "x.safetensors")["w"], torch.ones(2))
    assert read_safetensors(tmp_path / "x.safetensors").keys() == {"w"}


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".bin", ".ckpt", ".pkl"])
def test_a_hostile_pickle_is_refused_and_not_run(tmp_path: Path, suffix: str) -> None:
    marker = tmp_path / "ran"
    path = tmp_path / f"model{suffix}"
    torch.save({"weights": torch.ones(2), "x": Hostile(marker)}, path)
    with pytest.raises(UnsafeCheckpoint, match=r"calls .*open.*state dict"):
        load_foreign_tensors(path)
    path.write_bytes(pickle.dumps(Hostile(marker)))
    with pytest.raises(UnsafeCheckpoint):
        load_foreign_tensors(path)
    assert not marker.exists()


def test_a_whole_pickled_module_is_refused_by_name(tmp_path: Path) -> None:
    torch.save(nn.Linear(2, 2), tmp_path / "module.pt")
    with pytest.raises(UnsafeCheckpoint, match="Linear"):
        load_foreign_tensors(tmp_path / "module.pt")


@pytest.mark.parametrize("content", [b"", b"hello there", b"PK\x03\x04"])
def test_a_damaged_foreign_file_is_said_so(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "model.pt"
    path.write_bytes(content)
    with pytest.raises(BadCheckpoint, match="truncated or no PyTorch file"):
        load_foreign_tensors(path)


def test_foreign_files_without_tensors_or_without_a_file(tmp_path: Path) -> None:
    torch.save({"epoch": 3}, tmp_path / "epoch.pt")
    with pytest.raises(BadCheckpoint, match="no tensors"):
        load_foreign_tensors(tmp_path / "epoch.pt")
    with pytest.raises(UsageError, match=r"nearest.*epoch\.pt"):
        load_foreign_tensors(tmp_path / "epoc.pt")


def test_published_checkpoints_are_read(shared_data: Path) -> None:
    found = load_foreign_tensors(shared_data / "clock-and-pizza" / "model_p99zdpze5l.pt")
    assert found["embed.W_E"].shape == (128, 59)


def test_a_header_that_lies_about_offsets_is_refused(tmp_path: Path) -> None:
    header = json.dumps({"w": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8_000_000]}}).encode()
    path = tmp_path / "model.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header + b"\0" * 8)
    for read in (read_header, read_safetensors):
        with pytest.raises(BadCheckpoint, match="truncated"):
            read(path)
    path.write_bytes((2**62).to_bytes(8, "little") + header)
    with pytest.raises(BadCheckpoint, match="truncated"):
        read_header(path)
