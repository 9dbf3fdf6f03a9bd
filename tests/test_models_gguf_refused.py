"""GGUF files that cannot be read: refused in one sentence, before memory or disk is taken."""

import importlib.util
import shutil
import struct
import subprocess
import sys
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

if importlib.util.find_spec("gguf") is None:
    pytest.skip("the package gguf is not installed: pip install 'mechfourier[gguf]'", allow_module_level=True)
import gguf as gguf_package
from tiny_gguf import random_model, write_gguf, write_tiny

from mechfourier.errors import BadCheckpoint, MechFourierError, UnknownModel
from mechfourier.models import load, packaged
from mechfourier.models.gguf import converted
from mechfourier.models.gguf_header import read_gguf_header


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny(tmp_path_factory.mktemp("gguf"))


@pytest.mark.parametrize(
    ("extra", "words"),
    [
        ({"qwen2.attention.scale": 0.5}, "attention.scale"),
        ({"qwen2.rope.scaling.type": "longrope", "qwen2.rope.scaling.factor": 2.0}, "longrope"),
        ({"qwen2.rope.dimension_count": 4}, "4 of 16 dimensions"),
        ({"blk.0.strange.weight": torch.ones(5, 7).numpy()}, "blk.0.strange.weight"),
    ],
)
def test_what_would_be_left_out_is_refused(extra: dict[str, Any], words: str, tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "a.gguf", random_model("qwen2"), "qwen2", extra=extra)
    with pytest.raises(BadCheckpoint, match=words):
        load(path)


def changed(path: Path, tmp_path: Path, place: int, data: bytes) -> Path:
    content = bytearray(path.read_bytes())
    content[place : place + len(data)] = data
    made = tmp_path / "changed.gguf"
    made.write_bytes(content)
    return made


@pytest.mark.parametrize(
    ("place", "data", "words"),
    [
        (0, b"GGML", "begins with b'GGML'"),
        (4, struct.pack("<I", 9), "version 9"),
        (4, struct.pack(">I", 3), "big-endian"),
        (8, struct.pack("<Q", 2**62), "announces 4,611,686,018,427,387,904 entries"),
        (16, struct.pack("<Q", 2**62), "announces"),
        (24, struct.pack("<Q", 2**63), "announces"),
    ],
)
def test_headers_that_lie_cost_no_memory(
    place: int, data: bytes, words: str, tiny: Path, tmp_path: Path
) -> None:
    path = changed(tiny, tmp_path, place, data)
    tracemalloc.start()
    with pytest.raises(BadCheckpoint, match=words) as caught:
        load(path)
    assert tracemalloc.get_traced_memory()[1] < 5e6
    tracemalloc.stop()
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 400


@pytest.mark.parametrize("share", [0.0, 0.0001, 0.3, 0.999])
def test_a_file_cut_short(share: float, tiny: Path, tmp_path: Path) -> None:
    content = tiny.read_bytes()
    (tmp_path / "cut.gguf").write_bytes(content[: int(share * len(content))])
    with pytest.raises(BadCheckpoint, match="truncated or no GGUF file"):
        load(tmp_path / "cut.gguf")


@settings(max_examples=200)
@given(data=st.data())
def test_no_header_is_believed(data: st.DataObject, tiny: Path) -> None:
    """Any bytes changed anywhere in the header: a header or a sentence, never another exception and never
    much memory."""
    content = bytearray(tiny.read_bytes()[:9000])
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(content) - 9))
        piece = data.draw(
            st.sampled_from(
                [b"\xff" * 8, b"\x00" * 8, struct.pack("<Q", 2**40), b"\x08\x00\x00\x00", b"\x09"]
            )
        )
        content[place : place + len(piece)] = piece
    made = tiny.parent / "fuzzed.gguf"
    made.write_bytes(content)
    tracemalloc.start()
    try:
        read_gguf_header(made)
    except MechFourierError as error:
        assert "\n" not in str(error)
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 20e6


@pytest.mark.parametrize(
    ("extra", "words"),
    [
        ({"general.type": "mmproj"}, "vision part"),
        ({"general.type": "adapter"}, "adapter"),
        ({"split.count": 3}, "one of 3 split files"),
    ],
)
def test_parts_of_models_are_named(extra: dict[str, Any], words: str, tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "a.gguf", random_model("qwen2"), "qwen2", extra=extra)
    with pytest.raises(UnknownModel, match=words):
        load(path)


def test_an_unknown_architecture_and_the_nearest(tiny: Path, tmp_path: Path) -> None:
    writer = gguf_package.GGUFWriter(tmp_path / "a.gguf", "qwen9")
    writer.add_tensor("token_embd.weight", torch.ones(4, 4).numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises(UnknownModel, match=r"'qwen9', which transformers cannot read.*qwen"):
        load(tmp_path / "a.gguf")


def test_without_the_package_gguf(tiny: Path) -> None:
    code = f"""
import sys
sys.modules["gguf"] = None
sys.argv = ["mechfourier", "probe", {str(tiny)!r}, "--domain", "months"]
from mechfourier.cli import main
sys.exit(main())
"""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=False
    )
    assert (
        done.stderr.strip()
        == "error: 'gguf' is not installed; install it with: pip install 'mechfourier[gguf]'"
    )


def test_a_cache_that_cannot_be_written(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("MECHFOURIER_CACHE", str(tmp_path / "file"))
    with pytest.raises(MechFourierError, match=r"cannot write .*file") as caught:
        load(tiny)
    assert "\n" not in str(caught.value)


def test_a_disk_without_room_is_said_before(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(tiny.parent)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1000))
    with pytest.raises(
        MechFourierError, match=r"tiny takes \d+ kB in float32 and the disk of .* has 1 kB left"
    ):
        load(tiny)
    assert converted(packaged.sha256_of(tiny)) is None
