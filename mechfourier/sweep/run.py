"""Run a sweep: what is done is skipped, what is left goes to an engine, and every row lands in one table."""

import contextlib
import json
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mechfourier._renamed import renamed
from mechfourier.errors import BadCheckpoint, OutOfRange, UsageError
from mechfourier.files import keep_inside, locked, read_text, remove_leftovers, write_json, write_with
from mechfourier.models.folder import brief
from mechfourier.progress import progress
from mechfourier.results.base import Result
from mechfourier.results.provenance import provenance
from mechfourier.sweep.engines import Task, engine
from mechfourier.sweep.grid import Axis, Value, points, slug
from mechfourier.sweep.kinds import Row, checked

if TYPE_CHECKING:
    import pandas as pd

TABLE, SETTINGS, RUNS = "sweep.parquet", "sweep.json", "runs"
TABLE_SECONDS = 10.0  # the table is written anew no more often; rows themselves are written at once


@dataclass(frozen=True)
class Sweep(
    Result,
    kind="sweep",
    schema=2,
    figure="mechfourier.figures.sweeps:sweep_figure",
    renamed={"kind": "experiment"},
):
    """A finished sweep. ``axes`` are the names of its grid; the table has one row per run and lies in
    ``folder``.

    Its columns: the point, ``status`` (``done`` or ``failed``, then with ``error``), the run's numbers,
    ``seconds`` of the last try.
    """

    experiment: str
    axes: tuple[str, ...]
    folder: str
    done: int
    failed: int
    skipped: int
    seconds: float

    def frame(self) -> "pd.DataFrame":
        """One row per run, in the order of the grid."""
        import pandas as pd

        path = Path(self.folder) / TABLE
        try:
            return pd.read_parquet(path, memory_map=False)
        except Exception as error:  # pyarrow raises OSError, ArrowInvalid, KeyError … for a damaged file
            raise BadCheckpoint(
                f"the table of the sweep, {path}, cannot be read ({brief(error)}); run the sweep again"
            ) from error

    def found_in(self, path: Path) -> "Sweep":
        """This sweep as it was read from the file ``path``: with the table beside it, or in a folder below
        that or below the working directory.

        Raises ``BadCheckpoint`` where it names another folder: a file from somewhere else does not decide
        what is read here.
        """
        if (path.parent / TABLE).is_file():
            return replace(self, folder=str(path.parent))
        # a name with a null character or of thousands of letters is no folder's
        with contextlib.suppress(ValueError, OSError):
            for root in (Path(), path.parent):
                folder = root / self.folder
                if folder.resolve().is_relative_to(root.resolve()) and (folder / TABLE).is_file():
                    return replace(self, folder=str(folder))
        raise BadCheckpoint(
            f"{path} is of a sweep in {self.folder[:200]!r}, which is neither here nor beside it; move the "
            f"file into the sweep's folder"
        )

    def __str__(self) -> str:
        failed = f", {self.failed} failed" if self.failed else ""
        earlier = f" ({self.skipped} were there already)" if self.skipped else ""
        return (
            f"{self.experiment}: {self.done} run{'s' * (self.done != 1)} done{failed}{earlier} in "
            f"{self.seconds:.0f} s\n"
            f"table: {Path(self.folder) / TABLE}"
        )


@renamed(engine_name="runner")
def sweep(
    kind: str,
    axes: Sequence[Axis],
    folder: str | Path,
    *,
    fixed: dict[str, Value] | None = None,
    runner: str = "joblib",
    jobs: int | None = None,
    address: str | None = None,
    retry_failed: bool = False,
) -> Sweep:
    """Run ``kind`` at every point of the grid of ``axes``, with ``fixed`` the same at each; the same call
    again skips what is done.

    ``jobs``: processes on this machine (None: its cores). Raises ``UsageError`` for parameters that the kind
    does not have and for a folder that holds a sweep of another kind or with other fixed values (another grid
    of the same axes may share the folder: it adds runs).
    """
    if jobs is not None and jobs < 1:
        raise OutOfRange(f"jobs = {jobs}; at least 1")
    begun, same = time.monotonic(), fixed or {}
    tasks = [_task(kind, same, point, Path(folder)) for point in points(axes)]
    with locked(folder):
        keep_inside(folder, *(Path(task.folder).relative_to(folder) for task in tasks))
        remove_leftovers(Path(folder) / TABLE, Path(folder) / SETTINGS)
        _claim(Path(folder), {"kind": kind, "axes": sorted(a.name for a in axes), "fixed": same})
        rows, skipped = _work(kind, tasks, Path(folder), retry_failed, runner, jobs, address)
    failed = sum(row["status"] == "failed" for row in rows.values())
    return Sweep(
        kind,
        tuple(a.name for a in axes),
        str(folder),
        len(rows) - failed,
        failed,
        skipped,
        round(time.monotonic() - begun, 1),
    )


def _work(
    kind: str,
    tasks: Sequence[Task],
    folder: Path,
    retry_failed: bool,
    runner: str,
    jobs: int | None,
    address: str | None,
) -> tuple[dict[str, Row], int]:
    """The rows of all runs by their folders, and how many of them were there already."""
    rows = {task.folder: row for task in tasks if (row := _finished(task, retry_failed)) is not None}
    left = [task for task in tasks if task.folder not in rows]
    for task in tasks:
        task.mark.unlink(
            missing_ok=True
        )  # of a process that was killed, perhaps just after it had written its row
        if task.folder not in rows:
            task.row.unlink(missing_ok=True)
    run = engine(runner, jobs=min(jobs or os.cpu_count() or 1, max(len(left), 1)), address=address)
    skipped = len(rows)
    table = _Table(folder, tasks, rows)
    with progress(f"sweep {kind}", len(left)) as bar:
        for task, row in run(left) if left else ():
            table.add(task, row)
            bar.note(f"{sum(r['status'] == 'failed' for r in rows.values())} failed")
            bar.advance()
    table.write()
    return rows, skipped


def _task(kind: str, fixed: dict[str, Value], point: dict[str, Value], folder: Path) -> Task:
    """Its folder is named by the values on the axes, as the kind reads them: 1 and 1.0 of a weight decay are
    one run."""
    read = checked(kind, {**fixed, **point})
    return Task(kind, read, str(folder / RUNS / slug({name: read[name] for name in point})))


def _claim(folder: Path, settings: dict[str, Any]) -> None:
    path = folder / SETTINGS
    if path.exists():
        try:
            saved = {k: v for k, v in json.loads(read_text(path)).items() if k in settings}
        except ValueError as error:
            raise UsageError(f"{path} is no JSON ({error}); choose another --out") from error
        if saved != settings:
            raise UsageError(f"{folder} holds another sweep ({saved}, not {settings}); choose another --out")
    write_json(path, {**settings, "provenance": provenance()})


def _finished(task: Task, retry_failed: bool) -> Row | None:
    """The row of a run that is done; None where it is to be run (no row, a damaged one, or a failed one on
    request)."""
    try:
        row = json.loads(read_text(task.row))
    except (OSError, ValueError):
        return None
    return None if retry_failed and row.get("status") != "done" else row


class _Table:
    """The rows so far, and the Parquet file of them in the order of the grid."""

    def __init__(self, folder: Path, tasks: Sequence[Task], rows: dict[str, Row]) -> None:
        self.path, self.rows = folder / TABLE, rows
        self.order = [task.folder for task in tasks]
        self.written = time.monotonic()

    def add(self, task: Task, row: Row) -> None:
        self.rows[task.folder] = row
        if time.monotonic() - self.written > TABLE_SECONDS:
            self.write()

    def write(self) -> None:
        import pandas as pd

        frame = pd.DataFrame([self.rows[f] for f in self.order if f in self.rows])
        if "error" in frame:
            frame = frame[[c for c in frame if c != "error"] + ["error"]].astype({"error": "string"})
        write_with(self.path, lambda temporary: frame.to_parquet(temporary, index=False))
        self.written = time.monotonic()
