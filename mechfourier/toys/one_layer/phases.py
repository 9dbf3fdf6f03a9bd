"""The phases of grokking, read off the progress measures (Nanda et al. 2023, section 5.2).

- *memorisation* ends where the training accuracy first reaches 99 %;
- *circuit formation* ends where the test loss starts its last fall: the last step at which it stands at half
  or more of its highest value since memorisation;
- *clean-up* ends where the test accuracy reaches 99 % for good.

Three phases are claimed only where the test accuracy was still below 50 % when memorisation ended, and,
during circuit formation, the excluded loss on the training pairs rose while the restricted loss fell: the
signs that the generalising circuit grew before it showed.
"""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mechfourier.errors import UsageError
from mechfourier.results.base import Result
from mechfourier.toys.one_layer.curves import ProgressCurves

if TYPE_CHECKING:
    import pandas as pd

LEARNED = 0.99


@dataclass(frozen=True)
class Phases(Result, kind="phases"):
    """Steps at which a phase ended (None where it did not). ``verdict``: ``three phases``, ``no plateau`` (it
    generalised as it learned), ``memorised`` or ``not learned``. The losses are those at the ends of the
    first two phases."""

    verdict: str
    memorised_at: int | None
    clean_up_from: int | None
    generalised_at: int | None
    excluded_loss_before: float
    excluded_loss_after: float
    restricted_loss_before: float
    restricted_loss_after: float

    def frame(self) -> "pd.DataFrame":
        """One row per phase: its name, first and last step."""
        import pandas as pd

        ends = (0, self.memorised_at, self.clean_up_from, self.generalised_at)
        names = ("memorisation", "circuit formation", "clean-up")
        return pd.DataFrame(
            [{"phase": name, "from": a, "to": b} for name, a, b in zip(names, ends, ends[1:], strict=False)]
        )

    def plot(self) -> Any:
        """The phases as bars along the steps."""
        import plotly.graph_objects as go

        frame = self.frame().dropna()
        bars = go.Bar(y=frame["phase"], x=frame["to"] - frame["from"], base=frame["from"], orientation="h")
        return go.Figure(bars).update_layout(xaxis_title="step", template="plotly_white")

    def __str__(self) -> str:
        if self.verdict != "three phases":
            reached = [
                "never" if at is None else f"at step {at}" for at in (self.memorised_at, self.generalised_at)
            ]
            return f"phases            {self.verdict} (train 99 % {reached[0]}, test 99 % {reached[1]})"
        return (
            f"phases            memorisation to step {self.memorised_at}, circuit formation to "
            f"{self.clean_up_from} "
            f"(excluded loss {self.excluded_loss_before:.2g} → {self.excluded_loss_after:.2g}), "
            f"clean-up to {self.generalised_at}"
        )


def find_phases(curves: ProgressCurves) -> Phases:
    """Phases of a run; raises ``UsageError`` where the train/test split is unknown or there are fewer than 3
    checkpoints."""
    if len(curves.step) < 3:
        raise UsageError(f"{len(curves.step)} checkpoints are too few to find phases; keep at least 3")
    if any(math.isnan(value) for value in curves.loss_test):
        raise UsageError(f"the train/test split of {curves.name} is unknown, so no phase can be told")
    memorised = next((i for i, acc in enumerate(curves.accuracy_train) if acc >= LEARNED), None)
    generalised = _for_good(curves.accuracy_test)
    if memorised is None:
        return _verdict(curves, "not learned", None, None, generalised)
    if generalised is None:
        return _verdict(curves, "memorised", memorised, None, None)
    start = _last_fall(curves.loss_test, memorised, generalised)
    three = (
        memorised < start < generalised
        and curves.accuracy_test[memorised] < 0.5
        and curves.excluded_loss_train[start] > curves.excluded_loss_train[memorised]
        and curves.restricted_loss[start] < curves.restricted_loss[memorised]
    )
    return _verdict(curves, "three phases" if three else "no plateau", memorised, start, generalised)


def _for_good(accuracy: tuple[float, ...]) -> int | None:
    """The first index from which the accuracy stays at ``LEARNED`` or above."""
    below = [i for i, value in enumerate(accuracy) if value < LEARNED]
    first = below[-1] + 1 if below else 0
    return first if first < len(accuracy) else None


def _last_fall(loss: tuple[float, ...], start: int, stop: int) -> int:
    """The last index in start..stop whose loss is at least half of the highest there."""
    if stop <= start:
        return start
    window = loss[start : stop + 1]
    return start + max(i for i, value in enumerate(window) if value >= 0.5 * max(window))


def _verdict(
    curves: ProgressCurves, verdict: str, memorised: int | None, start: int | None, generalised: int | None
) -> Phases:
    def at(values: tuple[float, ...], index: int | None) -> float:
        return math.nan if index is None else values[index]

    def step(index: int | None) -> int | None:
        return None if index is None else curves.step[index]

    return Phases(
        verdict,
        step(memorised),
        step(start),
        step(generalised),
        at(curves.excluded_loss_train, memorised),
        at(curves.excluded_loss_train, start),
        at(curves.restricted_loss, memorised),
        at(curves.restricted_loss, start),
    )
