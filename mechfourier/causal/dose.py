"""Dose: how the answers change as the edit grows, along the circle, straight across it, and along its radius.

The circle is the closed curve of the chosen harmonics through the class means; ``straight`` goes from one class
mean to the other on a straight line. At every dose both edits have the same length, and at the end both arrive
at the same point. A model that reads the value by its angle answers with the values between on the way round,
and with nothing in particular on the way across.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mechfourier._arguments import checked
from mechfourier.causal.cost import bounded
from mechfourier.causal.experiment import Experiment, SiteActivations
from mechfourier.causal.follow import WRITTEN, perplexities
from mechfourier.causal.plane import curve
from mechfourier.causal.steering import (
    class_columns,
    displaced_scores,
    steering_at,
    steps_to,
    target_of,
)
from mechfourier.causal.task import AnswerTask
from mechfourier.domains.definition import Domain
from mechfourier.domains.reads import TokensRead
from mechfourier.domains.sampling import balanced_sample
from mechfourier.domains.task_spec import NATIVE
from mechfourier.errors import OutOfRange, UsageError
from mechfourier.hooks.site import Site, model_name
from mechfourier.models.interface import Model
from mechfourier.results.base import Result
from mechfourier.stats.paired import bootstrap_mean, bootstrap_means

if TYPE_CHECKING:
    import pandas as pd

DOSES = 13  # of each path, both ends included
NEW_TOKENS = 8
TIE = 1e-6
PATHS = ("circle", "straight", "radius")


@dataclass(frozen=True)
class Dose:
    """The answers at one dose of one path, as means over the prompts, with 95 % bootstrap intervals.

    ``dose``: the share of the way to the target, or the scale of the radius. ``edit_norm``: length of the edit
    over that of the way (circle and straight: the same). ``start``, ``between``, ``target``, ``elsewhere``:
    probability of the answer for the own value, for those passed on the way, for the target, and the rest.
    ``nearest``: share of prompts that answer for the value nearest on the circle (half-way, either of two). ``entropy`` of the candidate
    answers, nats. ``perplexity`` of the text that the edited model writes, under the intact model reading the
    prompt with whichever value explains that text best; None where none was written."""

    path: str
    dose: float
    edit_norm: float
    start: float
    between: float
    target: float
    elsewhere: float
    nearest: float
    nearest_ci: tuple[float, float]
    entropy: float
    entropy_ci: tuple[float, float]
    perplexity: float | None


@dataclass(frozen=True)
class DoseResult(
    Result,
    kind="dose",
    command="steer --dose",
    figure="mechfourier.figures.steer:dose_figure",
    part="mechfourier.figures.steer:dose_part",
):
    """All doses. ``entropy_gap``: entropy on the straight path minus that on the circle, nats, over the middle
    half of the way (doses .25 to .75); ``nearest_gap``: share of answers for the value nearest on the circle,
    circle minus straight; each with its 95 % interval, paired by prompt (bootstrap over prompts). ``verdict``:
    "along the circle", "no difference" or "straight across", by the interval of ``nearest_gap``."""

    model: str
    domain: str
    n: int
    unit: str
    to: str
    site: str
    position: str
    ks: tuple[int, ...]
    whole: bool
    power_share: float
    n_prompts: int
    n_written: int
    accuracy: float
    doses: tuple[Dose, ...]
    entropy_gap: float
    entropy_gap_ci: tuple[float, float]
    nearest_gap: float
    nearest_gap_ci: tuple[float, float]
    verdict: str
    notes: tuple[str, ...]
    seed: int
    task: str = NATIVE
    tokens: TokensRead | None = None

    @property
    def what(self) -> str:
        """The curve, in words."""
        return "every harmonic" if self.whole else f"k = {', '.join(map(str, self.ks))}"

    def frame(self) -> "pd.DataFrame":
        """One row per path and dose."""
        import pandas as pd

        pairs = ("nearest_ci", "entropy_ci")
        rows = []
        for dose in self.doses:
            row = {k: v for k, v in vars(dose).items() if k not in pairs}
            for name in pairs:
                row[name.replace("ci", "low")], row[name.replace("ci", "high")] = getattr(dose, name)
            rows.append(row)
        return pd.DataFrame(rows)

    def __str__(self) -> str:
        (a, b), (c, d) = self.nearest_gap_ci, self.entropy_gap_ci
        lines = [
            f"{self.verdict}: turning {self.what} at {self.site} ({self.position} token) of {self.model} to "
            f"{self.to}, {self.domain}, task {self.task}, {self.n_prompts} prompts",
            f"half-way, the answer is that of the nearest value {self._at('circle').nearest:.0%} along the circle "
            f"and {self._at('straight').nearest:.0%} straight across, edits of equal length; over the middle half "
            f"of the way {self.nearest_gap:+.1%} (95 % {a:+.1%} to {b:+.1%})",
            f"entropy of the answers, straight minus circle: {self.entropy_gap:+.3f} nats (95 % {c:+.3f} to {d:+.3f})",
        ]
        radius = [(each.dose, each) for each in self.doses if each.path == "radius"]
        shown = ", ".join(f"{r:.3g}: {each.start:.0%}" for r, each in radius if (4 * r) % 2 == 0)
        lines.append(f"probability of the own answer by radius: {shown}")
        if (texts := self._perplexities()) is not None:
            lines.append(texts)
        return "\n".join([*lines, *(f"note: {note}" for note in self.notes)])

    def _at(self, path: str, dose: float = 0.5, *, read: bool = False) -> Dose:
        found = [d for d in self.doses if d.path == path and not (read and d.perplexity is None)]
        return min(found, key=lambda d: abs(d.dose - dose))

    def _perplexities(self) -> str | None:
        if self.n_written == 0:
            return None
        found = [(path, self._at(path, read=True).perplexity) for path in PATHS[:2]]
        intact = self._at("circle", 0.0).perplexity
        shown = ", ".join(f"{path} {value:.3g}" for path, value in found if value is not None)
        return f"perplexity of the text that follows ({self.n_written} prompts): intact {intact:.3g}; half-way {shown}"


@checked
def dose(
    model: Model | Experiment,
    domain: Domain | str | None = None,
    *,
    to: str | None = None,
    site: Site | str | None = None,
    k: int | Sequence[int] | None = None,
    whole: bool = False,
    position: str = "value",
    task: str | None = None,
    n_prompts: int | None = None,
    cycles: int = 1,
    n_doses: int = DOSES,
    max_new_tokens: int = NEW_TOKENS,
    seed: int = 0,
) -> DoseResult:
    """The answers along the circle, straight across it, and along its radius (scaled from 0 to 2).

    ``to``: a value, or a number of steps like ``"+3"`` (None: as near to half-way round as whole steps come,
    where the two paths differ most). ``whole``: the curve of every harmonic, through the class means
    themselves. ``n_doses`` of each path. Other arguments, and what is raised, as in ``steer``.
    """
    if not 3 <= n_doses <= 1000:
        raise OutOfRange(f"n_doses is {n_doses}; give 3 to 1000")
    asked = Experiment.of(model, domain, task=task, cycles=cycles, n_prompts=n_prompts, seed=seed)
    if not isinstance(asked.task, AnswerTask):
        raise UsageError(
            f"{model_name(asked.model)} has no logits, so it answers nothing; choose a language model"
        )
    aim = to or f"+{asked.design.n // 2}"
    target_of(asked.design.domain, aim)
    rest, steering, said = steering_at(asked, site, position, k, whole)
    place, n = steering.place, steering.n
    ks = tuple(range(1, n // 2 + 1)) if steering.turn is None else steering.turn.ks
    prompts = _prompts(rest, place, aim, 3 * n_doses, every=n_prompts is not None)
    way = _Way(place, ks, place.label[prompts], steps_to(asked.design.domain, aim, place.label, n)[prompts])
    measured = _Measured(rest, place, prompts, way, _whole_steps(n_doses, way.steps))
    texts = perplexities(rest, place, prompts, measured.edits, max_new_tokens)
    doses = tuple(measured.dose(i, texts) for i in range(len(measured.plan)))
    gaps = measured.gaps()
    return DoseResult(
        **rest.about(place.position) | {"n": n},
        unit=asked.design.domain.unit,
        to=aim,
        site=str(place.site),
        position=place.position,
        ks=ks,
        whole=whole,
        power_share=place.power([k for k in ks if k <= len(place.shares)]),
        n_prompts=len(prompts),
        n_written=0 if doses[0].perplexity is None else min(WRITTEN, len(prompts)),
        accuracy=rest.baseline.accuracy,
        doses=doses,
        notes=tuple(dict.fromkeys([*said, *_notes(measured), *rest.notes()])),
        verdict=_verdict(gaps["nearest_gap_ci"]),
        **gaps,
    )


def _prompts(
    asked: Experiment, place: SiteActivations, to: str, doses: int, *, every: bool
) -> Int[Tensor, " prompt"]:
    """The prompts that do not name the target, as many as can be afforded, balanced over the values."""
    usable = (steps_to(asked.design.domain, to, place.label, len(place.means)) != 0).nonzero()[:, 0]
    if not len(usable):
        raise OutOfRange(f"every prompt names {to} already; give more prompts, or another target")
    most = len(usable) if every else min(len(usable), bounded(asked.model, asked.task, doses))
    return usable[balanced_sample(place.label[usable], most, seed=asked.seed)]


def _whole_steps(n_doses: int, steps: Int[Tensor, " prompt"]) -> int:
    """At least ``n_doses`` doses; more, where that lets every whole step be one of them."""
    size = int(steps[0].abs())
    if bool((steps.abs() != size).any()) or size > n_doses:
        return n_doses
    return size * -(-(n_doses - 1) // size) + 1


def _verdict(interval: tuple[float, float]) -> str:
    low, high = interval
    return "along the circle" if low > 0 else "straight across" if high < 0 else "no difference"


@dataclass(frozen=True, eq=False)
class _Way:
    """The edits of each prompt: from its ``value`` by ``steps`` along the curve of harmonics ``ks``."""

    place: SiteActivations
    ks: tuple[int, ...]
    value: Int[Tensor, " prompt"]
    steps: Int[Tensor, " prompt"]

    def edit(self, path: str, dose: float) -> Float[Tensor, "prompt d"]:
        """What is added at this dose."""
        start = self._curve(self.value.double())
        if path == "radius":
            return (dose - 1.0) * start
        along = self._curve(self.value + dose * self.steps.double()) - start
        if path == "circle":
            return along
        whole = self._curve((self.value + self.steps).double()) - start
        return whole * (along.norm(dim=1) / whole.norm(dim=1).clamp(min=1e-12))[:, None]

    def _curve(self, at: Float[Tensor, " prompt"]) -> Float[Tensor, "prompt d"]:
        return curve(self.place.means, self.ks, at)


class _Measured:
    """The scores of every prompt at every dose of every path."""

    def __init__(
        self,
        asked: Experiment,
        place: SiteActivations,
        prompts: Int[Tensor, " prompt"],
        way: _Way,
        count: int,
    ) -> None:
        self.asked, self.place, self.prompts, self.way = asked, place, prompts, way
        doses = torch.linspace(0, 1, count, dtype=torch.float64).tolist()
        self.plan = [(path, d * (2 if path == "radius" else 1)) for path in PATHS for d in doses]
        self.edits = torch.stack([way.edit(path, d) for path, d in self.plan])
        repeated = prompts.repeat(len(self.plan))
        scores = displaced_scores(asked, place, repeated, self.edits.flatten(0, 1), "doses")
        log_p = scores.double().log_softmax(1).unflatten(0, (len(self.plan), len(prompts)))
        self.entropy: Float[Tensor, "dose prompt"] = -(log_p.exp() * log_p).sum(-1)
        columns = class_columns(asked, place.position, asked.task.rows[prompts]).expand(
            len(self.plan), -1, -1
        )
        self.acts_on = log_p.exp().gather(2, columns)  # probability of the answer for every value
        best = log_p.argmax(-1)
        ways = torch.tensor([0.0 if path == "radius" else d for path, d in self.plan], dtype=torch.float64)
        goal = way.value + ways[:, None] * way.steps.double()
        # half-way between two values either is the nearest
        sides = torch.stack([(goal - TIE).round(), (goal + TIE).round()], -1).long() % len(place.means)
        self.nearest: Float[Tensor, "dose prompt"] = (
            (best[..., None] == columns.gather(2, sides)).any(-1).double()
        )

    def dose(self, i: int, texts: Sequence[float | None]) -> Dose:
        """The means at one dose."""
        path, dose = self.plan[i]
        seed = self.asked.seed
        length = self.edits[-1 if path == "radius" else len(self.plan) // 3 - 1].norm(dim=1)
        return Dose(
            path=path,
            dose=dose,
            edit_norm=float((self.edits[i].norm(dim=1) / length.clamp(min=1e-12)).mean()),
            **self._shares(i),
            nearest=float(self.nearest[i].mean()),
            nearest_ci=bootstrap_mean(self.nearest[i], seed=seed),
            entropy=float(self.entropy[i].mean()),
            entropy_ci=bootstrap_mean(self.entropy[i], seed=seed),
            perplexity=texts[i],
        )

    def _shares(self, i: int) -> dict[str, float]:
        n, way = len(self.place.means), self.way
        place_of = (
            (torch.arange(n)[None] - way.value[:, None]) * way.steps.sign()[:, None] % n
        )  # steps on the way
        between = (place_of > 0) & (place_of < way.steps.abs()[:, None])
        p = self.acts_on[i]
        found = {
            "start": float(p[place_of == 0].mean()),
            "between": float((p * between).sum(1).mean()),
            "target": float(p[place_of == way.steps.abs()[:, None]].mean()),
        }
        return found | {"elsewhere": max(0.0, 1.0 - sum(found.values()))}

    def gaps(self) -> dict[str, Any]:
        """Straight against circle over the middle half of the way, paired by prompt."""
        middle = [i for i, (path, d) in enumerate(self.plan) if path == "circle" and 0.25 <= d <= 0.75]
        other = [i + len(self.plan) // 3 for i in middle]
        entropy = (self.entropy[other] - self.entropy[middle]).mean(0)
        nearest = (self.nearest[middle] - self.nearest[other]).mean(0)
        (first, second) = bootstrap_means(torch.stack([entropy, nearest], 1), seed=self.asked.seed)
        return dict(
            entropy_gap=float(entropy.mean()),
            entropy_gap_ci=first,
            nearest_gap=float(nearest.mean()),
            nearest_gap_ci=second,
        )


def _notes(measured: _Measured) -> list[str]:
    third = len(measured.plan) // 3
    lengths = measured.edits[:third].norm(dim=2)
    said = []
    if bool((lengths[:-1] > lengths[-1] * (1 + 1e-6)).any()):
        said.append(
            "on the way round, these harmonics lead farther away than the target is: at equal length the straight "
            "path overshoots it"
        )
    if len(measured.prompts) < len(measured.asked):
        said.append(f"{len(measured.prompts)} of the {len(measured.asked)} prompts were used")
    return said
