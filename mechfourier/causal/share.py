"""How much of what a token carries goes through a circle: a ladder of edits, each beside the whole.

The whole-token edit moves a prompt of value v by mean(v + δ) − mean(v), all that the class means say. Each
rung adds a part of that: the harmonics one by one, and the circle and the line of a fit of both; and, as
controls, the circle's steps in random planes and in a plane of another domain, and no
step at all. Every rung runs on the same prompts and δ, so that shares of the whole are paired.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mechfourier.causal.cost import affordable
from mechfourier.causal.displacement import (
    Part,
    circle_and_line,
    harmonic_part,
    moved_rows,
    moved_rows_in,
    random_bases,
    whole_part,
)
from mechfourier.causal.edits import EditedRows
from mechfourier.causal.effects import Effects, effects_of, turn_pairs
from mechfourier.causal.experiment import Experiment, SiteActivations
from mechfourier.causal.subspaces import class_means, key_harmonics
from mechfourier.domains.definition import domain as find_domain
from mechfourier.domains.design import read_positions
from mechfourier.domains.sampling import balanced_sample
from mechfourier.errors import MechFourierError
from mechfourier.hooks.capture import capture
from mechfourier.hooks.site import Site
from mechfourier.models.interface import Model, encode
from mechfourier.stats.paired import ROUNDING, bootstrap_mean, share_interval

MOST = 6  # rungs of harmonics
ROWS = 2000  # edited prompts of one rung, where that is affordable
FOREIGN = ("days", "months", "alphabet")  # domains whose planes stand for those of another quantity
WHOLE, ALL, LINE, BARE = "whole class mean", "all harmonics", "line", "circle beside the line"
RANDOM, SHAM = "random planes", "sham"


@dataclass(frozen=True)
class Rung:
    """One edit. ``moved``: share of prompts and δ whose answer moved by exactly δ, with its 95 % interval
    ``low`` to ``high`` (bootstrap over prompts); ``raised``: by how much the score of that answer rose over
    that of the model's own (nats; cosine), with its interval; ``directed``: over the mean of the other
    answers; ``length``: mean length of the edit."""

    name: str
    moved: float
    low: float
    high: float
    raised: float
    raised_low: float
    raised_high: float
    directed: float
    length: float


@dataclass(frozen=True)
class Share:
    """A share of the whole-token effect with its 95 % interval, paired over prompts; all None where the whole
    token carries nothing beyond noise, and ``reason`` says so."""

    value: float | None
    low: float | None
    high: float | None
    reason: str | None = None

    def __str__(self) -> str:
        if self.value is None or self.low is None or self.high is None:
            return f"not defined ({self.reason})"
        return f"{self.value:z.0%} [{100 * self.low:z.0f}, {100 * self.high:z.0f}]"


@dataclass(frozen=True)
class UseShare:
    """``share`` of the exact moves of the whole token's edit that the circle ``ks`` makes, and
    ``share_difference`` of its rise of the answers' score difference. ``along``: "circle",
    "line" or "circle and line", by what each of the two does beyond random planes where the class means are
    fitted as a circle beside a line; None where neither does anything. ``n_turns``: δ per prompt."""

    site: str
    position: str
    ks: tuple[int, ...]
    n_prompts: int
    n_turns: int
    share: Share
    share_difference: Share
    ladder: tuple[Rung, ...]
    along: str | None
    notes: tuple[str, ...] = ()

    def rung(self, name: str) -> Rung | None:
        """The rung of that name."""
        return next((rung for rung in self.ladder if rung.name == name), None)


class _Turns(NamedTuple):
    """Prompts and δ that every rung runs on, turn-major."""

    prompt: Int[Tensor, " row"]
    delta: Int[Tensor, " row"]
    prompts: int


def use_share(asked: Experiment, place: SiteActivations, ks: tuple[int, ...]) -> UseShare:
    """The ladder at ``place``, and the share of the circle of harmonics ``ks``."""
    parts = _parts(place.means, ks)
    turns = _turns(asked, place, len(parts) + 3)
    circle = harmonic_part(place.means, ks)
    found = {name: _run(asked, place, turns, name, part) for name, part in parts.items()}
    notes = []
    for name, edits, length in _controls(asked, place, turns, circle):
        found[name] = _Effect(_effects(asked, place, turns, edits, name), length)
    if not any(name.startswith("foreign") for name in found):
        notes.append("no plane of another domain was tried: this model reads no other domain")
    n = len(place.means)
    if n % 2 == 0:
        notes.append(
            f"all harmonics are k = 1–{(n - 1) // 2}: k = {n // 2}, even against odd values, is one direction and no "
            "circle, so that only the whole class mean has it"
        )
    own = found[circle_name(ks, n)]
    whole = found[WHOLE]
    return UseShare(
        site=str(place.site),
        position=place.position,
        ks=ks,
        n_prompts=turns.prompts,
        n_turns=len(turns.delta) // turns.prompts,
        share=_share(own, whole, turns, "moved", asked.seed),
        share_difference=_share(own, whole, turns, "raised", asked.seed),
        ladder=tuple(_rung(name, effect, turns, asked.seed) for name, effect in found.items()),
        along=_along(found, turns, asked.seed),
        notes=tuple(notes),
    )


def circle_name(ks: tuple[int, ...], n: int) -> str:
    """The rung of these harmonics."""
    planes = (n - 1) // 2
    if set(ks) == set(range(1, planes + 1)):
        return ALL
    if len(ks) > 1 and tuple(sorted(ks)) == tuple(range(1, len(ks) + 1)):
        return f"k = 1–{len(ks)}"
    return f"k = {', '.join(map(str, ks))}"


def _parts(means: Float[Tensor, "n d"], ks: tuple[int, ...]) -> dict[str, Part]:
    """The parts of the class means that the rungs add, in their order."""
    n, planes = len(means), (len(means) - 1) // 2
    order = tuple(range(1, planes + 1)) if planes <= MOST else ks
    steps = [order[:count] for count in range(1, min(MOST, len(order)) + 1)]
    every, apart = tuple(range(1, planes + 1)), circle_and_line(means, ks, key_harmonics(means))
    sets: list[tuple[int, ...]] = [*steps, ks, every]
    found = {circle_name(each, n): harmonic_part(means, each) for each in sets}
    return {
        **found,
        WHOLE: whole_part(means),
        **({} if apart is None else {BARE: apart[0], LINE: apart[1]}),
    }


def _turns(asked: Experiment, place: SiteActivations, rungs: int) -> _Turns:
    """As many δ of each prompt as can be afforded; of a part of the prompts where one of each cannot."""
    count = max(1, min(len(asked), ROWS, affordable(asked.model, asked.task, rungs)))
    chosen = balanced_sample(asked.task.label, count, seed=asked.seed)
    each = max(1, min(len(place.means) - 1, ROWS // count))
    while each > 1 and affordable(asked.model, asked.task, rungs * each, least=1) < count:
        each -= 1
    prompt, delta = turn_pairs(count, len(place.means), each, seed=asked.seed)
    return _Turns(chosen[prompt], delta, count)


class _Effect(NamedTuple):
    effects: Effects
    length: float

    def of(self, what: str, turns: _Turns) -> Float[Tensor, " prompt"]:
        """The mean over the turns of every prompt."""
        return getattr(self.effects, what).double().reshape(-1, turns.prompts).mean(dim=0)


def _run(asked: Experiment, place: SiteActivations, turns: _Turns, name: str, part: Part) -> _Effect:
    steps = part.steps(place.label[turns.prompt], turns.delta)
    edits = moved_rows(place, turns.prompt, steps)
    return _Effect(_effects(asked, place, turns, edits, name), float(steps.norm(dim=1).mean()))


def _effects(
    asked: Experiment, place: SiteActivations, turns: _Turns, edits: EditedRows, name: str
) -> Effects:
    # a rung may change nothing (the sham, a line without slope): that is a result here
    scores = asked.engine.scores(edits, name, must_change=False)
    return effects_of(asked, place, turns.prompt, turns.delta, scores)


def _controls(
    asked: Experiment, place: SiteActivations, turns: _Turns, circle: Part
) -> Iterator[tuple[str, EditedRows, float]]:
    """The circle's own steps elsewhere, and none: names, edits, mean length."""
    basis, label = circle.basis, place.label[turns.prompt]
    steps = circle.steps(label, turns.delta)
    inside, length = steps @ basis, float(steps.norm(dim=1).mean())
    if basis.shape[0] >= 2 * basis.shape[1]:
        every = torch.arange(len(steps))
        bases = random_bases(basis, len(steps), seed=asked.seed)
        yield RANDOM, moved_rows_in(place, turns.prompt, inside, bases, every), length
    if (other := foreign_basis(asked, place, basis.shape[1])) is not None:
        name, plane = other
        moved = inside[:, : plane.shape[1]] @ plane.T
        moved = moved * (steps.norm(dim=1) / moved.norm(dim=1).clamp(min=1e-30))[:, None]
        yield f"foreign ({name})", moved_rows(place, turns.prompt, moved), length
    yield SHAM, moved_rows(place, turns.prompt, torch.zeros_like(steps)), 0.0


def foreign_basis(
    asked: Experiment, place: SiteActivations, rank: int
) -> tuple[str, Float[Tensor, "d r"]] | None:
    """The leading directions between the values of another domain at the same site: the first of ``FOREIGN``
    that the model can read; None for a model that reads no text."""
    if getattr(asked.model, "tokenizer", None) is None:
        return None
    for name in FOREIGN:
        if name == asked.design.domain.name:
            continue
        try:
            means = _means_of(asked.model, name, place.site)
        except MechFourierError:
            continue
        return name, whole_part(means).basis[:, :rank]
    return None


def _means_of(model: Model, name: str, site: Site) -> Float[Tensor, "n d"]:
    """Class means of a domain's sentences at the value."""
    design = find_domain(name).value_design()
    encodings = encode(model, design.prompts)
    values = capture(model, encodings, [site], read_positions(design, encodings))[site]
    return class_means(values.flatten(1), design.value, design.n)


def _share(own: _Effect, whole: _Effect, turns: _Turns, what: str, seed: int) -> Share:
    """What the circle does as a share of what the whole does, where that is beyond noise."""
    gain, span = own.of(what, turns), whole.of(what, turns)
    low, high = bootstrap_mean(span, seed=seed)
    if low <= 0.0:
        mean = float(span.mean())
        return Share(None, None, None, f"the whole token's effect is {mean:.3g} [{low:.3g}, {high:.3g}]")
    interval = share_interval(gain, span, seed=seed, counts=what == "moved")
    return Share(float(gain.mean() / span.mean()), *interval)


def _rung(name: str, effect: _Effect, turns: _Turns, seed: int) -> Rung:
    moved, raised = effect.of("moved", turns), effect.of("raised", turns)
    return Rung(
        name,
        float(moved.mean()),
        *bootstrap_mean(moved, seed=seed),
        float(raised.mean()),
        *bootstrap_mean(raised, seed=seed),
        float(effect.of("directed", turns).mean()),
        effect.length,
    )


def _along(found: dict[str, _Effect], turns: _Turns, seed: int) -> str | None:
    """Whether the circle is used as one, or only the line in which the values run, or both: by what each does
    beyond steps in random planes (or beyond none, where there is no room for them)."""
    base = found.get(RANDOM, found[SHAM]).of("directed", turns)
    least = ROUNDING * float(found[WHOLE].of("directed", turns).abs().max())

    def does(name: str) -> bool:
        own = found[name].of("directed", turns)
        return min(bootstrap_mean(each, seed=seed)[0] for each in (own, own - base)) > least

    words = [word for name, word in ((BARE, "circle"), (LINE, "line")) if name in found and does(name)]
    return " and ".join(words) or None
