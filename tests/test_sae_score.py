"""Planted dictionaries: known features come back, tiled circles are found as groups, and noise is not."""

import math
from pathlib import Path

import pytest
import torch
from sae_models import MLP, circle, dictionary_of, orthonormal, stored
from torch import Tensor

from mechfourier.domains.definition import domain
from mechfourier.errors import UsageError
from mechfourier.hooks.site import Site
from mechfourier.sae.clusters import circle_clusters, direction_clusters, planar_bound
from mechfourier.sae.prompts import ScoredPrompts
from mechfourier.sae.score_result import SAEScore
from mechfourier.sae.scoring import feature_scores, live_features, score_arrays
from mechfourier.sae.settings import Dictionary, Schedule
from mechfourier.sae.shards import Stream
from mechfourier.sae.trainee import DictionariesTrainee
from mechfourier.stats.null import label_orders

D, N, T = 32, 12, 6


def prompts(templates: int = T) -> ScoredPrompts:
    return ScoredPrompts(domain("months"), (), templates, True, "planted", ())


def scored(loaded, acts: Tensor, **options) -> SAEScore:
    return score_arrays(
        loaded,
        acts,
        prompts(acts.shape[1]),
        site=Site.parse(MLP),
        model="planted",
        permutations=199,
        **options,
    )


def on_circle(plane: Tensor, *, noise: float, seed: int = 0, k: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return circle(N, plane, k)[:, None] + noise * torch.randn(N, T, D, generator=generator)


@pytest.mark.parametrize("k", [1, 5])
def test_a_tiled_circle_is_found_as_one_group(k: int) -> None:
    basis = orthonormal(D, 12)
    tiles = torch.cat([circle(N, basis[:2], k), basis[2:]])
    result = scored(dictionary_of(tiles, bias=0.5), on_circle(basis[:2], noise=0.05, k=k))
    best = result.clusters[0]
    assert best.k == k and best.p_value < 0.05 and best.score > 0.8 and set(best.features) <= set(range(12))
    assert best.share > 0.8 and best.aspect > 0.7 and best.error < 1
    assert best.score >= result.random_clusters - 1e-6
    assert SAEScore.from_json(result.to_json()).clusters == result.clusters


def test_a_cosine_along_one_direction_is_periodic_and_no_circle() -> None:
    basis = orthonormal(D, 3)
    wave = torch.cos(2 * math.pi * torch.arange(N) / N)[:, None, None] * basis[0]
    acts = wave + 0.02 * torch.randn(N, T, D, generator=torch.Generator().manual_seed(1))
    result = scored(dictionary_of(torch.cat([basis, -basis])), acts)
    assert result.scores[0].r2 > 0.7 and result.scores[0].p_value < 0.05 and result.scores[0].k == 1
    assert not any(c.p_value < 0.05 and c.score > 0.5 for c in result.clusters)
    assert "cleaner circles than the basis:" not in result.answer or result.answer.startswith(
        "The dictionary holds no"
    )


def test_noise_gives_uniform_p_values() -> None:
    orders = label_orders(N, permutations=99, seed=0)
    least = []
    for seed in range(40):
        acts = torch.randn(N, T, 24, generator=torch.Generator().manual_seed(seed)).relu()
        least.append(min(s.p_value for s in feature_scores(acts, orders, numbers=range(24))))
    assert sum(p <= 0.1 for p in least) <= 10 and 0.3 < sum(least) / len(least) < 0.7


def test_noise_groups_draw_no_circle() -> None:
    orders, found = label_orders(N, permutations=99, seed=0), 0
    for seed in range(10):
        generator = torch.Generator().manual_seed(seed)
        features, directions = torch.randn(N, T, 20, generator=generator).relu(), orthonormal(D, 20, seed)
        groups = direction_clusters(directions + 0.3 * directions.mean(0))
        clusters = circle_clusters(features, directions, groups, orders, whole=0.5)
        found += any(c.p_value < 0.05 for c in clusters)
    assert found <= 2


def test_groups_are_components_of_the_graph_of_cosines() -> None:
    near = torch.nn.functional.normalize(
        torch.tensor([[1.0, 0, 0], [1, 0.1, 0], [0, 1, 0], [0, 1, 0.1]]), dim=1
    )
    groups = direction_clusters(near)
    assert groups[:2] == [(0, 1), (2, 3)] or groups[:2] == [(2, 3), (0, 1)]
    assert groups[-1] == (0, 1, 2, 3) and direction_clusters(near[:1]) == []


def test_the_bound_is_reached_by_the_right_order_and_no_order_changes_it() -> None:
    from mechfourier.stats.null import circle_scores

    points = circle(N, orthonormal(D, 2)).double()
    gram = (points @ points.T)[None]
    shuffled = gram[:, torch.randperm(N, generator=torch.Generator().manual_seed(0))][
        :, :, torch.randperm(N, generator=torch.Generator().manual_seed(0))
    ]
    assert float(planar_bound(gram)) == pytest.approx(float(planar_bound(shuffled))) == pytest.approx(1.0)
    assert (
        float(circle_scores(gram).max()) == pytest.approx(1.0) and float(circle_scores(shuffled).max()) < 0.9
    )


def test_features_that_never_fire_or_never_change_are_not_live() -> None:
    features = torch.zeros(N, T, 3)
    features[:, :, 1] = 1.0
    features[3, :, 2] = 1.0
    assert live_features(features).tolist() == [2]
    with pytest.raises(UsageError, match="no feature"):
        scored(dictionary_of(orthonormal(D, 4), bias=100.0), torch.randn(N, T, D))


def test_activations_of_another_width_are_refused() -> None:
    with pytest.raises(UsageError, match="32 dimensions"):
        scored(dictionary_of(orthonormal(D, 4)), torch.randn(N, T, 8))


def planted(count: int, seed: int = 0) -> tuple[Tensor, Tensor, list[Tensor]]:
    """Activations of 24 rare features and two circles of 12 points; the true directions, and the circles'
    planes."""
    generator = torch.Generator().manual_seed(seed)
    basis = torch.linalg.qr(torch.randn(D, D, generator=generator)).Q.T
    alone = torch.nn.functional.normalize(
        basis[4:28] + 0.2 * torch.randn(24, D, generator=generator) / D**0.5, dim=1
    )
    planes = [basis[0:2], basis[2:4]]
    fires = (torch.rand(count, 24, generator=generator) < 0.04) * (
        0.5 + torch.rand(count, 24, generator=generator)
    )
    acts = fires @ alone
    for plane in planes:
        on = (torch.rand(count, 1, generator=generator) < 0.5).float()
        acts = acts + on * circle(N, plane)[torch.randint(N, (count,), generator=generator)]
    return acts, torch.cat([alone, *(circle(N, plane) for plane in planes)]), planes


def test_planted_features_come_back_and_their_circles_are_found(tmp_path: Path) -> None:
    acts, truth, planes = planted(20_000)
    schedule = Schedule(tokens=256 * 700, batch=256, lr=3e-3)
    shards = stored(tmp_path, acts)
    trainee = DictionariesTrainee(
        {"planted": Dictionary(MLP, "topk", "3x", k=4)},
        Stream(shards, 256, seed=0),
        schedule,
        {MLP: acts[:1000]},
        plan={},
        metadata={},
    )
    for index in range(trainee.blocks):
        trainee.step(index)
    assert trainee.evaluate(0)["held_out_explained_variance"] > 0.9
    sae = trainee.finished()["planted"]
    learned = torch.nn.functional.normalize(sae.W_dec.detach(), dim=1)
    assert float((truth @ learned.T).amax(1).mean()) >= 0.9

    loaded = dictionary_of(learned)
    object.__setattr__(loaded, "sae", sae)
    for number, plane in enumerate(planes):
        noise, _, _ = planted(N * T, seed=50 + number)
        result = scored(loaded, circle(N, plane)[:, None] + 0.1 * noise.reshape(N, T, D))
        best = result.clusters[0]
        held = torch.linalg.norm(learned[list(best.features)] @ plane.T, dim=1)
        assert best.k == 1 and best.p_value < 0.05 and float(held.min()) > 0.8
