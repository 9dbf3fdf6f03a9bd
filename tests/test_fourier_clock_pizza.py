import pytest
import torch

from mechfourier.errors import OutOfRange
from mechfourier.fourier.clock_pizza import (
    classify,
    distance_irrelevance,
    gradient_cosines,
    mean_and_error,
    random_triples,
    right_logits,
)


def test_a_table_of_the_sum_is_irrelevant_to_distance_and_one_of_the_distance_is_not() -> None:
    n = 11
    values = torch.randn(n, generator=torch.Generator().manual_seed(0))
    v = torch.arange(n)
    assert distance_irrelevance(values[(v[:, None] + v[None, :]) % n]) == pytest.approx(1.0)
    assert distance_irrelevance(values[(v[:, None] - v[None, :]) % n]) == pytest.approx(0.0, abs=1e-7)
    assert distance_irrelevance(torch.ones(n, n)) == 0.0


def test_distance_irrelevance_takes_the_right_logit() -> None:
    logits = torch.arange(5**3).reshape(5, 5, 5).float()
    table = right_logits(logits)
    assert table[3, 4] == logits[3, 4, 2]


def test_cosines_of_equal_opposite_and_vanishing_gradients() -> None:
    g = torch.randn(3, 8, generator=torch.Generator().manual_seed(0))
    other = torch.stack([g[0] * 2, -g[1], torch.zeros(8)])
    assert gradient_cosines(g, other).tolist() == pytest.approx([1.0, -1.0, 0.0])


def test_the_mean_has_an_error_that_shrinks_with_the_sample() -> None:
    values = torch.randn(4000, generator=torch.Generator().manual_seed(0))
    mean, error = mean_and_error(values)
    assert abs(mean) < 4 * error
    assert mean_and_error(values[:1000])[1] == pytest.approx(2 * error, rel=0.1)
    with pytest.raises(OutOfRange):
        mean_and_error(values[:1])


def test_random_triples_are_repeatable_and_cover_all_residues() -> None:
    triples = random_triples(7, 500, seed=3)
    assert triples.equal(random_triples(7, 500, seed=3))
    assert [sorted(set(column.tolist())) for column in triples.T] == [list(range(7))] * 3


@pytest.mark.parametrize(
    ("symmetricity", "irrelevance", "accuracy", "verdict"),
    [
        (0.9937, 0.17, 1.0, "pizza"),
        (0.3336, 0.85, 1.0, "clock"),
        (0.85, 0.45, 1.0, "boundary"),
        (0.99, 0.85, 1.0, "boundary"),
        (0.3336, 0.17, 1.0, "boundary"),
        (0.9937, 0.17, 0.5, "not learned"),
    ],
)
def test_verdicts(symmetricity: float, irrelevance: float, accuracy: float, verdict: str) -> None:
    assert classify(symmetricity, irrelevance, accuracy) == verdict
