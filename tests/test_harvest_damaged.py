"""Nothing damaged counts as whole, and whole shards outlive their process and a full disk."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from harvest_text import ALL, SHARD, contents, cut, harvest, loaded_and_text, model_and_text
from hypothesis import given
from hypothesis import strategies as st

from mechfourier.errors import BadCheckpoint, MechFourierError
from mechfourier.harvest import capture_dataset, open_harvest, verify
from mechfourier.harvest.index import INDEX, read_index
from mechfourier.models.registry import load


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    return loaded_and_text(tmp_path_factory.mktemp("harvest"))


def alter(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-200] ^= 1
    path.write_bytes(bytes(content))


def lengthen(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"\0")


@pytest.mark.parametrize(
    ("damage", "called"),
    [(Path.unlink, "lost"), (cut, "cut short"), (alter, "altered"), (lengthen, "altered")],
)
def test_a_damaged_shard_is_never_read_and_is_made_again(
    made: tuple[Any, Path], tmp_path: Path, damage: Any, called: str
) -> None:
    harvest(made, tmp_path)
    before = contents(tmp_path)
    damage(tmp_path / "shard-000003.safetensors")
    found = verify(tmp_path)
    assert found.faults == (("shard-000003.safetensors", called),) and not found.good
    got = open_harvest(tmp_path)
    assert got.site(got.sites[0])[2].shape == (SHARD, 64)
    for read in (
        lambda: got.site(got.sites[0])[3],
        got.dataset,
        lambda: next(got.provider(got.sites[0], batch_size=8)),
    ):
        with pytest.raises(BadCheckpoint, match=f"shard-000003.safetensors is {called}"):
            read()
    again = harvest(made, tmp_path)
    assert (again.made, again.kept, again.repaired) == (0, 5, 1)
    assert contents(tmp_path) == before and verify(tmp_path).good


@given(st.integers(0, 10**6), st.integers(1, 255))
def test_no_altered_index_is_read(tmp_path_factory: pytest.TempPathFactory, place: int, flip: int) -> None:
    folder = tmp_path_factory.getbasetemp() / "flipped"
    if not folder.exists():
        model_folder, text = model_and_text(tmp_path_factory.mktemp("flip"))
        capture_dataset(str(model_folder), folder, dataset=str(text), layers=0, tokens=50, reading=ALL)
        (folder / "whole").write_bytes((folder / INDEX).read_bytes())
    whole = (folder / "whole").read_bytes()
    changed = bytearray(whole)
    changed[place % len(whole)] ^= flip
    (folder / INDEX).write_bytes(bytes(changed))
    try:
        # white space and the case of an escape may differ without a difference in meaning
        assert open_harvest(folder).rows == 50 and json.loads(bytes(changed)) == json.loads(whole)
    except BadCheckpoint as error:
        assert "\n" not in str(error) and INDEX in str(error)


KILLED = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background inherits that it is ignored
from mechfourier.harvest import capture_dataset, write
from mechfourier.harvest import run
from mechfourier.sae.rows import Reading
after, number = int(sys.argv[4]), int(sys.argv[5])
real, done = run.make_shard, []
def make(*arguments):
    if len(done) == after:
        os.kill(os.getpid(), number)
    done.append(1)
    return real(*arguments)
run.make_shard = make
try:
    capture_dataset(sys.argv[1], sys.argv[3], dataset=sys.argv[2], layers="0-1", sites="resid_post,mlp_post", tokens=700,
                    shard_tokens=128, reading=Reading(positions="all", context=16))
except Exception as error:
    print(type(error).__name__, error)
    sys.exit(error.exit_code)
"""


@pytest.mark.slow
@pytest.mark.parametrize(("name", "code"), [("SIGINT", 130), ("SIGTERM", 130), ("SIGKILL", -9)])
def test_whole_shards_outlive_their_process(
    made: tuple[Any, Path], tmp_path: Path, name: str, code: int
) -> None:
    import signal

    _, text = made
    folder = text.parent / "qwen3"
    number = str(int(getattr(signal, name)))
    ended = subprocess.run(
        [sys.executable, "-c", KILLED, str(folder), str(text), str(tmp_path / "out"), "3", number],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == code, ended.stderr
    if code == 130:
        assert "CaptureInterrupted stopped; 3 of 6 shards are kept" in ended.stdout
    index = read_index(tmp_path / "out")
    assert index is not None and len(index.shards) == 3 and not index.complete
    with pytest.raises(MechFourierError, match="3 of 6 shards"):
        open_harvest(tmp_path / "out")
    assert open_harvest(tmp_path / "out", partial=True).rows == 3 * SHARD
    (tmp_path / "out" / ".shard-000004.safetensors.abc.part").write_bytes(b"half")
    rest = harvest((load(str(folder)), text), tmp_path / "out")
    assert (rest.made, rest.kept) == (3, 3) and not list((tmp_path / "out").glob("*.part"))
    harvest(made, tmp_path / "once")
    assert contents(tmp_path / "out") == contents(tmp_path / "once")


def test_a_full_disk_keeps_what_is_whole(made: tuple[Any, Path], tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=600k", "tmpfs", str(disk)], capture_output=True, check=False
    )
    if mount.returncode:
        pytest.skip("no right to mount a small disk")
    try:
        (disk / "other").write_bytes(b"\0" * 100_000)
        with pytest.raises(MechFourierError, match="take fewer --tokens"):
            harvest(made, disk / "out")
        out = disk / "out"
        harvest(made, out, tokens=128)
        before = contents(out)
        (disk / "more").write_bytes(b"\0" * (270_000))
        # the heads of the file and of the index do not fit, which the estimate does not know
        with pytest.raises(MechFourierError, match="no space left"):
            harvest(made, out, tokens=256)
        found = verify(out)
        assert found.good and found.shards == 1 and contents(out).items() >= before.items()
        (disk / "more").unlink()
        assert harvest(made, out, tokens=256).kept == 1
    finally:
        subprocess.run(["umount", str(disk)], check=True)
