"""``mechfourier analyze`` for the models of every modulus: all tables in one result."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mechfourier.toys.result import WrittenResult
from mechfourier.toys.universal.accuracy import AccuracySweep, sweep_accuracy
from mechfourier.toys.universal.algorithm import Algorithm, study_algorithm
from mechfourier.toys.universal.memory import MemoryEffect, memory_effects
from mechfourier.toys.universal.neurons import (
    Adaptation,
    Flow,
    NeuronTable,
    attention_flow,
    follows_draw,
    neuron_tables,
)
from mechfourier.toys.universal.source import open_miras, right
from mechfourier.toys.universal.task import sample

if TYPE_CHECKING:
    import pandas as pd

MODULI = (15, 23, 35, 55, 113)
BANDS = ((2, 40), (41, 80), (81, 120))


@dataclass(frozen=True)
class Band:
    """Accuracy on random questions of the moduli ``low`` to ``high`` after ``step`` steps of training."""

    step: int
    low: int
    high: int
    accuracy: float


@dataclass(frozen=True)
class MirasAnalysis(
    WrittenResult,
    kind="universal-analysis",
    figure="mechfourier.toys.universal.analysis_figures:adaptation_figure",
    part="mechfourier.toys.universal.analysis_figures:analysis_part",
):
    """A universal model taken apart. ``follows_draw``: correlation of a neuron's frequency with that of its
    draw."""

    model: str
    accuracy: AccuracySweep
    neurons: tuple[NeuronTable, ...]
    adaptation: tuple[Adaptation, ...]
    follows_draw: float
    attention: tuple[Flow, ...]
    memory: tuple[MemoryEffect, ...]
    interference: tuple[Band, ...]
    algorithm: Algorithm | None

    def frame(self) -> "pd.DataFrame":
        """The neurons at every modulus, one row per layer, neuron and modulus."""
        import pandas as pd

        return pd.DataFrame([vars(row) for row in self.adaptation])

    def summary(self) -> dict[str, Any]:
        """What ``--json`` prints: everything but the single neurons."""
        return {key: value for key, value in self.to_dict().items() if key != "adaptation"}

    def tables(self) -> "dict[str, pd.DataFrame]":
        return {"neurons": self.frame()}

    def write(self, folder: str | Path) -> list[Path]:
        """Also the accuracy sweep's files."""
        return [*super().write(folder), *self.accuracy.write(folder)]

    def __str__(self) -> str:
        lines = [str(self.accuracy), "", "neurons at =, best harmonic of (a + b) mod m (R² of single cells):"]
        lines += [
            f"  layer {t.layer}, m = {t.m}: median {t.median_r2:.2f}, best {t.best_r2:.2f}; {t.above:.0%} "
            f"of {t.neurons} above "
            f"noise ({t.bound:.3f}) and the best untrained neuron ({t.untrained:.2f})"
            for t in self.neurons
        ]
        if self.follows_draw == self.follows_draw:
            lines.append(f"  their frequencies against those of their draws: r = {self.follows_draw:.3f}")
        lines += ["attention to m, a, b, =:"]
        lines += [
            f"  m = {f.m}, layer {f.layer}, head {f.head}, from {f.source}: "
            + ", ".join(f"{w:.2f}" for w in f.weights)
            for f in self.attention
        ]
        lines += [
            f"memory {e.what}: accuracy {e.accuracy:.1%}, follows the donor {e.follows_donor:.1%}"
            for e in self.memory
        ]
        lines += [f"after {b.step} steps, m {b.low}–{b.high}: {b.accuracy:.1%}" for b in self.interference]
        return "\n".join(lines + ([str(self.algorithm)] if self.algorithm else []))


def analyze(run: str | Path | Any, *, over_run: bool = True, seed: int = 0) -> MirasAnalysis:
    """Accuracy, neurons, attention, memory, interference over the run's checkpoints, and (by value) the
    algorithm.

    ``over_run=False`` leaves the checkpoints alone. Raises ``UsageError`` for another architecture.
    """
    opened = open_miras(run)
    model = opened.model
    moduli = tuple(m for m in MODULI if m <= model.cfg.largest_modulus)
    tables, rows = neuron_tables(model, moduli, seed=seed)
    flows = tuple(
        flow for m in dict.fromkeys((moduli[0], moduli[-1])) for flow in attention_flow(model, m, seed=seed)
    )
    by_value = hasattr(model, "written")
    return MirasAnalysis(
        model=opened.name,
        accuracy=sweep_accuracy(run, samples=200, seed=seed),
        neurons=tables,
        adaptation=rows,
        follows_draw=follows_draw(model, rows),
        attention=flows,
        memory=memory_effects(model, tuple(range(10, min(120, model.cfg.largest_modulus) + 1)), seed=seed),
        interference=interference(run, seed=seed) if over_run else (),
        algorithm=study_algorithm(model, seed=seed) if by_value else None,
    )


def interference(run: str | Path | Any, *, count: int = 600, seed: int = 0) -> tuple[Band, ...]:
    """Accuracy of small, medium and large moduli at every checkpoint of a run: do the medium ones suffer
    while the large ones are learned? Empty where there are no checkpoints."""
    import torch

    folder = Path(run) / "checkpoints" if isinstance(run, str | Path) else None
    if folder is None or not folder.is_dir():
        return ()
    found = []
    for path in sorted(folder.glob("step-*.safetensors")):
        model, step = open_miras(path).model, int(path.stem.removeprefix("step-"))
        for low, high in BANDS:
            pool = range(low, min(high, model.cfg.largest_modulus) + 1)
            questions = sample(pool, count, torch.Generator().manual_seed(seed)) if pool else None
            if questions is not None:
                found.append(Band(step, low, high, float(right(model, questions).double().mean())))
    return tuple(found)
