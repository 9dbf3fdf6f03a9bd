"""Training the models of every modulus: sampling, the two losses, resuming, and what is refused."""

import dataclasses
import itertools
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mechfourier.errors import OutOfRange, UsageError
from mechfourier.toys.universal.config import ExtrapolatingConfig, FaithfulConfig
from mechfourier.toys.universal.recipes import REINFORCE, SHARED, MirasRecipe, plan
from mechfourier.toys.universal.sizes import drawn_sizes, shift_reach
from mechfourier.toys.universal.task import (
    HELD_OUT,
    SPARSE,
    answers,
    boundary,
    grid,
    moduli,
    random_questions,
    sample,
    wraps,
)
from mechfourier.toys.universal.train import ExtrapolatingTrainee, FaithfulTrainee, train_miras
from mechfourier.training.loop import TrainingInterrupted

TINY = ExtrapolatingConfig(width=8, gates=8, draws=2, n_values=80)
SMALL = FaithfulConfig(n_values=20, d_model=16, n_heads=2, d_mlp=24, d_mem=12)
QUICK = MirasRecipe(steps=6, batch=16, lr=1e-3, draws=2, evaluate_every=3, negatives=True)


def test_named_sets_of_moduli() -> None:
    everything = moduli("all")
    assert everything.held_out == HELD_OUT == tuple(range(15, 116, 10))
    assert sorted(everything.train + everything.held_out) == list(range(2, 121))
    primes = moduli("primes", largest=79)
    assert set(primes.held_out) & set(primes.train) == set()
    assert 71 in primes.held_out
    sparse = moduli("sparse")
    assert sparse.train == SPARSE
    assert sorted(sparse.train + sparse.held_out) == list(range(2, 200))
    with pytest.raises(UsageError, match="closest: primes"):
        moduli("prime")
    with pytest.raises(OutOfRange, match="no modulus"):
        moduli("all", largest=1)


@given(st.integers(2, 40), st.integers(0, 2**31))
@settings(max_examples=30, deadline=None)
def test_questions_are_of_their_modulus(m: int, seed: int) -> None:
    q = random_questions(m, 50, seed=seed)
    assert ((q[:, 1:] >= 0) & (q[:, 1:] < m)).all()
    assert torch.equal(answers(grid(m)), (grid(m)[:, 1] + grid(m)[:, 2]) % m)
    edge = boundary(m)
    assert len(edge) == 2 * m - 1 == len(edge.unique(dim=0))
    assert set((edge[:, 1] + edge[:, 2] - m).tolist()) <= {-1, 0}
    over = grid(m)[:, 1] + grid(m)[:, 2] - m
    near = [tuple(row) for row in boundary(m, -3, 2).tolist()]
    assert sorted(near) == [tuple(row) for row in grid(m)[(over >= -3) & (over <= 2)].tolist()]
    assert int(wraps(grid(m)).sum()) == m * (m - 1) // 2


def test_boundary_share_moves_questions_next_to_the_wrap() -> None:
    q = sample([40], 4000, torch.Generator().manual_seed(0), boundary_share=0.5)
    over = q[:, 1] + q[:, 2] - 40
    assert 0.5 < float(((over >= -4) & (over <= 3)).double().mean()) < 0.7
    assert set(over[(over >= -4) & (over <= 3)].tolist()) == set(range(-4, 4))
    assert ((q[:, 1:] >= 0) & (q[:, 1:] < 40)).all()


@pytest.mark.parametrize("config", [TINY, SMALL, dataclasses.replace(SMALL, memory="titans")])
def test_a_resumed_run_ends_with_the_same_bits(config: ExtrapolatingConfig, tmp_path: Path) -> None:
    split = moduli("all", largest=18)
    whole = train_miras(tmp_path / "whole", config, split, QUICK, seed=5)

    def stop(_step: int, _metrics: dict[str, float]) -> None:
        import os
        import signal

        os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(TrainingInterrupted):
        train_miras(tmp_path / "parts", config, split, QUICK, seed=5, on_evaluate=stop)
    resumed = train_miras(tmp_path / "parts", config, split, QUICK, seed=5, resume=True)
    assert resumed.train_loss == whole.train_loss
    a, b = ((tmp_path / name / "model.safetensors").read_bytes() for name in ("whole", "parts"))
    assert a == b
    assert len(whole.frame()) == 6
    assert "held-out" in str(whole)
    assert whole.plot().data


@given(st.integers(2, 120), st.integers(0, 2**31), st.floats(0.0, 400.0))
@settings(max_examples=40, deadline=None)
def test_sizes_keep_a_plus_b_minus_m_however_far_they_are_moved(m: int, seed: int, reach: float) -> None:
    config, q = ExtrapolatingConfig(), random_questions(m, 20, seed=seed)
    bare = drawn_sizes(config, q, torch.Generator().manual_seed(seed))
    moved = drawn_sizes(config, q, torch.Generator().manual_seed(seed), reach=reach)
    scale = bare[:, 0] / m
    assert ((scale >= config.scale_min - 1e-6) & (scale <= config.scale_max + 1e-6)).all()
    torch.testing.assert_close(bare, scale[:, None] * q, rtol=1e-5, atol=1e-5)
    margin = scale * (q[:, 1] + q[:, 2] - m)
    torch.testing.assert_close(moved[:, 1] + moved[:, 2] - moved[:, 0], margin, rtol=0, atol=1e-3)
    by = moved - bare
    assert float(by.min()) >= -1e-4
    assert float(by[:, 1:].max()) <= reach + 1e-3
    assert reach < 1 or float(by.max()) > 0.01


def test_the_reach_of_shifts_grows_to_the_whole() -> None:
    reaches = [shift_reach(SHARED, 40, step / 10) for step in range(11)]
    assert reaches[0] == pytest.approx(SHARED.shift * 40 * SHARED.shift_start)
    assert reaches[-1] == reaches[-2] == SHARED.shift * 40
    ratios = [after / before for before, after in itertools.pairwise(reaches[:-1])]
    assert ratios == pytest.approx([ratios[0]] * 9)
    assert shift_reach(dataclasses.replace(SHARED, shift=0.0), 40, 0.5) == 0.0


def test_shared_learns_small_moduli(tmp_path: Path) -> None:
    """A network a fraction of the size of the packaged one learns m ≤ 12 in seconds, and the loss falls (the
    bare sizes: 80 steps are no schedule for shifts)."""
    recipe = dataclasses.replace(SHARED, steps=80, batch=48, draws=8, evaluate_every=80, shift=0.0)
    config = ExtrapolatingConfig(width=16, gates=32, draws=16, n_values=30, scale=3.0, by_position=True)
    run = train_miras(tmp_path, config, moduli("all", largest=16), recipe, seed=0)
    losses = run.frame()["train_loss"]
    assert losses.iloc[-20:].mean() < 0.5 * losses.iloc[:20].mean()
    assert run.train_accuracy > 0.3


def test_policy_gradient_points_where_the_likelihood_does() -> None:
    """The expected REINFORCE gradient on the logits is p(right)·(1[right] − p): checked by drawing many
    answers."""
    split = moduli("all", largest=18)
    trainee = FaithfulTrainee(SMALL, split, dataclasses.replace(REINFORCE, entropy=0.0), seed=0)
    logits = torch.tensor([[1.0, 0.0, -1.0, 0.5]]).requires_grad_()
    right = torch.tensor([2])
    many = 40_000
    loss, metrics = trainee.policy_gradient(
        logits.expand(many, 4), right.expand(many), torch.full((many,), 7)
    )
    (gradient,) = torch.autograd.grad(loss, logits)
    p = logits.detach().softmax(1)[0]
    expected = -p[2] * (torch.eye(4)[2] - p)
    torch.testing.assert_close(gradient[0], expected, rtol=0, atol=0.01)
    assert abs(metrics["reward"] - float(p[2])) < 0.02


def test_the_baseline_takes_variance_away() -> None:
    """Of one answer to a question by the modulus's running mean; of several by the others, at once."""
    split = moduli("all", largest=18)
    trainee = FaithfulTrainee(SMALL, split, dataclasses.replace(REINFORCE, samples=1), seed=0)
    sure = torch.tensor([[8.0, 0.0, 0.0, 0.0]]).expand(2000, 4)
    right, m = torch.zeros(2000, dtype=torch.long), torch.full((2000,), 7)
    first = trainee.policy_gradient(sure, right, m)[1]["variance_kept"]
    later = trainee.policy_gradient(sure, right, m)[1]["variance_kept"]
    assert first == pytest.approx(1.0, abs=0.01)
    assert later < 0.02
    several = FaithfulTrainee(SMALL, split, dataclasses.replace(REINFORCE, samples=16), seed=0)
    assert several.policy_gradient(sure, right, m)[1]["variance_kept"] < 0.02


def test_curriculum_raises_the_cap_and_refuses_an_empty_one() -> None:
    split = moduli("all", largest=120)
    recipe = MirasRecipe(steps=100, batch=64, lr=1e-3, curriculum=True, curriculum_from=24)
    trainee = FaithfulTrainee(FaithfulConfig(d_model=16, n_heads=2, d_mlp=8, d_mem=8), split, recipe, seed=0)
    assert [trainee.cap(i) for i in (0, 45, 99)] == [24, 120, 120]
    assert int(trainee.questions(0)[:, 0].max()) <= 24
    with pytest.raises(UsageError, match="curriculum is empty"):
        plan_and_build(curriculum_from=1)


def plan_and_build(**options: Any) -> ExtrapolatingTrainee:
    chosen = plan("shared", curriculum=True, **options)
    assert isinstance(chosen.config, ExtrapolatingConfig)
    return ExtrapolatingTrainee(chosen.config, chosen.split, chosen.recipe, seed=0)


def test_plans_that_cannot_be(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="closest: reinforce"):
        plan("faithful", loss="reinforc")
    with pytest.raises(UsageError, match="for --form faithful"):
        plan("shared", loss="reinforce")
    with pytest.raises(OutOfRange, match="steps = 0"):
        plan_and_build(steps=0)
    with pytest.raises(OutOfRange, match="token table ends at 19"):
        train_miras(tmp_path, SMALL, moduli("all", largest=30), QUICK)
    assert plan("faithful", moduli="sparse").config.encoding == "log"  # type: ignore[union-attr]
    assert plan("plain").config.freqs == 24  # type: ignore[union-attr]


def test_primes_get_what_makes_a_network_interpolate() -> None:
    primes, asked = plan("faithful", moduli="primes"), plan("faithful", moduli="primes", memory="titans")
    policy = plan("faithful", moduli="primes", loss="reinforce")
    configs = [chosen.config for chosen in (primes, asked, policy)]
    assert [(c.memory, c.sinusoid_scale) for c in configs if isinstance(c, FaithfulConfig)] == [
        ("none", 30.0),
        ("titans", 30.0),
        ("feedforward", 1.0),
    ]
