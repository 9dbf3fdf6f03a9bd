"""Stability: does the same question, asked of several trainings of one model, get the same answer?

Seeds and checkpoints are different models. What should repeat is the verdict, whether the circle is used, how much
turns with it, and which harmonics there are. Planes themselves can only be compared where the runs share their
coordinates: checkpoints of one training do, other seeds do not, and their planes then lie as random ones would.
"""

import itertools
import shutil
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float
from torch import Tensor

from mechfourier._arguments import checked, refuse_repeated
from mechfourier.causal.experiment import Experiment
from mechfourier.causal.study import StudyResult, study
from mechfourier.causal.subspaces import harmonic_subspace
from mechfourier.domains.definition import Domain
from mechfourier.domains.definition import domain as find_domain
from mechfourier.errors import MechFourierError, UsageError
from mechfourier.files import own_path
from mechfourier.hooks.site import Site
from mechfourier.models.architectures import run_folder
from mechfourier.models.folder import CONFIG, WEIGHTS
from mechfourier.models.registry import load
from mechfourier.progress import progress
from mechfourier.results.base import Result
from mechfourier.stats.intervals import clopper_pearson
from mechfourier.stats.permutation import permutation_p
from mechfourier.stats.planes import overlap, principal_angles

if TYPE_CHECKING:
    import pandas as pd

RANDOM = 1000  # random planes that an overlap is compared with


@dataclass(frozen=True)
class Run:
    """One model: its study in short. ``exact_share``: share of prompts and turns that move the answer by exactly δ,
    with its 95 % interval (None where nothing was turned)."""

    name: str
    verdict: str
    used: str
    task: str | None
    accuracy: float | None
    site: str | None
    position: str | None
    ks: tuple[int, ...]
    power_share: float | None
    exact_share: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True)
class PlanePair:
    """The plane of harmonic ``k`` at one place in two runs: principal angles in degrees, their mean squared cosine
    (``overlap``, 0 to 1) beside the mean of random planes and its p (one-sided)."""

    first: str
    second: str
    k: int
    angles: tuple[float, ...]
    overlap: float
    random_overlap: float
    p_value: float


@dataclass(frozen=True)
class StabilityResult(Result, kind="stability", figure="mechfourier.figures.stability:stability_figure"):
    """``verdict`` and ``used``: the commonest ones, with how many of the ``n_runs`` runs have them and the exact 95 %
    interval of that share. ``common_ks``: harmonics that every turned run has. ``planes``: of these (or, where there
    are none, of those that two runs share) at ``site`` and ``position``."""

    domain: str
    n: int
    n_runs: int
    runs: tuple[Run, ...]
    verdict: str
    verdict_count: int
    verdict_ci: tuple[float, float]
    used: str
    used_count: int
    used_ci: tuple[float, float]
    common_ks: tuple[int, ...]
    share_mean: float | None
    share_sd: float | None
    site: str | None
    position: str | None
    planes: tuple[PlanePair, ...]
    notes: tuple[str, ...]
    seed: int

    def frame(self) -> "pd.DataFrame":
        """One row per run."""
        import pandas as pd

        return pd.DataFrame([vars(run) | {"ks": ", ".join(map(str, run.ks))} for run in self.runs])

    def plane_frame(self) -> "pd.DataFrame":
        """One row per pair of runs and harmonic."""
        import pandas as pd

        rows = [vars(p) | {"angles": ", ".join(f"{a:.0f}°" for a in p.angles)} for p in self.planes]
        return pd.DataFrame(rows)

    def __str__(self) -> str:
        (a, b), (c, d) = self.verdict_ci, self.used_ci
        lines = [
            f"{self.domain} in {self.n_runs} runs: {self.verdict} in {self.verdict_count} (95 % {a:.0%} to {b:.0%} of "
            f"runs), {self.used} in {self.used_count} ({c:.0%} to {d:.0%})"
        ]
        if self.share_mean is not None:
            lines.append(
                f"answers that move by exactly δ: {self.share_mean:.1%} on average, standard deviation between runs "
                f"{self.share_sd or 0.0:.1%}; harmonics that every run has: "
                f"{', '.join(map(str, self.common_ks)) or 'none'}"
            )
        if self.planes:
            overlaps = [pair.overlap for pair in self.planes]
            chance = np.mean([pair.random_overlap for pair in self.planes])
            lines.append(
                f"planes at {self.site} ({self.position} token): overlap {np.mean(overlaps):.3f} on average "
                f"({min(overlaps):.3f} to {max(overlaps):.3f}; random planes {chance:.3f})"
            )
        for run in self.runs:
            share = (
                ""
                if run.exact_share is None
                else f", {run.exact_share:.1%} [{run.low:.1%}, {run.high:.1%}] exact"
            )
            where = "" if run.site is None else f" at {run.site}, k = {', '.join(map(str, run.ks))}"
            lines.append(f"  {run.name}: {run.verdict}, {run.used}{where}{share}")
        return "\n".join([*lines, *(f"note: {note}" for note in self.notes)])


@checked
def stability(
    models: Sequence[str],
    domain: Domain | str,
    *,
    site: Site | str | None = None,
    position: str | None = None,
    engine: str = "auto",
    device: str = "auto",
    seed: int = 0,
    **options: Any,
) -> StabilityResult:
    """``study`` of every model (names, folders, or checkpoints of a run by their files), one after the other, and what repeats.

    ``site``, ``position`` and ``options`` go to ``study``. Planes are compared at ``site``, or where the first run
    was turned. Raises ``UsageError`` for fewer than two models, and what ``study`` raises.
    """
    if len(models) < 2:
        raise UsageError("give two models or more: seeds or checkpoints of one kind")
    refuse_repeated("models", (str(own_path(each).resolve()) for each in models))
    chosen = domain if isinstance(domain, Domain) else find_domain(domain)
    found: list[StudyResult] = []
    means: list[Tensor | None] = []
    place: tuple[str, str] | None = None if site is None else (str(site), position or "value")
    with progress("runs", total=len(models)) as bar:
        for name in models:
            loaded = opened(name, engine, device)
            each = study(loaded, chosen, site=site, position=position, seed=seed, **options)
            place = place or (None if each.site is None else (each.site, each.position or "value"))
            found.append(each)
            means.append(_means(loaded, chosen, each.task, place, seed))
            bar.advance(1)
    runs = [_run(name, each) for name, each in zip(models, found, strict=True)]
    return _result(chosen, runs, means, place, seed)


def opened(name: str, engine: str = "auto", device: str = "auto") -> Any:
    """A model by name or folder, or one checkpoint of a run by its file; raises what `mechfourier.load` raises."""
    path = Path(name)
    folder = run_folder(path) if path.suffix == ".safetensors" else None
    if folder is None:
        return load(name, engine=engine, device=device)
    with tempfile.TemporaryDirectory() as alone:  # a folder of a model holds one file of weights
        shutil.copy(folder / CONFIG, alone)
        shutil.copy(path, Path(alone) / WEIGHTS)
        model = load(alone, engine=engine, device=device)
    model.mechfourier_name = str(name)  # type: ignore[attr-defined]
    return model


def _run(name: str, each: StudyResult) -> Run:
    turned = each.rotation
    low, high = (None, None) if turned is None else turned.exact_ci
    return Run(
        name=str(name),
        verdict=each.verdict,
        used=each.used,
        task=each.task,
        accuracy=each.accuracy,
        site=each.site,
        position=each.position,
        ks=each.ks,
        power_share=None if turned is None else turned.power_share,
        exact_share=None if turned is None else turned.exact_share,
        low=low,
        high=high,
    )


def _means(
    model: Any, domain: Domain, task: str | None, place: tuple[str, str] | None, seed: int
) -> Float[Tensor, "n d"] | None:
    """The class means at the place where planes are compared; None where the model has no such place."""
    if place is None:
        return None
    try:
        return Experiment.of(model, domain, task=task, seed=seed).at(*place).means
    except MechFourierError:
        return None


def _result(
    domain: Domain,
    runs: Sequence[Run],
    means: Sequence[Tensor | None],
    place: tuple[str, str] | None,
    seed: int,
) -> StabilityResult:
    (verdict, verdicts), (used, uses) = (
        Counter(getattr(run, name) for run in runs).most_common(1)[0] for name in ("verdict", "used")
    )
    turned = [run for run in runs if run.ks]
    common = set.intersection(*(set(run.ks) for run in turned)) if turned else set()
    shares = [run.exact_share for run in runs if run.exact_share is not None]
    planes, notes = compared_planes([run.name for run in runs], [run.ks for run in runs], means, seed)
    return StabilityResult(
        domain=domain.name,
        n=domain.n,
        n_runs=len(runs),
        runs=tuple(runs),
        verdict=verdict,
        verdict_count=verdicts,
        verdict_ci=clopper_pearson(verdicts, len(runs)),
        used=used,
        used_count=uses,
        used_ci=clopper_pearson(uses, len(runs)),
        common_ks=tuple(sorted(common)),
        share_mean=float(np.mean(shares)) if shares else None,
        share_sd=float(np.std(shares, ddof=1)) if len(shares) > 1 else None,
        site=place[0] if place else None,
        position=place[1] if place else None,
        planes=tuple(planes),
        notes=tuple(notes),
        seed=seed,
    )


def compared_planes(
    names: Sequence[str],
    ks: Sequence[Sequence[int]],
    means: Sequence[Float[Tensor, "n d"] | None],
    seed: int,
) -> tuple[list[PlanePair], list[str]]:
    """Every harmonic that two runs share, in every pair of runs of one width."""
    found, notes = [], []
    rng = np.random.default_rng(seed)
    for i, j in itertools.combinations(range(len(names)), 2):
        first, second = means[i], means[j]
        if first is None or second is None or first.shape != second.shape:
            notes.append(
                f"{names[i]} and {names[j]} have no place of one width in common: planes not compared"
            )
            continue
        null = _random_overlaps(first.shape[1], rng)
        for k in sorted(set(ks[i]) & set(ks[j])):
            planes = [harmonic_subspace(each, (k,)).basis.double().numpy() for each in (first, second)]
            own = float(overlap(*planes))
            angles = tuple(principal_angles(*planes).tolist())
            p = permutation_p(own, null)
            found.append(PlanePair(names[i], names[j], k, angles, own, float(null.mean()), p))
    if found and all(pair.p_value > 0.05 for pair in found):
        notes.append(
            "no plane lies nearer to that of another run than random planes do: the runs share no coordinates"
        )
    return found, notes


def _random_overlaps(d: int, rng: np.random.Generator) -> Float[np.ndarray, " draw"]:
    """Overlap of a fixed plane with random ones."""
    draws = np.linalg.qr(rng.standard_normal((RANDOM, d, 2)))[0]
    return (draws[:, :2] ** 2).sum((1, 2)) / 2
