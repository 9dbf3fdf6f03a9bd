import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mechfourier.errors import OutOfRange
from mechfourier.fourier.progress import (
    class_means,
    fourier_gini,
    gini,
    key_part,
    progress_measures,
    sums,
    trig_amplitudes,
    trig_share,
)


def _noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def _trig(n: int, amplitudes: dict[int, float]) -> torch.Tensor:
    a = torch.arange(n).double()
    e = a[:, None, None] + a[None, :, None] - a[None, None, :]
    return sum(
        (x * torch.cos(2 * math.pi * k * e / n) for k, x in amplitudes.items()), torch.zeros(n, n, n).double()
    )


def test_class_means_are_the_projection_on_functions_of_the_sum() -> None:
    y = _noise(6, 6, 2)
    s = sums(6)
    projected = class_means(y)[s]
    direct = torch.stack([torch.stack([y[s == s[a, b]].mean(0) for b in range(6)]) for a in range(6)])
    torch.testing.assert_close(projected, direct)
    torch.testing.assert_close(class_means(projected), class_means(y))


@given(n=st.integers(5, 15), seed=st.integers(0, 100))
def test_the_key_part_of_all_frequencies_is_all_but_the_mean(n: int, seed: int) -> None:
    y = _noise(n, 3, seed=seed)
    torch.testing.assert_close(key_part(y, range(1, n // 2 + 1)), y - y.mean(0))
    torch.testing.assert_close(key_part(y, ()), torch.zeros_like(y))


@given(n=st.integers(7, 15), x=st.floats(0.5, 8), y=st.floats(0.5, 8))
def test_planted_trigonometric_logits_are_recovered(n: int, x: float, y: float) -> None:
    logits = _trig(n, {1: x, 3: y}) + _noise(n, n, 1)  # a constant over c is invisible
    amplitudes = trig_amplitudes(logits)
    assert amplitudes[[0, 2]].tolist() == pytest.approx([x, y])
    assert amplitudes[1].item() == pytest.approx(0.0, abs=1e-12)
    share = trig_share(logits)
    assert share[0].item() == pytest.approx(x * x / (x * x + y * y), abs=1e-9)
    assert share[[0, 2]].sum().item() == pytest.approx(1.0)


def test_a_network_of_key_frequencies_loses_nothing_restricted_and_all_excluded() -> None:
    n = 13
    logits = _trig(n, {2: 9.0, 5: 7.0})
    found = progress_measures(logits, (2, 5))
    assert found.accuracy == 1.0
    assert found.restricted_loss == pytest.approx(found.loss, rel=1e-9)
    assert found.trig_loss == pytest.approx(found.loss, rel=1e-9)
    assert found.excluded_loss == pytest.approx(math.log(n), rel=1e-9)
    assert math.isnan(found.loss_train)


def test_memorised_logits_are_not_in_the_restricted_loss_but_in_the_excluded_one() -> None:
    n = 13
    s = sums(n)
    train = torch.rand(n, n, generator=torch.Generator().manual_seed(1)) < 0.3
    memory = torch.zeros(n, n, n, dtype=torch.float64).scatter_(2, s[..., None], 30.0) * train[..., None]
    found = progress_measures(memory, (2, 5), train=train)
    assert found.loss_train < 1e-9 < 2 < found.loss_test
    assert found.accuracy_train == 1.0
    assert found.excluded_loss_train < 0.1
    assert found.restricted_loss_train > 0.5 > found.excluded_loss_train


def test_train_and_test_make_up_the_whole() -> None:
    n, logits = 9, _noise(9, 9, 9, seed=4)
    train = torch.rand(n, n, generator=torch.Generator().manual_seed(2)) < 0.4
    found, share = progress_measures(logits, (1, 4), train=train), train.double().mean().item()
    for name in ("loss", "restricted_loss", "excluded_loss", "trig_loss", "accuracy"):
        parts = share * getattr(found, f"{name}_train") + (1 - share) * getattr(found, f"{name}_test")
        assert getattr(found, name) == pytest.approx(parts)


def test_unknown_frequencies_are_refused() -> None:
    with pytest.raises(OutOfRange, match="7"):
        progress_measures(_noise(9, 9, 9), (7,))


def test_gini_of_the_extremes_and_of_a_ramp() -> None:
    assert gini(torch.ones(10)).item() == pytest.approx(0.0)
    assert gini(torch.eye(10)[0]).item() == pytest.approx(0.9)
    assert gini(torch.zeros(4)).item() == 0.0
    assert gini(torch.tensor([1.0, 3.0])).item() == pytest.approx(0.25)
    with pytest.raises(OutOfRange):
        gini(torch.tensor([1.0, -1.0]))


@given(scale=st.floats(0.01, 100), seed=st.integers(0, 50))
def test_gini_does_not_see_scale_or_order(scale: float, seed: int) -> None:
    x = _noise(20, seed=seed).abs()
    assert gini(x * scale).item() == pytest.approx(gini(x.flip(0)).item())


def test_a_single_circle_is_sparse_in_fourier_space_and_noise_is_not() -> None:
    v = torch.arange(31).double()
    circle = torch.stack([torch.cos(2 * math.pi * 4 * v / 31), torch.sin(2 * math.pi * 4 * v / 31)], 1)
    assert fourier_gini(circle) > 0.9
    assert fourier_gini(_noise(31, 64)) < 0.1
