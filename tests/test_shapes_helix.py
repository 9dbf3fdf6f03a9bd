"""Curves beside a line: a helix is round along its line, a bent plane is not; outlying prompts; what a rejection takes."""

import dataclasses

import numpy as np
import pytest
from test_shapes_contest import arc, circle, planted

from mechfourier.stats.shapes import contest
from mechfourier.stats.shapes.decide import MATERIAL, Decision, decide
from mechfourier.stats.shapes.designs import Places
from mechfourier.stats.shapes.helix import aspect_along_line, solver
from mechfourier.stats.shapes.tables import canonical_frame, cross_gram, table, tempered, unbiased_mean

PLACES = Places(12, np.arange(12))
LINE = np.arange(12.0)[:, None]


def seen(columns: np.ndarray, cut: int = 0) -> float:
    y = columns - columns.mean(0)
    return float(aspect_along_line(y @ y.T, solver(cut, 1, PLACES)))


@pytest.mark.parametrize("aspect", [1.0, 0.7, 0.3])
@pytest.mark.parametrize("power", [0.1, 1.0, 4.0])
def test_a_helix_is_as_round_as_its_circle(aspect: float, power: float) -> None:
    helix = np.concatenate([circle(12) * [1, aspect], power * LINE], 1)
    assert seen(helix) == pytest.approx(aspect, abs=1e-6)


@pytest.mark.parametrize("angle", [0.3, 1.0, 2.0])
def test_a_plane_bent_by_a_line_is_flat(angle: float) -> None:
    bent = circle(12) + 0.2 * LINE * [np.cos(angle), np.sin(angle)]
    assert seen(bent) < 1e-6
    spokes = np.concatenate([np.maximum(5 - LINE, 0), np.maximum(LINE - 5, 0)], 1)
    assert seen(spokes) < 0.5


@pytest.mark.parametrize("seed", range(3))
def test_two_spokes_and_nearly_closed_arcs_are_no_circles(seed: int) -> None:
    at = (np.arange(12) - 4) % 12
    spokes = np.stack([np.maximum(6 - at, 0), np.maximum(at - 6, 0)], 1).astype(float)
    assert contest(planted(spokes, seed=seed)).word not in ("circular", "flattened circle")
    assert contest(planted(arc(12, 300, 5), seed=seed)).word != "circular"


@pytest.mark.parametrize("first", [6, 4])
def test_a_list_in_two_pieces_is_no_circle(first: int) -> None:
    # seen along its two strongest directions, a list in two arcs goes round
    at = (np.arange(12) - 4) % 12
    pieces = np.zeros((12, 2, 2))
    pieces[np.arange(12), (at >= first) * 1] = circle(12)[at]
    assert contest(planted(pieces.reshape(12, 4))).word == "open curve"


def test_outlying_prompts_are_drawn_in_and_others_left_alone() -> None:
    acts = planted(circle(12), seed=3)
    gram = cross_gram(acts)
    assert tempered(gram) is gram
    acts[4, 2] += 200 * np.random.default_rng(0).standard_normal(64)
    mended = unbiased_mean(tempered(cross_gram(acts)))
    clean = unbiased_mean(gram)
    correlation = np.corrcoef(mended.ravel(), clean.ravel())[0, 1]
    assert correlation > 0.98
    basis = np.linalg.qr(np.random.default_rng(1).standard_normal((64, 64)))[0]
    assert np.allclose(tempered(cross_gram(acts @ basis)), tempered(cross_gram(acts)))


def decided(acts: np.ndarray) -> Decision:
    gram = cross_gram(acts)
    return decide(table(gram, canonical_frame(unbiased_mean(gram))), n_bootstrap=60, seed=0)


def test_a_circle_is_rejected_only_by_what_matters() -> None:
    found = decided(planted(circle(12)))
    unfit = dataclasses.replace(found, adequate=found.adequate | {"closed": 0.001})
    assert unfit.missed < MATERIAL and not unfit.closed_rejected  # significant, by no amount
    whole = found.scores["distinct values"]
    worse = {name: whole + np.log(3 * MATERIAL) for name in found.designs.closed_names}
    far = dataclasses.replace(
        unfit, scores=found.scores | worse | {"smooth path": whole + np.log(MATERIAL / 2)}
    )
    assert far.closed_rejected
    ahead = dataclasses.replace(found, scores=found.scores | {"nearly closed": found.closed_score - 1})
    assert ahead.closed_rejected and not found.closed_rejected
