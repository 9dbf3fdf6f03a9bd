"""With which period: does arithmetic on numbers go through circles of base 10, through a line, or through neither?

The class means of the operand's token are fitted by a line and a circle for every period T (Kantamneni & Tegmark 2025,
arXiv 2502.00873). Each part alone is then moved as if the operand were another by δ: a circle that is used as number
modulo T moves the answer by δ modulo T and leaves the rest of it; a line that is used moves it by δ; the whole class
mean is all that the token can say.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Bool, Float, Int
from numpy import ndarray
from torch import Tensor

from mechfourier._arguments import checked
from mechfourier.causal.controls import check_count
from mechfourier.causal.cost import affordable
from mechfourier.causal.experiment import Experiment
from mechfourier.causal.number_fit import LINE, WHOLE, NumberFit, fitted, numbers_of
from mechfourier.causal.plane import split, stream_sites
from mechfourier.causal.steer import random_directions
from mechfourier.causal.steering import displaced_scores
from mechfourier.causal.task import AnswerTask
from mechfourier.domains.definition import Domain
from mechfourier.domains.definition import domain as find_domain
from mechfourier.domains.reads import TokensRead
from mechfourier.domains.task_spec import NATIVE
from mechfourier.errors import OutOfRange, UsageError
from mechfourier.hooks.site import Site, model_name
from mechfourier.models.interface import Model
from mechfourier.results.base import Result
from mechfourier.stats.helix import PERIODS
from mechfourier.stats.intervals import wilson
from mechfourier.stats.paired import ratio, ratio_interval
from mechfourier.stats.permutation import permutation_p
from mechfourier.stats.residues import period_shares, separability

if TYPE_CHECKING:
    import pandas as pd

N_CONTROLS = 20  # p can reach 1/21: every control is as expensive as the edits themselves
N_PROMPTS = 150
NEAR_BEST = 0.8
APART = 10.0  # condition number of the fit's columns above which its parts are not told apart
CONTROL_ROWS = 2000  # rows of the controls of one part
LEAST = 4  # prompts of a control, at least
SCREEN = 12  # prompts that choose a place
SITES = 8  # sites that are looked at, spread over the layers: answers of several tokens make each of them expensive


@dataclass(frozen=True)
class PartMoved:
    """What moving one part of the fit did. ``exact``: share of prompts whose answer moved by exactly δ, with its 95 %
    interval (Wilson); ``of_whole``: that over the share of the whole class mean, with its paired 95 % interval (None
    where the whole moves nothing). Of a single period T: ``moved``: share moved by δ modulo T (of the prompts where δ
    is no multiple of T) with its interval, ``kept``: share moved by δ modulo T and by less than T, so that the rest of
    the number stays. ``random``: the mean of ``moved`` (without a period: of ``exact``) for random directions of the
    same lengths, ``p_value``: how many of them reach it. ``edit_norm``: length of the edit over that of the
    activation."""

    name: str
    period: float | None
    exact: float
    low: float
    high: float
    of_whole: float | None
    of_whole_low: float | None
    of_whole_high: float | None
    moved: float | None
    moved_low: float | None
    moved_high: float | None
    kept: float | None
    random: float | None
    p_value: float | None
    edit_norm: float


@dataclass(frozen=True)
class PeriodPower:
    """One period in the class means. ``share``: of the power that the line leaves; ``kappa``: separability of the
    residue classes modulo it (scatter between over within) with the 95 % point of exchanged numbers and p; None where
    the classes have no two members."""

    period: float
    share: float
    kappa: float | None
    kappa_upper: float | None
    kappa_p: float | None


@dataclass(frozen=True)
class PeriodsResult(Result, kind="periods", figure="mechfourier.figures.periods:periods_figure"):
    """``parts``: the line, every period alone, all periods, all with the line, the whole class mean. ``power``: the
    same periods in the class means. ``fit_r2``: share of the variance of the class means that line and periods hold
    (in sample). ``guess``: the exact share of an answer drawn at random."""

    model: str
    domain: str
    n: int
    unit: str
    site: str
    position: str
    periods: tuple[float, ...]
    accuracy: float
    n_prompts: int
    fit_r2: float
    guess: float
    parts: tuple[PartMoved, ...]
    power: tuple[PeriodPower, ...]
    n_controls: int
    notes: tuple[str, ...]
    seed: int
    task: str = NATIVE
    tokens: TokensRead | None = None

    def frame(self) -> "pd.DataFrame":
        """One row per part."""
        import pandas as pd

        power: dict[float | None, PeriodPower] = {each.period: each for each in self.power}
        rows = [
            vars(part)
            | {key: getattr(power.get(part.period), key, None) for key in ("share", "kappa", "kappa_p")}
            for part in self.parts
        ]
        return pd.DataFrame(rows)

    def __str__(self) -> str:
        lines = [
            f"{self.model}, {self.domain}, task {self.task} (accuracy {self.accuracy:.1%}): the first operand's parts at "
            f"{self.site} moved by δ, {self.n_prompts} prompts; line and periods hold {self.fit_r2:.1%} of the class means"
        ]
        for part in self.parts:
            line = f"{part.name}: answer moves by exactly δ on {part.exact:.1%} [{part.low:.1%}, {part.high:.1%}]"
            if part.of_whole is not None and part.name != WHOLE:
                line += f", {part.of_whole:.0%} [{part.of_whole_low:.0%}, {part.of_whole_high:.0%}] of the whole class mean"
            if part.moved is not None:
                line += (
                    f"; by δ modulo {part.period:g} on {part.moved:.1%} [{part.moved_low:.1%}, {part.moved_high:.1%}], "
                    f"the rest kept on {part.kept:.1%}"
                )
            if part.random is not None:
                line += f"; random directions {part.random:.1%}, p = {part.p_value:.2g}"
            lines.append(line)
        for each in self.power:
            if each.kappa is not None:
                lines.append(
                    f"period {each.period:g}: {each.share:.1%} of the power beside the line; residue classes κ = "
                    f"{each.kappa:.3g} (95 % of exchanged numbers below {each.kappa_upper:.3g}, p = {each.kappa_p:.2g})"
                )
        return "\n".join([*lines, *(f"note: {note}" for note in self.notes)])


@checked
def periods(
    model: Model | Experiment,
    domain: Domain | str = "numbers",
    *,
    periods: Sequence[float] | None = None,
    site: Site | str | None = None,
    task: str | None = None,
    n_prompts: int | None = None,
    n_controls: int = N_CONTROLS,
    n_permutations: int = 1000,
    seed: int = 0,
) -> PeriodsResult:
    """Move the line, each period and all of them at ``site`` (None: the earliest site where moving all of them works
    nearly as well as at any of a few sites) at the first operand's token, as if it were another number.

    ``domain``: one whose values are consecutive numbers; ``sums(0, 99)`` makes one. ``periods`` (None: those of 2, 5,
    10, 100 that the numbers can carry). ``n_controls``: random directions of the same lengths. Raises ``UsageError``
    for values that are no consecutive numbers, ``OutOfRange`` for too many periods, and what ``rotate`` raises.
    """
    check_count(n_controls)
    chosen = domain if isinstance(domain, Domain) else find_domain(domain)
    whole = model.design.domain if isinstance(model, Experiment) else chosen
    numbers = numbers_of(whole.values, whole.name)
    wanted = _wanted(numbers, periods)
    asked = model if isinstance(model, Experiment) else _asked(model, chosen, task, n_prompts, seed)
    if not isinstance(asked.task, AnswerTask):
        raise UsageError(
            f"{model_name(asked.model)} has no logits, so it answers nothing; choose a language model"
        )
    rest, fit, said = _place(asked, numbers, wanted, site)
    steps = _steps(rest, seed)
    parts = _parts(rest, fit, steps, n_controls)
    return PeriodsResult(
        **rest.about("value"),
        unit=rest.design.domain.unit,
        site=str(fit.place.site),
        position="value",
        periods=wanted,
        accuracy=rest.baseline.accuracy,
        n_prompts=len(rest),
        fit_r2=fit.r2,
        guess=1 / rest.design.n_answers,
        parts=tuple(parts),
        power=tuple(_powers(fit, n_permutations, seed)),
        n_controls=n_controls,
        notes=tuple(dict.fromkeys([*said, *_notes(fit), *rest.notes()])),
    )


def _asked(model: Model, domain: Domain, task: str | None, n_prompts: int | None, seed: int) -> Experiment:
    """The experiment on a part of a large grid: the fits use more of it."""
    whole = Experiment.of(model, domain, task=task, seed=seed)
    if n_prompts is None and len(whole) > N_PROMPTS:
        return Experiment.of(model, domain, task=whole.task.name, n_prompts=N_PROMPTS, seed=seed)
    return (
        whole
        if n_prompts is None
        else Experiment.of(model, domain, task=whole.task.name, n_prompts=n_prompts, seed=seed)
    )


def _notes(fit: NumberFit) -> list[str]:
    if fit.condition <= APART:
        return []
    return [
        f"line and periods are nearly collinear on {len(fit.numbers)} numbers (condition number {fit.condition:.0f}): what "
        "one of them moves alone says little; look at all of them together, or give fewer periods"
    ]


def _wanted(numbers: Float[ndarray, " n"], periods: Sequence[float] | None) -> tuple[float, ...]:
    if periods is None:
        return tuple(p for p in PERIODS if p <= len(numbers))
    if not periods or len(set(periods)) < len(periods) or min(periods) < 2:
        raise OutOfRange(f"periods {list(periods)} must be different, at least one, and 2 or more")
    return tuple(float(p) for p in periods)


def _place(
    asked: Experiment, numbers: Float[ndarray, " n"], periods: tuple[float, ...], site: Site | str | None
) -> tuple[Experiment, NumberFit, tuple[str, ...]]:
    """The site, by a few prompts where none is named, and the experiment on the others."""
    if site is not None:
        return asked, fitted(asked.at(site, "value"), numbers, periods), ()
    few, rest = split(asked, SCREEN)
    steps = _steps(asked, asked.seed)
    shares = []
    sites = stream_sites(asked.model)
    sites = sites[:: -(-len(sites) // SITES)]
    fits = [fitted(place, numbers, periods) for place in asked.at_all(sites, ["value"])]
    for fit in fits:
        scores = _moved_scores(asked, fit, list(fit.coefficients), few, steps[few])
        shares.append(float(_exact(asked, few, steps[few], scores).double().mean()))
    best = next(i for i, share in enumerate(shares) if share >= NEAR_BEST * max(shares))
    said = (
        f"{fits[best].place.site} was chosen among {len(fits)} sites on {len(few)} prompts ({shares[best]:.0%} moved by "
        "exactly δ with all parts); all numbers are of the others",
    )
    return rest, fitted(rest.at(fits[best].place.site, "value"), numbers, periods), said


def _steps(asked: Experiment, seed: int) -> Int[Tensor, " prompt"]:
    """A random δ for every prompt, such that the operand stays one of the values."""
    n = asked.design.n
    value = asked.design.value[asked.task.rows]
    draws = torch.randint(1, n, (len(value),), generator=torch.Generator().manual_seed(seed))
    return (value + draws) % n - value


def _moved_scores(
    asked: Experiment,
    fit: NumberFit,
    parts: Sequence[str],
    prompts: Int[Tensor, " row"],
    steps: Int[Tensor, " row"],
) -> Float[Tensor, "row candidate"]:
    added = fit.edit(parts, fit.place.label[prompts], steps)
    return displaced_scores(asked, fit.place, prompts, added, ", ".join(parts))


def _shift(asked: Experiment, prompts: Tensor, scores: Tensor) -> Int[Tensor, " row"]:
    """By how much the answer moved from the model's own."""
    return scores.argmax(1) - asked.baseline.scores[prompts].argmax(1)


def _exact(asked: Experiment, prompts: Tensor, steps: Tensor, scores: Tensor) -> Bool[Tensor, " row"]:
    """Whether the answer moved by exactly δ (round the cycle, where there is one)."""
    return asked.design.shift(_shift(asked, prompts, scores) - steps) == 0


def _ladder(fit: NumberFit) -> dict[str, list[str]]:
    """Name -> the parts that move together."""
    circles = [f"{period:g}" for period in fit.periods]
    rungs = {LINE: [LINE], **{f"period {name}": [name] for name in circles}}
    if len(circles) > 1:
        rungs["all periods"] = circles
    return rungs | {"all periods and line": [LINE, *circles], WHOLE: [WHOLE]}


def _parts(
    asked: Experiment, fit: NumberFit, steps: Int[Tensor, " prompt"], n_controls: int
) -> list[PartMoved]:
    prompts = torch.arange(len(asked))
    rungs = _ladder(fit)
    moved = {
        name: _shift(asked, prompts, _moved_scores(asked, fit, rung, prompts, steps))
        for name, rung in rungs.items()
    }
    exact = {name: asked.design.shift(shift - steps) == 0 for name, shift in moved.items()}
    found = []
    for name, rung in rungs.items():
        period = float(rung[0]) if name.startswith("period ") else None
        added = fit.edit(rung, fit.place.label, steps)
        measured = _modulo(moved[name], steps, period, asked.design.wraps_at)
        control = _random(asked, fit, added, steps, period, measured, exact[name], n_controls)
        norm = float((added.norm(dim=1) / asked.vectors(fit.place).norm(dim=1)).mean())
        low, high = wilson(int(exact[name].sum()), len(prompts))
        of_whole = _of_whole(exact[name], exact[WHOLE], asked.seed)
        share = float(exact[name].double().mean())
        found.append(
            PartMoved(
                name, period, share, low, high, **of_whole, **_shares(measured), **control, edit_norm=norm
            )
        )
    return found


def _of_whole(own: Bool[Tensor, " row"], whole: Bool[Tensor, " row"], seed: int) -> dict[str, float | None]:
    if not bool(whole.any()):
        return dict.fromkeys(("of_whole", "of_whole_low", "of_whole_high"))
    low, high = ratio_interval(own.double(), whole.double(), seed=seed)
    return dict(of_whole=ratio(own.double(), whole.double()), of_whole_low=low, of_whole_high=high)


def _modulo(
    shift: Int[Tensor, " row"], steps: Int[Tensor, " row"], period: float | None, cycle: int | None
) -> tuple[Bool[Tensor, " used"], Bool[Tensor, " used"]] | None:
    """Whether the answer moved by δ modulo the period, and by that alone, on the prompts where that is a move; None
    where the period is no whole number, or where answers go round a cycle that it does not divide."""
    if period is None or period != int(period) or (cycle is not None and cycle % int(period)):
        return None
    used = steps % int(period) != 0
    if not bool(used.any()):
        return None
    right = ((shift - steps) % int(period) == 0)[used]
    return right, right & (shift.abs() < period)[used]


def _shares(measured: tuple[Tensor, Tensor] | None) -> dict[str, float | None]:
    if measured is None:
        return dict.fromkeys(("moved", "moved_low", "moved_high", "kept"))
    right, kept = measured
    low, high = wilson(int(right.sum()), len(right))
    return dict(
        moved=float(right.double().mean()), moved_low=low, moved_high=high, kept=float(kept.double().mean())
    )


def _random(
    asked: Experiment,
    fit: NumberFit,
    added: Float[Tensor, "row d"],
    steps: Int[Tensor, " row"],
    period: float | None,
    measured: tuple[Tensor, Tensor] | None,
    exact: Bool[Tensor, " row"],
    count: int,
) -> dict[str, Any]:
    """The same lengths in random directions: one direction per control, on a few prompts each."""
    if count == 0:
        return dict(random=None, p_value=None)
    most = affordable(asked.model, asked.task, count * len(_ladder(fit)), least=LEAST)
    few = torch.arange(len(asked))[:: max(1, len(asked) * count // CONTROL_ROWS, len(asked) // most)]
    prompts = few.repeat(count)
    random = random_directions(fit.place, added[few], count, asked.seed).flatten(0, 1)
    shift = _shift(asked, prompts, displaced_scores(asked, fit.place, prompts, random, "random directions"))
    delta = steps[prompts]
    if measured is None:
        hit, used, own = (
            asked.design.shift(shift - delta) == 0,
            torch.ones_like(delta, dtype=torch.bool),
            exact,
        )
    else:
        assert period is not None
        hit, used, own = (shift - delta) % int(period) == 0, delta % int(period) != 0, measured[0]
    rows = used.reshape(count, -1).double()
    shares = (hit.reshape(count, -1) * rows).sum(1) / rows.sum(1).clamp(min=1)
    return dict(random=float(shares.mean()), p_value=permutation_p(float(own.double().mean()), shares))


def _powers(fit: NumberFit, n_permutations: int, seed: int) -> list[PeriodPower]:
    means, numbers = fit.place.means.double().numpy(), fit.numbers.astype(int)
    found = []
    for period, share in zip(fit.periods, period_shares(means, numbers, fit.periods), strict=True):
        kappa = None
        if period == int(period):
            kappa = separability(means, numbers, int(period), n_permutations=n_permutations, seed=seed)
        numbers_ = (None, None, None) if kappa is None else (kappa.kappa, kappa.null_upper, kappa.p_value)
        found.append(PeriodPower(period, float(share), *numbers_))
    return found
