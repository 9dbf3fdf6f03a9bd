"""Permutation nulls: exact counts where they are known, the same as relabelling by hand, uniform p without a
signal."""

import itertools
import math

import pytest
import torch
from scipy.stats import binomtest, kstest
from value_arrays import planted, wave

from mechfourier.errors import OutOfRange
from mechfourier.stats.null import (
    circle_null,
    circle_scores,
    dimension_null,
    dimension_r2,
    label_orders,
    reliability_p,
    sign_flips,
    smallest_p,
)
from mechfourier.stats.spectrum import cross_gram, shared_gram
from mechfourier.stats.value import analyse_value


def gram_of(points: torch.Tensor) -> torch.Tensor:
    centred = points - points.mean(0)
    return (centred @ centred.T)[None]


@pytest.mark.parametrize(("n", "k"), [(5, 1), (5, 2), (6, 1), (7, 1), (7, 3)])
def test_the_smallest_p_counts_the_relabellings_that_are_circles_too(n: int, k: int) -> None:
    gram, orders = gram_of(wave(n, k)), label_orders(n)
    assert orders.exact and len(orders) == math.factorial(n)
    score = circle_scores(gram).max()
    assert score == pytest.approx(1.0)
    null, best_k = circle_null(gram, orders)
    assert float(orders.p_value(score, null[:, 0])) == pytest.approx(smallest_p(n))
    assert best_k[0, 0] == k  # the first order is the true one


def test_five_values_cannot_reach_the_usual_level_and_six_can() -> None:
    assert smallest_p(5) == pytest.approx(20 / 120)
    assert smallest_p(6) == pytest.approx(12 / 720)
    assert smallest_p(7) == pytest.approx(42 / 5040)


@pytest.mark.parametrize("k", [1, 2, 4, 5])
def test_only_a_circle_scores_one(k: int) -> None:
    assert circle_scores(gram_of(wave(12, k)))[0].argmax() == k - 1
    ellipse = wave(12, k) * torch.tensor([1.0, 0.5])
    line = wave(12, k)[:, :1]
    assert circle_scores(gram_of(ellipse)).max() < 0.95
    assert circle_scores(gram_of(line)).max() < 1e-6


def test_the_null_is_what_relabelling_by_hand_gives() -> None:
    acts = planted("identity", 9, d=10, layers=2, templates=3)
    orders = label_orders(9, permutations=40, seed=3)
    null, _ = circle_null(shared_gram(cross_gram(acts)), orders)
    dims = dimension_null(acts.double().mean(2), orders)
    for b, order in enumerate(orders.index):
        inverse = torch.argsort(order)  # value v gets label order[v]: the row of label l is value inverse[l]
        relabelled = acts[:, inverse]
        expected = circle_scores(shared_gram(cross_gram(relabelled))).amax(1)
        torch.testing.assert_close(null[b], expected, rtol=1e-9, atol=1e-9)
        by_dim = dimension_r2(relabelled.double().mean(2)).amax((1, 2))
        torch.testing.assert_close(dims[b].double(), by_dim, rtol=1e-4, atol=1e-5)


def test_orders_are_reproducible_and_bad_counts_are_refused() -> None:
    assert torch.equal(label_orders(12, seed=4).index, label_orders(12, seed=4).index)
    assert not torch.equal(label_orders(12, seed=4).index, label_orders(12, seed=5).index)
    with pytest.raises(OutOfRange, match="permutations is 0"):
        label_orders(12, permutations=0)


def test_a_random_null_counts_the_observed_order_too() -> None:
    orders = label_orders(12, permutations=99)
    null = torch.zeros(99, dtype=torch.float64)
    assert float(orders.p_value(torch.tensor(1.0), null)) == pytest.approx(0.01)
    assert float(orders.p_value(torch.tensor(0.0), null)) == 1.0  # ties count against


def test_sign_flips_are_all_patterns_or_a_sample() -> None:
    assert len(sign_flips(8)) == 128 and bool((sign_flips(8)[0] == 1).all())
    assert len({tuple(row) for row in sign_flips(8).tolist()}) == 128
    assert sign_flips(30, limit=64).shape == (64, 30)


def test_templates_that_agree_are_told_from_noise_that_is_smooth() -> None:
    def p(name: str, seed: int) -> float:
        cross = cross_gram(planted(name, 12, d=16, seed=seed))
        return reliability_p(torch.einsum("stuvv->stu", cross), sign_flips(cross.shape[1]))

    assert max(p("identity", s) for s in range(5)) <= 2 / 128
    flagged = sum(p("walk per template", s) < 0.05 for s in range(200))
    assert binomtest(flagged, 200, 0.05, alternative="greater").pvalue > 0.01


NOISE = {
    "white": lambda x, draw: x,
    "t2": lambda x, draw: x / torch.randn(2, *x.shape, generator=draw).double().square().mean(0).sqrt(),
    "cauchy": lambda x, draw: x / torch.randn(x.shape, generator=draw).double().abs().clamp_min(1e-9),
    "two directions": lambda x, draw: x[..., :2] @ torch.randn(2, 16, generator=draw, dtype=torch.float64),
    "walk along the values": lambda x, draw: x.cumsum(1),
    "templates in pairs": lambda x, draw: (
        x + 1.2 * torch.randn(x[:, :, ::2].shape, generator=draw).double().repeat_interleave(2, 2)
    ),
    "copies": lambda x, draw: x[:, :, torch.arange(16) % 12],
}


@pytest.mark.slow
@pytest.mark.parametrize("name", NOISE)
@pytest.mark.parametrize("sites", [1, 5])
def test_p_of_a_shared_circle_is_uniform_in_noise(name: str, sites: int) -> None:
    """300 draws, sites and harmonics chosen in every flip: the share at or below .05 within its binomial
    law."""
    p = []
    for seed in range(300):
        draw = torch.Generator().manual_seed(seed)
        x = torch.randn(sites, 12, 16, 16, generator=draw, dtype=torch.float64)
        p.append(
            analyse_value(
                NOISE[name](x, draw).float(), permutations=9, bootstrap=0, dimensions=False
            ).harmonic_p
        )
    known = [x for x in p if not math.isnan(x)]
    assert len(known) >= 270
    assert binomtest(sum(x <= 0.05 for x in known), len(known), 0.05).pvalue > 0.001
    if name not in ("templates in pairs", "copies"):  # few sign patterns are no continuous law
        assert kstest(known, "uniform").pvalue > 0.001


def test_dimensions_that_are_constant_never_win() -> None:
    acts = torch.ones(1, 8, 5, dtype=torch.float64)
    assert bool((dimension_r2(acts) == 0).all())
    assert float(dimension_null(acts, label_orders(8, permutations=10)).max()) == 0.0


def test_exact_orders_are_a_group_of_all_permutations() -> None:
    assert {tuple(o) for o in label_orders(5).index.tolist()} == set(itertools.permutations(range(5)))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["white", "identity"])
def test_p_values_are_uniform_without_a_signal(name: str) -> None:
    """Kolmogorov–Smirnov over 500 draws, three sites searched: the family-wise p, and that of the best
    dimension."""
    whole, dims = [], []
    orders = label_orders(9, permutations=199, seed=7)
    for seed in range(500):
        acts = planted(name, 9, d=6, templates=3, layers=3, seed=seed)
        gram = shared_gram(cross_gram(acts))
        whole.append(float(orders.p_value(circle_scores(gram).max(), circle_null(gram, orders)[0].amax(1))))
        mean = acts.double().mean(2)
        dims.append(
            float(orders.p_value(dimension_r2(mean).max(), dimension_null(mean, orders).amax(1).double()))
        )
    for values in (whole, dims):
        assert kstest(values, "uniform").pvalue > 0.005
        assert binomtest(sum(p < 0.05 for p in values), 500, 0.05).pvalue > 0.005
