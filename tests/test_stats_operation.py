"""The arithmetic under the test of operations: identities, levels of p-values, coverage of an interval."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from mechfourier.stats.confounds import Grid, confound_columns, orthonormal
from mechfourier.stats.operation import analyse_operation
from mechfourier.stats.operation_view import energy_p, moments, standardised
from mechfourier.stats.permutation import permutation_p
from mechfourier.stats.planted import find, planted_operation
from mechfourier.stats.planted_operations import FURTHER
from mechfourier.stats.residue import class_effects, harmonic_power, wrap_transfer
from mechfourier.stats.rotation_null import coordinates, random_frames, rotation_null
from mechfourier.stats.shares import moment_p, variance_shares
from mechfourier.stats.specificity import Periods, found_period


@settings(max_examples=15, deadline=None)
@given(st.integers(5, 14), st.integers(1, 3), st.integers(0, 10**6))
def test_partial_r2_is_the_difference_of_two_fits(n: int, cycles: int, seed: int) -> None:
    acts = torch.randn(
        1, n, cycles * n + 2, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64
    ).float()
    evidence = analyse_operation(acts, n=n, permutations=99, surrogates=99, digits=False)
    if evidence.reason:
        return
    site = evidence.sites[0]
    grid = Grid(n, cycles * n + 2, digits=False)
    y = acts[0].reshape(-1, 3)[:, site.dim].double()
    angle = 2 * math.pi * site.dim_k * grid.raw_sum.double() / n
    small = confound_columns(grid)
    large = torch.cat([small, torch.stack([angle.cos(), angle.sin()], 1)], 1)
    rss = [float((y - basis @ (basis.T @ y)).pow(2).sum()) for basis in map(orthonormal, (small, large))]
    assert site.partial_r2 == pytest.approx((rss[0] - rss[1]) / rss[0], abs=1e-9)


def test_shares_are_the_lines_of_the_2d_dft() -> None:
    n, cycles = 6, 3
    acts = torch.randn(n, n * cycles, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    grid = Grid(n, n * cycles)
    shares = variance_shares(grid, acts.reshape(-1, 5))
    power = torch.fft.fft2(acts, dim=(0, 1)).abs().pow(2).sum(-1)
    power[0, 0] = 0
    line = sum(float(power[k, k * cycles]) for k in range(1, n))
    whole = float(power.sum())
    expected = (line / whole, float(power[1:, 0].sum()) / whole, float(power[0, 1:].sum()) / whole)
    assert (shares.sum_line, shares.a_only, shares.offset_only) == pytest.approx(expected, abs=1e-12)
    assert shares.rest == pytest.approx(1 - sum(expected), abs=1e-12)


@settings(max_examples=20, deadline=None)
@given(st.integers(5, 20), st.integers(1, 4), st.booleans())
def test_the_residual_space_knows_nothing_of_the_confounds(n: int, cycles: int, digits: bool) -> None:
    grid = Grid(n, cycles * n, digits=digits)
    columns = confound_columns(grid)
    assert float(grid.residual(columns).abs().max()) < 1e-8 * float(columns.abs().max())
    basis = grid.sum_basis
    assert torch.allclose(basis.T @ basis, torch.eye(basis.shape[1], dtype=basis.dtype), atol=1e-9)
    assert float((grid.confounds.T @ basis).abs().sum()) < 1e-6


@pytest.mark.parametrize("snr", [1.0, 1 / 32])
def test_the_interval_of_the_period_covers(snr: float) -> None:
    grid = Grid(12, 48)
    periods, covered = Periods(grid), 0
    for seed in range(100):
        acts = planted_operation(find("period-n+1", FURTHER), n=12, d_model=32, snr=snr, seed=seed)
        residual = standardised(grid, acts)[1][0]
        profile = grid.sum_basis.T @ residual
        off = residual - grid.sum_basis @ profile
        found = found_period(periods, profile, off, grid.residual_dof - grid.sum_basis.shape[1])
        covered += found.low <= 13 <= found.high
    assert stats.binomtest(covered, 100, 0.95).pvalue > 0.01


def test_random_frames_are_orthonormal_and_of_the_right_size() -> None:
    generator = torch.Generator().manual_seed(0)
    full = random_frames(5, 4, 30, 30, generator)
    assert torch.allclose(full @ full.transpose(1, 2), torch.eye(4).expand(5, 4, 4), atol=1e-4)
    part = random_frames(4000, 3, 10, 40, generator)
    energy = part.pow(2).sum(-1)
    assert float(energy.mean()) == pytest.approx(10 / 40, abs=0.004)
    # the energy of a unit vector in 10 of 40 dimensions is Beta(5, 15)
    assert stats.kstest(energy[:, 0].numpy(), stats.beta(5, 15).cdf).pvalue > 0.001


def test_coordinates_keep_inner_products() -> None:
    grid = Grid(7, 14)
    for width in (5, 200):
        y = grid.residual(
            torch.randn(98, width, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
        )
        rows = coordinates(grid, y)
        assert torch.allclose(rows.T @ rows, y.T @ y, atol=1e-8)
        assert rows.shape[0] <= grid.residual_dof


@pytest.mark.slow
@pytest.mark.parametrize("heavy", [False, True])
def test_p_values_are_uniform_on_the_smallest_grid(heavy: bool) -> None:
    """500 draws of white (and of heavy-tailed) noise on 7 x 7 cells: Kolmogorov-Smirnov, and the nominal 5
    %."""
    grid = Grid(7, 7)
    periods = Periods(grid)
    cells = periods.harmonic_planes @ grid.sum_basis.T
    generator = torch.Generator().manual_seed(4)
    found = []
    for draw in range(500):
        noise = torch.randn(49, 2, 12, generator=generator, dtype=torch.float64)
        if heavy:
            noise = noise / torch.rand(49, 1, 1, generator=generator, dtype=torch.float64).add(0.1).sqrt()
        residual = torch.stack([grid.residual(noise[:, site]) for site in range(2)], 1)
        residual = residual / residual.norm(dim=0)
        null = rotation_null(grid, cells, residual, permutations=99, seed=draw)
        pairs = torch.einsum("kpc,csd->kspd", cells, residual)
        gram = torch.einsum("kspd,ksqd->kspq", pairs, pairs)
        smaller = torch.linalg.eigvalsh(gram)[..., 0]
        found.append(permutation_p(float(((smaller - null.mean) / null.spread).max()), null.plane.amax(1)))
    jittered = torch.tensor(found) - torch.rand(500, generator=generator) / 100
    assert stats.kstest(jittered.numpy(), "uniform").pvalue > 0.01
    assert sum(p <= 0.05 for p in found) / 500 == pytest.approx(0.05, abs=0.025)


@pytest.mark.slow
@pytest.mark.parametrize(
    "kind",
    [
        "white",
        "one dimension",
        "two directions",
        "t2",
        pytest.param(
            "cauchy", marks=pytest.mark.xfail(reason="not uniform on 7 x 28 cells; .03 to .09 at .05")
        ),
    ],
)
def test_p_values_of_the_sum_the_difference_and_the_operands_are_uniform(kind: str) -> None:
    """300 draws on 7 x 28 cells: the share at or below .05 within 99.9 % of its binomial law, and
    Kolmogorov–Smirnov."""
    grid = Grid(7, 28)
    found: dict[str, list[float]] = {"sum": [], "difference": [], "operands": []}
    for seed in range(300):
        draw = torch.Generator().manual_seed(seed)
        noise = torch.randn(
            1, 7, 28, 1 if kind == "one dimension" else 24, generator=draw, dtype=torch.float64
        )
        degrees = {"t2": 2, "cauchy": 1}.get(kind)
        if degrees:
            noise = (
                noise / torch.randn(degrees, *noise.shape, generator=draw).double().square().mean(0).sqrt()
            )
        if kind == "two directions":
            noise = noise[..., :2] @ torch.randn(2, 24, generator=draw, dtype=torch.float64) + 0.1 * noise
        scored, residual = standardised(grid, noise)
        known = moments(residual[0])
        found["sum"].append(energy_p(grid, grid.sum_basis.T @ residual[0], known))
        found["difference"].append(energy_p(grid, grid.difference_basis.T @ residual[0], known))
        found["operands"].append(variance_shares(grid, scored[0]).main_p)
    for name, p in found.items():
        assert stats.binomtest(sum(x <= 0.05 for x in p), 300, 0.05).pvalue > 0.001, name
        assert stats.kstest(p, "uniform").pvalue > 0.001, name


def test_moments_of_the_energy_test() -> None:
    generator = torch.Generator().manual_seed(0)
    y = torch.randn(40, 6, generator=generator, dtype=torch.float64) * torch.arange(1, 7)
    gram = y.T @ y
    frames = random_frames(4000, 5, 40, 40, generator).double()
    energies = (frames @ y).pow(2).sum((1, 2))
    median = float(energies.median())
    p = moment_p(median, float(gram.diagonal().sum()), float((gram * gram).sum()), 5, 40)
    assert p == pytest.approx(0.5, abs=0.1)
    upper = moment_p(
        float(energies.quantile(0.95)), float(gram.diagonal().sum()), float((gram * gram).sum()), 5, 40
    )
    assert 0.02 < upper < 0.08


@settings(max_examples=20, deadline=None)
@given(st.integers(6, 20), st.data())
def test_class_effects_of_a_pure_harmonic_are_that_harmonic(n: int, data: st.DataObject) -> None:
    k = data.draw(st.integers(2, (n - 1) // 2))
    phase = data.draw(st.floats(0, 6.28))
    grid = Grid(n, 3 * n, digits=False)
    y = (2 * math.pi * k * grid.label.double() / n + phase).cos()[:, None]
    effects = class_effects(grid.class_columns, grid.residual(y))
    power = harmonic_power(effects)
    assert float(power.sum()) == pytest.approx(float(effects.pow(2).sum()), rel=1e-9)
    assert int(power.argmax()) + 1 == k


def test_wrap_transfer_scores_one_for_a_modular_cosine_and_less_for_a_ramp() -> None:
    grid = Grid(12, 48)
    cosine = (2 * math.pi * 2 * grid.label.double() / 12 + 0.3).cos()
    assert wrap_transfer(grid, cosine, 2) == pytest.approx(1)
    assert wrap_transfer(grid, grid.raw_sum.double() ** 2, 1) < 0
