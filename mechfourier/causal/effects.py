"""What an edit that stands for "another value by δ steps" did to the answers.

Everything is relative to the model's own answer without the edit, right or wrong: a turn needs no right
answers.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mechfourier.causal.experiment import Experiment, SiteActivations


@dataclass(frozen=True, eq=False)
class Effects:
    """One entry per edited row. ``moved``: the answer moved by exactly as much as another value by δ moves
    the right one. ``raised``: by how much the score of the answer there rose over that of the model's own
    (nats; cosine). ``directed``: by how much it rose over the mean of all other answers but the model's own:
    an edit that only destroys the answer raises ``raised``, and not this."""

    moved: Bool[Tensor, " row"]
    raised: Float[Tensor, " row"]
    directed: Float[Tensor, " row"]


def effects_of(
    asked: Experiment,
    place: SiteActivations,
    prompt: Int[Tensor, " row"],
    delta: Int[Tensor, " row"],
    scores: Float[Tensor, "row candidate"],
) -> Effects:
    """What the ``scores`` of the prompts ``prompt[row]`` say of edits by ``delta[row]``."""
    before = asked.baseline.scores[prompt]
    start, answer = before.argmax(dim=1), scores.argmax(dim=1)
    aim = (start + expected_move(asked, place, prompt, delta, start)) % asked.design.n_answers
    change = (scores - before).double()
    target, own = (change.gather(1, column[:, None])[:, 0] for column in (aim, start))
    others = (change.sum(dim=1) - target - own) / max(1, change.shape[1] - 2)
    return Effects(moves(asked, place, prompt, delta, start, answer) == delta, target - own, target - others)


def moves(
    asked: Experiment,
    place: SiteActivations,
    prompt: Int[Tensor, " row"],
    delta: Int[Tensor, " row"],
    start: Int[Tensor, " row"],
    answer: Int[Tensor, " row"],
) -> Int[Tensor, " row"]:
    """The steps from the answers ``start`` to ``answer``, counted so that ``delta`` is what a turn by
    ``delta`` should do."""
    expected = expected_move(asked, place, prompt, delta, start)
    return (delta + asked.design.shift(answer - start) - expected) % asked.design.n_answers


def expected_move(
    asked: Experiment,
    place: SiteActivations,
    prompt: Int[Tensor, " row"],
    delta: Int[Tensor, " row"],
    start: Int[Tensor, " row"],
) -> Int[Tensor, " row"]:
    """The steps from the answers ``start`` to those that turns by ``delta`` should give."""
    if place.position != "last":
        return asked.design.moved(asked.task.rows[prompt], delta)
    return asked.design.shift((start + delta) % len(place.means) - start)


def turn_pairs(
    prompts: int, n: int, turns: int, *, seed: int
) -> tuple[Int[Tensor, " row"], Int[Tensor, " row"]]:
    """``turns`` different δ of 1 … n − 1 for each prompt, drawn at random where that is not all: (prompt, δ),
    turn-major."""
    turns = min(turns, n - 1)
    draws = torch.rand(prompts, n - 1, generator=torch.Generator().manual_seed(seed))
    delta = draws.topk(turns, dim=1).indices.sort(dim=1).values + 1
    return torch.arange(prompts).repeat(turns), delta.T.flatten()
