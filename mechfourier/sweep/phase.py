"""The phase diagram of grokking: which runs memorise, which generalise, and when, over two settings."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mechfourier.errors import UsageError
from mechfourier.results.base import Result

if TYPE_CHECKING:
    import pandas as pd

PHASES = ("confused", "memorised", "comprehended", "grokked")
# generalisation this many times later than memorisation is grokking (Liu et al. 2022 use a fixed number of
# steps)
GAP = 2.0


@dataclass(frozen=True)
class Cell(Result, kind="phase-cell"):
    """Runs at one pair of settings, over seeds: shares of the four phases, the 95 % Wilson interval of having
    generalised (comprehended or grokked), and the medians of the epochs at 99 % train and test accuracy (None
    where fewer than half of the runs reached it).
    """

    x: float
    y: float
    runs: int
    confused: float
    memorised: float
    comprehended: float
    grokked: float
    generalised_low: float
    generalised_high: float
    memorised_at: float | None
    generalised_at: float | None


@dataclass(frozen=True)
class PhaseDiagram(Result, kind="phase-diagram", figure="mechfourier.figures.sweeps:phase_figure"):
    """``cells`` over ``x`` and ``y``. The phases are those of Liu et al. (2022, arXiv 2205.10343, their table
    1): *confused* (train accuracy never at 99 %), *memorised* (train only), *comprehended* (test within
    ``gap`` times the epochs of train) and *grokked* (test later than that).
    """

    x: str
    y: str
    gap: float
    cells: tuple[Cell, ...]

    def frame(self) -> "pd.DataFrame":
        """One row per cell."""
        import pandas as pd

        return pd.DataFrame([c.to_dict() for c in self.cells]).rename(columns={"x": self.x, "y": self.y})

    def __str__(self) -> str:
        runs = sum(cell.runs for cell in self.cells)
        shares = [
            f"{sum(getattr(c, phase) * c.runs for c in self.cells) / runs:.0%} {phase}" for phase in PHASES
        ]
        return f"{runs} runs over {self.x} × {self.y}: {', '.join(shares)}"


def phase_of(memorised_at: float | None, generalised_at: float | None, gap: float = GAP) -> str:
    """The phase of one run from the epochs at which train and test accuracy first stood at 99 %."""
    if generalised_at is not None:
        late = memorised_at is not None and generalised_at > gap * memorised_at
        return "grokked" if late else "comprehended"
    return "confused" if memorised_at is None else "memorised"


def phase_diagram(frame: "pd.DataFrame", *, x: str, y: str, gap: float = GAP) -> PhaseDiagram:
    """The diagram of a one-layer sweep's table. Failed runs (diverged) count as confused.

    Raises ``UsageError`` where the table lacks a column.
    """
    missing = [name for name in (x, y, "memorised_at", "grokked_at") if name not in frame]
    if missing:
        raise UsageError(
            f"the table has no column {', '.join(missing)}; the phase diagram is of one-layer sweeps over "
            f"{x} and {y}"
        )
    cells = [
        _cell(float(px), float(py), group, gap)  # pyright: ignore[reportArgumentType]
        for (px, py), group in frame.groupby([x, y], sort=True)  # pyright: ignore[reportGeneralTypeIssues]
    ]
    return PhaseDiagram(x, y, gap, tuple(cells))


def _cell(x: float, y: float, group: "pd.DataFrame", gap: float) -> Cell:
    from mechfourier.stats.intervals import wilson

    train, test = (_optional(group[name].tolist()) for name in ("memorised_at", "grokked_at"))
    phases = [phase_of(a, b, gap) for a, b in zip(train, test, strict=True)]
    runs = len(phases)
    low, high = wilson(sum(p in ("comprehended", "grokked") for p in phases), runs)
    shares: dict[str, Any] = {phase: phases.count(phase) / runs for phase in PHASES}
    return Cell(
        x=x,
        y=y,
        runs=runs,
        **shares,
        generalised_low=low,
        generalised_high=high,
        memorised_at=_median(train),
        generalised_at=_median(test),
    )


def _optional(values: Sequence[Any]) -> list[float | None]:
    return [None if value is None or value != value else float(value) for value in values]


def _median(values: Sequence[float | None]) -> float | None:
    """The median with "never" as infinity; None where it is that."""
    import statistics

    middle = statistics.median([float("inf") if v is None else v for v in values])
    return None if middle == float("inf") else middle
