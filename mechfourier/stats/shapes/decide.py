"""The contest of one table: which shapes are rejected, by draws from their own best fits.

*Rivals.* For every shape that is no circle: how often would a closed shape win against it by as much, were the data of that shape? A table is
circular where that is under 5 % for all of them. *Adequacy.* For every shape: how often would the others win by as much, were the
data of that shape? A shape with less than 5 % is rejected.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from mechfourier.stats.permutation import permutation_p
from mechfourier.stats.shapes.designs import Design, likeliest
from mechfourier.stats.shapes.evidence import Estimate, predicted_share
from mechfourier.stats.shapes.families import Family, family
from mechfourier.stats.shapes.helix import bends_a_plane, without_flat_helices
from mechfourier.stats.shapes.scores import design_scores, read_gram, shape_scores
from mechfourier.stats.shapes.simulate import Ground, draws, fit, simulate
from mechfourier.stats.shapes.tables import Frame, Table, table

PRICE = 0.4
"""How much better (in logarithms of the left-out error) a richer closed shape has to be than the plain circle, to stand for all."""
LEVEL = 0.05
"""A shape is rejected below this."""
CLEAR = 0.35
"""How much worse (in logarithms of the left-out error) than another shape of a few columns a circle may predict. Of circles with
values up to .4 of a step beside their place, 1 in 46 is further behind; of curves with a gap of two steps, 29 in 30."""
MATERIAL = 0.015
"""Share of the power between values that a path has to predict beyond the circle, before a circle that does not fit is
rejected: no real representation is an exact circle, and with enough signal every one is rejected by a test."""
MATERIAL_ASIDE = 0.005
"""The same where one value was set aside: what is left of a circle with one value elsewhere is a circle."""
FIXED = ("circle", "circle and harmonics", "circle beside a line")
"""Closed shapes with a few columns."""
FEW_COLUMNS = 0.8
"""How much worse (in logarithms of the left-out error) the best of those may be than a free closed curve. Planted circles and the
months of two language models stay below .7; lists without a cycle, whose neighbours alone are alike, come to 1.05 and more."""
UNCOUNTED = ("smooth path", "one direction", "distinct values")
"""Shapes whose lead says nothing: fitted to every value, or without any fit."""
BESIDE_LINE = ("arc beside a line", "other period beside a line")
FEW_VALUES, FEW_PENALTY = 9, 1.6
"""Factor on p with fewer values: an arc of 270 degrees over 7 of them is open by little more than three steps, and passed in 2
of 24 planted draws without it."""
PENALTY = {"wave": 3.0, "one direction": 3.0}
"""Factor on p: beside token identity, draws from a single quadrature are a little too regular (11 of 96 planted ones were rejected)."""
CLOSE, MORE = (0.02, 0.1), 5
"""Between these p is computed again, from so many times the draws: of 200 draws, p = .025 comes out above .05 for one seed in
eight."""
SECOND_LEVEL = 0.02
"""The same for the contest without one value, which is a second try."""
FEWEST_TO_SET_ASIDE = 9
"""Smallest number of values of which one may be set aside."""
OUTLYING = 8.0
"""How many times the median left-out error of a value has to be, to set it aside."""


@dataclass(frozen=True)
class Decision:
    """The contest of one table.

    ``rejects``: for every rival, the probability that a closed shape wins by as much on data of that shape. ``adequate``: for every shape, the
    probability that other shapes win by as much on data of that shape ("closed" stands for all closed shapes). ``scores``: logarithm of
    the left-out error of every shape, the mean over the numbers of directions.
    ``line``: probability that a line beside the circle predicts that much better, were there none.
    """

    table: Table
    designs: Family
    set_aside: int | None
    scores: dict[str, float]
    best: dict[str, int]
    rejects: dict[str, float]
    adequate: dict[str, float]
    line: float

    @property
    def closed_score(self) -> float:
        """Of the best closed shape."""
        return min(self.scores[name] for name in self.designs.closed_names)

    @property
    def harmonic_excess(self) -> float:
        """By how much the best circle of a few harmonics predicts worse than the best closed shape."""
        return float(min(self.scores[name] for name in FIXED if name in self.scores) - self.closed_score)

    @property
    def free(self) -> bool:
        """Only a free closed curve fits: neighbours are alike, which does not make a circle."""
        return self.harmonic_excess > FEW_COLUMNS

    @property
    def lead(self) -> float:
        """Of the best other shape of a few columns over every closed one, in logarithms of the left-out error."""
        named = [name for name in self.designs.open_names if name not in UNCOUNTED]
        return float(self.closed_score - min(self.scores[name] for name in named))

    @property
    def missed(self) -> float:
        """Share of the power between values that the best path predicts beyond the best closed shape."""
        whole = self.scores["distinct values"]
        return float(np.exp(self.closed_score - whole) - np.exp(self.scores["smooth path"] - whole))

    @property
    def closed_rejected(self) -> bool:
        """Another shape predicts clearly better; or the circle does not fit, by an amount that matters; or it predicts
        nothing of values left out."""
        unfit = self.adequate["closed"] < LEVEL and self.missed > MATERIAL
        return self.free or self.lead > CLEAR or unfit or not self.predicts(self.designs.closed_names)

    def predicts(self, names: Iterable[str]) -> bool:
        """Whether any of these shapes predicts of values left out more than their mean does, beyond its interval: a
        shape that none of the values follows is none, however the others do."""
        shares = (self.share(name) for name in names if name in self.best)
        return any((share.value if share.low is None else share.low) > 0 for share in shares)

    def share(self, name: str) -> Estimate:
        """Share of the power between values that the best design of a shape predicts of values left out."""
        if name not in self._shares:
            self._shares[name] = predicted_share(self.table, self.designs, self.best[name])
        return self._shares[name]

    @cached_property
    def _shares(self) -> dict[str, Estimate]:
        return {}

    @property
    def circular(self) -> bool:
        return self.p < LEVEL

    @property
    def penalty(self) -> float:
        """Factor on p for few values."""
        return FEW_PENALTY if len(self.table.frame.order) < FEW_VALUES else 1.0

    @property
    def p(self) -> float:
        """The largest p of a rival; 1 where the circle itself is rejected."""
        return 1.0 if self.closed_rejected else min(1.0, self.penalty * max(self.rejects.values()))

    @property
    def close(self) -> bool:
        """Whether p lies so near its level that other draws would decide otherwise."""
        return CLOSE[0] < self.p < CLOSE[1]

    @property
    def closed_name(self) -> str:
        """The closed shape of best evidence; a line counts only where it is significant."""
        names = self.designs.closed_names
        found = min(names, key=lambda name: self.scores[name])
        if found == "circle beside a line" and self.line >= LEVEL:
            return min((n for n in names if n != found), key=lambda name: self.scores[name])
        return found

    def design(self, name: str) -> Design:
        return self.designs.designs[self.best[name]]


def decide_site(gram: Float[ndarray, "t t n n"], frame: Frame, *, n_bootstrap: int, seed: int) -> Decision:
    """The contest of all values and, where that is no circle but one value lies far from the best one, of all values but that."""
    own = table(gram, frame)
    ready = Prepared.of(own, None)
    whole = _decided(ready, n_bootstrap=n_bootstrap, seed=seed)
    if whole.close:
        whole = redrawn(ready, whole, n_bootstrap=MORE * n_bootstrap, seed=seed)
    if whole.circular or len(frame.order) < FEWEST_TO_SET_ASIDE:
        return whole
    errors = left_out_errors(whole)
    worst = int(errors.argmax())
    if errors[worst] < OUTLYING * np.median(errors):
        return whole
    turned = Frame(np.roll(frame.order, -worst))
    ready = Prepared.of(table(gram, turned, without=0), 0)
    # a list without its first value is a little rounder: what a second look finds has to be the best there is
    if ready.decision.lead > 0 or ready.decision.missed > MATERIAL_ASIDE:
        return whole
    rest = _decided(ready, n_bootstrap=n_bootstrap, seed=seed)
    return rest if rest.circular and rest.p < SECOND_LEVEL else whole


def left_out_errors(decision: Decision) -> Float[ndarray, " m"]:
    """Squared left-out error of every value by the best closed design."""
    designs, own = decision.designs, decision.table
    design = decision.design(min(designs.closed_names, key=lambda name: decision.scores[name]))
    gram = read_gram(own.groups, own.group_sizes, designs.places)[-1]
    rest = np.eye(len(gram)) - design.smoother
    return np.diag(rest @ gram @ rest.T) / np.diag(rest) ** 2


@dataclass(frozen=True, eq=False)
class Prepared:
    """What a table's draws are compared with. ``closed``: the best closed shape, and the best one without a
    line; ``coarse``: designs and scores without those that the data got made for them, for values in random
    order, which get none; ``inside``: what the best circle leaves along its own directions."""

    own: Table
    without: int | None
    designs: Family
    observed: Float[ndarray, "rank shape"]
    coarse: tuple[Family, Float[ndarray, "rank shape"]]
    best: dict[str, int]
    closed: list[str]
    rivals: list[str]
    inside: float

    @classmethod
    def of(cls, own: Table, without: int | None) -> "Prepared":
        designs = family(len(own.frame.order), without)
        grams = read_gram(own.groups, own.group_sizes, designs.places)
        by_design = design_scores(grams, designs)
        best = {name: best_design(own, designs, by_design, name) for name in designs.names}
        coarse = designs, by_shape(by_design, grams, designs)
        designs = designs.refined(best.values(), grams[-1])
        observed = by_shape(design_scores(grams, designs), grams, designs)
        plain = min(
            FIXED,
            key=lambda name: observed[:, designs.names.index(name)].mean() if name in best else np.inf,
        )
        inside = fit(own, designs.designs[best[plain]]).identity_along
        rivals = [name for name in designs.rivals if not _is_flat(designs, best[name], name, grams[-1])]
        closed = _closed_names(designs, observed)
        return cls(own, without, designs, observed, coarse, best, closed, rivals, inside)

    @cached_property
    def decision(self) -> Decision:
        """What is known without any draws."""
        scores = dict(zip(self.designs.names, self.observed.mean(0), strict=True))
        return Decision(self.own, self.designs.bare(), self.without, scores, self.best, {}, {}, 1.0)

    def shapes(self, name: str) -> tuple[Family, Float[ndarray, "rank shape"]]:
        """Designs and observed scores that draws of a shape are compared with."""
        return self.coarse if name == "distinct values" else (self.designs, self.observed)

    def draw(self, name: str, ground: Ground, seed: int) -> Float[ndarray, "b rank shape"]:
        designs = self.shapes(name)[0]
        return _drawn_scores(self.own, designs, name, self.best[name], ground, seed, self.inside)

    def rejected(self, name: str, drawn: Float[ndarray, "b rank shape"]) -> float:
        """p of a rival."""
        designs, seen = self.shapes(name)
        return min(1.0, PENALTY.get(name, 1.0) * _closed_wins(seen, drawn, designs, name))


def _ground(own: Table, count: int, seed: int) -> Ground:
    return Ground.of(own, draws(count, len(own.kept), len(own.sizes), seed))


def decide(own: Table, without: int | None = None, *, n_bootstrap: int, seed: int) -> Decision:
    """All shapes on one table."""
    return _decided(Prepared.of(own, without), n_bootstrap=n_bootstrap, seed=seed)


def _decided(ready: Prepared, *, n_bootstrap: int, seed: int) -> Decision:
    ground = _ground(ready.own, n_bootstrap, seed)
    designs, observed, closed = ready.designs, ready.observed, ready.closed
    rejects, adequate, line = {}, {}, 1.0
    for name in (*designs.open_names, *closed):
        drawn, (shapes, seen) = ready.draw(name, ground, seed), ready.shapes(name)
        if name in ready.rivals:
            rejects[name] = ready.rejected(name, drawn)
        if name == closed[0]:
            adequate["closed"] = _adequacy(observed, drawn, designs.closed, designs)
        if name not in closed:
            adequate[name] = _adequacy(seen, drawn, [shapes.names.index(name)], shapes)
        if name == closed[-1]:
            line = _line_wins(observed, drawn, designs, name)
    return replace(ready.decision, rejects=rejects, adequate=adequate, line=line)


def redrawn(ready: Prepared, decision: Decision, *, n_bootstrap: int, seed: int) -> Decision:
    """The same with more draws of the rivals that may decide: those whose p is not clearly below the level."""
    ground = _ground(decision.table, n_bootstrap, seed)
    near = [name for name, p in decision.rejects.items() if decision.penalty * p > CLOSE[0]]
    again = {name: ready.rejected(name, ready.draw(name, ground, seed)) for name in near}
    return replace(decision, rejects={**decision.rejects, **again})


def _closed_names(designs: Family, observed: Float[ndarray, "rank shape"]) -> list[str]:
    """The best closed shape, and the best one without a line."""
    order = sorted(designs.closed, key=lambda i: observed[:, i].mean())
    names = [designs.names[i] for i in order]
    plain = [name for name in names if name != "circle beside a line"]
    return [names[0]] if names[0] == plain[0] else [names[0], plain[0]]


def best_design(own: Table, designs: Family, scores: Float[ndarray, "rank design"], name: str) -> int:
    """The design to draw from: of best evidence; for smooth paths of greatest likelihood."""
    members = designs.members(name)
    if name == "smooth path":
        return members[int(designs.path_likelihood(positive(own.mean)).argmax())]
    return members[int(scores[-1][members].argmin())]


def positive(gram: Float[ndarray, "m m"]) -> Float[ndarray, "m m"]:
    """The nearest Gram matrix without negative eigenvalues, which a noise-free estimate can have."""
    values, vectors = np.linalg.eigh(gram)
    return (vectors * np.maximum(values, 1e-4 * values[-1])) @ vectors.T


def _drawn_scores(
    own: Table, designs: Family, name: str, index: int, ground: Ground, seed: int, inside: float
) -> Float[ndarray, "b rank shape"]:
    """Scores of data of one shape. What it leaves along its own directions is as much as the circle leaves at most: the rest is lack of fit."""
    if name == "distinct values":
        drawn = _relabelled(own.groups, len(ground.own), seed)
    else:
        design = designs.designs[index]
        if name == "smooth path" and len(own.frame.order) >= FEW_VALUES:  # of fewer, the grid tells as much
            design = likeliest(design, positive(own.mean))
        fitted = fit(own, design)
        drawn = simulate(ground, replace(fitted, identity_along=min(fitted.identity_along, inside)))
    grams = read_gram(drawn, own.group_sizes, designs.places)
    return without_flat_helices(shape_scores(grams, designs), grams, designs)


def _is_flat(designs: Family, index: int, name: str, gram: Float[ndarray, "m m"]) -> bool:
    """A curve beside a line that bends a plane is none: the shapes of the plane stand for it."""
    return name in BESIDE_LINE and bends_a_plane(designs.designs[index], gram, designs.places)


def by_shape(
    scores: Float[ndarray, "rank design"], grams: Float[ndarray, "rank m m"], designs: Family
) -> Float[ndarray, "rank shape"]:
    """The best design of every shape."""
    return without_flat_helices(np.minimum.reduceat(scores, designs.starts, axis=-1), grams, designs)


def _relabelled(groups: Float[ndarray, "g g m m"], count: int, seed: int) -> Float[ndarray, "b g g m m"]:
    """The values in random order: exact for values without any."""
    order = np.argsort(np.random.default_rng(seed + 1).random((count, groups.shape[-1])), 1)
    return np.moveaxis(groups[:, :, order[:, :, None], order[:, None, :]], 2, 0)


def _closed_wins(observed: ndarray, drawn: ndarray, designs: Family, name: str) -> float:
    """p of the largest lead of a closed shape, each in as many directions as it spans: the plain circle in two, all
    of them in four, where token identity takes its part of the error."""
    own, constant = designs.names.index(name), designs.names.index("distinct values")
    rivals = [own, constant] if name == "smooth path" else [own]
    circle = designs.names.index("circle")
    price = np.array([0.0 if c == circle else PRICE for c in designs.closed])

    def leads(scores: ndarray) -> ndarray:
        few, many = scores[..., 0, :], scores[..., -1, :]
        best = (many[..., designs.closed] + price).min(-1)
        return np.concatenate(
            [few[..., rivals] - few[..., [circle]], many[..., rivals] - best[..., None]], -1
        )

    return smallest_p(leads(observed), leads(drawn))


def smallest_p(observed: Float[ndarray, " k"], drawn: Float[ndarray, "b k"]) -> float:
    """The smallest p of several statistics, calibrated among the draws themselves."""
    count = len(drawn)
    ranks = (count - drawn.argsort(0).argsort(0)) / count
    return permutation_p(-float(permutation_p(observed, drawn).min()), -ranks.min(1))


def _adequacy(observed: ndarray, drawn: ndarray, own: list[int], designs: Family) -> float:
    """How often the other shapes lead by as much on data of this one; a function along one direction is fitted to the
    data alone, not to draws, and has no say."""
    others = [i for i, name in enumerate(designs.names) if i not in own and name != "one direction"]

    def lead(scores: ndarray) -> ndarray | float:
        return (scores[..., own].min(-1) - scores[..., others].min(-1)).sum(-1)

    return permutation_p(float(lead(observed)), lead(drawn))


def _line_wins(observed: ndarray, drawn: ndarray, designs: Family, name: str) -> float:
    if "circle beside a line" not in designs.names:
        return 1.0
    beside, plain = designs.names.index("circle beside a line"), designs.names.index(name)

    def lead(scores: ndarray) -> ndarray | float:
        return (scores[..., plain] - scores[..., beside]).sum(-1)

    return permutation_p(float(lead(observed)), lead(drawn))
