"""The planted generators are what they say, and the naive method falls for them."""

import math

import pytest
import torch

from mechfourier.errors import UsageError
from mechfourier.stats.naive import best_r2, class_means, naive_circular
from mechfourier.stats.planted import OPERATIONS, find, planted_operation, smooth
from mechfourier.stats.planted_values import VALUES, planted_value


@pytest.mark.parametrize("name", [g.name for g in OPERATIONS if g.signal is not None])
def test_power_of_the_signal_is_the_ratio_times_that_of_the_noise(name: str) -> None:
    generator = find(name)
    noisy = planted_operation(generator, n=7, d_model=40, snr=2.0, seed=3)
    louder = planted_operation(generator, n=7, d_model=40, snr=8.0, seed=3)
    signal = louder - noisy  # (√8 − √2) of a signal of power 1 per dimension
    power = float((signal - signal.mean((1, 2), keepdim=True)).pow(2).sum(-1).mean()) / 40
    assert power == pytest.approx((math.sqrt(8) - math.sqrt(2)) ** 2, rel=1e-3)


def test_noise_has_unit_variance_and_smooth_noise_remembers() -> None:
    white = planted_operation(find("white"), n=12, d_model=64)
    field = planted_operation(find("autocorrelated"), n=12, d_model=64)
    for acts, lag in ((white, 0.0), (field, math.exp(-0.5))):
        assert float(acts.var()) == pytest.approx(1, abs=0.05)
        assert float((acts[:, :, 1:] * acts[:, :, :-1]).mean()) == pytest.approx(lag, abs=0.05)


@pytest.mark.parametrize("generator", [*OPERATIONS], ids=lambda g: g.name)
def test_draws_depend_on_the_seed_alone(generator) -> None:
    first, again, other = (planted_operation(generator, n=7, d_model=16, seed=s) for s in (5, 5, 6))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert bool(torch.isfinite(first).all())


def test_circles_lie_in_one_layer_and_look_alikes_in_all() -> None:
    for name, planted in (("circle", 1), ("modular-16", 6)):
        acts = planted_operation(find(name), n=12, d_model=32, layers=6, snr=1.0)
        assert sum(float(means.var()) > 0.2 for means in class_means(acts)) == planted


def test_the_naive_method_falls_for_noise_and_for_other_periods() -> None:
    noise = planted_operation(find("white"), n=7, d_model=512)
    ten = planted_operation(find("helix-10"), n=12, d_model=64)
    assert naive_circular(class_means(noise))
    assert naive_circular(class_means(ten))


def test_best_r2_is_that_of_a_least_squares_fit() -> None:
    y = torch.randn(1, 9, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64).float()
    best = 0.0
    for k in range(1, 5):
        angle = 2 * math.pi * k * torch.arange(9).double() / 9
        design = torch.stack([torch.ones(9, dtype=torch.float64), angle.cos(), angle.sin()], 1)
        fit = design @ torch.linalg.lstsq(design, y[0].double()).solution
        rss, tss = (y[0] - fit).pow(2).sum(0), (y[0] - y[0].mean(0)).pow(2).sum(0)
        best = max(best, float((1 - rss / tss).max()))
    assert best_r2(y) == pytest.approx(best, abs=1e-6)


def test_class_means_average_cells_of_equal_label() -> None:
    acts = torch.zeros(1, 5, 10, 1)
    for a in range(5):
        for o in range(10):
            acts[0, a, o] = (a + o) % 5
    assert class_means(acts)[0, :, 0].tolist() == pytest.approx([0, 1, 2, 3, 4])


def test_smooth_functions_are_smooth() -> None:
    values = smooth(torch.arange(200), 50, torch.Generator().manual_seed(0), 5.0)
    assert float((values[1:] * values[:-1]).mean()) == pytest.approx(math.exp(-1 / 50), abs=0.1)


@pytest.mark.parametrize("generator", VALUES, ids=lambda g: g.name)
def test_values_have_templates_that_share_the_signal(generator) -> None:
    acts = planted_value(generator, n=12, d_model=64, snr=1.0, seed=2)[0]
    centred = acts - acts.mean(0)
    shared = float((centred[:, 0] * centred[:, 1]).sum(-1).mean()) / 64
    assert shared == pytest.approx(1.0 if generator.signal is not None else 0.0, abs=0.4)


def test_unknown_generators_are_named_with_the_nearest() -> None:
    with pytest.raises(UsageError, match="circle-basis"):
        find("circle-bases")


def test_directions_have_to_fit() -> None:
    with pytest.raises(UsageError, match="16 directions"):
        planted_operation(find("modular-16"), n=7, d_model=8)
