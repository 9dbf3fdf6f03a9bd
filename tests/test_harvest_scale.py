"""Many processes make the shards that one makes, a killed one costs nothing, and memory does not grow with
the data."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from harvest_text import ALL, corpus, model_and_text

from mechfourier.errors import MechFourierError, UsageError
from mechfourier.harvest import capture_dataset, open_harvest, verify
from mechfourier.harvest.engines import RETRIES, WorkerDied, in_pool
from mechfourier.harvest.index import Shard
from mechfourier.harvest.jobs import Job

OPTIONS: dict[str, Any] = {
    "sites": "resid_post",
    "layers": "0-1",
    "tokens": 1000,
    "shard_tokens": 64,
    "reading": ALL,
}


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.glob("shard-*"))}


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str, Path]:
    base = tmp_path_factory.mktemp("scale")
    model, text = model_and_text(base)
    capture_dataset(str(model), base / "alone", dataset=str(text), **OPTIONS)
    return str(model), str(text), base / "alone"


@pytest.mark.slow
def test_two_processes_make_the_shards_of_one_and_outlive_a_killed_worker(
    alone: tuple[str, str, Path], tmp_path: Path
) -> None:
    model, text, one = alone
    victims: list[int] = []

    def kill_one() -> None:
        """The first process that has written a shard, as soon as there is one."""
        while not victims:
            if list(tmp_path.glob("shard-*")):
                children = Path(f"/proc/{os.getpid()}/task").glob("*/children")
                pids = [int(pid) for path in children for pid in path.read_text().split()]
                workers = [pid for pid in pids if b"loky.backend.popen_loky" in _command(pid)]
                if workers:
                    victims.append(workers[-1])
                    os.kill(workers[-1], signal.SIGKILL)
            time.sleep(0.01)

    killer = threading.Thread(target=kill_one, daemon=True)
    killer.start()
    result = capture_dataset(model, tmp_path, dataset=text, workers=2, **OPTIONS)
    killer.join(timeout=5)
    assert victims and result.made == 16
    assert contents(tmp_path) == contents(one) and verify(tmp_path).good


def _command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


@pytest.mark.slow
def test_a_ray_cluster_makes_the_shards_of_one_process(alone: tuple[str, str, Path], tmp_path: Path) -> None:
    ray = pytest.importorskip("ray")
    model, text, one = alone
    ray.init(num_cpus=2, include_dashboard=False, logging_level="ERROR", log_to_driver=False)
    try:
        result = capture_dataset(model, tmp_path, dataset=text, workers=2, runner="ray", **OPTIONS)
        (tmp_path / "shard-000001.safetensors").unlink()
        again = capture_dataset(model, tmp_path, dataset=text, workers=2, runner="ray", **OPTIONS)
        # what a worker raises arrives as one sentence
        with pytest.raises(MechFourierError, match="shard-000000"):
            (tmp_path / "shard-000000.safetensors").unlink()
            (tmp_path / "shard-000000.safetensors").mkdir()
            capture_dataset(model, tmp_path, dataset=text, workers=2, runner="ray", **OPTIONS)
        (tmp_path / "shard-000000.safetensors").rmdir()
        capture_dataset(model, tmp_path, dataset=text, **OPTIONS)
    finally:
        ray.shutdown()
    assert (result.made, again.made, again.kept, again.repaired) == (16, 0, 15, 1)
    assert contents(tmp_path) == contents(one)


@pytest.mark.parametrize("address", ["127.0.0.1:9", "nowhere", "ray://127.0.0.1:9"])
def test_a_cluster_that_is_not_there_is_said_at_once(
    alone: tuple[str, str, Path], tmp_path: Path, address: str
) -> None:
    pytest.importorskip("ray")
    model, text, _ = alone
    with pytest.raises(UsageError, match="no Ray cluster answers"):
        capture_dataset(model, tmp_path / "none", dataset=text, runner="ray", address=address, **OPTIONS)


class Mortal:
    """A pool in this process whose workers die when they are told to."""

    def __init__(self, deaths: dict[int, int]) -> None:
        self.deaths, self.under_way, self.most, self.restarts = deaths, 0, 0, 0

    def submit(self, job: Job) -> Job:
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        return job

    def first(self, handles: Any) -> Job:
        return list(handles)[-1]

    def result(self, handle: Job) -> Shard:
        if self.deaths.get(handle.number, 0):
            self.deaths[handle.number] -= 1
            raise WorkerDied("killed")
        self.under_way -= 1
        return Shard(handle.number, "", 1, 1, "", "")

    def restart(self) -> None:
        self.restarts, self.under_way = self.restarts + 1, 0


def empty_jobs(count: int) -> Iterator[Job]:
    return (Job(number, ()) for number in range(count))


def test_a_shard_whose_worker_died_is_made_again_and_no_more_than_the_workers_are_under_way() -> None:
    pool = Mortal({2: 1, 5: RETRIES, 9: 1})
    made = [shard.number for shard in in_pool(empty_jobs(12), pool, 3)]
    assert sorted(made) == list(range(12)) and pool.most == 3 and pool.restarts == RETRIES + 2


def test_workers_that_always_die_end_the_capture_with_advice() -> None:
    with pytest.raises(MechFourierError, match="take fewer --workers"):
        list(in_pool(empty_jobs(3), Mortal({1: 99}), 2))


PEAK = """
import resource, sys
from mechfourier.harvest import capture_dataset
from mechfourier.sae.rows import Reading
capture_dataset(sys.argv[1], sys.argv[3], dataset=sys.argv[2], tokens=int(sys.argv[4]), shard_tokens=8192,
                reading=Reading(positions="all", context=64))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""


def peak(model: str, text: Path, out: Path, tokens: int) -> int:
    """MiB at the most, of a process that captures so many tokens."""
    arguments = [sys.executable, "-c", PEAK, model, str(text), str(out), str(tokens)]
    return int(subprocess.run(arguments, capture_output=True, text=True, check=True).stdout)


@pytest.mark.slow
def test_memory_does_not_grow_with_the_tokens(alone: tuple[str, str, Path], tmp_path: Path) -> None:
    model, _, _ = alone
    text = corpus(tmp_path / "long.txt", documents=8000)
    once, eight = (peak(model, text, tmp_path / str(n), n) for n in (16_384, 131_072))
    grown = open_harvest(tmp_path / "131072")
    assert grown.rows == 131_072 and sum(shard.bytes for shard in grown.shards) > 70 * 2**20
    # eight times the tokens: 66 MiB more on disk, and no more than the allocator's crumbs in memory
    assert eight - once < 24, (once, eight)
