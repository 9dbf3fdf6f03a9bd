"""The subspace probe: the dual weights equal an explicit ridge fit, held-out errors are honest."""

import math

import pytest
import torch
from value_arrays import planted

from mechfourier.stats.null import label_orders
from mechfourier.stats.spectrum import cross_gram
from mechfourier.stats.subspace import (
    PENALTIES,
    SubspaceProbe,
    circle_positions,
    circle_targets,
    held_out_scores,
    prediction_weights,
    subspace_probe,
)


def run(name: str, n: int = 12, *, k: int = 1, seed: int = 0) -> SubspaceProbe:
    orders = label_orders(n, permutations=99, seed=1).index[:99]
    cross = cross_gram(planted(name, n, seed=seed))[0]
    return subspace_probe(cross, k, orders, order_k=torch.full((len(orders),), k))


def test_weights_leave_out_their_value_and_add_up_to_one() -> None:
    weights = prediction_weights(cross_gram(planted("circle", 7, d=16))[0])
    assert weights.shape == (len(PENALTIES), 8, 7, 7)
    assert float(torch.diagonal(weights, dim1=-2, dim2=-1).abs().max()) == 0.0
    torch.testing.assert_close(weights.sum(-1), torch.ones(weights.shape[:-1], dtype=weights.dtype))


def test_predictions_equal_an_explicit_ridge_fit() -> None:
    n, held, v = 7, 2, 3
    acts = planted("circle", n, d=5, templates=4, seed=2).double()[0]
    weights = prediction_weights(cross_gram(acts[None])[0])
    targets = circle_targets(n, 1, torch.arange(n)[None])[0]
    keep = [w for w in range(n) if w != v]
    train = acts[keep][:, [t for t in range(4) if t != held]].mean(1)
    x, y = train - train.mean(0), targets[keep] - targets[keep].mean(0)
    for p, penalty in enumerate(PENALTIES):
        scale = penalty * float((x @ x.T).diagonal().mean())
        fit = torch.linalg.solve(x.T @ x + scale * torch.eye(5, dtype=torch.float64), x.T @ y)
        seen = acts[v, held] - acts[keep, held].mean(0)
        expected = seen @ fit + targets[keep].mean(0)
        torch.testing.assert_close(weights[p, held, v] @ targets, expected, rtol=1e-6, atol=1e-9)


def test_a_circle_is_read_from_what_was_left_out() -> None:
    found = run("circle")
    assert found.error < 1.0 < found.null_low <= found.null_error
    assert found.r2 > 0.5 and found.p_value == pytest.approx(0.01)
    assert found.selectivity == pytest.approx(found.null_error - found.error)


def test_random_vectors_are_not_read_however_many_dimensions() -> None:
    errors = [run("identity", seed=seed) for seed in range(20)]
    assert sum(e.p_value < 0.05 for e in errors) <= 4
    assert all(e.r2 < 0.3 for e in errors)


def test_a_perfect_reader_has_no_error() -> None:
    n = 12
    targets = circle_targets(n, 1, torch.arange(n)[None])
    # weights that extrapolate a pure circle exactly: z_v = 2cos(2π/n)·z_{v−1} − z_{v−2}
    weights = torch.zeros(1, 1, n, n, dtype=torch.float64)
    for v in range(n):
        weights[0, 0, v, v - 1] = 2 * math.cos(2 * math.pi / n)
        weights[0, 0, v, v - 2] = -1.0
    r2, error = held_out_scores(weights, targets)
    assert float(r2[0]) == pytest.approx(1.0) and float(error[0]) == pytest.approx(0.0, abs=1e-9)


def test_errors_of_higher_harmonics_are_in_steps_of_the_domain() -> None:
    once, twice = run("circle", 13), run("circle k=2", 13, k=2)
    assert twice.null_error == pytest.approx(once.null_error / 2, rel=0.15)
    assert twice.error < 0.6


def test_positions_lie_on_the_circle_in_order() -> None:
    place, each = circle_positions(cross_gram(planted("circle", 12, snr=20.0))[0], 1)
    assert each.shape == (8, 12, 2)
    angle = torch.atan2(place[:, 1], place[:, 0])
    wanted = 2 * math.pi * torch.arange(12).double() / 12
    assert float(torch.cos(angle - wanted).min()) > 0.95
