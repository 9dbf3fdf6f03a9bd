"""Period specificity: exactly n, and nothing else, may pass."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from mechfourier.stats.confounds import Grid
from mechfourier.stats.field import combination, field_contest
from mechfourier.stats.specificity import (
    Background,
    Periods,
    class_ratio,
    found_modulus,
    found_period,
    localisation,
    off_sum_floor,
    plane_spectrum,
    smaller_singular_energy,
    specificity_ratio,
)
from mechfourier.stats.surrogates import SurrogateBasis, off_rows, surrogate_ratios

GRIDS = {(n, cycles): Periods(Grid(n, cycles * n)) for n, cycles in ((7, 4), (12, 4), (23, 3))}


def circle(grid: Grid, period: float, *, phase: float = 0.0) -> Tensor:
    """The residual of cos and sin of the raw sum, in random directions of 6, with a little noise."""
    angle = 2 * math.pi * grid.raw_sum.double() / period + phase
    draw = torch.Generator().manual_seed(int(1000 * period))
    plane = torch.linalg.qr(torch.randn(6, 2, generator=draw, dtype=torch.float64)).Q
    noise = 0.1 * torch.randn(grid.cells, 6, generator=draw, dtype=torch.float64)
    return grid.residual(torch.stack([angle.cos(), angle.sin()], 1) @ plane.T + noise)


def measured(
    periods: Periods, residual: Tensor, keys: tuple[int, ...] = (1,)
) -> tuple[float, float, float, float]:
    """(ratio, exactness, shift, class ratio) of residual cells at the first key."""
    grid = periods.grid
    profile = grid.sum_basis.T @ residual
    floor = off_sum_floor(residual - grid.sum_basis @ profile, grid.residual_dof - grid.sum_basis.shape[1])
    background = Background(periods, keys)
    exactness, shift = localisation(periods, profile, floor, keys[0])
    ratios = specificity_ratio(background, profile, floor), class_ratio(background, profile, floor)
    return float(ratios[0]), exactness, shift, float(ratios[1])


@settings(max_examples=25, deadline=None)
@given(st.sampled_from(sorted(GRIDS)), st.data())
def test_a_circle_of_period_n_over_k_is_special(size: tuple[int, int], data: st.DataObject) -> None:
    periods = GRIDS[size]
    k = data.draw(st.sampled_from(periods.harmonics))
    phase = data.draw(st.floats(0, 6.28))
    ratio, exactness, shift, classes = measured(periods, circle(periods.grid, size[0] / k, phase=phase), (k,))
    assert ratio > 5
    assert exactness > 0.95
    assert abs(shift) < 0.2
    assert classes > 5


@settings(max_examples=25, deadline=None)
@given(st.sampled_from(sorted(GRIDS)), st.floats(3.0, 40.0))
def test_a_circle_of_another_period_is_not(size: tuple[int, int], period: float) -> None:
    periods = GRIDS[size]
    away = abs(size[0] / period - round(size[0] / period)) / size[0] * periods.grid.n_sums
    if away < 1.0:
        return
    assert measured(periods, circle(periods.grid, period))[0] < 1


def test_a_period_that_is_barely_not_n_peaks_beside_it() -> None:
    periods = Periods(Grid(11, 44))
    residual = circle(periods.grid, 10.0)
    _, exactness, shift, _ = measured(periods, residual)
    assert exactness < 0.75
    assert shift > 0.3


@pytest.mark.parametrize(
    ("n", "offsets", "expected"),
    [
        (12, 48, (1, 2, 3, 4, 5)),
        (12, 12, (2, 3, 4, 5)),
        (24, 24, (2, 3, 4, 5, 6, 7, 8, 9, 10, 11)),
        (20, 80, (1, 3, 5, 7, 9)),
    ],
)
def test_testable_harmonics(n: int, offsets: int, expected: tuple[int, ...]) -> None:
    """A single cycle cannot test k = 1, Nyquist has one quadrature, and base 10 has every other period of
    20."""
    periods = Periods(Grid(n, offsets))
    assert periods.harmonics == expected
    assert set(periods.untestable) == set(range(1, (n + 1) // 2)) - set(expected)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 40), st.integers(0, 10**6))
def test_the_smaller_singular_value_in_closed_form(width: int, seed: int) -> None:
    pairs = torch.randn(3, 2, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    gram = pairs @ pairs.transpose(1, 2)
    expected = torch.linalg.eigvalsh(gram)[:, 0]
    assert torch.allclose(smaller_singular_energy(pairs), expected.clamp_min(0), atol=1e-9)


def test_one_direction_never_makes_a_plane() -> None:
    periods = GRIDS[(12, 4)]
    line = periods.grid.residual(
        (periods.grid.label.double()[:, None]) @ torch.randn(1, 5, dtype=torch.float64)
    )
    profile = periods.grid.sum_basis.T @ line
    whole = float(profile.pow(2).sum())
    assert float(plane_spectrum(periods.harmonic_planes, profile).max()) < 1e-9 * whole


def test_the_floor_is_what_noise_gives() -> None:
    generator = torch.Generator().manual_seed(0)
    scale = torch.linspace(0.2, 2, 40, dtype=torch.float64)
    off = torch.randn(400, 40, generator=generator, dtype=torch.float64) * scale
    floor = off_sum_floor(off, 400)
    draws = smaller_singular_energy(
        torch.randn(20000, 2, 40, generator=generator, dtype=torch.float64) * scale
    )
    assert floor.mean == pytest.approx(float(draws.mean()), rel=0.05)
    assert (
        1.0 < floor.spread / float(draws.std()) < 1.5
    )  # the sum and the difference are taken as independent: on the safe side
    assert floor.energy == pytest.approx(float((scale**2).sum()), rel=0.05)


def test_a_smooth_field_of_both_operands_fails_the_field_ratio() -> None:
    grid = GRIDS[(7, 4)].grid
    draw = torch.Generator().manual_seed(0)
    gap = lambda m: torch.exp(-(torch.arange(m)[:, None] - torch.arange(m)[None]).abs().double() / 2)  # noqa: E731
    roots = [torch.linalg.cholesky(gap(m)) for m in (7, 28)]
    white = torch.randn(7, 28, 30, generator=draw, dtype=torch.float64)
    smooth = grid.residual(torch.einsum("ab,op,bpd->aod", *roots, white).reshape(-1, 30))
    profile = grid.sum_basis.T @ smooth
    floor = off_sum_floor(smooth - grid.sum_basis @ profile, grid.residual_dof - grid.sum_basis.shape[1])
    assert field_contest(grid, smooth, floor, 1).ratio < 1
    assert field_contest(grid, circle(grid, 7), floor, 1).ratio > 1


def test_a_product_of_both_operands_circles_has_the_difference_as_strongly_as_the_sum() -> None:
    grid = GRIDS[(12, 4)].grid
    angle = [2 * math.pi * x.double() / 12 for x in (grid.a, grid.offset)]
    waves = [torch.stack([x.cos(), x.sin()], 1) for x in angle]
    product = grid.residual((waves[0][:, :, None] * waves[1][:, None]).flatten(1))
    still = off_sum_floor(torch.zeros(grid.cells, 1, dtype=torch.float64), grid.residual_dof)
    found = field_contest(grid, product, still, 1)
    assert found.name == "a − o"
    assert found.difference == pytest.approx(1, rel=0.15)
    assert field_contest(grid, circle(grid, 12), still, 1).difference > 100


def test_combinations_of_the_operands_have_names() -> None:
    grid = GRIDS[(12, 4)].grid
    assert [combination(grid, j, at % 48) for j, at in ((1, -4), (2, 4), (3, 24), (11, 4), (6, 6))] == [
        "a − o",
        "2a + o",
        "a + 2o",
        "a − o",
        "a wave of 6 turns over a and 6 over o",
    ]


@pytest.mark.parametrize("size", sorted(GRIDS))
@pytest.mark.parametrize("change", [-1, 0, 1])
def test_the_period_and_the_modulus_of_the_sum_are_found(size: tuple[int, int], change: int) -> None:
    periods, period = GRIDS[size], size[0] + change
    grid = periods.grid
    residual = circle(grid, period)
    profile = grid.sum_basis.T @ residual
    off = residual - grid.sum_basis @ profile
    still = off_sum_floor(torch.zeros(grid.cells, 1, dtype=torch.float64), grid.residual_dof)
    assert found_period(periods, profile, off, grid.residual_dof).value == pytest.approx(period, rel=0.01)
    assert found_modulus(periods, profile, still) == period


def test_over_one_cycle_a_product_of_the_operands_fails_the_field_ratio() -> None:
    """s(a) v(o) + s(o) v(a) with random s and v, as attention with random weights makes it; a circle
    passes."""
    grid, draw = Grid(13, 13, digits=False), torch.Generator().manual_seed(0)
    still = off_sum_floor(torch.zeros(grid.cells, 1, dtype=torch.float64), grid.residual_dof)
    found = []
    for _ in range(30):
        scalar = torch.randn(13, 1, generator=draw, dtype=torch.float64)
        vector = torch.randn(13, 64, generator=draw, dtype=torch.float64)
        product = scalar[grid.a] * vector[grid.offset] + scalar[grid.offset] * vector[grid.a]
        found.append(max(field_contest(grid, grid.residual(product), still, k).ratio for k in range(1, 7)))
    assert sum(ratio > 1.3 for ratio in found) <= 2
    assert field_contest(grid, circle(grid, 13), still, 1).ratio > 10


def test_where_operands_can_be_exchanged_a_random_function_of_the_pair_has_no_more_of_the_sum_than_its_share() -> (
    None
):
    grid = Grid(13, 13, digits=False)
    assert grid.exchangeable and not Grid(13, 13, 1).exchangeable and not Grid(13, 26).exchangeable
    draw = torch.Generator().manual_seed(0)
    field = grid.folded(torch.randn(grid.cells, 400, generator=draw, dtype=torch.float64))
    residual = grid.residual(field)
    share = float((grid.sum_basis.T @ residual).pow(2).sum() / residual.pow(2).sum())
    assert share == pytest.approx(grid.sum_basis.shape[1] / grid.residual_dof, rel=0.05)
    basis = grid.residual_basis
    assert basis.shape[1] == grid.residual_dof
    assert torch.allclose(basis @ (basis.T @ residual), residual, atol=1e-9)


def test_the_surrogate_frame_spans_the_profile_space() -> None:
    for periods in GRIDS.values():
        frame = SurrogateBasis(Background(periods, (1,))).frame
        assert torch.allclose(frame @ frame.T, torch.eye(frame.shape[0], dtype=frame.dtype), atol=1e-8)


def test_surrogates_of_a_circle_are_not_special_at_n() -> None:
    periods = GRIDS[(12, 4)]
    grid = periods.grid
    residual = circle(grid, 12)
    profile = grid.sum_basis.T @ residual
    off = residual - grid.sum_basis @ profile
    floor = off_sum_floor(off, grid.residual_dof - grid.sum_basis.shape[1])
    basis = SurrogateBasis(Background(periods, (1,)))
    rows = off_rows(off, 2 * basis.bins, floor, torch.Generator().manual_seed(0))
    drawn = surrogate_ratios(basis, profile, rows, floor, draws=99, seed=0)
    assert drawn.shape == (99, 2)
    assert float(drawn[:, 0].quantile(0.95)) < 2
    assert measured(periods, residual)[0] > 10 * float(drawn[:, 0].max())


def test_surrogates_keep_the_rank_and_the_slope_of_a_smooth_function() -> None:
    periods = GRIDS[(12, 4)]
    basis = SurrogateBasis(Background(periods, (1,)))
    grid = periods.grid
    draw = torch.Generator().manual_seed(1)
    freqs = torch.tensor([0.05, 0.11, 0.13, 0.2, 0.3], dtype=torch.float64)
    angle = 2 * math.pi * freqs * grid.raw_sum.double()[:, None] + torch.arange(5)
    low = (angle.cos() / (1 + 40 * freqs)).sum(1)
    residual = grid.residual(low[:, None] @ torch.randn(1, 4, generator=draw, dtype=torch.float64))
    profile = grid.sum_basis.T @ residual
    floor = off_sum_floor(residual - grid.sum_basis @ profile, grid.residual_dof - grid.sum_basis.shape[1])
    rows = torch.zeros(2 * basis.bins, 4, dtype=torch.float64)
    drawn = surrogate_ratios(basis, profile, rows, floor, draws=99, seed=0)
    assert float(drawn[:, 0].abs().max()) < 1e-3  # one direction stays one direction: no plane anywhere
