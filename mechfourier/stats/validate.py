"""The planted benchmark: how often each verdict is given where the answer is known, beside the naive
method."""

import dataclasses
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from mechfourier._arguments import checked
from mechfourier.errors import OutOfRange
from mechfourier.progress import progress
from mechfourier.results.base import Result
from mechfourier.stats.intervals import wilson
from mechfourier.stats.naive import class_means, naive_circular
from mechfourier.stats.operation import analyse_operation
from mechfourier.stats.operation_verdict import verdict_operation
from mechfourier.stats.planted import OPERATIONS, Generator, find, planted_operation
from mechfourier.stats.planted_operations import FURTHER
from mechfourier.stats.planted_values import VALUES, planted_value
from mechfourier.stats.value import analyse_value
from mechfourier.stats.verdict import verdict_value

if TYPE_CHECKING:
    import pandas as pd

FALSE_BAR, POWER_BAR = 0.05, 0.95
POWER_FROM = 12
"""The power bar holds from this n on, at a signal-to-noise ratio of 1 or more."""
DRAWS = 199
BOOTSTRAP = 199
"""Draws of the contest of shapes from every fitted shape; fewer cannot reach the level of its second try."""
QUICK_TRIALS = 6
TEMPLATES = 8
FEW = 40


@dataclass(frozen=True)
class Cell:
    """One generator at one size. ``kind``: "operation" (``cycles`` cycles of offsets) or "value" (8
    templates)."""

    kind: str
    name: str
    n: int
    cycles: int = 4
    layers: int = 1
    d_model: int = 64
    snr: float = 1.0

    @property
    def generator(self) -> Generator:
        return find(self.name, (*OPERATIONS, *FURTHER) if self.kind == "operation" else VALUES)

    @property
    def key(self) -> str:
        return (
            f"{self.kind}/{self.name}/n{self.n}/c{self.cycles}/l{self.layers}/d{self.d_model}/snr{self.snr:g}"
        )


@dataclass(frozen=True)
class CellResult:
    """Verdicts of ``trials`` draws. ``circular`` and ``naive``: how many were called a circle, by us and by
    best R² > 0.9. ``low``, ``high``: 95 % Wilson interval of the rate of ``circular``; ``planted``: it is a
    circle."""

    kind: str
    name: str
    n: int
    cycles: int
    layers: int
    d_model: int
    snr: float
    trials: int
    circular: int
    naive: int
    planted: bool
    low: float
    high: float
    words: dict[str, int]

    @property
    def rate(self) -> float:
        return self.circular / self.trials

    @property
    def has_bar(self) -> bool:
        """Power is asked for from n = 12 and a signal-to-noise ratio of 1; false verdicts are barred
        everywhere."""
        return not self.planted or (self.n >= POWER_FROM and self.snr >= 1)

    @property
    def passed(self) -> bool:
        """Is the rate within its bar? Of fewer than ``FEW`` draws a single one is more than 5 %: there only
        an interval that excludes the bar fails."""
        if not self.has_bar:
            return True
        few = self.trials < FEW
        if self.planted:
            return (self.high if few else self.rate) >= POWER_BAR
        return (self.low if few else self.rate) <= FALSE_BAR


@dataclass(frozen=True)
class Validation(Result, kind="validation", command="validate"):
    """Results of the planted benchmark. ``passed``: every generator at every size is within its bar."""

    seed: int
    generators: tuple[CellResult, ...]
    passed: bool

    def frame(self) -> "pd.DataFrame":
        """One row per generator and size."""
        import pandas as pd

        return pd.DataFrame(
            [{**dataclasses.asdict(r), "rate": r.rate, "passed": r.passed} for r in self.generators]
        )

    def failures(self) -> tuple[CellResult, ...]:
        return tuple(result for result in self.generators if not result.passed)


def run_cell(cell: Cell, *, trials: int, seed: int) -> CellResult:
    """Draw, analyse and decide ``trials`` times. The draws depend on ``seed`` and the cell alone."""
    trial = partial(_operation_trial if cell.kind == "operation" else _value_trial, cell)
    base = zlib.crc32(cell.key.encode()) + 1_000_003 * seed
    outcomes = [trial(base + 7919 * index) for index in range(trials)]
    words = Counter(word for word, _ in outcomes)
    circular = words["circular"]
    return CellResult(
        **dataclasses.asdict(cell),
        trials=trials,
        circular=circular,
        naive=sum(naive for _, naive in outcomes),
        planted=cell.generator.circular,
        low=wilson(circular, trials)[0],
        high=wilson(circular, trials)[1],
        words=dict(sorted(words.items())),
    )


def _operation_trial(cell: Cell, seed: int) -> tuple[str, bool]:
    acts = planted_operation(
        cell.generator,
        n=cell.n,
        cycles=cell.cycles,
        layers=cell.layers,
        d_model=cell.d_model,
        snr=cell.snr,
        seed=seed,
    )
    evidence = analyse_operation(acts, n=cell.n, permutations=DRAWS, surrogates=DRAWS, seed=seed % 2**31)
    return verdict_operation(evidence).word, naive_circular(class_means(acts))


def _value_trial(cell: Cell, seed: int) -> tuple[str, bool]:
    acts = planted_value(
        cell.generator,
        n=cell.n,
        templates=TEMPLATES,
        layers=cell.layers,
        d_model=cell.d_model,
        snr=cell.snr,
        seed=seed,
    )
    evidence = analyse_value(
        acts, permutations=DRAWS, seed=seed % 2**31, dimensions=False, bootstrap=BOOTSTRAP
    )
    return verdict_value(evidence).word, naive_circular(acts.mean(2))


def summary(results: Iterable[CellResult], *, seed: int) -> Validation:
    """Results with the verdict over all of them."""
    kept = tuple(results)
    return Validation(seed, kept, bool(kept) and all(result.passed for result in kept))


@checked
def validate(
    *,
    seed: int = 0,
    trials: int = QUICK_TRIALS,
    cells: Sequence[Cell] | None = None,
    done: Callable[[CellResult], None] | None = None,
) -> Validation:
    """Run ``cells`` (the quick selection by default, about a minute on two cores). ``done`` hears of every
    result."""
    if trials < 1:
        raise OutOfRange(f"{trials} trials; use at least 1")
    chosen = quick_cells() if cells is None else list(cells)
    results: list[CellResult] = []
    with progress("validate", len(chosen)) as bar:
        for cell in chosen:
            bar.note(cell.key)
            results.append(run_cell(cell, trials=trials, seed=seed))
            if done is not None:
                done(results[-1])
            bar.advance()
    return summary(results, seed=seed)


def quick_cells() -> list[Cell]:
    """Every kind of generator once or twice, at small sizes."""
    operations = [Cell("operation", generator.name, 12) for generator in OPERATIONS]
    small = ("white", "autocorrelated", "smooth-8", "digits", "modular-16", "label-arc", "circle")
    operations += [Cell("operation", name, 7) for name in small]
    values = [Cell("value", generator.name, 12, cycles=1) for generator in VALUES]
    few = [Cell("value", name, 7, cycles=1) for name in ("circle", "white", "arc", "token-identity")]
    return operations + values + few


def full_cells() -> list[Cell]:
    """The whole benchmark, the sizes that matter most first."""
    cells: list[Cell] = []
    for n, cycles in ((12, 4), (7, 4), (24, 3), (23, 3), (26, 3)):
        cells += [Cell("operation", generator.name, n, cycles) for generator in OPERATIONS]
        cells += [Cell("value", generator.name, n, 1) for generator in VALUES]
    cells += _noisy_and_loud() + _wide_and_deep()
    single = ("circle-k2", "white", "smooth-8", "random-sum-2", "random-sum-16", "modular-16")
    cells += [Cell("operation", name, n, 1) for n in (12, 13, 23, 24) for name in single]
    return list(dict.fromkeys(cells))


CIRCLES = ("circle", "circle-basis", "circle+random-sum")
LOOK_ALIKES = (
    "autocorrelated",
    "relu+steps+digits",
    "digits",
    "smooth-2",
    "smooth-8",
    "random-sum-2",
    "modular-2",
    "modular-16",
    "label-arc",
)


def _noisy_and_loud() -> list[Cell]:
    """Circles in ever more noise, look-alikes in more and in less. At 1/32 and d 64 a circle equals the noise
    in its plane."""
    cells: list[Cell] = []
    for snr in (1 / 32, 1 / 128, 1 / 512):
        cells += [
            Cell("operation", name, n, 4 if n < 20 else 3, snr=snr) for n in (7, 12, 24) for name in CIRCLES
        ]
        cells += [Cell("value", "circle", n, 1, snr=snr * 4) for n in (7, 12, 24)]
    for snr in (1 / 32, 8.0):
        cells += [Cell("operation", name, n, 4, snr=snr) for n in (7, 12) for name in LOOK_ALIKES]
        cells += [
            Cell("value", name, 12, 1, snr=snr)
            for name in ("ramp", "arc", "smooth-16", "walk-16", "token-identity")
        ]
    return cells


def _wide_and_deep() -> list[Cell]:
    """d_model up to 1024 and up to 28 layers."""
    names = (
        "circle",
        "circle-basis",
        "white",
        "autocorrelated",
        "smooth-8",
        "random-sum-2",
        "modular-16",
        "label-arc",
    )
    cells: list[Cell] = []
    for n in (12, 7):
        cells += [Cell("operation", name, n, 4, 1, 1024) for name in names]
        cells += [Cell("operation", name, n, 4, 28, 64) for name in names]
    cells += [Cell("operation", name, 12, 4, 1, 1024, snr=1 / 512) for name in ("circle", "circle-basis")]
    for generator in VALUES:
        cells += [Cell("value", generator.name, 12, 1, 1, 1024), Cell("value", generator.name, 12, 1, 28, 64)]
    return cells
