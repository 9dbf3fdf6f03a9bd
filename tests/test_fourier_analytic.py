import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mechfourier.errors import OutOfRange, UsageError
from mechfourier.fourier.analytic import analytic_weights, choose_frequencies, margin, phases
from mechfourier.fourier.clock_pizza import distance_irrelevance, right_logits
from mechfourier.fourier.neurons import neuron_spectrum
from mechfourier.fourier.progress import sums, trig_share
from mechfourier.toys.one_layer.forward import last_position, logits_grid, neurons
from mechfourier.toys.one_layer.weights import OneLayerConfig


@settings(max_examples=8)
@given(p=st.integers(3, 41), n_ctx=st.sampled_from([2, 3]), act=st.sampled_from(["relu", "square"]))
def test_the_closed_form_answers_everything_for_any_modulus(p: int, n_ctx: int, act: str) -> None:
    weights = analytic_weights(p, n_ctx=n_ctx, act=act)
    logits = logits_grid(weights, OneLayerConfig(p=p, n_ctx=n_ctx, act=act))
    assert bool((logits.argmax(-1) == sums(p)).all())
    right = right_logits(logits)
    others = logits.scatter(2, sums(p)[..., None], -torch.inf).max(-1).values
    assert (right - others).min() > 15.0  # nats; 20 but for the aliasing of finitely many phases


@settings(max_examples=5)
@given(p=st.integers(5, 41).filter(lambda p: p % 2 == 1), n_ctx=st.sampled_from([2, 3]))
def test_the_pizza_answers_everything_for_odd_moduli(p: int, n_ctx: int) -> None:
    weights = analytic_weights(p, style="pizza", n_ctx=n_ctx)
    logits = logits_grid(weights, OneLayerConfig(p=p, n_ctx=n_ctx))
    assert bool((logits.argmax(-1) == sums(p)).all())
    assert distance_irrelevance(right_logits(logits)) < 0.05


def test_a_clock_depends_on_the_sum_only_and_its_neurons_on_one_frequency_each() -> None:
    ks = (4, 9, 14)
    weights = analytic_weights(37, frequencies=ks)
    config = OneLayerConfig(p=37)
    logits = logits_grid(weights, config)
    share = trig_share(logits)
    assert share[[k - 1 for k in ks]].sum().item() > 0.999
    assert distance_irrelevance(right_logits(logits)) > 0.99
    spectrum = neuron_spectrum(neurons(last_position(weights, config), config))
    assert spectrum.share_above(0.95) == 1.0
    assert tuple(spectrum.clusters()) == ks


def test_margins_tell_which_frequencies_suffice() -> None:
    assert margin(15, (3,)) == pytest.approx(0.0, abs=1e-12)  # 3 does not tell c from c + 5
    assert margin(15, (3, 5)) > 0.1
    assert margin(12, (1, 5), style="pizza") == pytest.approx(0.0, abs=1e-12)
    with pytest.raises(OutOfRange, match="tied"):
        analytic_weights(15, frequencies=(3,))


def test_chosen_frequencies_are_as_many_as_there_are() -> None:
    assert choose_frequencies(7) == (1, 2, 3)
    assert len(choose_frequencies(113)) == 5
    assert len(set(choose_frequencies(113, style="pizza"))) == 5


def test_phases_are_even_on_the_torus() -> None:
    for style in ("clock", "pizza"):
        waves = torch.exp(1j * phases(101, style=style))
        assert waves.mean(0).abs().max() < 1e-12


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(OutOfRange, match="d_model >= 43"):
        analytic_weights(113, d_model=32)
    with pytest.raises(OutOfRange, match="7 neurons"):
        analytic_weights(113, d_mlp=20)
    with pytest.raises(OutOfRange, match="odd p"):
        analytic_weights(12, style="pizza")
    with pytest.raises(UsageError, match="gelu"):
        analytic_weights(13, act="gelu")
    with pytest.raises(UsageError, match="relu"):
        analytic_weights(13, style="pizza", act="square")
    with pytest.raises(OutOfRange, match=r"1\.\.6"):
        analytic_weights(13, frequencies=(7,))
    with pytest.raises(OutOfRange):
        choose_frequencies(2)
