"""One training loop for every model of this project: steps, evaluation, checkpoints, and a bit-exact resume.

What is trained is a ``Trainee``; the loop knows nothing of models. A run that was interrupted and resumed
ends with the same bits as one that was not (on a CPU, with the same number of threads), provided ``state``
holds all that the trainee draws on: weights, optimiser and generators.
"""

import contextlib
import dataclasses
import math
import signal
import threading
import time
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from mechfourier.errors import BadCheckpoint, MechFourierError, OutOfRange, UsageError
from mechfourier.models.folder import brief
from mechfourier.progress import Progress, progress
from mechfourier.results.base import Result, rebuild
from mechfourier.training.run_folder import STATE, RunFolder

if TYPE_CHECKING:
    import pandas as pd

STATE_SECONDS = 60.0  # at most this much work is lost when the machine goes down
When = int | Collection[int] | Callable[[int], bool]  # every so many steps, at these, or where this holds


class TrainingDiverged(MechFourierError):
    """A loss or a weight is no longer finite."""


class TrainingInterrupted(MechFourierError):
    """The user (or the system) asked the run to stop; its state is saved."""

    exit_code = 130


@runtime_checkable
class Trainee(Protocol):
    """What the loop trains. Steps count from 0; ``evaluate`` and checkpoints count the steps done."""

    def config(self) -> dict[str, Any]:
        """The run as JSON, with what ``load`` needs to read the weights; a resumed run must have the same."""
        ...

    def step(self, index: int) -> dict[str, float]:
        """One optimiser step; cheap metrics. A metric that is not finite stops the run."""
        ...

    def evaluate(self, index: int) -> dict[str, float]:
        """Dearer metrics after ``index`` steps. It must not draw from the generators that ``step`` draws
        from."""
        ...

    def state(self) -> dict[str, Any]:
        """All that a bit-exact resume needs, as tensors, numbers, strings, lists and dicts of them."""
        ...

    def load_state(self, state: dict[str, Any]) -> None: ...

    def weights(self) -> dict[str, Tensor]:
        """What a checkpoint ships."""
        ...


class RunResult(Result, figure="mechfourier.training.figures:run_figure"):
    """Base of the results of a training, whose metrics lie in ``folder`` or ``checkpoint``."""

    def frame(self) -> "pd.DataFrame":
        """All metrics of the run, one row per step; an evaluation's columns are empty where there was
        none."""
        return RunFolder(getattr(self, "folder", None) or getattr(self, "checkpoint")).read_metrics()  # noqa: B009


@dataclasses.dataclass(frozen=True)
class TrainingResult(RunResult, kind="training"):
    """A finished run: steps done, seconds of training (over all resumes), the last metrics, and where it
    lies."""

    steps: int
    seconds: float
    metrics: dict[str, float]
    folder: str
    resumed_from: int | None
    stopped_early: bool

    def __str__(self) -> str:
        numbers = ", ".join(f"{name} {value:.4g}" for name, value in self.metrics.items())
        return f"{self.steps} steps in {self.seconds:.0f} s -> {self.folder}\n{numbers}"


def run_training(
    trainee: Trainee,
    folder: str | Path,
    *,
    steps: int,
    evaluate_at: When,
    checkpoint_at: When,
    resume: bool = False,
    stop: Callable[[dict[str, float]], bool] | None = None,
    label: str = "train",
    on_evaluate: Callable[[int, dict[str, float]], None] | None = None,
) -> TrainingResult:
    """Train for ``steps`` steps in ``folder``; with ``resume``, go on where the run in ``folder`` stopped, if
    there is one.

    The last step is always evaluated and saved. ``stop`` sees the metrics of every evaluation and ends the
    run by returning True. Raises ``UsageError`` when the folder already holds a run and ``resume`` is not
    set, or holds a run of another configuration; ``TrainingDiverged`` when a metric or weight is not finite
    (the last good state stays); ``TrainingInterrupted`` after Ctrl-C or SIGTERM, once the step at hand is
    done and saved; ``FolderInUse`` when another process trains there.
    """
    if steps < 1:
        raise OutOfRange(f"steps must be at least 1, not {steps}")
    run = _Run(trainee, RunFolder(folder), steps, label)
    with run.folder.owned(), progress(label, steps) as bar, _stop_signals() as asked:
        run.start(resume)
        while run.done < steps and not run.stopped:
            run.step(bar)
            if run.done == steps or _is(evaluate_at, run.done):
                metrics = run.evaluate(bar)
                run.stopped = stop is not None and stop(metrics)
                if on_evaluate is not None:
                    on_evaluate(run.done, metrics)
            # a state is saved once all that belongs to its step is done: what goes on from it does not do it
            # again
            if _is(checkpoint_at, run.done):
                run.checkpoint()
            elif time.monotonic() - run.saved > STATE_SECONDS:
                run.save()
            if asked.signal is not None and run.done < steps:
                run.save()
                raise TrainingInterrupted(
                    f"stopped after step {run.done} of {steps}; go on with --resume --out {run.folder.path}"
                )
        return run.finish()


@dataclasses.dataclass
class _Run:
    """A run in progress: the trainee, its folder, and what has been measured so far."""

    trainee: Trainee
    folder: RunFolder
    steps: int
    label: str
    done: int = 0
    seconds_before: float = 0.0
    resumed_from: int | None = None
    stopped: bool = False
    rows: list[dict[str, float | int]] = dataclasses.field(default_factory=list)
    evaluated: dict[str, float] = dataclasses.field(default_factory=dict)
    started: float = dataclasses.field(default_factory=time.monotonic)
    saved: float = dataclasses.field(default_factory=time.monotonic)

    @property
    def seconds(self) -> float:
        return self.seconds_before + time.monotonic() - self.started

    def start(self, resume: bool) -> None:
        if self.folder.started and not resume:
            raise UsageError(
                f"{self.folder.path} already holds a run; go on with --resume, or choose another --out"
            )
        self.folder.check_config(self.trainee.config())
        state = self.folder.read_state() if resume else None
        if state is None:
            self.folder.write_config(self.trainee.config())
            return
        try:
            self._take(state)
        except (KeyError, IndexError, TypeError, ValueError, AttributeError, RuntimeError) as error:
            raise BadCheckpoint(
                f"the state in {self.folder.path} is not one that this run can go on from ({brief(error)}); start again with another --out"
            ) from error
        self.folder.write_metrics(self.rows)

    def _take(self, state: dict[str, Any]) -> None:
        """Go on from a state; raises what Python raises where parts are missing, or do not fit together."""
        self.done = self.resumed_from = rebuild(int, state["step"])
        self.seconds_before, self.stopped = rebuild(float, state["seconds"]), rebuild(bool, state["stopped"])
        self.evaluated = rebuild(dict[str, float], state["evaluated"])
        self.rows = self._rows(state)
        last = self.rows[-1]["step"] if self.rows else 0
        if last != self.done or not 0 <= self.seconds_before < math.inf:
            raise ValueError(
                f"it says step {self.done} after {self.seconds_before:.0f} s, and its metrics end at step {last}"
            )
        self.trainee.load_state(state["trainee"])

    def _rows(self, state: dict[str, Any]) -> list[dict[str, float | int]]:
        """The metrics up to the state, from itself (from the table on disk where an older state has none)."""
        if "metrics" in state:
            return table_rows(state["metrics"])
        frame = self.folder.read_metrics(until=self.done)
        return table_rows({str(name): torch.from_numpy(frame[name].to_numpy(copy=True)) for name in frame})

    def step(self, bar: Progress) -> None:
        metrics = self.trainee.step(self.done)
        self._refuse_non_finite(metrics, self.done + 1)
        self.done += 1
        self.rows.append({"step": self.done, "seconds": self.seconds, **metrics})
        bar.done = self.done - 1
        bar.advance()

    def evaluate(self, bar: Progress) -> dict[str, float]:
        metrics = self.trainee.evaluate(self.done)
        self._refuse_non_finite(metrics, self.done)
        self.rows[-1].update(metrics)
        self.evaluated = metrics
        describe = getattr(self.trainee, "describe", None)  # a trainee may know better what to show
        first = " ".join(f"{name} {value:.3g}" for name, value in list(metrics.items())[:3])
        bar.note(describe(metrics) if describe else first)
        return metrics

    def checkpoint(self) -> None:
        self._refuse_non_finite_weights()
        self.folder.write_checkpoint(self.trainee.weights(), self.done)
        self.save()

    def save(self) -> None:
        """The metrics as a table for readers, and the state, which holds them too: a damaged table costs
        nothing."""
        self._refuse_non_finite_weights()
        self.folder.write_metrics(self.rows)
        self.folder.write_state(
            {
                "step": self.done,
                "seconds": self.seconds,
                "stopped": self.stopped,
                "evaluated": self.evaluated,
                "metrics": row_table(self.rows),
                "trainee": self.trainee.state(),
            }
        )
        self.saved = time.monotonic()

    def finish(self) -> TrainingResult:
        if self.rows and self.done != self.resumed_from:
            self.save()
        self.folder.write_weights(self.trainee.weights())
        last = {name: value for name, value in self.rows[-1].items() if name not in ("step", "seconds")}
        return TrainingResult(
            steps=self.done,
            seconds=self.seconds,
            metrics={**last, **self.evaluated},
            folder=str(self.folder.path),
            resumed_from=self.resumed_from,
            stopped_early=self.done < self.steps,
        )

    def _refuse_non_finite(self, metrics: dict[str, float], step: int) -> None:
        for name, value in metrics.items():
            if not math.isfinite(value):
                raise self._diverged(f"{name} is {value}", step)

    def _refuse_non_finite_weights(self) -> None:
        for name, tensor in self.trainee.weights().items():
            if not bool(tensor.isfinite().all()):
                raise self._diverged(f"weight {name!r} is not finite", self.done)

    def _diverged(self, what: str, step: int) -> TrainingDiverged:
        kept = self.folder.path / STATE
        where = (
            f"the last good state is kept in {kept}" if kept.exists() else "no state had been saved before it"
        )
        return TrainingDiverged(f"{what} at step {step}; {where}. Try a lower learning rate")


def row_table(rows: list[dict[str, float | int]]) -> dict[str, Tensor]:
    """Rows as columns, with NaN where a row has no such entry; whole columns of integers stay integers."""
    names = dict.fromkeys(name for row in rows for name in row)
    columns = {name: [row.get(name, math.nan) for row in rows] for name in names}
    return {
        name: torch.tensor(c, dtype=torch.int64 if all(isinstance(v, int) for v in c) else torch.float64)
        for name, c in columns.items()
    }


def table_rows(table: dict[str, Tensor]) -> list[dict[str, float | int]]:
    """The rows of ``row_table``."""
    columns = {name: column.tolist() for name, column in table.items()}
    return [
        {name: value for name, value in zip(columns, values, strict=True) if not math.isnan(value)}
        for values in zip(*columns.values(), strict=True)
    ]


def _is(when: When, done: int) -> bool:
    if isinstance(when, int):
        return when > 0 and done % when == 0
    return when(done) if callable(when) else done in when


@dataclasses.dataclass
class _Asked:
    signal: int | None = None


@contextlib.contextmanager
def _stop_signals() -> Iterator[_Asked]:
    """Note Ctrl-C and SIGTERM instead of raising in the middle of a step; the second one stops at once."""
    asked = _Asked()
    if threading.current_thread() is not threading.main_thread():
        yield asked
        return

    def on_signal(number: int, _frame: Any) -> None:
        if asked.signal is not None:
            raise KeyboardInterrupt
        asked.signal = number

    before = {number: signal.signal(number, on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
