"""What scoring a dictionary found: its features, families of directions, and circles."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

from mechfourier.results.base import Result
from mechfourier.sae.clusters import Cluster

if TYPE_CHECKING:
    import pandas as pd

LEVEL = 0.05


@dataclass(frozen=True)
class FeatureScore:
    """One feature. ``k``, ``r2``: the harmonic that fits its mean over templates best, and how well;
    ``p_value`` is family-wise over all live features and harmonics; ``share``: of its power between values at
    ``k``, template noise removed; ``active``: share of the prompts that it fires on."""

    feature: int
    k: int
    r2: float
    p_value: float
    share: float
    active: float


@dataclass(frozen=True)
class Family:
    """The same statistics over many directions of one kind: how many, the best, how many below p = .05, the
    mean R² of the ten best, and ``shuffled_r2``, the median best R² where labels are permuted."""

    what: str
    count: int
    best: int
    k: int
    r2: float
    p_value: float
    significant: int
    top_ten_r2: float
    share: float
    shuffled_r2: float = math.nan


@dataclass(frozen=True)
class SAEScore(Result, kind="sae-score", figure="mechfourier.figures.sae:families_figure"):
    """What ``score`` found. ``families``: features, basis dimensions, random directions, and the control's
    features; ``clusters``: groups of features that draw a circle; ``plane_*``: the best plane of the whole
    site; ``random_clusters`` and ``control_clusters``: the best circle score that random groups of features,
    and the control's groups, reach."""

    name: str
    model: str
    site: str
    domain: str
    n: int
    unit: str
    templates: int
    prompts: str
    held_out: bool
    live: int
    features: int
    scores: tuple[FeatureScore, ...]
    families: tuple[Family, ...]
    clusters: tuple[Cluster, ...]
    random_clusters: float
    control_clusters: float
    plane_k: int
    plane_score: float
    plane_r2: float
    plane_error: float
    permutations: int
    seed: int
    notes: tuple[str, ...] = field(default=())

    def frame(self) -> "pd.DataFrame":
        """The families, one row each."""
        import pandas as pd

        return pd.DataFrame([asdict(family) for family in self.families])

    def feature_frame(self) -> "pd.DataFrame":
        """Every live feature, the best first."""
        import pandas as pd

        return pd.DataFrame([asdict(score) for score in self.scores])

    def cluster_frame(self) -> "pd.DataFrame":
        """The groups that draw a circle, the best first."""
        import pandas as pd

        rows = [
            {"size": len(cluster.features), **asdict(cluster), "features": _shortened(cluster.features)}
            for cluster in self.clusters
        ]
        columns = ["size", "k", "score", "p_value", "share", "aspect", "power", "r2", "error", "features"]
        return pd.DataFrame(rows, columns=columns)

    @property
    def cleaner(self) -> bool:
        """A group of features draws a circle beyond chance, and a cleaner one than the whole site and the
        control's groups."""
        best = self.clusters[0] if self.clusters else None
        rivals = [x for x in (self.plane_score, self.control_clusters) if not math.isnan(x)]
        return best is not None and best.p_value < LEVEL and best.score > max(rivals, default=0.0)

    @property
    def answer(self) -> str:
        """Does the dictionary hold cleaner circles than the basis? In one sentence, with the numbers."""
        own, *others = self.families
        best = self.clusters[0] if self.clusters else None
        periodic = own.p_value < LEVEL and all(own.r2 > family.r2 for family in others)
        verdict = (
            "cleaner circles than the basis"
            if self.cleaner
            else "cleaner periodic directions than the basis, and no cleaner circle"
            if periodic
            else "no cleaner circles than the basis"
        )
        rest = ", ".join(f"the best of the {f.count} {f.what} {f.r2:.3f}" for f in others)
        circle = (
            "no group of features fills a plane"
            if best is None
            else f"the best group has circle score {best.score:.3f} (p = {best.p_value:.3g}), the whole site "
            f"{self.plane_score:.3f}"
        )
        return (
            f"The dictionary holds {verdict}: the best feature reaches R² {own.r2:.3f} (p = "
            f"{own.p_value:.3g}), {rest}; {circle}."
        )

    def __str__(self) -> str:
        head = (
            f"{self.name}: {self.domain} at {self.site} of {self.model}; {self.live} of {self.features} "
            f"features are live on "
            f"{self.n} values × {self.templates} prompts ({self.prompts})"
        )
        plane = (
            f"whole site: circle score {self.plane_score:.3f} at k = {self.plane_k}, held-out R² "
            f"{self.plane_r2:.3f}, "
            f"error {self.plane_error:.2f} {self.unit}"
        )
        return "\n".join([self.answer, head, plane, *(f"note: {note}" for note in self.notes)])


def _shortened(features: Sequence[int], most: int = 10) -> str:
    return ", ".join(map(str, features[:most])) + (", …" if len(features) > most else "")
