"""Who makes the shards: this process, joblib's loky processes beside it, or a Ray cluster.

Work is split by shard, and at most one shard per worker is under way: memory does not grow with the data set,
and the shards are the same whoever makes them. A shard whose worker was killed is made again.
"""

import contextlib
import os
from collections.abc import Callable, Collection, Iterator
from typing import Any, Protocol, runtime_checkable

from mechfourier.cluster import connect
from mechfourier.errors import MechFourierError, UsageError
from mechfourier.harvest.index import Shard
from mechfourier.harvest.jobs import Job
from mechfourier.workers import end_with

Work = Callable[[Job], Shard]
RETRIES = 3
ENGINES = ("joblib", "ray")


class WorkerDied(Exception):
    """The process that made a shard is gone."""


@runtime_checkable
class Pool(Protocol):
    """Workers elsewhere."""

    def submit(self, job: Job) -> Any: ...
    def first(self, handles: Collection[Any]) -> Any: ...
    def result(self, handle: Any) -> Shard: ...
    def restart(self) -> None: ...


def in_process(jobs: Iterator[Job], work: Work) -> Iterator[Shard]:
    """One shard after the other, here."""
    return (work(job) for job in jobs)


def in_pool(jobs: Iterator[Job], pool: Pool, workers: int) -> Iterator[Shard]:
    """Shards in the order they are finished, ``workers`` of them under way at a time."""
    waiting: dict[Any, Job] = {}
    again: list[Job] = []
    deaths = 0
    while True:
        while len(waiting) < workers and (job := again.pop() if again else next(jobs, None)) is not None:
            waiting[pool.submit(job)] = job
        if not waiting:
            return
        handle = pool.first(waiting)
        job = waiting.pop(handle)
        try:
            shard = pool.result(handle)
        except WorkerDied as error:
            deaths += 1
            if deaths > RETRIES:
                raise MechFourierError(
                    f"worker processes were killed {deaths} times ({error}), most often for want of memory; "
                    f"take fewer --workers "
                    "or smaller shards (--shard-tokens). What is whole is kept: the same command goes on"
                ) from error
            again += [job, *waiting.values()]
            waiting.clear()
            pool.restart()
            continue
        deaths = 0
        yield shard


class Loky:
    """Processes of joblib's loky on this machine, with its cores shared out among them."""

    def __init__(self, work: Work, workers: int) -> None:
        self.work, self.workers = work, workers
        self.restart()

    def restart(self) -> None:
        import joblib
        from joblib.externals.loky import get_reusable_executor

        threads = str(max(1, joblib.cpu_count() // self.workers))
        env = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), threads)
        fresh: Any = False  # never processes that another sweep left, with another number of threads
        self.executor = get_reusable_executor(
            self.workers, reuse=fresh, kill_workers=True, env=env, initializer=_begin, initargs=(os.getpid(),)
        )

    def submit(self, job: Job) -> Any:
        return self.executor.submit(self.work, job)

    def first(self, handles: Collection[Any]) -> Any:
        from concurrent.futures import FIRST_COMPLETED, wait

        return next(iter(wait(handles, return_when=FIRST_COMPLETED).done))

    def result(self, handle: Any) -> Shard:
        from concurrent.futures.process import BrokenProcessPool

        try:
            return handle.result()
        except BrokenProcessPool as error:
            raise WorkerDied(type(error).__name__) from error

    def close(self) -> None:
        self.executor.shutdown(wait=True, kill_workers=True)


def _begin(parent: int) -> None:
    """Ctrl-C reaches every process of the terminal; the first one stops the others, or takes them with it."""
    import signal

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_with(parent)


class Ray:
    """A Ray cluster, one core per shard under way (and one GPU, where the model runs on one)."""

    def __init__(self, work: Work, address: str | None, *, gpus: int = 0) -> None:
        self.ray, self.ours = connect(address)
        self.remote = self.ray.remote(num_cpus=1, num_gpus=gpus, max_retries=RETRIES)(work_remotely)
        self.work = self.ray.put(work)

    def restart(self) -> None:
        """Ray starts workers anew by itself."""

    def submit(self, job: Job) -> Any:
        return self.remote.remote(self.work, job)

    def first(self, handles: Collection[Any]) -> Any:
        (ready, *_), _ = self.ray.wait(list(handles), num_returns=1)
        return ready

    def result(self, handle: Any) -> Shard:
        try:
            return self.ray.get(handle)
        except self.ray.exceptions.WorkerCrashedError as error:
            raise WorkerDied(type(error).__name__) from error
        except self.ray.exceptions.RayTaskError as error:
            # Ray wraps what the task raised; our sentences are passed on as they are
            raise error.cause if isinstance(error.cause, MechFourierError) else error from error

    def close(self) -> None:
        if self.ours:
            self.ray.shutdown()


def work_remotely(work: Work, job: Job) -> Shard:
    """What Ray runs."""
    return work(job)


@contextlib.contextmanager
def runner_of(
    name: str, work: Work, *, workers: int, address: str | None = None, gpus: int = 0
) -> Iterator[Callable[[Iterator[Job]], Iterator[Shard]]]:
    """A function from jobs to finished shards. ``name``: ``joblib`` (in this process with one worker) or
    ``ray``."""
    if name not in ENGINES:
        raise UsageError(f"no engine {name!r}; choose joblib or ray")
    if name == "joblib" and workers == 1:
        yield lambda jobs: in_process(jobs, work)
        return
    pool = Ray(work, address, gpus=gpus) if name == "ray" else Loky(work, workers)
    try:
        yield lambda jobs: in_pool(jobs, pool, workers)
    finally:
        pool.close()
