import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mechfourier.errors import OutOfRange
from mechfourier.fourier.neurons import cluster_sum, grid_of, neuron_spectrum


def _wave(n: int, k: int, phase: float) -> torch.Tensor:
    return torch.cos(2 * math.pi * k * torch.arange(n, dtype=torch.float64) / n + phase)


@given(n=st.integers(5, 20), k=st.integers(1, 9), phase=st.floats(0, 6), other=st.floats(0, 6))
def test_a_neuron_of_one_frequency_has_all_its_variance_there(
    n: int, k: int, phase: float, other: float
) -> None:
    k = 1 + (k - 1) % ((n - 1) // 2)
    a, b = _wave(n, k, phase)[:, None], _wave(n, k, other)[None, :]
    spectrum = neuron_spectrum(torch.stack([a + b + 3, a * b, a + 0 * b], dim=-1))
    torch.testing.assert_close(spectrum.share[k - 1], torch.ones(3, dtype=torch.float64), atol=1e-9, rtol=0)
    assert spectrum.frequency.tolist() == [k, k, k]
    assert spectrum.share_above(0.99) == 1.0


def test_a_product_of_two_frequencies_belongs_to_neither() -> None:
    spectrum = neuron_spectrum((_wave(11, 2, 0.3)[:, None] * _wave(11, 3, 0.1)[None, :])[..., None])
    assert spectrum.share.max() < 1e-9


def test_dead_neurons_are_counted_neither_for_nor_against() -> None:
    grid = torch.zeros(7, 7, 3, dtype=torch.float64)
    grid[..., 0] = 5.0  # constant
    grid[..., 2] = _wave(7, 2, 0.4)[:, None]
    spectrum = neuron_spectrum(grid)
    assert spectrum.live.tolist() == [False, False, True]
    assert spectrum.share_above(0.95) == 1.0
    assert {k: members.tolist() for k, members in spectrum.clusters().items()} == {2: [2]}
    assert neuron_spectrum(grid[..., :2]).share_above(0.5) == 0.0
    with pytest.raises(OutOfRange):
        spectrum.share_above(1.5)


def test_clusters_write_all_that_the_neurons_write() -> None:
    generator = torch.Generator().manual_seed(0)
    activations = torch.randn(25, 6, generator=generator)
    to_logits = torch.randn(6, 5, generator=generator)
    parts = cluster_sum(activations, to_logits, {1: torch.tensor([0, 4]), 2: torch.tensor([3])})
    torch.testing.assert_close(sum(parts.values(), torch.zeros(25, 5)), activations @ to_logits)
    assert grid_of(activations, 5)[2, 3].equal(activations[13])
