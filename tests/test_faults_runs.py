"""Faults of the machine: kills, full disks, read-only folders, damaged files, two processes at once. Nothing
is lost, nothing half-written is read."""

import contextlib
import importlib.util
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from test_training_loop import Regression, fit, interrupt_at, same_metrics

from mechfourier.errors import BadCheckpoint, FolderInUse, MechFourierError
from mechfourier.files import atomic_path, locked, remove_leftovers
from mechfourier.training import loop
from mechfourier.training.loop import TrainingInterrupted
from mechfourier.training.run_folder import RunFolder

ROOT = Path(__file__).resolve().parents[1]
needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")


@pytest.fixture(scope="module")
def kills() -> ModuleType:
    spec = importlib.util.spec_from_file_location("kills", ROOT / "tools" / "kills.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["kills"] = module
    spec.loader.exec_module(module)
    return module


def quick(folder: Path) -> object:
    """A run of a second: a checkpoint every 25 steps, an evaluation every 10."""
    return fit(Regression(), folder, steps=150, checkpoint_at=25, resume=True)


@needs_fork
def test_killed_at_random_moments_a_run_ends_with_the_same_bits(
    kills: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(kills.SUBJECTS, "quick", quick)
    monkeypatch.setattr(kills, "IMPORTS", ("pandas", "pyarrow.parquet"))
    outcome = kills.torment("quick", tmp_path, kills=6, seed=1)
    assert outcome.kills >= 6
    assert outcome.differences == ()


def test_the_comparison_of_runs_sees_what_it_should(kills: ModuleType, tmp_path: Path) -> None:
    fit(Regression(), tmp_path / "a", steps=30)
    fit(Regression(), tmp_path / "b", steps=30)
    assert kills.compare(tmp_path / "a", tmp_path / "b") == []
    fit(Regression(lr=0.06), tmp_path / "c", steps=30)
    texts = "\n".join(kills.compare(tmp_path / "a", tmp_path / "c"))
    assert "model.safetensors: weight differs" in texts and "metrics.parquet: other metrics" in texts
    (tmp_path / "b" / "checkpoints" / "step-000010.safetensors").unlink()
    (tmp_path / "b" / ".state.pt.x.part").write_bytes(b"half")
    found = "\n".join(kills.compare(tmp_path / "a", tmp_path / "b"))
    assert "step-000010.safetensors is in one" in found and ".part is in one" in found
    (tmp_path / "b" / "metrics.parquet").write_bytes(b"PAR1")
    assert len(kills.unreadable(tmp_path / "b")) == 1


@pytest.mark.parametrize("at", ["write_checkpoint", "write_metrics", "write_state"])
@pytest.mark.parametrize("when", ["before", "after"])
def test_whichever_write_a_kill_hits_nothing_is_missing_in_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: str, when: str
) -> None:
    """The moments around every write, one by one; the fourth write of each kind is the one."""

    class Killed(BaseException):
        pass

    fit(Regression(), tmp_path / "whole")
    written, real, folder = [0], getattr(RunFolder, at), tmp_path / "cut"

    def write(self: RunFolder, *arguments: Any) -> Any:
        written[0] += 1
        if written[0] == 4 and when == "before":
            raise Killed
        result = real(self, *arguments)
        if written[0] == 4:
            raise Killed
        return result

    monkeypatch.setattr(loop, "STATE_SECONDS", 0.0)
    with monkeypatch.context() as patched:
        patched.setattr(RunFolder, at, write)
        with pytest.raises(Killed):
            fit(Regression(), folder)
    fit(Regression(), folder, resume=True)
    assert torch.equal(weight(folder), weight(tmp_path / "whole"))
    same_metrics(folder, tmp_path / "whole")
    names = [sorted(p.name for p in (f / "checkpoints").iterdir()) for f in (folder, tmp_path / "whole")]
    assert names[0] == names[1]


def weight(folder: Path) -> torch.Tensor:
    return load_file(folder / "model.safetensors")["weight"]


def damage(path: Path, place: float, flip: int) -> None:
    """``flip`` 0 cuts the file at ``place`` of its length; else one byte there is changed."""
    content = bytearray(path.read_bytes())
    at = min(int(place * len(content)), len(content) - 1)
    if flip:
        content[at] ^= flip
    path.write_bytes(content if flip else content[:at])


@pytest.fixture(scope="module")
def cut(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cut") / "run"
    with pytest.raises(TrainingInterrupted):
        fit(Regression(on_step=interrupt_at(24)), folder)
    return folder


@settings(max_examples=20)
@given(
    file=st.sampled_from(["state.pt", "metrics.parquet", "state.previous.pt"]),
    place=st.floats(0, 1),
    flip=st.integers(0, 255),
)
def test_a_run_with_a_damaged_file_goes_on_to_the_same_end(
    tmp_path_factory: pytest.TempPathFactory, cut: Path, file: str, place: float, flip: int
) -> None:
    folder = tmp_path_factory.mktemp("damaged")
    for path in cut.iterdir():
        if path.is_file():
            (folder / path.name).write_bytes(path.read_bytes())
    damage(folder / file, place, flip)
    result = fit(Regression(), folder, resume=True)
    assert result.resumed_from in (20, 25)
    frame = RunFolder(folder).read_metrics()
    assert (
        len(frame) == 40
        and not frame["loss"].isna().to_numpy().any()
        and (~frame["distance"].isna().to_numpy()).sum() == 4
    )


def test_a_damaged_table_of_metrics_is_said_and_written_again(tmp_path: Path) -> None:
    fit(Regression(), tmp_path)
    before = RunFolder(tmp_path).read_metrics()
    (tmp_path / "metrics.parquet").write_bytes((tmp_path / "metrics.parquet").read_bytes()[:-20])
    with pytest.raises(BadCheckpoint, match=r"metrics\.parquet is damaged.*--resume"):
        RunFolder(tmp_path).read_metrics()
    fit(Regression(), tmp_path, resume=True)
    pd.testing.assert_frame_equal(RunFolder(tmp_path).read_metrics(), before)


def test_a_damaged_state_does_not_take_the_place_of_the_one_before(tmp_path: Path) -> None:
    with pytest.raises(TrainingInterrupted):
        fit(Regression(on_step=interrupt_at(24)), tmp_path)
    damage(tmp_path / "state.pt", 0.5, 0)
    state = RunFolder(tmp_path).read_state()
    assert state is not None and state["step"] == 20
    RunFolder(tmp_path).write_state(state)
    assert (tmp_path / "state.pt").read_bytes() != b""
    damage(tmp_path / "state.pt", 0.5, 0)
    again = RunFolder(tmp_path).read_state()
    assert again is not None and again["step"] == 20


# two at once


def test_two_runs_do_not_share_a_folder(tmp_path: Path) -> None:
    def second(index: int) -> None:
        if index == 5:
            with pytest.raises(FolderInUse, match=r"another process is working in .*--out"):
                fit(Regression(), tmp_path / "run", resume=True)

    fit(Regression(on_step=second), tmp_path / "run", steps=10)
    fit(Regression(), tmp_path / "run", steps=20, resume=True)
    assert not (tmp_path / "run" / ".lock").exists()


def test_the_lock_of_a_killed_process_stands_in_nobodys_way(tmp_path: Path) -> None:
    hold = (
        "import sys, time; from mechfourier.files import locked\n"
        f"with locked({str(tmp_path)!r}): print('held', flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", hold], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "held\n"
        with pytest.raises(FolderInUse), locked(tmp_path):
            pass
        process.send_signal(signal.SIGKILL)
    with locked(tmp_path):
        assert (tmp_path / ".lock").exists()
    assert not (tmp_path / ".lock").exists()


def test_a_lock_that_is_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("text")
    (tmp_path / ".lock").symlink_to(tmp_path / "precious")
    with pytest.raises(MechFourierError), locked(tmp_path):
        pass
    assert (tmp_path / "precious").read_text() == "text"


def test_only_the_temporaries_of_the_files_named_are_removed(tmp_path: Path) -> None:
    # the third is what safetensors leaves
    for name in (".state.pt.abc.part", ".other.html.abc.part", ".tmpA1b2C3", "state.pt"):
        (tmp_path / name).write_text("half")
    remove_leftovers(tmp_path / "state.pt", tmp_path / "none" / "*")
    assert sorted(p.name for p in tmp_path.iterdir()) == [".other.html.abc.part", "state.pt"]


# disks


@contextlib.contextmanager
def mounted(folder: Path, options: str) -> Iterator[Path]:
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    try:
        subprocess.run(command, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no file system may be mounted here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@contextlib.contextmanager
def small_files(limit: int) -> Iterator[None]:
    """No file of this process may grow beyond ``limit`` bytes: a full disk for those who may not mount
    one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def as_torch(path: Path) -> None:
    torch.save({"x": torch.zeros(100_000)}, path)


def as_safetensors(path: Path) -> None:
    from safetensors.torch import save_file

    save_file({"x": torch.zeros(100_000)}, path)


def as_parquet(path: Path) -> None:
    pd.DataFrame({"x": torch.rand(100_000).numpy()}).to_parquet(path)


def as_text(path: Path) -> None:
    path.write_text("x" * 400_000)


WRITERS = [as_torch, as_safetensors, as_parquet, as_text]


@pytest.mark.parametrize("write", WRITERS)
def test_a_full_disk_is_one_sentence_whoever_writes(tmp_path: Path, write: Callable[[Path], None]) -> None:
    with mounted(tmp_path / "small", "size=200k") as folder:
        (folder / "x").write_text("earlier")
        full = pytest.raises(MechFourierError, match=r"no space left on the disk that holds .*--out")
        with full, atomic_path(folder / "x") as temporary:
            write(temporary)
        assert [p.name for p in folder.iterdir()] == ["x"] and (folder / "x").read_text() == "earlier"


@pytest.mark.parametrize("write", WRITERS)
def test_a_file_that_may_not_grow_is_one_sentence(tmp_path: Path, write: Callable[[Path], None]) -> None:
    said = pytest.raises(MechFourierError, match=r"no space left|larger than the system allows")
    with said, small_files(100_000), atomic_path(tmp_path / "x") as temporary:
        write(temporary)
    assert list(tmp_path.iterdir()) == []


def test_an_error_that_is_not_the_disks_stays_what_it_is(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match=r"^no disk$"), atomic_path(tmp_path / "x"):
        raise RuntimeError("no disk")


class Heavy(Regression):
    """A state of 80 kB, so that a small disk holds few of them."""

    def state(self) -> dict[str, Any]:
        return {**super().state(), "ballast": torch.rand(20_000)}


def test_a_disk_that_fills_up_while_training_loses_nothing(tmp_path: Path) -> None:
    fit(Regression(), tmp_path / "whole")
    with mounted(tmp_path / "small", "size=400k") as folder:

        def fill(index: int) -> None:
            if index == 24:
                (folder / "other").write_bytes(bytes(150_000))

        with pytest.raises(MechFourierError, match="no space left on the disk"):
            fit(Heavy(on_step=fill), folder / "run", checkpoint_at=10)
        assert not list((folder / "run").rglob("*.part"))
        state = RunFolder(folder / "run").read_state()
        assert state is not None and state["step"] == 20
        (folder / "other").unlink()
        assert fit(Heavy(), folder / "run", resume=True).resumed_from == 20
        assert torch.equal(weight(folder / "run"), weight(tmp_path / "whole"))


def test_a_folder_that_is_read_only_is_one_sentence(tmp_path: Path) -> None:
    with mounted(tmp_path / "fixed", "ro") as folder:
        with pytest.raises(MechFourierError, match=r"cannot write to .* \(Read-only file system\).*--out"):
            fit(Regression(), folder / "run")
        with pytest.raises(MechFourierError, match="cannot write to"):
            fit(Regression(), folder, resume=True)
