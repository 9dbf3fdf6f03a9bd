"""The shape of answers, and distances compared under exchanged values."""

import json
from typing import Any

import numpy as np
import pytest
from scipy.stats import kstest
from typer.testing import CliRunner

from mechfourier.causal.behaviour import BehaviourResult, behaviour
from mechfourier.errors import OutOfRange, UsageError
from mechfourier.figures.behaviour import behaviour_figure, pairs_figure
from mechfourier.models.registry import load
from mechfourier.stats.mantel import distances, mantel
from mechfourier.stats.shapes import contest


@pytest.fixture(scope="module")
def found() -> BehaviourResult:
    return behaviour(load("calendar"), "days")


def test_distances_that_agree_are_found_and_are_not_surer_than_the_orders_allow() -> None:
    angle = 2 * np.pi * np.arange(7) / 7
    circle = distances(np.stack([np.cos(angle), np.sin(angle)], 1))[None]
    same = mantel(circle, circle)
    assert same.exact and same.n_orders == 5040
    assert same.r[0] == pytest.approx(1.0)
    # seven shifts and their mirror images leave a circle as it is: no p can be smaller
    assert same.p_value[0] == pytest.approx(14 / 5040)


def test_p_is_uniform_for_unrelated_values() -> None:
    rng = np.random.default_rng(0)
    p = []
    for _ in range(200):
        a, b = (distances(rng.standard_normal((2, 6, 3))) for _ in range(2))
        p.append(min(mantel(a, b).p_value))
    assert kstest(p, "uniform").pvalue > 0.01
    assert np.mean(np.array(p) <= 0.05) < 0.1


def test_the_interval_covers_the_correlation_of_many_values() -> None:
    def pairs(n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        points = rng.standard_normal((1, n, 3))
        return distances(points), distances(points + 0.7 * rng.standard_normal(points.shape))

    whole = mantel(*pairs(400, np.random.default_rng(1)), n_permutations=2).r[0]
    hits = []
    for seed in range(100):
        each = mantel(*pairs(24, np.random.default_rng(100 + seed)), n_permutations=2)
        hits.append(each.low[0] <= whole <= each.high[0])
    assert np.mean(hits) > 0.88


def _answers(scores: np.ndarray, noise: float, seed: int) -> np.ndarray:
    """√p of answers to seven values in eight wordings, whose scores are these with noise."""
    noisy = scores[:, None] + noise * np.random.default_rng(seed).standard_normal((7, 8, 7))
    p = np.exp(noisy - noisy.max(-1, keepdims=True))
    return np.sqrt(p / p.sum(-1, keepdims=True))


def test_planted_answers_have_the_shape_that_was_planted() -> None:
    """A model unsure of its neighbours round the cycle answers on a circle; one unsure along a row does not."""
    steps = np.arange(7)[:, None] - np.arange(7)[None]
    round_, row = np.cos(2 * np.pi * steps / 7), -np.abs(steps) / 2.0
    words = [contest(_answers(round_, 0.3, seed)).sites[0].word for seed in range(5)]
    assert words.count("circular") >= 4
    words = [contest(_answers(row, 0.3, seed)).sites[0].word for seed in range(5)]
    assert "circular" not in words


def test_the_days_lie_as_their_answers_do(found: BehaviourResult) -> None:
    assert found.agrees == "agreement beyond chance"
    assert found.best.p_value < 0.01 and found.best.r > found.null_upper
    assert found.best.low <= found.best.r <= found.best.high
    assert found.exact and len(found.pairs) == 21 and found.n_templates == 7


def test_figures_draw_the_table_and_the_result_survives_json(found: BehaviourResult) -> None:
    assert BehaviourResult.from_json(found.to_json()) == found
    figure: Any = behaviour_figure(found)
    drawn: Any = [trace for trace in figure.data if str(trace.name).startswith("value token")]
    assert list(drawn[0].y) == found.frame()["r"].tolist()
    points: Any = pairs_figure(found).data[0]
    assert list(points.x) == [pair[2] for pair in found.pairs]
    assert len(found.part().sections) >= 4


def test_wrong_calls_say_what_is_wrong() -> None:
    with pytest.raises(OutOfRange, match="4 values"):
        mantel(np.zeros((1, 3, 3)), np.zeros((1, 3, 3)))
    with pytest.raises(OutOfRange, match="equally far"):
        mantel(np.ones((1, 5, 5)), np.ones((1, 5, 5)))
    with pytest.raises(UsageError, match="no logits"):
        behaviour(load("minilm"), "days")


def test_the_command_prints_one_object(tmp_path: Any) -> None:
    from mechfourier.cli.app import app

    command = ["behaviour", "calendar", "--domain", "days", "--json", "--no-cache", "--out", str(tmp_path)]
    done = CliRunner().invoke(app, command, catch_exceptions=False)
    assert json.loads(done.stdout)["kind"] == "behaviour"
    assert len(list(tmp_path.glob("behaviour-calendar-days*.html"))) == 1
