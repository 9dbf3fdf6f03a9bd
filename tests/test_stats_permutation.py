"""The one permutation p-value, the waves, and renamed keywords."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mechfourier._renamed import renamed
from mechfourier.fourier.bases import fourier_basis
from mechfourier.fourier.waves import harmonic_waves, waves
from mechfourier.stats.permutation import holm, permutation_p


@given(st.lists(st.integers(-50, 50), min_size=1, max_size=60), st.integers(-50, 50))
def test_p_counts_the_draws_that_reach_the_statistic(null: list[int], observed: int) -> None:
    reached = sum(x >= observed for x in null)
    assert permutation_p(observed, null) == (1 + reached) / (len(null) + 1)
    assert permutation_p(observed, null, exact=True) == reached / len(null)


@given(st.lists(st.floats(1e-6, 1e6), min_size=2, max_size=30), st.floats(1e-9, 1e9))
def test_p_does_not_depend_on_the_unit_of_the_statistic(null: list[float], unit: float) -> None:
    assert permutation_p(null[0], null) == permutation_p(null[0] * unit, [x * unit for x in null])


def test_float_error_is_a_tie_and_ties_count_against_the_statistic() -> None:
    assert permutation_p(0.3, [0.1 + 0.2, 0.1 * 3, 0.1]) == permutation_p(0.1 + 0.2, [0.3, 0.3, 0.1]) == 0.75


def test_nan_on_either_side_counts_against_the_statistic_and_no_draws_give_one() -> None:
    assert permutation_p(math.nan, [1.0, 2.0]) == 1.0
    assert permutation_p(3.0, [1.0, math.nan]) == pytest.approx(2 / 3)
    assert permutation_p(3.0, []) == 1.0
    assert permutation_p(math.inf, [1.0, math.inf, 2.0]) == 0.5


def test_many_statistics_share_a_null_or_have_their_own() -> None:
    observed, shared = torch.tensor([[1.0, 3.0], [0.0, 9.0]]), np.arange(9.0)
    assert permutation_p(observed, shared).tolist() == [[0.9, 0.7], [1.0, 0.1]]
    own = np.stack([shared, shared + 100], 1)
    assert permutation_p(np.array([8.0, 8.0]), own).tolist() == [0.2, 1.0]


def test_holm_is_monotone_and_never_below_the_raw_p() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx((0.03, 0.06, 0.06))


@pytest.mark.parametrize("n", [2, 5, 12, 97])
def test_the_waves_of_a_cycle_are_the_fourier_basis(n: int) -> None:
    for k in range(1, (n - 1) // 2 + 1):
        rows = fourier_basis(n)[2 * k - 1 : 2 * k + 1]
        torch.testing.assert_close(harmonic_waves(n, k).T * math.sqrt(2 / n), rows)
    assert harmonic_waves(n, [0, 1]).shape == (n, 2, 2)


def test_whole_turns_lose_no_phase() -> None:
    turns = torch.tensor([0.25, 0.125])
    torch.testing.assert_close(waves(turns + 2**20), waves(turns), rtol=0, atol=1e-12)


def test_an_old_keyword_works_with_a_warning_and_not_beside_the_new_one() -> None:
    @renamed(permutations="n_permutations")
    def probe(x: int, *, n_permutations: int = 3) -> int:
        return x * n_permutations

    with pytest.warns(
        DeprecationWarning, match=r"n_permutations=… now; permutations goes in mechfourier 0\.3"
    ):
        assert probe(2, permutations=5) == 10  # pyright: ignore[reportCallIssue]
    assert probe(2, n_permutations=4) == 8
    with pytest.raises(TypeError, match="give n_permutations only"):
        probe(2, permutations=1, n_permutations=2)  # pyright: ignore[reportCallIssue]
