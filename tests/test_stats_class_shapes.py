"""The contest of shapes through the residue classes: closed against everything that could pass for it."""

import math

import pytest
import torch
from torch import Tensor

from mechfourier.stats.class_shapes import shape_contest

N = 12
LEVEL = 0.02


def random(draw: torch.Generator, *size: int) -> Tensor:
    return torch.randn(*size, generator=draw, dtype=torch.float64)


def waves(*ks: float, n: int = N) -> Tensor:
    angle = [2 * math.pi * k * torch.arange(n, dtype=torch.float64) / n for k in ks]
    return torch.cat([torch.stack([x.cos(), x.sin()], 1) for x in angle], 1)


def unit(points: Tensor) -> Tensor:
    centred = points - points.mean(0)
    return centred / centred.pow(2).sum(1).mean().sqrt()


def gram(points: Tensor, draw: torch.Generator) -> Tensor:
    """Likeness of the points in random directions of 40, with noise of a fiftieth of their power."""
    turned = unit(points) @ torch.linalg.qr(random(draw, 40, points.shape[1])).Q.T
    effects = turned + (0.02 / 40) ** 0.5 * random(draw, len(points), 40)
    effects = effects - effects.mean(0)
    return effects @ effects.T


CLOSED = {
    "circle": lambda g: waves(1),
    "k = 1 and 3": lambda g: waves(1, 3),
    "all five": lambda g: waves(1, 2, 3, 4, 5),
    "ellipse": lambda g: waves(1) * torch.tensor([1.0, 0.5]),
    "circle and identity": lambda g: torch.cat([unit(waves(1)), unit(random(g, N, 16))], 1),
}
NOT_CLOSED = {
    "no order": lambda g: random(g, N, 16),
    "one-hot": lambda g: torch.eye(N, dtype=torch.float64),
    "cosine": lambda g: waves(1)[:, :1],
    "cosine and identity": lambda g: torch.cat([unit(waves(1)[:, :1]), unit(random(g, N, 16))], 1),
    "two cosines": lambda g: torch.cat([waves(1)[:, :1], waves(2)[:, 1:]], 1),
    "line": lambda g: torch.arange(N, dtype=torch.float64)[:, None],
    "line and identity": lambda g: torch.cat(
        [unit(torch.arange(N, dtype=torch.float64)[:, None]), unit(random(g, N, 16))], 1
    ),
    "arc of 180°": lambda g: waves(0.5).roll(5, 0),
    "arc of 270°": lambda g: waves(0.75).roll(5, 0),
    "clusters over the wrap": lambda g: random(g, 4, 16)[((torch.arange(N) + 1) % N) // 3],
}


def called(shape, draws: int = 20) -> int:
    """How often the closed curve wins."""
    won = 0
    for seed in range(draws):
        draw = torch.Generator().manual_seed(seed)
        found = shape_contest(gram(shape(draw), draw), classes=N, step=1, permutations=199, seed=seed)
        won += found.p <= LEVEL
    return won


@pytest.mark.parametrize("name", CLOSED)
def test_closed_curves_win(name: str) -> None:
    assert called(CLOSED[name]) >= 19


@pytest.mark.parametrize("name", NOT_CLOSED)
def test_what_is_not_closed_does_not(name: str) -> None:
    assert called(NOT_CLOSED[name]) <= 1


@pytest.mark.parametrize("change", ["shift", "reversal", "scale"])
def test_where_a_cycle_begins_its_direction_and_its_size_change_nothing(change: str) -> None:
    draw = torch.Generator().manual_seed(0)
    one = gram(CLOSED["circle and identity"](draw), draw)
    other = {"shift": one.roll((4, 4), (0, 1)), "reversal": one.flip(0, 1), "scale": 1e6 * one}[change]
    found = [shape_contest(g, classes=N, step=1, permutations=199, seed=0) for g in (one, other)]
    assert found[0].closed == pytest.approx(found[1].closed, abs=1e-9)
    for name, r2 in found[0].rivals.items():
        assert found[1].rivals[name] == pytest.approx(r2, abs=1e-9)
    assert all(f.p <= LEVEL for f in found)


def test_harmonics_are_passed_in_their_own_order_and_equal_classes_folded() -> None:
    draw = torch.Generator().manual_seed(0)
    arc = waves(0.6)[torch.tensor([5 * c % N for c in range(N)])]  # along the list 0, 5, 10, …
    assert (
        shape_contest(gram(arc, draw), classes=N, step=5, permutations=199, seed=0).best_rival == "open curve"
    )
    twice = shape_contest(gram(waves(2), draw), classes=6, step=1, permutations=199, seed=0)
    assert twice.classes == 6 and twice.p <= LEVEL
    assert shape_contest(gram(waves(3), draw), classes=4, step=1, permutations=199, seed=0).p == 1


@pytest.mark.slow
def test_p_of_classes_without_an_order_is_no_smaller_than_chance() -> None:
    p = []
    for seed in range(300):
        draw = torch.Generator().manual_seed(seed)
        found = shape_contest(gram(random(draw, N, 8), draw), classes=N, step=1, permutations=199, seed=seed)
        p.append(found.p)
    assert sum(x <= 0.05 for x in p) <= 24  # 95 % of binomial draws at .05 stay below
