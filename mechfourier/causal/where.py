"""Where a quantity is used: a map of layers and tokens, the layer at which it reaches the last token, and the
heads that carry it there.

In every cell (the residual stream after a block, one token) the circle is turned, the whole class mean is
moved, and the whole activation is patched from a prompt with another value. Turns are held against the same
displacement in random planes, patches against chance, both family-wise over all cells: a p belongs to a cell
among so many.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from numpy import ndarray
from torch import Tensor

from mechfourier.causal.displacement import harmonic_part, moved_rows, moved_rows_in, random_bases, whole_part
from mechfourier.causal.edits import EditedRows
from mechfourier.causal.effects import Effects, effects_of, turn_pairs
from mechfourier.causal.experiment import Experiment, SiteActivations
from mechfourier.causal.heads import HeadReads, heads_that_read
from mechfourier.causal.subspaces import check_spread
from mechfourier.domains.sampling import balanced_sample
from mechfourier.errors import OutOfRange
from mechfourier.hooks.edit import Edit
from mechfourier.hooks.interventions import edit_patch
from mechfourier.hooks.site import Site
from mechfourier.stats.family import largest_p, sign_flip_p
from mechfourier.stats.paired import bootstrap_mean, share_interval

CONTROLS = 39  # random planes in every cell: the least family-wise p is 1/40
PAIRS = 60  # pairs of a prompt and a δ in a cell
CONTROL_PAIRS = 6  # of these, turned in random planes
PATCHED = 40  # prompts patched in a cell
LEVEL = 0.05
CROSSINGS = 500  # resamples of the layer at which the last token takes over
TRACED = 3  # layers whose heads are traced


@dataclass(frozen=True)
class Cell:
    """One site and token. ``moved``: share of pairs of a prompt and a δ whose answer moves by exactly δ with
    the circle's turn, ``moved_whole`` with the whole class mean; ``p``: family-wise, of the directed rise of
    the answer against random planes; ``recovered`` with ``low`` and ``high``: share of the donor's score
    difference that patching the whole activation brings (None where donors make no difference),
    ``recovered_p`` family-wise. NaN: not defined, where an answer
    that would be turned to is that of no question."""

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
    ``high`` over prompts (−1: the embedding; None: nowhere). ``heads``: what single heads carry there."""

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
    notes: tuple[str, ...] = ()

    def used(self, position: str = "value", level: float = LEVEL) -> tuple[int, ...]:
        """The layers at which the circle is used at a token, family-wise (−1: the embedding)."""
        return tuple(number(c.layer) for c in self.cells if c.position == position and c.p <= level)


def number(layer: int | None) -> int:
    """A layer as a number: −1 for the embedding."""
    return -1 if layer is None else layer


class _Turned(NamedTuple):
    """A cell's turns: circle, whole class mean, and ``null[control]`` beside ``own`` on the same pairs."""

    circle: Effects
    whole: Effects
    own: float
    null: Float[ndarray, " control"]


def use_map(asked: Experiment, sites: Sequence[Site], ks: tuple[int, ...]) -> UseMap:
    """The map over ``sites`` and every token from the value on, for the circle of harmonics ``ks``."""
    listed = asked.at_all(sorted(sites), asked.positions)
    listed.sort(key=lambda place: asked.positions.index(place.position))
    patched = balanced_sample(asked.task.label, min(PATCHED, len(asked)), seed=asked.seed)
    pairs = asked.pairs(listed[0])
    base = pairs.difference(pairs.before.scores)[patched]
    span = (pairs.difference(pairs.donor_scores)[patched] - base).double()
    turned = [_turned(asked, place, ks) for place in listed]
    gains = torch.stack([_gain(asked, place, patched) - base.double() for place in listed])
    own = np.array([t.own for t in turned])
    p = np.where(np.isnan(own), np.nan, largest_p(np.nan_to_num(own), np.array([t.null for t in turned])))
    recovered_p = sign_flip_p(gains.numpy(), seed=asked.seed)
    defined = bootstrap_mean(span, seed=asked.seed)[0] > 0
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
    )


def _turned(asked: Experiment, place: SiteActivations, ks: tuple[int, ...]) -> _Turned:
    """The circle, the whole class mean, and random planes, on the same pairs in every cell."""
    n = len(place.means)
    each = max(1, min(n - 1, PAIRS // len(asked)))
    prompt, delta = turn_pairs(len(asked), n, each, seed=asked.seed)
    keep = torch.randperm(len(prompt), generator=torch.Generator().manual_seed(asked.seed))[:PAIRS]
    prompt, delta = prompt[keep], delta[keep]
    try:
        check_spread(place.means)
    except OutOfRange:  # one activation for every value: nothing moves; or an answer without a prompt
        nothing = effects_of(asked, place, prompt, delta, asked.baseline.scores[prompt])
        own = 0.0 if bool(place.means.isfinite().all()) else float("nan")
        return _Turned(nothing, nothing, own, np.zeros(CONTROLS))
    circle, whole = harmonic_part(place.means, ks), whole_part(place.means)
    label, few = place.label[prompt], slice(0, CONTROL_PAIRS)
    found = [
        effects_of(
            asked,
            place,
            prompt,
            delta,
            asked.engine.scores(
                moved_rows(place, prompt, part.steps(label, delta)), f"{place.site}", must_change=False
            ),
        )
        for part in (circle, whole)
    ]
    basis = circle.basis
    which = torch.arange(CONTROLS).repeat_interleave(len(prompt[few]))
    inside = (circle.steps(label[few], delta[few]) @ basis).repeat(CONTROLS, 1)
    at, by = prompt[few].repeat(CONTROLS), delta[few].repeat(CONTROLS)
    rows = moved_rows_in(place, at, inside, random_bases(basis, CONTROLS, seed=asked.seed), which)
    others = effects_of(asked, place, at, by, asked.engine.scores(rows, "random planes", must_change=False))
    null = others.directed.reshape(CONTROLS, -1).mean(dim=1)
    return _Turned(found[0], found[1], float(found[0].directed[few].mean()), null.numpy())


def _gain(
    asked: Experiment, place: SiteActivations, prompts: Int[Tensor, " prompt"]
) -> Float[Tensor, " prompt"]:
    """The donors' score difference after the whole activation of ``place`` is patched."""
    pairs = asked.pairs(place)

    def edit_of(rows: Int[Tensor, " row"]) -> Edit:
        chosen = prompts[rows]
        return edit_patch(place.site, pairs.donors[chosen], positions=place.at[chosen])

    rows = EditedRows(place.site, prompts, edit_of, place.at[prompts])
    scores = asked.engine.scores(rows, f"{place.site}", must_change=False)
    own = scores.gather(1, pairs.before.label[prompts][:, None])[:, 0]
    return (scores.gather(1, pairs.answer[prompts][:, None])[:, 0] - own).double()


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
