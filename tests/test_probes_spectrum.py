"""Harmonic spectra: Parseval, agreement with the plain DFT, no bias from template noise, nothing lost by
rotation."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from value_arrays import plane, planted, wave

from mechfourier.fourier.harmonics import harmonic_r2
from mechfourier.stats.spectrum import (
    constant_sites,
    cross_gram,
    dimension_power,
    dimension_share,
    harmonic_planes,
    harmonic_power,
    harmonic_share,
    quadratures,
    shared_gram,
)

sizes = st.integers(5, 26)


@given(n=sizes, templates=st.integers(2, 5), seed=st.integers(0, 99))
@settings(max_examples=12, deadline=None)
def test_powers_add_up_to_the_between_value_power(n: int, templates: int, seed: int) -> None:
    acts = planted("identity", n, d=8, templates=templates, seed=seed)
    gram = shared_gram(cross_gram(acts))
    trace = torch.diagonal(gram, dim1=-2, dim2=-1).sum(-1)
    torch.testing.assert_close(harmonic_power(gram).sum(-1), trace)


@given(n=sizes, seed=st.integers(0, 99))
@settings(max_examples=12, deadline=None)
def test_without_noise_shares_are_the_dft_power_ratio(n: int, seed: int) -> None:
    values = torch.randn(n, 6, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    acts = values[:, None].expand(n, 3, 6)  # the same in every template
    torch.testing.assert_close(dimension_share(acts), harmonic_r2(values), rtol=0, atol=1e-10)
    whole = dimension_power(acts).sum(1)
    gram = shared_gram(cross_gram(acts[None]))[0]
    torch.testing.assert_close(harmonic_power(gram), whole, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(harmonic_share(gram), whole / whole.sum(), rtol=0, atol=1e-10)


def test_the_power_of_noise_is_nought_on_average() -> None:
    draws = torch.stack(
        [harmonic_power(shared_gram(cross_gram(planted("white", 12, d=16, seed=s))))[0] for s in range(150)]
    )
    z = draws.mean(0) / (draws.std(0) / len(draws) ** 0.5)
    assert z.abs().max() < 4.0
    biased = torch.stack(
        [cross_gram(planted("white", 12, d=16, seed=s)).mean((1, 2))[0].trace() for s in range(10)]
    )
    assert biased.min() > 0  # what the average over templates would have called signal


def test_rotations_and_template_offsets_change_nothing() -> None:
    acts = planted("circle", 12, d=16).double()
    turn = plane(16, torch.Generator().manual_seed(5), 16)
    offset = torch.randn(1, 1, acts.shape[2], 16, dtype=torch.float64)
    torch.testing.assert_close(
        shared_gram(cross_gram(acts @ turn + offset)), shared_gram(cross_gram(acts)), rtol=1e-6, atol=1e-9
    )


def test_weights_repeat_templates_but_never_pair_one_with_itself() -> None:
    cross = cross_gram(planted("circle", 7, d=8, templates=4))
    drawn = shared_gram(cross, torch.tensor([2.0, 1.0, 0.0, 1.0]))
    pairs = [(0, 1, 2.0), (0, 3, 2.0), (1, 3, 1.0)]
    by_hand = sum(w * (cross[:, t, u] + cross[:, u, t]) for t, u, w in pairs) / (2 * sum(p[2] for p in pairs))
    torch.testing.assert_close(drawn, by_hand)


@pytest.mark.parametrize("k", [1, 2, 3, 4, 5])
def test_a_circle_has_two_equal_quadratures_and_a_cosine_has_one(k: int) -> None:
    circle, n = wave(12, k), 12
    both = quadratures(circle @ circle.T)[k - 1]
    torch.testing.assert_close(both[0], both[1])
    one = circle[:, :1]
    assert quadratures(one @ one.T)[k - 1, 1].abs() < 1e-9 < quadratures(one @ one.T)[k - 1, 0]
    assert harmonic_planes(n).shape == (5, 2, 12)


def test_a_site_that_does_not_vary_is_constant_up_to_rounding() -> None:
    acts = planted("circle", 7, d=4, templates=2, layers=2)
    acts[1] = 3.1 + 1e-7 * torch.randn(7, 2, 4)
    assert constant_sites(acts).tolist() == [False, True]
    assert bool((dimension_share(torch.ones(7, 2, 3)) == 0).all())
