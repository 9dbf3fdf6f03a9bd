"""Tokens in any order: uniform where tokens are arbitrary, small where their order is there."""

import pytest
import torch
from scipy.stats import kstest

from mechfourier.stats.confounds import Grid, one_hot
from mechfourier.stats.operation import analyse_operation
from mechfourier.stats.operation_verdict import verdict_operation
from mechfourier.stats.planted import find, planted_operation
from mechfourier.stats.specificity import Periods
from mechfourier.stats.token_exchange import exchanged_tokens, interaction


def random_layer(n: int, offsets: int, seed: int, *, width: int = 24) -> torch.Tensor:
    """ReLU neurons with random weights on tokens with random vectors [1, n, offsets, width]; of a square grid both
    operands are the same tokens."""
    draw = torch.Generator().manual_seed(seed)
    tokens = torch.randn(n, width, generator=draw, dtype=torch.float64)
    others = tokens if offsets == n else torch.randn(offsets, width, generator=draw, dtype=torch.float64)
    return torch.relu(tokens[:, None] + others[None])[None]


@pytest.mark.parametrize(("n", "offsets", "first"), [(9, 9, 0), (7, 21, 7)])
def test_p_is_uniform_for_layers_that_learned_nothing(n: int, offsets: int, first: int) -> None:
    periods, plane, profile = Periods(Grid(n, offsets, first)), [], []
    for seed in range(120):
        found = exchanged_tokens(
            periods, [*random_layer(n, offsets, seed).flatten(1, 2)], seed=seed, draws=59
        )
        plane += found.plane
        profile += found.profile
    assert kstest(plane, "uniform").pvalue > 0.005
    assert kstest(profile, "uniform").pvalue > 0.005


@pytest.mark.parametrize(("offsets", "first"), [(21, 0), (5, 0), (10, 3)])
def test_p_keeps_its_level_where_both_operands_are_the_same_numbers(offsets: int, first: int) -> None:
    """(2, 5) and (5, 2) have one sum, and one activation; exchanging the first operand alone, one of
    the two p was below .05 in 24 to 45 of the 120."""
    grid, profile, plane = Grid(7, offsets, first), [], []
    for seed in range(120):
        draw = torch.Generator().manual_seed(seed)
        numbers = torch.randn(30, 24, generator=draw, dtype=torch.float64)
        layer = torch.relu(numbers[:7, None] + numbers[first : first + offsets]).flatten(0, 1)
        found = exchanged_tokens(Periods(grid), [layer], seed=seed, draws=59)
        plane.append(found.plane[0])
        profile.append(found.profile[0])
    for p in (plane, profile):
        assert sum(x <= 0.05 for x in p) <= 13  # binomial: 1 in 200 where the level is 5 %


@pytest.mark.parametrize(
    ("name", "n", "cycles"), [("circle-k2", 11, 1), ("circle-k2", 23, 1), ("circle", 12, 4), ("circle", 7, 4)]
)
def test_a_circle_of_the_sum_needs_the_order_of_the_tokens(name: str, n: int, cycles: int) -> None:
    """One cycle cannot tell k = 1 from a smooth function of the sum."""
    acts = planted_operation(find(name), n=n, cycles=cycles, seed=1)
    found = exchanged_tokens(Periods(Grid(n, n * cycles)), [*acts.flatten(1, 2).double()], seed=0)
    assert max(*found.plane, *found.profile) <= 0.02


def test_several_hook_points_are_one_family() -> None:
    periods, least = Periods(Grid(9, 9)), []
    for seed in range(80):
        layers = [random_layer(9, 9, 100 * seed + i)[0].flatten(0, 1) for i in range(4)]
        least.append(min(exchanged_tokens(periods, layers, seed=seed, draws=39).plane))
    assert sum(p <= 0.05 for p in least) <= 9  # binomial: 1 in 100 where the level is 5 %


@pytest.mark.parametrize(("n", "offsets"), [(6, 6), (5, 13)])
def test_functions_of_one_operand_leave_nothing(n: int, offsets: int) -> None:
    grid, draw = Grid(n, offsets), torch.Generator().manual_seed(0)
    alone = torch.cat([one_hot(grid.a), one_hot(grid.offset)], 1)
    own = alone @ torch.randn(alone.shape[1], 4, generator=draw, dtype=torch.float64)
    assert interaction(grid, own).abs().max() < 1e-9
    left = interaction(grid, torch.randn(grid.cells, 4, generator=draw, dtype=torch.float64)).flatten(0, 1)
    assert grid.folded(alone).T @ left == pytest.approx(torch.zeros(alone.shape[1], 4), abs=1e-9)
    again = interaction(grid, left)  # a projection
    assert again.flatten(0, 1) == pytest.approx(left, abs=1e-12)


@pytest.mark.parametrize("offsets", [9, 21])
def test_a_smooth_function_of_the_sum_needs_the_order_too(offsets: int) -> None:
    grid, draw = Grid(9, offsets), torch.Generator().manual_seed(0)
    smooth = torch.tanh(grid.raw_sum.double() / grid.n - 1)[:, None] * torch.randn(1, 32, generator=draw)
    cells = smooth + 0.03 * torch.randn(grid.cells, 32, generator=draw, dtype=torch.float64)
    assert exchanged_tokens(Periods(grid), [cells], seed=0).profile[0] <= 0.02


@pytest.mark.slow
@pytest.mark.parametrize("n", [11, 13, 23])
def test_layers_that_learned_nothing_have_no_circle(n: int) -> None:
    """Without their control; before tokens were exchanged up to 14 of 60 had one."""
    words = [
        verdict_operation(analyse_operation(random_layer(n, n, seed, width=256), n=n, permutations=199)).word
        for seed in range(60)
    ]
    assert words.count("circular") <= 3 and words.count("modular") <= 4
