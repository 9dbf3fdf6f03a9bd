"""The fast step against the straightforward model, the optimisers, and whole runs."""

import dataclasses
import math
from pathlib import Path

import pandas as pd
import pytest
import torch
from torch import Tensor

from mechfourier.errors import DeviceUnavailable, OutOfRange, UsageError
from mechfourier.toys.one_layer import fast_step
from mechfourier.toys.one_layer.fast_step import FastLogits, cross_entropy, mix, stablemax_cross_entropy
from mechfourier.toys.one_layer.optimizers import Optimizer, orthogonal
from mechfourier.toys.one_layer.recipes import LEAST_RATE, RECIPES, Recipe, recipe
from mechfourier.toys.one_layer.task import split, tokens_of
from mechfourier.toys.one_layer.train import OneLayerTrainee, train_one_layer, verdict
from mechfourier.toys.one_layer.weights import OneLayerConfig, initial_weights
from mechfourier.training.loop import TrainingDiverged


def leaves(config: OneLayerConfig, dtype: torch.dtype, scale: float = 1.0) -> dict[str, Tensor]:
    """Weights to differentiate; biases drawn too, so that their gradients are compared at a general point."""
    generator = torch.Generator().manual_seed(5)
    weights = initial_weights(config, seed=3, dtype=dtype)
    for name, w in weights.items():
        w += ".b_" in name and torch.randn(w.shape, generator=generator, dtype=dtype)
        w *= scale
    return {name: w.requires_grad_() for name, w in weights.items()}


def straightforward_loss(config: OneLayerConfig, weights: dict[str, Tensor], data) -> Tensor:
    """The hookable model at all positions, log-softmax in float64."""
    from mechfourier.toys.one_layer.model import OneLayerTransformer

    model = OneLayerTransformer(config, weights={name: w.detach() for name, w in weights.items()})
    tokens = tokens_of(data.train_pairs, config.p)
    logits = torch.func.functional_call(model, weights, (tokens,))
    log_probs = logits[:, -1].double().log_softmax(-1)
    return -log_probs.gather(1, data.train_answers[:, None]).mean()


CONFIGS = {
    "relu": OneLayerConfig(p=31, d_model=32, n_heads=4, d_mlp=64),
    "biases, gelu, odd heads": OneLayerConfig(
        p=13, d_model=24, n_heads=3, d_head=5, d_mlp=40, biases=True, act="gelu"
    ),
    "half constant attention": OneLayerConfig(
        p=13, d_model=16, n_heads=2, d_mlp=24, attn_coeff=0.5, biases=True
    ),
}


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize(("dtype", "bar"), [(torch.float64, 1e-10), (torch.float32, 1e-5)])
@pytest.mark.parametrize("scale", [1.0, 2.5], ids=["initial", "large weights"])
def test_gradients_equal_the_straightforward_ones(
    name: str, dtype: torch.dtype, bar: float, scale: float
) -> None:
    config = CONFIGS[name]
    data = split("add", config.p, train_fraction=0.4, seed=1)
    weights = leaves(config, dtype, scale)
    theirs = straightforward_loss(config, weights, data)
    ours = cross_entropy(FastLogits(config, data.train_pairs)(weights), data.train_answers)
    torch.testing.assert_close(ours.double(), theirs, rtol=bar, atol=0)
    expected = torch.autograd.grad(theirs, list(weights.values()), allow_unused=True)
    found = torch.autograd.grad(ours, list(weights.values()), allow_unused=True)
    for key, ours_g, theirs_g in zip(weights, found, expected, strict=True):
        if key.endswith("b_K"):  # softmax does not see it: zero but for rounding
            assert ours_g is None
            continue
        assert (ours_g - theirs_g).norm() <= bar * theirs_g.norm(), key


def test_the_portable_mix_equals_the_fast_one(monkeypatch: pytest.MonkeyPatch) -> None:
    config = CONFIGS["relu"]
    data = split("add", config.p, seed=1)
    logits = FastLogits(config, data.train_pairs)
    generator = torch.Generator().manual_seed(0)
    table = torch.randn(
        len(logits.rows.offsets), 7, generator=generator, dtype=torch.float64
    ).requires_grad_()
    share = torch.rand(logits.rows.index.shape, generator=generator, dtype=torch.float64).requires_grad_()
    fast = mix(table, share, logits.rows)
    monkeypatch.setattr(fast_step, "SPARSE_DEVICES", ())
    plain = mix(table, share, logits.rows)
    torch.testing.assert_close(fast, plain)
    upstream = torch.randn(fast.shape, generator=generator, dtype=torch.float64)
    for a, b in zip(
        torch.autograd.grad(fast, (table, share), upstream),
        torch.autograd.grad(plain, (table, share), upstream),
        strict=True,
    ):
        torch.testing.assert_close(a, b)


def test_two_positions_have_no_constant_query() -> None:
    with pytest.raises(UsageError, match="n_ctx = 3"):
        FastLogits(OneLayerConfig(p=7, n_ctx=2), torch.zeros(1, 2, dtype=torch.long))


@pytest.mark.parametrize("spread", [0.1, 5.0, 40.0, 300.0])
def test_cross_entropy_keeps_its_precision_in_float32(spread: float) -> None:
    """Against float64 on the same logits: confident right answers, confident wrong ones, and overflow."""
    generator = torch.Generator().manual_seed(0)
    logits = (torch.randn(64, 11, generator=generator) * spread).requires_grad_()
    answers = torch.randint(11, (64,), generator=generator)
    answers[:32] = logits[:32].argmax(1)
    ours = cross_entropy(logits, answers)
    exact = torch.nn.functional.cross_entropy(logits.detach().double(), answers)
    torch.testing.assert_close(ours.double(), exact, rtol=1e-5, atol=0)
    (found,) = torch.autograd.grad(ours, logits)
    # softmax − 1 would lose the right answer's gradient even in float64: it is minus the sum of the others
    expected = logits.detach().double().softmax(-1).scatter(1, answers[:, None], 0.0)
    expected = expected.scatter(1, answers[:, None], -expected.sum(1, keepdim=True)) / len(answers)
    error, size = (found.double() - expected).norm(dim=1), expected.norm(dim=1)
    assert bool((error <= 1e-4 * size + 1e-36).all())  # per pair, however small its gradient


def test_stablemax_is_its_formula() -> None:
    logits = torch.tensor([[2.0, -1.0, 0.0]])
    s = torch.tensor([3.0, 0.5, 1.0])
    expected = -math.log(3.0 / float(s.sum()))
    assert float(stablemax_cross_entropy(logits, torch.tensor([0]))) == pytest.approx(expected)


def test_orthogonal_gradient_keeps_its_length() -> None:
    generator = torch.Generator().manual_seed(0)
    weight, gradient = torch.randn(2, 5, 6, generator=generator, dtype=torch.float64)
    found = orthogonal(gradient, weight)
    assert float((found * weight).sum()) == pytest.approx(0, abs=1e-12)
    assert float(found.norm()) == pytest.approx(float(gradient.norm()))


def test_grokfast_adds_the_moving_average() -> None:
    settings = dataclasses.replace(recipe("grokfast", 7), grokfast=(0.5, 2.0))
    weights = {"w": torch.zeros(2, requires_grad=True)}
    optimizer = Optimizer(settings, weights)
    optimizer.step([torch.tensor([1.0, 0.0])], lr_scale=1.0, weight_decay=0.0)
    assert weights["w"].grad is not None
    assert weights["w"].grad.tolist() == [3.0, 0.0]
    optimizer.step([torch.tensor([0.0, 1.0])], lr_scale=1.0, weight_decay=0.0)
    assert weights["w"].grad.tolist() == [1.0, 2.0]


SMALL = Recipe(
    name="small",
    lr=0.01,
    weight_decay=2.5,
    betas=(0.9, 0.95),
    max_epochs=60,
    anneal=20,
    embed_std=0.02,
    final_lr=0.1,
)


def run(folder: Path, settings: Recipe = SMALL, **options):
    return train_one_layer(folder, p=13, settings=settings, train_fraction=0.6, seed=1, **options)


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_lowers_the_train_loss_and_resumes_to_the_same_bits(name: str, tmp_path: Path) -> None:
    settings = dataclasses.replace(
        recipe(name, 13), max_epochs=30, anneal=0, settle=0, generalised=2.0, evaluate_every=10
    )
    whole = OneLayerTrainee(OneLayerConfig(p=13, d_model=32, d_mlp=64), split("add", 13), settings, seed=1)
    losses = [whole.step(i)["train_loss"] for i in range(30)]
    assert losses[-1] < losses[0]
    first = OneLayerTrainee(OneLayerConfig(p=13, d_model=32, d_mlp=64), split("add", 13), settings, seed=1)
    for i in range(12):
        first.step(i)
    torch.save(first.state(), tmp_path / "state.pt")
    second = OneLayerTrainee(OneLayerConfig(p=13, d_model=32, d_mlp=64), split("add", 13), settings, seed=1)
    second.load_state(torch.load(tmp_path / "state.pt", weights_only=True))
    for i in range(12, 30):
        second.step(i)
    for name_, value in whole.weights().items():
        assert torch.equal(value, second.weights()[name_]), name_


def test_a_run_that_stalls_goes_on_at_a_lower_rate_and_resumes_at_it() -> None:
    """The rate falls by the back-off each time that the patience ends, never below the least rate; a run that
    is nearly there keeps it."""
    settings = dataclasses.replace(SMALL, patience=20, backoff=0.4, max_epochs=1000, settle=500)
    stalled = OneLayerTrainee(OneLayerConfig(p=13, d_model=32, d_mlp=64), split("add", 13), settings, seed=1)
    rates = []
    for done in range(10, 121, 10):
        stalled.test_accuracy = 0.5
        stalled._plan(done)
        rates.append(round(stalled.cut, 4))
    assert rates == [1.0, 0.4, 0.4, 0.16, 0.16, 0.064, 0.064] + [LEAST_RATE] * 5
    again = OneLayerTrainee(OneLayerConfig(p=13, d_model=32, d_mlp=64), split("add", 13), settings, seed=1)
    again.load_state(stalled.state())
    assert (again.cut, again.waiting_since) == (stalled.cut, stalled.waiting_since)
    for done in (130, 140, 150, 160):
        again.test_accuracy = 0.9995
        again._plan(done)
    assert again.cut == LEAST_RATE and again.anneal_from == 630
    before = {name: value.clone() for name, value in again.weights().items()}
    again.step(200)
    moved = max(float((value - before[name]).abs().max()) for name, value in again.weights().items())
    assert 0 < moved < 0.2 * settings.lr  # a step of Adam is about the rate


def test_a_run_is_reproducible_and_its_folder_loads_as_the_model(tmp_path: Path) -> None:
    from mechfourier.toys.one_layer.model import load_folder

    result, again = run(tmp_path / "a"), run(tmp_path / "b")
    assert result.test_loss == again.test_loss
    frame = result.frame()
    assert frame["step"].tolist() == list(range(1, 61))
    model = load_folder(tmp_path / "a")
    data = split("add", 13, train_fraction=0.6, seed=1)
    right = model(tokens_of(data.test_pairs, 13))[:, -1].argmax(1) == data.test_answers
    assert float(right.double().mean()) == pytest.approx(result.test_accuracy)
    assert (tmp_path / "a" / "checkpoints" / "step-000001.safetensors").exists()
    assert type(result).from_json(result.to_json()) == result


def test_a_resumed_run_with_another_configuration_is_refused(tmp_path: Path) -> None:
    run(tmp_path / "a")
    with pytest.raises(UsageError, match=r"recipe\.lr is 0\.01 in the folder and 0\.02 now"):
        run(tmp_path / "a", dataclasses.replace(SMALL, lr=0.02), resume=True)


def test_a_diverging_run_names_the_step_and_keeps_the_last_good_state(tmp_path: Path) -> None:
    with pytest.raises(TrainingDiverged, match="at step"):
        run(tmp_path / "a", dataclasses.replace(SMALL, lr=1e20, warmup=20, weight_decay=0.0))
    kept = torch.load(tmp_path / "a" / "state.pt", weights_only=True)
    assert all(value.isfinite().all() for value in kept["trainee"]["weights"].values())


def frame_of(train: list[float], test: list[float], loss: float = 0.1) -> pd.DataFrame:
    n = len(train)
    return pd.DataFrame(
        {"step": range(1, n + 1), "train_loss": [loss] * n, "train_accuracy": train, "test_accuracy": test}
    )


@pytest.mark.parametrize(
    ("train", "test", "loss", "outcome"),
    [
        ([0.5, 1.0, 1.0], [0.1, 1.0, 0.9995], 0.1, "generalised"),
        ([0.5, 1.0, 1.0], [0.0, 0.1, 0.2], 1e-5, "memorised"),
        ([0.5, 0.1, 0.01], [0.0, 0.1, 0.01], math.log(113), "collapsed"),
        ([0.5, 1.0, 0.9], [0.0, 1.0, 0.7], 0.4, "unstable"),
        ([0.1, 0.2, 0.3], [0.0, 0.1, 0.1], 3.0, "undertrained"),
    ],
)
def test_verdicts(train: list[float], test: list[float], loss: float, outcome: str) -> None:
    word, why = verdict(frame_of(train, test, loss), 113, recipe("fast", 113))
    assert word == outcome
    assert "\n" not in why


def test_too_much_decay_collapses_and_is_called_so(tmp_path: Path) -> None:
    result = run(tmp_path / "a", dataclasses.replace(SMALL, lr=0.05, weight_decay=15.0, max_epochs=120))
    assert result.outcome == "collapsed"


def test_schedule_waits_for_generalisation_and_starts_over_when_it_does_not_hold() -> None:
    settings = dataclasses.replace(SMALL, max_epochs=1000, anneal=100, settle=50)
    trainee = OneLayerTrainee(OneLayerConfig(p=13, d_model=16, d_mlp=16), split("add", 13), settings, seed=0)
    assert trainee.schedule(0)[0] == pytest.approx(0.1)
    assert trainee.schedule(700)[0] == 1.0
    trainee.test_accuracy = 1.0
    trainee._plan(200)
    assert trainee.schedule(250)[0] == 1.0
    assert trainee.schedule(300)[0] == pytest.approx((1 + 0.1) / 2)
    assert trainee.schedule(350)[0] == pytest.approx(0.1)
    trainee.done = 349
    assert not trainee.finished({})
    trainee.done = 350
    assert trainee.finished({})
    trainee.test_accuracy = 0.5
    trainee._plan(350)
    assert trainee.schedule(360)[0] == 1.0
    assert trainee.schedule(1000)[0] == pytest.approx(0.1)


def test_bad_calls_are_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(OutOfRange, match="p = 4"):
        train_one_layer(tmp_path, p=4)
    with pytest.raises(OutOfRange, match="no test set"):
        train_one_layer(tmp_path, p=13, train_fraction=1.0)
    with pytest.raises(UsageError, match="no recipe 'fats'"):
        train_one_layer(tmp_path, p=13, settings="fats")
    with pytest.raises(OutOfRange, match="epochs = 0"):
        train_one_layer(tmp_path, p=13, epochs=0)
    with pytest.raises(UsageError, match="no device 'gpu'"):
        train_one_layer(tmp_path, p=13, device="gpu")
    if not torch.cuda.is_available():
        with pytest.raises(DeviceUnavailable):
            train_one_layer(tmp_path, p=13, device="cuda")
    assert not list(tmp_path.iterdir())
