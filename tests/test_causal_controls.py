"""Batched controls of an ablation are exact and match its target; the tests that compare with them."""

from typing import Any

import numpy as np
import pytest
import torch
from day_models import small_calendar
from hypothesis import given, settings
from hypothesis import strategies as st

from mechfourier.causal.controls import Moments, margins, matched_controls
from mechfourier.causal.edits import Ablations, one_hot
from mechfourier.causal.experiment import Experiment
from mechfourier.domains.answers import AnswerScores
from mechfourier.domains.sampling import balanced_sample
from mechfourier.hooks.interventions import intervene
from mechfourier.hooks.run import has_hooks
from mechfourier.hooks.site import Site
from mechfourier.stats.paired import bootstrap_mean, chance_note, mcnemar


@pytest.fixture(scope="module")
def small() -> Any:
    return small_calendar()


MODES = ("zero", "mean", "resample", "project-out")
SITES = (
    "blocks.1.hook_resid_post",
    "blocks.1.hook_resid_pre",
    "blocks.2.hook_resid_post",
    "blocks.1.mlp.hook_post",
    "blocks.1.attn.hook_z",
    "hook_embed",
)


@pytest.mark.parametrize(
    ("site", "mode"), [*((SITES[0], mode) for mode in MODES), *((s, "resample") for s in SITES[1:])]
)
def test_batched_controls_are_one_intervention_each(small: Any, site: str, mode: Any) -> None:
    at = Site.parse(site)
    asked = Experiment.of(small, "days", n_prompts=14)
    task, around = asked.task, asked.moments(at)
    plain = Ablations(at, mode, around.mean, seed=4)
    found = matched_controls(
        one_hot(torch.tensor([2, 5]), len(around.mean)), around, dims=False, count=5, seed=1
    )
    for last_only in (False, True):
        for several in (
            Ablations(at, mode, around.mean, dims=torch.tensor([[0, 1], [3, 7], [4, 6]]), seed=4),
            Ablations(at, mode, around.mean, bases=found.bases, seed=4),
        ):
            where = task.last if last_only else None
            together = asked.ablated(several, "controls", where).log_softmax(-1)
            for c in range(len(several)):
                one = Ablations(
                    at,
                    mode,
                    plain.mean,
                    dims=None if several.dims is None else several.dims[c : c + 1],
                    bases=None if several.bases is None else several.bases[c : c + 1],
                    seed=4,
                )
                with intervene(small, [one.single(task.last if last_only else None)], must_change=False):
                    alone = task.score(small).scores.log_softmax(-1)
                torch.testing.assert_close(together[c], alone, atol=1e-4, rtol=1e-4)
    assert not has_hooks(small)


@settings(max_examples=25, deadline=None)
@given(d=st.integers(9, 40), rank=st.integers(1, 3), dims=st.booleans(), seed=st.integers(0, 1000))
def test_controls_are_orthogonal_to_the_target_and_orthonormal(
    d: int, rank: int, dims: bool, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    samples = torch.randn(100, d, generator=generator) * torch.logspace(-1, 1, d)
    of = Moments(samples.mean(0), samples.T.cov())
    target = (
        one_hot(torch.arange(rank), d)
        if dims
        else torch.linalg.qr(torch.randn(d, rank, generator=generator)).Q
    )
    found = matched_controls(target, of, dims=dims, count=30, seed=seed)
    assert found.bases.shape == (30, d, rank)
    gram = torch.einsum("cdr,cds->crs", found.bases, found.bases)
    torch.testing.assert_close(gram, torch.eye(rank).expand(30, -1, -1), atol=1e-4, rtol=0)
    assert float(torch.einsum("dr,cds->crs", target, found.bases).abs().max()) < 1e-4
    if dims and rank == 1:
        assert found.n_dims == min(30, d - 1)


def test_half_of_all_dimensions_still_has_controls() -> None:
    of = Moments(torch.zeros(8), torch.eye(8))
    target = one_hot(torch.arange(4), 8)
    found = matched_controls(target, of, dims=True, count=40, seed=0)
    assert found.n_dims == 40
    assert len(found.dims.unique(dim=0)) == 40
    assert not bool((found.dims == torch.arange(4)).all(dim=1).any())


def test_controls_match_the_variance_of_the_target() -> None:
    generator = torch.Generator().manual_seed(0)
    samples = torch.randn(2000, 64, generator=generator) * torch.logspace(-1, 1, 64)
    of = Moments(samples.mean(0), samples.T.cov())
    for dim in (5, 32, 60):
        direction = one_hot(torch.tensor([dim]), 64)
        assert 0.8 < matched_controls(direction, of, dims=False, count=100, seed=0).variance_ratio < 1.25


@given(lost=st.integers(0, 40), gained=st.integers(0, 40), same=st.integers(0, 20))
def test_mcnemar_is_the_binomial_test_of_the_discordant(lost: int, gained: int, same: int) -> None:
    from math import comb

    before = torch.tensor([True] * lost + [False] * gained + [True] * same, dtype=torch.bool)
    after = torch.tensor([False] * lost + [True] * gained + [True] * same, dtype=torch.bool)
    p, found_lost, found_gained = mcnemar(before, after)
    n = lost + gained
    tail = sum(comb(n, i) for i in range(min(lost, gained) + 1)) / 2**n
    assert (found_lost, found_gained) == (lost, gained)
    assert p == pytest.approx(min(1.0, 2 * tail))


def test_the_bootstrap_covers_the_mean() -> None:
    rng = np.random.default_rng(0)
    inside = 0
    for seed in range(120):
        low, high = bootstrap_mean(rng.normal(1.0, 2.0, size=40), seed=seed, resamples=300)
        inside += low <= 1.0 <= high
    assert 0.85 <= inside / 120 <= 0.99


@given(n=st.integers(2, 12), each=st.integers(1, 6), seed=st.integers(0, 99), data=st.data())
def test_samples_are_balanced(n: int, each: int, seed: int, data: st.DataObject) -> None:
    label = torch.arange(n).repeat(each)
    samples = data.draw(st.integers(1, n * each))
    rows = balanced_sample(label, samples, seed=seed)
    counts = torch.bincount(label[rows], minlength=n)
    assert len(rows) == len(rows.unique()) == samples
    assert int(counts.max() - counts.min()) <= 1


def test_chance_is_judged_by_the_binomial() -> None:
    label = torch.zeros(100, dtype=torch.long)
    scores = torch.zeros(100, 4)
    scores[:60, 0], scores[60:, 1] = 1.0, 1.0
    flags = torch.zeros(100, 4, dtype=torch.bool)
    assert chance_note(AnswerScores(scores, flags, label).right, 4) is None
    scores[26:60, 0], scores[26:60, 1] = 0.0, 1.0
    assert "26 of 100 right" in (chance_note(AnswerScores(scores, flags, label).right, 4) or "")
    assert margins(scores[None], label).shape == (1, 100)
