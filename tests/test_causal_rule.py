"""The rule for ``used`` is right as often as it says: on planes that nothing reads, and on random ones."""

from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import kstest
from test_causal_study import UNREAD, P, clock

from mechfourier.causal.ablate import ablate
from mechfourier.causal.experiment import Experiment
from mechfourier.causal.rotate import rotate, rotation
from mechfourier.causal.subspaces import chosen_subspace
from mechfourier.causal.usage import usage_verdict


def _unread(draw: np.random.Generator) -> tuple[Any, int]:
    """A model beside whose circles another of random harmonic, size and noise is planted that nothing
    reads."""
    model, k = clock(), int(draw.integers(1, 7))
    angle = 2 * np.pi * k / P * np.arange(P)
    circle = np.stack([np.cos(angle), np.sin(angle)], axis=1) * draw.uniform(0.5, 8.0)
    circle = circle @ draw.normal(size=(2, 2)) + draw.normal(size=(P, 2)) * draw.uniform(0.0, 0.3)
    with torch.no_grad():
        model.embed.W_E[:P, UNREAD] = torch.from_numpy(circle).float()
    return model, k


@pytest.mark.slow
def test_a_plane_that_nothing_reads_is_called_used_at_most_once_in_a_hundred() -> None:
    draw, used = np.random.default_rng(0), 0
    for seed in range(100):
        model, _ = _unread(draw)
        asked = Experiment.of(model, "mod-13", n_prompts=26, seed=seed)
        place = asked.at("hook_embed", "value")
        plane = torch.zeros(32, 2)
        plane[UNREAD, (0, 1)] = 1.0
        turned = rotation(asked, place, chosen_subspace(place.means, place.site, 1, plane), n_controls=199)
        cut = ablate(asked, site="hook_embed", plane=plane, position="value", n_controls=199, text=())
        used += usage_verdict(cut, turned)[0] == "used"
    assert used <= 1


@pytest.mark.slow
def test_p_of_turns_is_no_smaller_than_uniform_on_random_planes() -> None:
    """Planes drawn as the controls are: no p is likelier than its size. (Large ones are likelier than that: a control
    takes the length of the edit that it stands beside, which a plane's own edit reaches by its overlap with the signal.)"""
    asked = Experiment.of(clock(), "mod-13", n_prompts=26)
    found = []
    for seed in range(120):
        noise = torch.randn(32, 2, generator=torch.Generator().manual_seed(seed))
        plane = torch.linalg.qr(noise).Q
        asked.seed = seed
        found.append(rotate(asked, site="hook_embed", plane=plane, n_controls=99).directed_p)
    assert kstest(found, "uniform", alternative="greater").pvalue > 0.01
    assert np.mean(np.array(found) <= 0.05) <= 0.1
