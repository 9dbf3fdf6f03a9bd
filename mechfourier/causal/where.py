"""Where a quantity is used: a map of layers and tokens, the layer at which it reaches the last token, and the
heads that carry it there.

In every cell (the residual stream after a block, one token) the circle is turned, the whole class mean is
moved, and the whole activation is patched from a prompt with another value. Turns are held against the same
displacement in random planes, patches against chance, both family-wise: a p belongs to a cell among so many.
Where patching the whole activation brings nothing, no part of it is used: such cells are not turned at random
and are not in the family (a choice that knows nothing of planes, so that p stays what it is elsewhere).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from numpy import ndarray
from torch import Tensor

from mechfourier.causal.cost import fewer
from mechfourier.causal.displacement import (
    Part,
    changed_rows,
    harmonic_part,
    moved_rows_in,
    random_bases,
    whole_part,
)
from mechfourier.causal.effects import Effects, effects_of, turn_pairs
from mechfourier.causal.experiment import Experiment, SiteActivations
from mechfourier.causal.heads import HeadReads, heads_that_read
from mechfourier.causal.subspaces import check_spread
from mechfourier.domains.sampling import balanced_sample
from mechfourier.errors import OutOfRange
from mechfourier.hooks.site import Site
from mechfourier.progress import tracked
from mechfourier.stats.family import largest_p, sign_flip_p
from mechfourier.stats.paired import bootstrap_mean, share_interval

CONTROLS = 39  # random planes in every cell: the least family-wise p is 1/40
PAIRS = 60  # pairs of a prompt and a δ in a cell
CONTROL_PAIRS = 6  # of these, turned in random planes
PATCHED = 40  # prompts patched in a cell
LEVEL = 0.05
LEAST = 0.02  # share that a cell's whole activation recovers where turns are tested
CROSSINGS = 500  # resamples of the layer at which the last token takes over
TRACED = 3  # layers whose heads are traced


@dataclass(frozen=True)
class Cell:
    """One site and token. ``moved``: share of pairs of a prompt and a δ whose answer moves by exactly δ with
    the circle's turn, ``moved_whole`` with the whole class mean; ``p``: family-wise, of the directed rise of
    the answer against random planes; ``recovered`` with ``low`` and ``high``: share of the donor's score
    difference that patching the whole activation brings (None where donors make no difference),
    ``recovered_p`` family-wise. NaN: not defined, where an answer
    that would be turned to is that of no question; ``p`` also where the whole activation recovers less than
    ``LEAST`` (`where`)."""

    site: str
    layer: int | None
    position: str
    moved: float
    moved_whole: float
    directed: float
    p: float
    recovered: float | None
    low: float | None
    high: float | None
    recovered_p: float


@dataclass(frozen=True)
class UseMap:
    """``cells`` in the order of a forward pass, position by position. ``moves_at``: the first layer where
    patching the last token brings at least as much as patching the value's, with its 95 % interval ``low`` to
    ``high`` over prompts (−1: the embedding; None: nowhere). ``heads``: what single heads carry there;
    ``n_tested``: cells whose turns have a p, which holds for all of them together."""

    ks: tuple[int, ...]
    positions: tuple[str, ...]
    cells: tuple[Cell, ...]
    moves_at: int | None
    low: int | None
    high: int | None
    heads: tuple[HeadReads, ...]
    n_pairs: int
    n_patched: int
    n_controls: int
    n_tested: int = 0
    notes: tuple[str, ...] = ()

    def used(self, position: str = "value", level: float = LEVEL) -> tuple[int, ...]:
        """The layers at which the circle is used at a token, family-wise (−1: the embedding)."""
        return tuple(number(c.layer) for c in self.cells if c.position == position and c.p <= level)


def number(layer: int | None) -> int:
    """A layer as a number: −1 for the embedding."""
    return -1 if layer is None else layer


class _Turned(NamedTuple):
    """A cell's turns: circle, whole class mean, the circle's directed rise on the few pairs that are turned at
    random too, and those pairs."""

    circle: Effects
    whole: Effects
    own: float
    part: Part | None
    prompt: Int[Tensor, " pair"]
    delta: Int[Tensor, " pair"]


def use_map(asked: Experiment, sites: Sequence[Site], ks: tuple[int, ...]) -> UseMap:
    """The map over ``sites`` and every token from the value on, for the circle of harmonics ``ks``."""
    listed = asked.at_all(sorted(sites), asked.positions)
    listed.sort(key=lambda place: asked.positions.index(place.position))
    patched = balanced_sample(
        asked.task.label, min(fewer(asked.model, asked.task, PATCHED), len(asked)), seed=asked.seed
    )
    pairs = asked.pairs(listed[0])
    base = pairs.difference(pairs.before.scores)[patched]
    span = (pairs.difference(pairs.donor_scores)[patched] - base).double()
    defined = bootstrap_mean(span, seed=asked.seed)[0] > 0
    measured = [
        _measured(asked, place, ks, patched)
        for place in tracked(listed, "map, turned and patched cells", len(listed))
    ]
    turned = [each for each, _ in measured]
    gains = torch.stack([after - base.double() for _, after in measured])
    recovered_p = sign_flip_p(gains.numpy(), seed=asked.seed)
    carries = (gains.mean(dim=1) >= LEAST * span.mean()) | (not defined)
    p = _family_p(asked, listed, turned, carries)
    cells = [
        _cell(
            place, turned[i], float(p[i]), gains[i], span if defined else None, float(recovered_p[i]), asked
        )
        for i, place in enumerate(listed)
    ]
    moves = defined and len(asked.positions) > 1
    crossing = _crossing(listed, gains, asked.seed) if moves else (None, None, None)
    return UseMap(
        ks=ks,
        positions=asked.positions,
        cells=tuple(cells),
        moves_at=crossing[0],
        low=crossing[1],
        high=crossing[2],
        heads=heads_that_read(asked, _traced(listed, gains), patched) if moves else (),
        n_pairs=len(turned[0].circle.moved),
        n_patched=len(patched),
        n_controls=CONTROLS,
        n_tested=int(np.isfinite(p).sum()),
    )


def _family_p(
    asked: Experiment,
    listed: Sequence[SiteActivations],
    turned: Sequence[_Turned],
    carries: Bool[Tensor, " cell"],
) -> Float[ndarray, " cell"]:
    """Family-wise p against random planes over the cells that carry something; NaN elsewhere."""
    p = np.full(len(turned), np.nan)
    tested = [i for i, each in enumerate(turned) if bool(carries[i]) and not np.isnan(each.own)]
    if tested:
        null = [
            _random(asked, listed[i], turned[i])
            for i in tracked(tested, "map, cells in random planes", len(tested))
        ]
        p[tested] = largest_p(np.array([turned[i].own for i in tested]), np.array(null))
    return p


def _measured(
    asked: Experiment, place: SiteActivations, ks: tuple[int, ...], patched: Int[Tensor, " prompt"]
) -> tuple[_Turned, Float[Tensor, " prompt"]]:
    """The circle and the whole class mean, on the same pairs in every cell, and the donors' score difference
    after the whole activation is patched: all in one run."""
    prompt, delta = _pairs(asked, len(place.means))
    pairs, parts, label = asked.pairs(place), _parts(place, ks), place.label[prompt]
    moves = [(prompt, part.steps(label, delta), 1.0) for part in parts]
    edits = changed_rows(place, [*moves, (patched, pairs.donors[patched], 0.0)])
    scores = asked.engine.scores(edits, f"{place.site}", must_change=False)
    *moved, after = scores.split([*[len(prompt)] * len(parts), len(patched)])
    gain = after.gather(1, pairs.answer[patched][:, None]) - after.gather(
        1, pairs.before.label[patched][:, None]
    )
    few = slice(0, fewer(asked.model, asked.task, CONTROL_PAIRS))
    if parts:
        circle, whole = (effects_of(asked, place, prompt, delta, each) for each in moved)
        own, part = float(circle.directed[few].mean()), parts[0]
    else:
        circle = whole = effects_of(asked, place, prompt, delta, asked.baseline.scores[prompt])
        own, part = 0.0 if bool(place.means.isfinite().all()) else float("nan"), None
    return _Turned(circle, whole, own, part, prompt[few], delta[few]), gain[:, 0].double()


def _pairs(asked: Experiment, n: int) -> tuple[Int[Tensor, " pair"], Int[Tensor, " pair"]]:
    """``PAIRS`` pairs of a prompt and a δ, drawn at random; fewer where each is costly."""
    count = fewer(asked.model, asked.task, PAIRS)
    each = max(1, min(n - 1, count // len(asked)))
    prompt, delta = turn_pairs(len(asked), n, each, seed=asked.seed)
    keep = torch.randperm(len(prompt), generator=torch.Generator().manual_seed(asked.seed))[:count]
    return prompt[keep], delta[keep]


def _parts(place: SiteActivations, ks: tuple[int, ...]) -> tuple[Part, ...]:
    """The circle and the whole class mean; none where one activation stands for every value, or an answer is
    that of no prompt."""
    try:
        check_spread(place.means)
    except OutOfRange:
        return ()
    return harmonic_part(place.means, ks), whole_part(place.means)


def _random(asked: Experiment, place: SiteActivations, turned: _Turned) -> Float[ndarray, " control"]:
    """The directed rise that the circle's steps bring in each of the random planes."""
    if turned.part is None:
        return np.zeros(CONTROLS)
    basis, label = turned.part.basis, place.label[turned.prompt]
    which = torch.arange(CONTROLS).repeat_interleave(len(turned.prompt))
    inside = (turned.part.steps(label, turned.delta) @ basis).repeat(CONTROLS, 1)
    at, by = turned.prompt.repeat(CONTROLS), turned.delta.repeat(CONTROLS)
    rows = moved_rows_in(place, at, inside, random_bases(basis, CONTROLS, seed=asked.seed), which)
    others = effects_of(asked, place, at, by, asked.engine.scores(rows, "random planes", must_change=False))
    return others.directed.reshape(CONTROLS, -1).mean(dim=1).numpy()


def _cell(
    place: SiteActivations,
    turned: _Turned,
    p: float,
    gain: Float[Tensor, " prompt"],
    span: Float[Tensor, " prompt"] | None,
    recovered_p: float,
    asked: Experiment,
) -> Cell:
    low, high = (None, None) if span is None else share_interval(gain, span, seed=asked.seed)
    none = turned.own * 0.0  # NaN where the classes cannot turn
    return Cell(
        site=str(place.site),
        layer=place.site.layer,
        position=place.position,
        moved=none + float(turned.circle.moved.double().mean()),
        moved_whole=none + float(turned.whole.moved.double().mean()),
        directed=none + float(turned.circle.directed.mean()),
        p=p,
        recovered=None if span is None else float(gain.mean() / span.mean()),
        low=low,
        high=high,
        recovered_p=recovered_p,
    )


def _by_layer(
    listed: Sequence[SiteActivations], gains: Float[Tensor, "cell prompt"], position: str
) -> Float[Tensor, "layer prompt"]:
    return gains[torch.tensor([place.position == position for place in listed])]


def _crossing(
    listed: Sequence[SiteActivations], gains: Float[Tensor, "cell prompt"], seed: int
) -> tuple[int | None, int | None, int | None]:
    """The first layer where the last token carries at least as much as the value's, with its interval over
    prompts."""
    value, last = (_by_layer(listed, gains, position) for position in ("value", "last"))
    if not len(last) or not len(value):
        return None, None, None
    layers = [number(place.site.layer) for place in listed if place.position == "value"]
    count = value.shape[1]
    weights = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), size=CROSSINGS)
    ahead = _ahead((last - value).mean(dim=1)[None])[0]
    drawn = _ahead(torch.from_numpy(weights).double() @ (last - value).T)
    if ahead < 0:
        return None, None, None
    low, high = np.quantile(np.where(drawn < 0, len(layers) - 1, drawn), [0.025, 0.975], method="nearest")
    return layers[int(ahead)], layers[int(low)], layers[int(high)]


def _ahead(difference: Float[Tensor, "draw layer"]) -> Int[ndarray, " draw"]:
    """The first layer after which the difference stays above 0; −1 where it does not at the end."""
    above: Bool[Tensor, "draw layer"] = difference > 0
    stays = above.flip(1).int().cumprod(dim=1).sum(dim=1)
    return torch.where(stays > 0, above.shape[1] - stays, -1).numpy()


def _traced(
    listed: Sequence[SiteActivations], gains: Float[Tensor, "cell prompt"]
) -> list[tuple[SiteActivations, int]]:
    """The layers at which most arrives at the last token: the place in front of each, and its number."""
    last = _by_layer(listed, gains, "last").mean(dim=1)
    front = [place for place in listed if place.position == "value"]
    if len(last) < 2:
        return []
    steps = last.diff()
    best = steps.topk(min(TRACED, len(steps))).indices.sort().values.tolist()
    return [(front[i], number(front[i].site.layer) + 1) for i in best if float(steps[i]) > 0]
