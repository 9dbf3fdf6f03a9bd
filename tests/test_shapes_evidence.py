"""Numbers of the contest: p-values that are uniform, intervals that cover, grids that are fine enough."""

import numpy as np
import pytest
from test_shapes_contest import arc, circle, planted

from mechfourier.stats.shapes import contest
from mechfourier.stats.shapes.decide import best_design, smallest_p
from mechfourier.stats.shapes.designs import turns_of_gap
from mechfourier.stats.shapes.evidence import agreement_p, aspect, gap, predicted_share
from mechfourier.stats.shapes.families import family
from mechfourier.stats.shapes.scores import design_scores, read_gram
from mechfourier.stats.shapes.tables import Table, canonical_frame, cross_gram, table, unbiased_mean


def framed(acts: np.ndarray) -> Table:
    gram = cross_gram(acts)
    return table(gram, canonical_frame(unbiased_mean(gram)))


@pytest.mark.parametrize("templates", [4, 8])
def test_agreement_is_no_more_often_significant_than_it_says(templates: int) -> None:
    away = np.abs(np.arange(12)[:, None] - np.arange(12))
    root = (
        np.linalg.cholesky(np.exp(-away / 2)) if templates >= 6 else np.eye(12)
    )  # noise over neighbouring values
    rng = np.random.default_rng(0)
    draws = [np.einsum("vw,wtd->vtd", root, rng.standard_normal((12, templates, 16))) for _ in range(200)]
    p = [agreement_p(cross_gram(x), count=200, seed=0) for x in draws]
    assert np.mean(np.array(p) <= 0.05) < 0.09
    assert 0.35 < np.mean(np.array(p) <= 0.5) < 0.65


def test_a_cosine_in_1024_dimensions_is_no_circle() -> None:
    # the noise of one dimension is smaller there than what any grid of phases leaves
    for seed in range(4):
        column = np.cos(2 * np.pi * (np.arange(12) / 12 + 0.123 * seed))[:, None]
        assert not contest(planted(column, d=1024, seed=seed)).word.startswith("circular")


@pytest.mark.parametrize("templates", [6, 10])
def test_intervals_cover(templates: int) -> None:
    held = {"gap": [], "aspect": [], "share": []}
    designs = family(12)
    truth = circle(12) * [1, 0.5]
    for seed in range(120):
        own = framed(planted(arc(12, 240, 5), templates=templates, snr=0.5, seed=seed))
        scores = design_scores(read_gram(own.groups, own.group_sizes, designs.places), designs)
        index = best_design(own, designs, scores, "arc")
        found = gap(own, int(designs.designs[index].params["cut"]))
        assert found.low is not None and found.high is not None
        held["gap"].append(found.low <= 360 / (240 / 11) - 11 <= found.high)
        ellipse = framed(planted(truth, templates=templates, snr=0.5, seed=seed))
        found = aspect(ellipse, 1)
        assert found.low is not None and found.high is not None
        held["aspect"].append(found.low <= 0.5 <= found.high)
        wave = designs.members("wave")[10]
        found = predicted_share(ellipse, designs, wave)
        y = truth[ellipse.frame.order]
        exact = predicted_share(Table(**{**vars(ellipse), "mean": y @ y.T}), designs, wave).value
        assert found.low is not None and found.high is not None
        held["share"].append(found.low <= exact <= found.high)
    for name, hits in held.items():
        assert np.mean(hits) >= 0.89, (name, np.mean(hits))


def test_the_best_of_many_designs_keeps_its_interval() -> None:
    # a line fits a circle equally well wherever it is cut: the best cut is the one that noise favours
    designs, held = family(12), []
    lines = designs.weights[list(designs.members("line"))]
    for seed in range(60):
        own = framed(planted(circle(12), seed=seed))
        index = designs.members("line")[int((lines @ own.mean.ravel()).argmin())]
        found, y = predicted_share(own, designs, index), circle(12)
        exact = predicted_share(Table(**{**vars(own), "mean": y @ y.T}), designs, index).value
        assert found.low is not None and found.high is not None
        held.append(found.low <= exact <= found.high)
    assert np.mean(held) >= 0.89


def test_no_interval_below_six_templates() -> None:
    own = framed(planted(circle(12), templates=5))
    assert aspect(own, 1).low is None and gap(own, 0).high is None


def test_smallest_p_of_several_statistics_is_uniform() -> None:
    rng = np.random.default_rng(1)
    mixed = np.array([[1, 0.8, 0.0], [0, 0.6, 0.0], [0, 0, 1.0]])
    p = [smallest_p(rng.standard_normal(3) @ mixed, rng.standard_normal((99, 3)) @ mixed) for _ in range(400)]
    assert np.mean(np.array(p) <= 0.05) < 0.08


def test_turns_and_gap_are_two_names_of_one_thing() -> None:
    assert turns_of_gap(1, 12) == 1
    assert 12 / turns_of_gap(3, 12) - 12 + 1 == pytest.approx(3)
