"""Accuracy for every modulus, with the questions that wrap apart from those that do not."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from mechfourier.errors import OutOfRange, UsageError
from mechfourier.stats.intervals import wilson
from mechfourier.toys.result import WrittenResult
from mechfourier.toys.universal.source import Opened, open_miras, right
from mechfourier.toys.universal.task import SMALLEST, boundary, check_modulus, grid, random_questions, wraps

if TYPE_CHECKING:
    import pandas as pd

SAMPLES = 2000
BEYOND = (251, 499, 997)  # moduli far above the trained range, reported where the model reads them


@dataclass(frozen=True)
class ModulusAccuracy:
    """One modulus. ``questions`` were asked (all m² where ``whole``); the wrapping ones (a + b ≥ m) apart;
    NaN where there was none. ``never_wrap`` is what answering a + b would score on the same questions;
    ``boundary_errors`` of the 2m − 1 questions with a + b − m ∈ {−1, 0}."""

    m: int
    role: str
    questions: int
    whole: bool
    errors: int
    accuracy: float
    low: float
    high: float
    wrap_accuracy: float
    no_wrap_accuracy: float
    never_wrap: float
    boundary_errors: int
    boundary_questions: int


@dataclass(frozen=True)
class Group:
    """The moduli of one role together."""

    role: str
    moduli: int
    questions: int
    errors: int
    accuracy: float
    never_wrap: float
    boundary_errors: int
    boundary_questions: int


def _group(role: str, rows: Sequence[ModulusAccuracy]) -> Group:
    questions, errors = sum(row.questions for row in rows), sum(row.errors for row in rows)
    return Group(
        role,
        len(rows),
        questions,
        errors,
        1 - errors / questions,
        sum(row.never_wrap * row.questions for row in rows) / questions,
        sum(row.boundary_errors for row in rows),
        sum(row.boundary_questions for row in rows),
    )


@dataclass(frozen=True)
class AccuracySweep(
    WrittenResult,
    kind="universal-accuracy",
    figure="mechfourier.toys.universal.figures:extrapolation_figure",
    part="mechfourier.toys.universal.figures:accuracy_part",
):
    """Accuracy by modulus. Answers are the best of the numbers ``lowest``..``highest``, none masked;
    ``lowest`` is negative where the model reads numbers by value: with no number below 0 to choose, the edge
    of the candidates would rule out a + b − m < 0 by itself."""

    stem = "accuracy"

    model: str
    trained_to: int
    lowest: int
    highest: int
    seed: int
    moduli: tuple[ModulusAccuracy, ...]

    def frame(self) -> "pd.DataFrame":
        """One row per modulus."""
        import pandas as pd

        return pd.DataFrame([vars(row) for row in self.moduli])

    def groups(self) -> tuple["Group", ...]:
        """Trained, held-out and beyond, each as a whole; shares are over questions."""
        roles = dict.fromkeys(row.role for row in self.moduli)
        return tuple(_group(role, [row for row in self.moduli if row.role == role]) for role in roles)

    def summary(self) -> dict[str, Any]:
        """What ``--json`` prints."""
        return {
            "model": self.model,
            "trained_to": self.trained_to,
            "lowest": self.lowest,
            "highest": self.highest,
            "seed": self.seed,
            "groups": [vars(group) for group in self.groups()],
            "moduli": self.to_dict()["moduli"],
        }

    def __str__(self) -> str:
        lines = [f"{self.model}: (a + b) mod m, the best of {self.lowest} to {self.highest}, none masked"]
        for row in self.groups():
            lines.append(
                f"{row.role:>9}: {row.moduli} moduli, {row.errors} of {row.questions} wrong "
                f"({row.accuracy:.2%}; never wrapping {row.never_wrap:.2%}); "
                f"next to the wrap {row.boundary_errors} of {row.boundary_questions} wrong"
            )
        worst = sorted(self.moduli, key=lambda row: row.accuracy)[:5]
        lines += [
            f"    m = {row.m}: {row.accuracy:.2%} (wrap {row.wrap_accuracy:.2%}, no wrap "
            f"{row.no_wrap_accuracy:.2%}, "
            f"never wrapping {row.never_wrap:.2%})"
            for row in worst
            if row.errors
        ]
        return "\n".join(lines)


def sweep_accuracy(
    run: str | Path | Any,
    *,
    largest: int | None = None,
    samples: int | None = None,
    full: bool = False,
    seed: int = 0,
    only: Sequence[int] | None = None,
) -> AccuracySweep:
    """Accuracy for every modulus 2..``largest`` (199 and some larger ones by default), or of ``only`` these.

    Up to ``samples`` random questions per modulus (2000): the whole grid where it is no larger; ``full`` asks
    whole grids throughout. All questions next to the wrap are asked besides. Raises ``OutOfRange`` and
    ``UsageError``.
    """
    opened = open_miras(run)
    chosen = _chosen(opened, largest, only)
    asked = 0 if full else SAMPLES if samples is None else samples
    rows = tuple(measure(opened, m, samples=asked, seed=seed) for m in chosen)
    highest = int(opened.model.cfg.d_vocab_out) - 1
    lowest = -highest if hasattr(opened.model, "written") else 0
    return AccuracySweep(opened.name, opened.split.largest, lowest, highest, seed, rows)


def _chosen(opened: Opened, largest: int | None, only: Iterable[int] | None) -> tuple[int, ...]:
    if only is not None:
        chosen = tuple(check_modulus(m) for m in only)
        if not chosen:
            raise UsageError("no modulus to measure; name at least one")
        return chosen
    limit = int(opened.model.cfg.largest_modulus)
    if largest is None:
        return (*range(SMALLEST, min(199, limit) + 1), *(m for m in BEYOND if m <= limit))
    if check_modulus(largest) > limit:
        raise OutOfRange(opened.model.cfg.too_large(largest))
    return tuple(range(SMALLEST, largest + 1))


def measure(opened: Opened, m: int, *, samples: int, seed: int) -> ModulusAccuracy:
    """The accuracy at one modulus; ``samples`` 0 asks every question."""
    whole = samples == 0 or m * m <= samples
    questions = grid(m) if whole else random_questions(m, samples, seed=seed * 100_003 + m)
    hit, over = right(opened.model, questions), wraps(questions)
    edge = boundary(m)
    missed = int((~right(opened.model, edge)).sum())
    low, high = wilson(int(hit.sum()), len(hit))
    return ModulusAccuracy(
        m=m,
        role=opened.role(m),
        questions=len(questions),
        whole=whole,
        errors=int((~hit).sum()),
        accuracy=_share(hit),
        low=low,
        high=high,
        wrap_accuracy=_share(hit[over]),
        no_wrap_accuracy=_share(hit[~over]),
        never_wrap=_share(~over),
        boundary_errors=missed,
        boundary_questions=len(edge),
    )


def _share(hit: Tensor) -> float:
    return float(hit.double().mean()) if len(hit) else float("nan")
