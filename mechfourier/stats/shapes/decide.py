"""The contest of one table: which shapes are rejected, by draws from their own best fits.

*Rivals.* For every shape that is no circle: how often would a closed shape win against it by as much, were the data of that shape? A table is
circular where that is under 5 % for all of them. *Adequacy.* For every shape: how often would the others win by as much, were the
data of that shape? A shape with less than 5 % is rejected.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from mechfourier.stats.shapes.designs import Design, Family, family
from mechfourier.stats.shapes.scores import RANKS, design_scores, read_gram, shape_scores
from mechfourier.stats.shapes.simulate import Draws, draws, fit, openness, simulate
from mechfourier.stats.shapes.tables import Frame, Table, table

LEVEL = 0.05
"""A shape is rejected below this."""
CLOSED_LEVEL = 0.05
"""The circle itself is rejected below this, where another shape predicts better."""
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
    def closed_rejected(self) -> bool:
        """The circle does not fit, and another shape predicts better than every closed one."""
        closed = {self.designs.names[i] for i in self.designs.closed}
        return (
            self.adequate["closed"] < CLOSED_LEVEL
            and min(self.scores, key=self.scores.__getitem__) not in closed
        )

    @property
    def circular(self) -> bool:
        return max(self.rejects.values()) < LEVEL and not self.closed_rejected

    @property
    def p(self) -> float:
        """The largest p of a rival; 1 where the circle itself is rejected."""
        return 1.0 if self.closed_rejected else max(self.rejects.values())

    @property
    def closed_name(self) -> str:
        """The closed shape of best evidence; a line counts only where it is significant."""
        names = [self.designs.names[i] for i in self.designs.closed]
        found = min(names, key=lambda name: self.scores[name])
        if found == "circle beside a line" and self.line >= LEVEL:
            return min((n for n in names if n != found), key=lambda name: self.scores[name])
        return found

    def design(self, name: str) -> Design:
        return self.designs.designs[self.best[name]]


def decide_site(gram: Float[ndarray, "t t n n"], frame: Frame, *, n_bootstrap: int, seed: int) -> Decision:
    """The contest of all values and, where that is no circle but one value lies far from the best one, of all values but that."""
    whole = decide(table(gram, frame), n_bootstrap=n_bootstrap, seed=seed)
    if whole.circular or len(frame.order) < FEWEST_TO_SET_ASIDE:
        return whole
    errors = left_out_errors(whole)
    worst = int(errors.argmax())
    if errors[worst] < OUTLYING * np.median(errors):
        return whole
    turned = Frame(np.roll(frame.order, -worst))
    rest = decide(table(gram, turned, without=0), without=0, n_bootstrap=n_bootstrap, seed=seed)
    return rest if rest.circular and rest.p < SECOND_LEVEL else whole


def left_out_errors(decision: Decision) -> Float[ndarray, " m"]:
    """Squared left-out error of every value by the best closed design."""
    designs, own = decision.designs, decision.table
    names = [designs.names[i] for i in designs.closed]
    design = decision.design(min(names, key=lambda name: decision.scores[name]))
    gram = read_gram(own.groups, own.group_sizes, designs.places)[-1]
    rest = np.eye(len(gram)) - design.smoother
    return np.diag(rest @ gram @ rest.T) / np.diag(rest) ** 2


def decide(own: Table, without: int | None = None, *, n_bootstrap: int, seed: int) -> Decision:
    """All shapes on one table."""
    designs = family(len(own.frame.order), without)
    by_design = design_scores(read_gram(own.groups, own.group_sizes, designs.places), designs)
    observed = np.minimum.reduceat(by_design, designs.starts, axis=-1)
    best = {name: best_design(own, designs, by_design, name) for name in designs.names}
    numbers = draws(n_bootstrap, len(own.kept), len(own.sizes), seed)
    closed = _closed_names(designs, observed)
    rejects, adequate, line = {}, {}, 1.0
    for name in (*designs.rivals, "nearly closed", *closed):
        if name not in best:
            continue
        drawn = _drawn_scores(own, designs, name, best[name], numbers, seed)
        if name in designs.rivals:
            rejects[name] = _closed_wins(observed, drawn, designs, name)
        if name == closed[0]:
            adequate["closed"] = _adequacy(observed, drawn, designs.closed)
        if name not in closed:
            adequate[name] = _adequacy(observed, drawn, [designs.names.index(name)])
        if name == closed[-1]:
            line = _line_wins(observed, drawn, designs, name)
    scores = dict(zip(designs.names, observed.mean(0), strict=True))
    return Decision(own, designs, without, scores, best, rejects, adequate, line)


def _closed_names(designs: Family, observed: Float[ndarray, "rank shape"]) -> list[str]:
    """The best closed shape, and the best one without a line."""
    order = sorted(designs.closed, key=lambda i: observed[:, i].mean())
    names = [designs.names[i] for i in order]
    plain = [name for name in names if name != "circle beside a line"]
    return [names[0]] if names[0] == plain[0] else [names[0], plain[0]]


def best_design(own: Table, designs: Family, scores: Float[ndarray, "rank design"], name: str) -> int:
    """The design to draw from: of best evidence; for smooth paths of greatest likelihood, for open curves one whose fit is open."""
    members = designs.members(name)
    if name == "smooth path":
        return members[int(designs.path_likelihood(positive(own.mean)).argmax())]
    order = np.argsort(scores[-1][members])
    if name == "open curve":
        for i in order:
            fitted = fit(own, designs.designs[members[int(i)]])
            if openness(fitted.coordinates, fitted.order) >= 1:
                return members[int(i)]
    return members[int(order[0])]


def positive(gram: Float[ndarray, "m m"]) -> Float[ndarray, "m m"]:
    """The nearest Gram matrix without negative eigenvalues, which a noise-free estimate can have."""
    values, vectors = np.linalg.eigh(gram)
    return (vectors * np.maximum(values, 1e-4 * values[-1])) @ vectors.T


def _drawn_scores(
    own: Table, designs: Family, name: str, index: int, numbers: Draws, seed: int
) -> Float[ndarray, "b rank shape"]:
    if name == "distinct values":
        drawn = _relabelled(own.groups, len(numbers.identity), seed)
    else:
        drawn = simulate(own, fit(own, designs.designs[index]), numbers)
    return shape_scores(read_gram(drawn, own.group_sizes, designs.places), designs)


def _relabelled(groups: Float[ndarray, "g g m m"], count: int, seed: int) -> Float[ndarray, "b g g m m"]:
    """The values in random order: exact for values without any."""
    order = np.argsort(np.random.default_rng(seed + 1).random((count, groups.shape[-1])), 1)
    return np.moveaxis(groups[:, :, order[:, :, None], order[:, None, :]], 2, 0)


def _closed_wins(observed: ndarray, drawn: ndarray, designs: Family, name: str) -> float:
    """p of the largest lead of a closed shape, over all closed shapes and numbers of directions."""
    own, constant = designs.names.index(name), designs.names.index("distinct values")

    def leads(scores: ndarray) -> ndarray:
        rivals = [own, constant] if name == "smooth path" else [own]
        return np.stack(
            [
                scores[..., r, i] - scores[..., r, c]
                for i in rivals
                for r in range(len(RANKS))
                for c in designs.closed
            ],
            -1,
        )

    return smallest_p(leads(observed), leads(drawn))


def smallest_p(observed: Float[ndarray, " k"], drawn: Float[ndarray, "b k"]) -> float:
    """The smallest p of several statistics, calibrated among the draws themselves."""
    count = len(drawn)
    ranks = (count - drawn.argsort(0).argsort(0)) / count
    smallest = ((1 + (drawn >= observed).sum(0)) / (count + 1)).min()
    return float((1 + (ranks.min(1) <= smallest).sum()) / (count + 1))


def _adequacy(observed: ndarray, drawn: ndarray, own: list[int]) -> float:
    """How often the other shapes lead by as much on data of this one."""
    others = [i for i in range(observed.shape[-1]) if i not in own]

    def lead(scores: ndarray) -> ndarray:
        return (scores[..., own].min(-1) - scores[..., others].min(-1)).sum(-1)

    return float((1 + np.sum(lead(drawn) >= lead(observed))) / (len(drawn) + 1))


def _line_wins(observed: ndarray, drawn: ndarray, designs: Family, name: str) -> float:
    if "circle beside a line" not in designs.names:
        return 1.0
    beside, plain = designs.names.index("circle beside a line"), designs.names.index(name)

    def lead(scores: ndarray) -> ndarray:
        return (scores[..., plain] - scores[..., beside]).sum(-1)

    return float((1 + np.sum(lead(drawn) >= lead(observed))) / (len(drawn) + 1))
