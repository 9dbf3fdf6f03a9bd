"""Planted answers for the array-level tests: reducibility, the base-10 helix, word analogies."""

import numpy as np
import pytest

from mechfourier.errors import OutOfRange
from mechfourier.stats.analogies import AnalogyResult, analogies
from mechfourier.stats.helix import HelixFit, helix_basis, helix_fit
from mechfourier.stats.reducibility import Reducibility, mixture_index, reducibility
from mechfourier.stats.rivals import orthonormal, press, rival_bases


def circle(n: int, *, k: int = 1) -> np.ndarray:
    angle = 2 * np.pi * k * np.arange(n) / n
    return np.stack([np.cos(angle), np.sin(angle)], -1)


def test_a_noisy_circle_is_irreducible() -> None:
    rng = np.random.default_rng(0)
    points = np.repeat(circle(12), 20, 0) + 0.1 * rng.standard_normal((240, 2))
    result = reducibility(points, draws=60)
    assert result.irreducible
    assert Reducibility.from_json(result.to_json()) == result
    assert "irreducible" in str(result)


def test_independent_coordinates_are_separable_at_any_rotation() -> None:
    rng = np.random.default_rng(1)
    square = rng.uniform(-1, 1, (400, 2))
    turn = np.array([[np.cos(0.4), -np.sin(0.4)], [np.sin(0.4), np.cos(0.4)]])
    assert reducibility(square @ turn, draws=60).p_separability > 0.05


def test_two_lines_are_a_mixture() -> None:
    rng = np.random.default_rng(2)
    x = rng.standard_normal((300, 2))
    x[np.arange(300), rng.integers(0, 2, 300)] *= 0.01
    assert mixture_index(x / x.std(0)) > 0.4
    assert reducibility(x, draws=40).mixture >= 0.4


def test_gaussian_clouds_are_rarely_called_inseparable() -> None:
    rng = np.random.default_rng(3)
    flagged = [
        reducibility(rng.standard_normal((120, 2)), draws=39, seed=s).p_separability < 0.05 for s in range(24)
    ]
    assert np.mean(flagged) < 0.2


def classes_of_points(centres: np.ndarray, rng: np.random.Generator, *, each: int = 5) -> np.ndarray:
    """``each`` points around every centre, centre by centre, as templates are around a value."""
    return (centres[:, None] + 0.12 * rng.standard_normal((len(centres), each, 2))).reshape(-1, 2)


@pytest.mark.parametrize("n", [12, 24])
def test_points_of_one_value_do_not_count_as_many(n: int) -> None:
    rng = np.random.default_rng(n)
    draws = [classes_of_points(rng.standard_normal((n, 2)), rng) for _ in range(16)]
    by_value = [reducibility(p, classes=n, draws=39).p_separability < 0.05 for p in draws]
    by_point = [reducibility(p, draws=39).p_separability < 0.05 for p in draws]
    assert np.mean(by_value) < 0.15
    assert np.mean(by_point) > 0.6  # what pairing single points anew would say of clouds without any shape


def test_a_circle_of_many_values_is_irreducible_and_one_of_few_cannot_be_told() -> None:
    rng = np.random.default_rng(4)
    many = reducibility(classes_of_points(circle(36), rng), classes=36, draws=99)
    assert many.irreducible and many.decidable
    few = reducibility(classes_of_points(circle(7), rng), classes=7, draws=99)
    assert not few.irreducible and not few.decidable
    assert "7 values are too few" in str(few)


def test_references_of_the_mixture_are_apart_where_there_are_points_enough() -> None:
    rng = np.random.default_rng(5)
    found = reducibility(
        classes_of_points(0.02 * rng.standard_normal((72, 2)) + circle(72), rng), classes=72, draws=39
    )
    assert found.mixture_gaussian_range[1] < found.mixture_circle < found.mixture_lines_range[0]
    assert found.mixture_circle_range[0] <= found.mixture_circle <= found.mixture_circle_range[1]


def test_reducibility_wants_equally_many_points_of_every_class() -> None:
    with pytest.raises(OutOfRange, match="not equally many of 7 classes"):
        reducibility(np.random.default_rng(0).standard_normal((30, 2)), classes=7)


@pytest.mark.parametrize(
    "points", [np.zeros((5, 2)), np.outer(np.arange(30.0), [1, 2]), np.full((30, 2), np.nan)]
)
def test_reducibility_refuses_what_it_cannot_judge(points: np.ndarray) -> None:
    with pytest.raises(OutOfRange):
        reducibility(points)


def number_line(n: int, periods: tuple[float, ...], *, noise: float, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    basis = helix_basis(np.arange(n, dtype=float), periods)[:, 1:]
    basis = basis / basis.std(0)
    return basis @ rng.standard_normal((basis.shape[1], 64)) + noise * rng.standard_normal((n, 64))


def test_a_planted_helix_is_found_and_its_periods_are_special() -> None:
    fit = helix_fit(number_line(100, (2, 5, 10, 100), noise=0.3), np.arange(100), site="s", permutations=99)
    assert fit.r2_held_out > 0.9
    assert fit.p_shuffled == fit.p_periods == 0.01
    assert fit.r2_held_out > fit.r2_polynomial > fit.r2_linear
    assert min(fit.period_share) > 0.05
    assert HelixFit.from_json(fit.to_json()) == fit


@pytest.mark.parametrize("noise", [0.3, 1.0])
def test_the_periods_of_a_planted_helix_explain_what_no_rival_does(noise: float) -> None:
    fit = helix_fit(number_line(100, (2, 5, 10, 100), noise=noise), np.arange(100), permutations=199)
    assert fit.special() and "these periods are special" in fit.verdict()
    assert all(r.r2_held_out < fit.r2_held_out and r.partial_r2 > 0 for r in fit.rivals)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("tens", [0.0, 0.5, 1.0])
def test_a_vector_per_digit_is_no_helix(tens: float, seed: int) -> None:
    rng, numbers = np.random.default_rng(seed), np.arange(100)
    unit, ten = rng.standard_normal((2, 10, 64))
    acts = unit[numbers % 10] + tens * ten[numbers // 10] + 0.3 * rng.standard_normal((100, 64))
    fit = helix_fit(acts, numbers, permutations=99)
    assert fit.p_periods < 0.05 and fit.r2_held_out > 0.2  # by the old rule these periods were special
    assert not fit.special()
    best = fit.best_rival
    assert best is not None and "digit" in best.name and best.r2_held_out > fit.r2_held_out
    assert best.name in fit.verdict()


def test_rivals_leave_out_classes_that_one_number_alone_has() -> None:
    polynomial = np.ones((101, 2))
    last = rival_bases(np.arange(101), polynomial)["last digit + number of digits"]
    assert last.shape[1] == 1 + 10 + 2  # three digits has 100 alone
    fit = helix_fit(number_line(101, (10,), noise=0.3), np.arange(101), permutations=19)
    assert all(-1 < r.r2_held_out <= 1 for r in fit.rivals)


def test_a_plain_line_needs_no_helix() -> None:
    fit = helix_fit(number_line(100, (), noise=0.3), np.arange(100), permutations=99)
    assert fit.r2_linear > fit.r2_held_out - 0.02
    assert fit.p_shuffled == 0.01  # a line is not exchangeable: this null alone proves no helix
    assert fit.p_periods > 0.05
    assert max(abs(s) for s in fit.period_share) < 0.02


def test_the_leave_one_out_form_equals_refitting() -> None:
    rng = np.random.default_rng(0)
    basis, y = helix_basis(np.arange(20.0), (5, 10)), rng.standard_normal((20, 3))
    errors = 0.0
    for i in range(20):
        rest = np.arange(20) != i
        weights, *_ = np.linalg.lstsq(basis[rest], y[rest], rcond=None)
        errors += ((y[i] - basis[i] @ weights) ** 2).sum()
    assert errors == pytest.approx(press(orthonormal(basis), y), rel=1e-9)


def test_helix_refuses_too_few_numbers_and_dead_sites() -> None:
    with pytest.raises(OutOfRange, match="cannot carry"):
        helix_fit(np.zeros((8, 4)), np.arange(8))
    with pytest.raises(OutOfRange, match="do not vary"):
        helix_fit(np.ones((50, 4)), np.arange(50))
    with pytest.raises(OutOfRange, match="NaN"):
        helix_fit(np.full((50, 4), np.nan), np.arange(50))


def test_a_circle_answers_every_rotation_and_hardly_a_parallelogram() -> None:
    rng = np.random.default_rng(0)
    plane = np.linalg.qr(rng.standard_normal((32, 2)))[0].T
    result = analogies(circle(12) @ plane + 0.01 * rng.standard_normal((12, 32)), permutations=99)
    assert result.rotation.accuracy == result.rotation.wrap == result.rotation.circle == 1.0
    assert result.rotation.p_value == 0.01
    assert (
        result.parallelogram.accuracy < 0.3
    )  # geometry, not a defect: inscribed parallelograms are rectangles
    assert AnalogyResult.from_json(result.to_json()) == result


def test_a_line_answers_only_what_does_not_wrap() -> None:
    rng = np.random.default_rng(0)
    ladder = np.stack([np.arange(12.0), np.full(12, 30.0)], -1)
    result = analogies(ladder + 1e-3 * rng.standard_normal((12, 2)), permutations=99)
    assert result.parallelogram.no_wrap > 3 * result.parallelogram.wrap
    assert result.parallelogram.p_value == 0.01


def test_random_words_answer_at_chance() -> None:
    results = [
        analogies(np.random.default_rng(s).standard_normal((8, 16)), permutations=99, seed=s)
        for s in range(40)
    ]
    for rule in ("parallelogram", "rotation"):
        assert np.mean([getattr(r, rule).p_value < 0.05 for r in results]) < 0.2
    with pytest.raises(OutOfRange, match="5 to 64"):
        analogies(circle(4))
