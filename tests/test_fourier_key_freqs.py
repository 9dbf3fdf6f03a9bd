import math

import pytest
import torch

from mechfourier.errors import OutOfRange
from mechfourier.fourier.key_freqs import (
    answer_null,
    answer_share,
    gaussian_null,
    key_frequencies,
    matrix_share,
    null_threshold,
    significant,
)


def test_untrained_spectra_are_marked_in_five_percent() -> None:
    threshold = null_threshold(gaussian_null(23, 16, seed=0))
    fresh = gaussian_null(23, 16, draws=1000, seed=1)
    assert 0.02 < (fresh.max(1).values > threshold).double().mean().item() < 0.09


def test_shares_add_up_and_the_mixing_keeps_them_fair() -> None:
    mixing = torch.randn(16, 40, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    for null in (gaussian_null(12, 16), gaussian_null(12, 16, mixing=mixing)):
        torch.testing.assert_close(null.sum(1), torch.ones(199, dtype=torch.float64))
    assert gaussian_null(13, 16, mixing=mixing).mean(0) == pytest.approx(
        torch.full((6,), 1 / 6).numpy(), abs=0.02
    )


def test_the_square_root_of_the_mixing_gives_the_spectrum_of_the_product() -> None:
    mixing = torch.randn(5, 9, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    draw = torch.randn(11, 1, 5, generator=torch.Generator().manual_seed(7), dtype=torch.float64)[:, 0]
    null = gaussian_null(11, 5, draws=1, seed=7, mixing=mixing)
    torch.testing.assert_close(null[0], matrix_share(draw @ mixing))


def test_planted_circles_are_found_strongest_first() -> None:
    v = torch.arange(29).double()
    noise = 0.1 * torch.randn(29, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    for k, size, column in ((4, 1.0, 0), (11, 1.5, 2)):
        noise[:, column] += size * torch.cos(2 * math.pi * k * v / 29)
        noise[:, column + 1] += size * torch.sin(2 * math.pi * k * v / 29)
    threshold = null_threshold(gaussian_null(29, 32))
    assert significant(matrix_share(noise), threshold) == (11, 4)
    assert key_frequencies((11, 4), (4, 7)) == (4,)


def test_frequencies_used_alike_are_found_in_the_logits() -> None:
    v = torch.arange(11).double()
    reading = torch.randn(11, 24, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    null = answer_null(reading)
    every = sum(
        (torch.cos(2 * math.pi * k * (v[:, None] - v[None, :]) / 11) for k in range(1, 6)),
        torch.zeros(11, 11),
    )
    share = answer_share(every)
    assert share.tolist() == pytest.approx([0.2] * 5)
    assert len(significant(share, null_threshold(null))) == 5
    fresh = answer_null(reading, draws=500, seed=9)
    assert (fresh.max(1).values > null_threshold(null)).double().mean().item() < 0.1


def test_a_level_that_the_draws_cannot_give_is_refused() -> None:
    with pytest.raises(OutOfRange, match="too few"):
        null_threshold(gaussian_null(7, 4, draws=10))
    with pytest.raises(OutOfRange):
        null_threshold(gaussian_null(7, 4), level=1.0)
    assert null_threshold(gaussian_null(7, 4, draws=19)) == gaussian_null(7, 4, draws=19).max().item()
