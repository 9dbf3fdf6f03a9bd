"""The contest of shapes on planted tables: the right words, whatever the labels, the basis, the scale and the
order of templates and sites."""

import numpy as np
import pytest
import torch

from mechfourier.errors import OutOfRange
from mechfourier.stats.shapes import contest
from mechfourier.stats.shapes.catalogue import SHAPES
from mechfourier.stats.shapes.decide import CLOSE, Prepared, decide, redrawn
from mechfourier.stats.shapes.designs import Places
from mechfourier.stats.shapes.families import family
from mechfourier.stats.shapes.headline import combined_p, headline
from mechfourier.stats.shapes.simulate import Ground, draws, fit, simulate
from mechfourier.stats.shapes.tables import canonical_frame, cross_gram, table, unbiased_mean


def planted(
    columns: np.ndarray, *, snr: float = 1.0, d: int = 64, templates: int = 8, seed: int = 0
) -> np.ndarray:
    """``columns [value r]`` in random orthonormal directions, of power ``snr`` against the noise summed over
    dimensions."""
    rng = np.random.default_rng(seed)
    y = columns - columns.mean(0)
    y = y / np.sqrt((y**2).sum() / len(y)) * np.sqrt(snr * d)
    basis = np.linalg.qr(rng.standard_normal((d, y.shape[1])))[0]
    return (y @ basis.T)[:, None] + rng.standard_normal((len(y), templates, d))


def circle(n: int, k: float = 1) -> np.ndarray:
    angle = 2 * np.pi * k * np.arange(n) / n
    return np.stack([np.cos(angle), np.sin(angle)], 1)


def arc(n: int, degrees: float, start: int) -> np.ndarray:
    angle = np.deg2rad(degrees) * ((np.arange(n) - start) % n) / (n - 1)
    return np.stack([np.cos(angle), np.sin(angle)], 1)


KINDS = {
    "circular": circle(12),
    "open curve": arc(12, 240, 5),
    "line": np.arange(12.0)[:, None],
    "clusters": np.random.default_rng(7).standard_normal((4, 12))[((np.arange(12) + 1) % 12) // 3],
    "values distinguishable": np.random.default_rng(8).standard_normal((12, 12)),
    "other period": circle(12, 1.2),
}


@pytest.mark.parametrize("word", KINDS)
def test_planted_shapes_get_their_word(word: str) -> None:
    words = [contest(planted(KINDS[word], seed=seed)).sites[0].word for seed in range(5)]
    assert words.count(word) >= 4, words


def test_noise_and_what_cannot_be_tested() -> None:
    rng = np.random.default_rng(0)
    acts = rng.standard_normal((3, 12, 8, 32))
    acts[1] = 2.5
    acts[2, 0, 0, 0] = np.nan
    words = [site.word for site in contest(acts).sites]
    assert words == ["noise", "not testable", "not testable"]
    two = planted(circle(12), templates=2)
    copies = np.repeat(planted(circle(12), templates=1), 8, 1)
    for array in (two, copies):
        (site,) = contest(array).sites
        assert site.word == "not testable" and "at least 3" in site.reasons[0]


def test_other_arrays_are_refused_in_one_sentence() -> None:
    for array in (np.zeros((12, 8)), np.zeros((12, 8, 4), int), np.zeros((40, 8, 4))):
        with pytest.raises(OutOfRange) as refusal:
            contest(array)
        assert str(array.shape[0]) in str(refusal.value)


def changes(acts: np.ndarray) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(3)
    _, templates, d = acts.shape
    turn = np.linalg.qr(rng.standard_normal((d, d)))[0]
    return {
        "begun elsewhere": np.roll(acts, 5, 0),
        "reversed": acts[::-1],
        "rotated": acts @ turn,
        "scaled": acts * 1e-4,
        "shifted": acts + rng.standard_normal(d),
        "templates in another order": acts[:, rng.permutation(templates)],
        "a template twice": acts[:, [0, *range(templates)]],
        "float32": acts.astype(np.float32),
    }


@pytest.mark.parametrize("word", KINDS)
def test_nothing_that_is_no_shape_changes_a_word(word: str) -> None:
    acts = planted(KINDS[word], snr=0.2, seed=11)
    (first,) = contest(acts).sites
    for name, changed in changes(acts).items():
        (site,) = contest(changed).sites
        assert (site.word, site.k, site.beside_line) == (first.word, first.k, first.beside_line), name
        assert site.p == pytest.approx(first.p, abs=0.011), name


def test_the_same_site_twice_counts_once() -> None:
    acts = np.stack([planted(circle(12), seed=1), planted(arc(12, 240, 3), seed=2)])
    single, doubled = contest(acts), contest(acts[[0, 0, 1, 1, 1]])
    assert doubled.p == single.p
    assert [site.word for site in doubled.sites] == [single.sites[i].word for i in (0, 0, 1, 1, 1)]


def test_ends_gap_and_value_set_aside_are_the_callers() -> None:
    (site,) = contest(torch.from_numpy(planted(arc(12, 240, 4), seed=3))).sites
    assert site.ends == (3, 4)
    assert site.gap is not None and site.gap.low is not None and site.gap.high is not None
    assert site.gap.low < 360 / (240 / 11) - 11 < site.gap.high
    moved = circle(12)
    moved[7] = -moved[7]
    (site,) = contest(planted(moved, seed=4)).sites
    assert (site.word, site.set_aside) == ("circular", 7)


def test_a_circle_at_another_harmonic_is_named() -> None:
    (site,) = contest(planted(circle(12, 2), seed=5)).sites
    assert site.label == "circular at k = 2"


def test_every_shape_predicts_itself() -> None:
    designs = family(12)
    assert designs.names == tuple(shape.name for shape in SHAPES)
    gram = circle(12) @ circle(12).T
    scores = np.minimum.reduceat(gram.ravel() @ designs.weights.T, designs.starts)
    assert scores[designs.names.index("circle")] < 1e-12 < 0.01 < scores[designs.names.index("arc")]
    for design in designs.designs:  # a constant is predicted by every shape
        assert np.allclose(design.smoother.sum(1), 1, atol=1e-6)


def test_drawn_tables_have_the_power_of_the_data() -> None:
    gram = cross_gram(planted(circle(12), d=200, templates=8, seed=6))
    own = table(gram, canonical_frame(unbiased_mean(gram)))
    designs = family(12)
    fitted = fit(own, designs.designs[designs.members("circle")[0]])
    drawn = simulate(Ground.of(own, draws(400, 12, 4, 0)), fitted)
    power = np.einsum("bghvv->gh", drawn) / len(drawn)
    measured = np.einsum("ghvv->gh", own.groups)
    assert np.allclose(np.diag(power).mean(), np.diag(measured).mean(), rtol=0.1)
    assert np.allclose(power[0, 1], measured[0, 1], rtol=0.15)


def test_few_values_leave_no_room_for_rich_designs() -> None:
    assert len(list(SHAPES[0].designs(Places(5, np.arange(5))))) == 2
    assert "circle beside a line" not in family(5).names


def test_sites_together() -> None:
    assert combined_p([0.03]) == pytest.approx(0.03)
    assert combined_p([0.005] * 28) == pytest.approx(0.005)
    assert combined_p([0.03] + [0.5] * 27) > 0.2
    words = ["noise", "open curve", "circular", "circular", "open curve", "open curve", "open curve"]
    found = headline(words)
    assert (found.word, found.first, found.last) == ("circular", 2, 3)


def test_the_number_of_threads_changes_nothing() -> None:
    stack = np.stack([planted(circle(9), seed=seed) for seed in range(4)])
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            found.append(contest(stack, n_bootstrap=60, n_permutations=99))
    finally:
        torch.set_num_threads(before)
    assert found[0] == found[1]


def test_more_draws_are_made_of_the_rivals_that_may_decide() -> None:
    gram = cross_gram(planted(circle(12), seed=3, snr=0.5))
    first = decide(table(gram, canonical_frame(unbiased_mean(gram))), n_bootstrap=60, seed=0)
    again = redrawn(Prepared.of(first.table, None), first, n_bootstrap=300, seed=0)
    whole = decide(first.table, n_bootstrap=300, seed=0)
    near = {name for name, p in first.rejects.items() if p > CLOSE[0]}
    assert near and near < set(first.rejects)
    for name, p in again.rejects.items():
        assert p == (whole if name in near else first).rejects[name]
    assert again.adequate == first.adequate and again.scores == first.scores
