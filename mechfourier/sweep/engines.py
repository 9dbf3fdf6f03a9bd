"""Where the runs of a sweep are worked off: joblib's loky processes on this machine, or Ray on a cluster.

Both take tasks and yield rows in the order they finish. A run whose process was killed is started again (and
goes on where its folder allows it); one that was killed ``retries`` times more becomes a failed row.
"""

import collections
import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mechfourier.cluster import connect
from mechfourier.errors import DiskFull, FolderInUse, MechFourierError, UsageError
from mechfourier.files import read_text, remove_leftovers, write_json, write_text
from mechfourier.results.base import plain
from mechfourier.sweep.grid import Value
from mechfourier.sweep.kinds import Row, kind
from mechfourier.workers import end_with

ROW, MARK = "row.json", ".running"
RETRIES = 3
WAIT_SECONDS = 1.0


@dataclass(frozen=True)
class Task:
    """One run: what is swept, its point, and its folder."""

    kind: str
    point: dict[str, Value]
    folder: str

    @property
    def row(self) -> Path:
        return Path(self.folder) / ROW

    @property
    def mark(self) -> Path:
        """There while a process works on the run: who finds it afterwards knows that the process died."""
        return Path(self.folder) / MARK


Done = tuple[Task, Row]


def run_task(task: Task) -> Done:
    """Do the run and write its row last. An error of the run is its result; an interruption and a full disk
    are not."""
    from mechfourier.progress import hidden
    from mechfourier.training.loop import TrainingInterrupted

    started = time.monotonic()
    Path(task.folder).mkdir(parents=True, exist_ok=True)
    write_text(task.mark, str(os.getpid()))
    try:
        with hidden():
            numbers: Row = {"status": "done", "error": None, **_numbers(task)}
    except (TrainingInterrupted, DiskFull):
        task.mark.unlink(missing_ok=True)
        raise
    except (MechFourierError, ValueError, RuntimeError) as error:
        numbers = {"status": "failed", "error": f"{type(error).__name__}: {error}"}
    own = {
        name: value for name, value in numbers.items() if name not in task.point
    }  # what was asked for stays
    row = plain({**task.point, **own, "seconds": round(time.monotonic() - started, 2)})
    write_json(task.row, row)
    task.mark.unlink(missing_ok=True)
    return task, row


def _numbers(task: Task) -> Row:
    """What the run gives. A process left over from a killed sweep may still be at it: its end is waited for,
    and gone on from."""
    remove_leftovers(task.row)
    while True:
        try:
            return kind(task.kind)(Path(task.folder), **task.point)
        except FolderInUse:
            time.sleep(WAIT_SECONDS)


def given_up(task: Task, tries: int) -> Done:
    """The row of a run whose process died every time."""
    error = (
        f"its process was killed {tries} times; look at memory, then run the sweep again with --retry-failed"
    )
    row: Row = {**task.point, "status": "failed", "error": error, "seconds": None}
    write_json(task.row, row)
    task.mark.unlink(missing_ok=True)
    return task, row


def with_joblib(tasks: Sequence[Task], *, jobs: int, retries: int = RETRIES) -> Iterator[Done]:
    """Work ``tasks`` off in ``jobs`` processes, with this machine's cores shared out among them."""
    import joblib
    from joblib.externals.loky.process_executor import TerminatedWorkerError

    left, tries = {task.folder: task for task in tasks}, collections.Counter[str]()
    while left:
        try:
            threads = max(1, joblib.cpu_count() // jobs)
            with joblib.parallel_config("loky", n_jobs=jobs, inner_max_num_threads=threads):
                pool: Any = joblib.Parallel(return_as="generator_unordered", pre_dispatch="all")
                for task, row in pool(
                    joblib.delayed(_run_for)(os.getpid(), task) for task in list(left.values())
                ):
                    del left[task.folder]
                    yield task, row
        except TerminatedWorkerError:
            # one death ends every process of the pool: rows that were written count, those at work begin
            # again
            yield from _after_a_death(left, tries, retries)


def _run_for(parent: int, task: Task) -> Done:
    end_with(parent)
    return run_task(task)


def _after_a_death(left: dict[str, Task], tries: collections.Counter[str], retries: int) -> Iterator[Done]:
    for task in list(left.values()):
        if task.row.exists():
            yield left.pop(task.folder), json.loads(read_text(task.row))
        elif task.mark.exists():
            tries[task.folder] += 1
            if tries[task.folder] > retries:
                yield given_up(left.pop(task.folder), retries + 1)


def with_ray(tasks: Sequence[Task], *, address: str | None, retries: int = RETRIES) -> Iterator[Done]:
    """Work ``tasks`` off on a Ray cluster, one core each. ``address``: ``"auto"`` for the running cluster,
    ``host:port``, or None to start one here.

    The folders must be on a disk that all nodes see; the rows come back in any case.
    """
    ray, ours = connect(address)
    try:
        remote = ray.remote(num_cpus=1, max_retries=retries)(run_task)
        waiting = {remote.remote(task): task for task in tasks}
        while waiting:
            (ready, *_), _ = ray.wait(list(waiting), num_returns=1)
            task = waiting.pop(ready)
            try:
                _, row = ray.get(ready)
            except ray.exceptions.WorkerCrashedError:
                _, row = given_up(task, retries + 1)
            if not task.row.exists():
                write_json(task.row, row)
            yield task, row
    finally:
        if ours:
            ray.shutdown()


def engine(name: str, *, jobs: int, address: str | None) -> Callable[[Sequence[Task]], Iterator[Done]]:
    """The engine of that name (``joblib`` or ``ray``) as a function of tasks."""
    if name == "joblib":
        return lambda tasks: with_joblib(tasks, jobs=jobs)
    if name == "ray":
        return lambda tasks: with_ray(tasks, address=address)
    raise UsageError(f"no engine {name!r}; choose joblib or ray")
