"""What is no file of activations, or not said well enough, is one sentence; nothing in a file is run."""

import io
import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from value_arrays import planted

from mechfourier import MechFourierError, UsageError, probe_activations
from mechfourier.errors import BadCheckpoint, UnsafeCheckpoint
from mechfourier.probes.arrays import files
from mechfourier.probes.arrays.files import open_arrays

FAST: dict[str, Any] = {"n_permutations": 99}
ACTS = planted("circle", 7, d=10)[0].numpy()
DAYS = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"]


class Trap:
    """An object whose unpickling writes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.path,))


def one_sentence(error: MechFourierError) -> str:
    told = str(error)
    assert "\n" not in told and "Traceback" not in told and len(told) < 600
    return told


def test_pickles_of_every_kind_run_nothing(tmp_path: Path) -> None:
    trap = tmp_path / "sprung"
    objects = np.array([Trap(trap)], dtype=object)
    np.save(tmp_path / "objects.npy", objects)
    np.savez(tmp_path / "objects.npz", acts=objects)
    (tmp_path / "plain.pkl").write_bytes(pickle.dumps(Trap(trap)))
    (tmp_path / "plain.npy").write_bytes(pickle.dumps(Trap(trap)))
    torch.save({"acts": Trap(trap)}, tmp_path / "trap.pt")
    torch.save({"acts": Trap(trap)}, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    for name in ("objects.npy", "objects.npz", "plain.pkl", "plain.npy", "trap.pt", "old.pt"):
        with pytest.raises(UnsafeCheckpoint) as caught:
            probe_activations(tmp_path / name, "days")
        assert "refused" in one_sentence(caught.value)
    assert not trap.exists()


def test_bombs_are_not_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "BOMB_SIZE", 2**20)  # 256 MiB take long to write
    np.savez_compressed(tmp_path / "bomb.npz", acts=np.zeros((7, 8, 2**16), np.float32))
    with pytest.raises(BadCheckpoint, match="would unpack to 15 MB"):
        probe_activations(tmp_path / "bomb.npz", "days")
    one = pa.DictionaryArray.from_arrays(pa.array(np.zeros(3_000_000, np.int8)), ["Monday"])
    pq.write_table(pa.table({"day": one}), tmp_path / "bomb.parquet")
    with pytest.raises(BadCheckpoint, match="is not read"):
        probe_activations(tmp_path / "bomb.parquet", "days")


def test_a_header_that_promises_more_than_there_is(tmp_path: Path) -> None:
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        header, {"descr": "<f4", "fortran_order": False, "shape": (7, 8, 10**12)}
    )
    (tmp_path / "huge.npy").write_bytes(header.getvalue() + bytes(64))
    with zipfile.ZipFile(tmp_path / "huge.npz", "w") as archive:
        archive.writestr("acts.npy", header.getvalue() + bytes(64))
    (tmp_path / "huge.safetensors").write_bytes((2**62).to_bytes(8, "little") + b"{" + bytes(64))
    np.save(tmp_path / "cut.npy", ACTS)
    np.savez(tmp_path / "cut.npz", acts=ACTS)
    np.savez(tmp_path / "bad.npz", acts=ACTS)
    pd.DataFrame({"day": DAYS}).to_parquet(tmp_path / "cut.parquet")
    for name in ("cut.npy", "cut.npz", "cut.parquet"):
        content = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(content[: len(content) // 2])
    (tmp_path / "pointer.npz").write_text(
        "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n"
    )
    (tmp_path / "page.npy").write_text("<!DOCTYPE html><html></html>")
    for name, told in (
        ("huge.npy", "damaged"), ("huge.npz", "damaged"), ("huge.safetensors", "no safetensors file"), ("cut.npy", "damaged"),
        ("cut.npz", "damaged"), ("cut.parquet", "damaged"), ("pointer.npz", "git lfs pull"), ("page.npy", "web page"),
    ):  # fmt: skip
        with pytest.raises(BadCheckpoint, match=told) as caught:
            probe_activations(tmp_path / name, "days")
        one_sentence(caught.value)


def test_links_and_what_is_no_file(tmp_path: Path) -> None:
    (tmp_path / "dangling.npy").symlink_to(tmp_path / "gone.npy")
    os.mkfifo(tmp_path / "pipe.npy")
    (tmp_path / "zero.npy").symlink_to("/dev/zero")
    np.save(tmp_path / "real.npy", ACTS)
    (tmp_path / "good.npy").symlink_to(tmp_path / "real.npy")
    for name, told in (
        ("dangling.npy", "not there"), ("pipe.npy", "no regular file"), ("zero.npy", "no regular file"), ("reel.npy", "real.npy")
    ):  # fmt: skip
        with pytest.raises(UsageError, match=told):
            probe_activations(tmp_path / name, "days")
    assert probe_activations(tmp_path / "good.npy", "days", **FAST).verdict
    import datasets

    datasets.Dataset.from_dict({"day": DAYS, "x": ACTS[:, 0].tolist()}).save_to_disk(tmp_path / "ds")
    data = next((tmp_path / "ds").glob("*.arrow"))
    data.rename(tmp_path / "outside.arrow")
    data.symlink_to(tmp_path / "outside.arrow")
    with pytest.raises(MechFourierError, match="leads out of"):
        probe_activations(tmp_path / "ds", "days")
    with pytest.raises(UsageError, match=r"not one that datasets\.save_to_disk"):
        open_arrays(tmp_path)


@pytest.mark.parametrize(
    ("acts", "options", "told"),
    [
        (np.where(np.arange(10) == 3, np.nan, ACTS), {}, r"NaN or infinity \(value Monday, template 0, dimension 3\)"),
        (np.where(ACTS.max() == ACTS, np.inf, ACTS), {}, "wider type"),
        (ACTS.astype(int), {}, "int64, and activations are floating-point"),
        (ACTS.astype(complex), {}, "complex128 and no real numbers"),
        (ACTS[:, 0, 0], {}, "no array of two axes"),
        (ACTS[:0], {}, "has no axis of that length"),
        (ACTS[:6], {}, "has no axis of that length"),
        (ACTS.transpose(1, 0, 2), {}, "'site value d' or 'template value d'"),
        (ACTS[:, :7], {}, "several ways"),
        (ACTS, {"domain": None}, "say what it is of"),
        (ACTS, {"domain": "dais"}, "days"),
        (ACTS, {"layout": "value template d d2"}, "no axis is called 'd2'"),
        (ACTS, {"layout": "value d"}, "names 2 axes, and the array has 3"),
        (ACTS, {"layout": "value value d"}, "two axes of the kind"),
        (ACTS, {"layout": "site template d"}, "needs an axis 'd'"),
        (ACTS, {"layout": "template value d"}, "8 elements, and days has 7"),
        (ACTS.reshape(56, 10), {}, "has no axis of that length"),
        (ACTS.reshape(56, 10), {"labels": DAYS * 7}, "has no axis of that length"),
        (ACTS.reshape(56, 10), {"labels": ["Monday"] * 56}, "no row is labelled Tuesday"),
        (ACTS.reshape(56, 10), {"labels": ["Monday", "Tusday"] * 28}, "'Tusday' is no value of days; closest: Tuesday"),
        (ACTS.reshape(56, 10), {"labels": list(range(56))}, "the labels run from 0 to 55"),
        (ACTS.reshape(56, 10), {"domain": "degrees", "labels": [np.nan] * 56}, "no numbers"),
        (ACTS, {"n_permutations": 5}, "fewer than 99"),
        (ACTS, {"design": "sum"}, "one of: auto, value, operation"),
        (ACTS, {"probabilities": True}, "no answer distributions"),
        (ACTS, {"position": 3, "layout": "value pos d"}, None),
        (ACTS[..., None], {"position": 9, "layout": "value template d pos"}, "outside of the 1 positions"),
        (torch.ones(7, 8, 10).to_sparse(), {}, "sparse, nested or meta"),
        (ACTS, {"domain": None, "n": True}, "n is True .bool.; give a whole number"),
        (ACTS, {"domain": "days,months,seasons"}, "one cycle or two"),
        (pd.DataFrame(ACTS.reshape(56, 10).astype(int)).assign(day=DAYS * 8), {"labels": "day"}, "no columns of activations"),
        ({f"layer_{i}_value_{v}": ACTS[0] for i in range(7) for v in range(7)}, {"domain": "mod-7"}, "in several places"),
        ("nowhere.npz", {}, "no file of arrays at nowhere.npz"),
        ({"a": ACTS, "b": ACTS[0]}, {}, "arrays of several kinds"),
        (3.0, {}, "nothing that activations are read from"),
        ({f"acts_{day}": ACTS[0] for day in DAYS[:5]}, {}, "lack 2 of the 7 values of days: Saturday, Sunday"),
        ({f"acts_{day}": ACTS[0] for day in DAYS}, {"domain": "months"}, "is named after the values of months"),
        ({f"acts_{day}": ACTS[i, :, : i + 3] for i, day in enumerate(DAYS)}, {}, "3 to 9 dimensions"),
        (pd.DataFrame(ACTS.reshape(56, 10)), {}, "no column that must be the labels"),
        (pd.DataFrame(ACTS.reshape(56, 10)), {"labels": "day"}, "has no column 'day'"),
        (pd.DataFrame({"day": DAYS, "x": [np.zeros(i + 1) for i in range(7)]}), {}, "vectors of 1 to 7 numbers"),
    ],
)  # fmt: skip
def test_one_sentence_for_what_does_not_fit(acts: Any, options: dict[str, Any], told: str | None) -> None:
    call = {"domain": "days", **FAST, **options}
    if told is None:
        assert probe_activations(acts, **call).verdict == "not testable"
        return
    with pytest.raises(UsageError, match=told) as caught:
        probe_activations(acts, **call)
    one_sentence(caught.value)


def test_cells_that_are_missing_are_left_out_and_said() -> None:
    rows = ACTS.reshape(56, 10)
    days, templates = np.repeat(DAYS, 8), np.tile(np.arange(8), 7)
    kept = np.arange(56) != 20
    found = probe_activations(rows[kept], "days", labels=days[kept], templates=templates[kept], **FAST)
    assert any("1 of 8 templates lack a value and were left out" in note for note in found.notes)
    free = probe_activations(rows[kept], "days", labels=days[kept], **FAST)
    assert any("7 groups" in note for note in free.notes)
    with pytest.raises(UsageError, match="no template has a row for every value"):
        probe_activations(rows, "days", labels=days, templates=np.arange(56), **FAST)


def test_the_command_line_says_one_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    import sys

    from mechfourier.cli import main

    np.save(tmp_path / "a.npy", ACTS)
    for arguments, told in (
        ([], "give a model"),
        (["--acts", str(tmp_path / "a.npy")], "say what the values are"),
        (["calendar", "--acts", str(tmp_path / "a.npy"), "--domain", "days"], "leave one of them out"),
        (["--acts", str(tmp_path / "a.npy"), "--domain", "days", "--layers", "0"], "--layers has no meaning"),
        (["calendar", "--layout", "a o d"], "give it with --acts FILE"),
        (["--acts", str(tmp_path / "a.npy"), "--period", "nan"], "Invalid value for '--period'"),
    ):
        monkeypatch.setattr(sys, "argv", ["mechfourier", "probe", *arguments, "--out", str(tmp_path / "out")])
        with pytest.raises(SystemExit) as stopped:
            main()
        printed = capsys.readouterr()
        assert stopped.value.code == 2 and told in printed.err and printed.out == "", arguments
    assert not (tmp_path / "out").exists()


def test_masked_numbers_and_labels_are_no_data() -> None:
    acts = np.ma.masked_array(
        np.random.default_rng(0).normal(size=(7, 8, 16)), mask=np.zeros((7, 8, 16), bool)
    )
    assert probe_activations(acts, "days", n_permutations=99).verdict  # nothing is masked
    acts[2] = np.ma.masked
    with pytest.raises(UsageError, match="128 masked numbers"):
        probe_activations(acts, "days", n_permutations=99)
    labels = np.ma.masked_array(np.repeat(np.arange(7), 8), mask=np.arange(56) == 3)
    with pytest.raises(UsageError, match="1 masked entries"):
        probe_activations(np.zeros((56, 16)), "days", labels=labels, n_permutations=99)
