"""Shares of use: planted truths are found, intervals cover them, and nothing is divided by nothing."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from test_causal_study import KEYS, PLANTED, SIZES, P, clock
from torch import Tensor

from mechfourier.causal.displacement import (
    circle_and_line,
    harmonic_part,
    moved_rows,
    random_bases,
    whole_part,
)
from mechfourier.causal.effects import effects_of, turn_pairs
from mechfourier.causal.experiment import Experiment
from mechfourier.causal.share import ALL, BARE, LINE, RANDOM, SHAM, WHOLE, use_share
from mechfourier.causal.subspaces import key_harmonics
from mechfourier.causal.usage import along_sentence, share_sentence
from mechfourier.errors import OutOfRange
from mechfourier.fourier.analytic import analytic_weights
from mechfourier.models.registry import load
from mechfourier.stats.paired import share_interval
from mechfourier.toys.one_layer.model import OneLayerConfig, OneLayerTransformer


class LineReader(OneLayerTransformer):
    """Numbers on a circle that nothing reads, beside a line of which everything is read."""

    def forward(self, tokens: Any, return_type: Any = "logits", **_: Any) -> Any:
        ids = self._checked(tokens)
        residual = self.blocks[0](self.hook_embed(self.embed.W_E[ids]))
        total = residual[:, 0, 2] + residual[:, 1, 2]
        angle = 2 * torch.pi / P * (total[:, None] - torch.arange(P))
        logits = torch.stack([torch.cos(k * angle) for k in range(1, P // 2 + 1)]).sum(dim=0)
        return self.unembed(
            torch.nn.functional.pad(logits, (0, 32 - P))[:, None].expand(-1, ids.shape[1], -1)
        )


def line_reader() -> LineReader:
    weights = {k: 0.0 * v.float() for k, v in analytic_weights(P, frequencies=KEYS, **SIZES).items()}
    angle = 2 * torch.pi * torch.arange(P) / P
    weights["embed.W_E"][:P, :2] = 4.0 * torch.stack([angle.cos(), angle.sin()], 1)
    weights["embed.W_E"][:P, 2] = torch.arange(P).float()
    weights["unembed.W_U"] = torch.eye(32)[:, :P].clone()
    model = LineReader(OneLayerConfig(p=P, **SIZES), weights=weights)
    model.mechfourier_name = "line-reader"
    return model


def shares(model: Any, ks: tuple[int, ...], site: str = "hook_embed", **options: Any) -> Any:
    asked = Experiment.of(model, "mod-13", n_prompts=39)
    return use_share(asked, asked.at(site, options.get("position", "value")), ks)


def test_the_key_planes_carry_everything_and_one_of_two_half_of_the_difference() -> None:
    """Both harmonics of the closed form add the same to the score of the answer."""
    both = shares(clock(), KEYS)
    assert both.share.value == 1.0 and both.share_difference.value == pytest.approx(1.0, abs=1e-4)
    one = shares(clock(), (KEYS[0],))
    low, value, high = one.share_difference.low, one.share_difference.value, one.share_difference.high
    assert low <= 0.5 <= high and high - low < 0.05 and value == pytest.approx(0.5, abs=0.01)
    assert one.share.value < 0.5  # half of the difference moves fewer than half of the answers
    assert one.rung(SHAM).moved == 0.0 and one.rung(SHAM).raised == pytest.approx(0.0, abs=1e-4)
    assert one.rung(RANDOM).length == pytest.approx(one.rung("k = 2").length)
    assert one.along == "circle" and "used as a circle" in str(along_sentence(one, True))
    assert "the probe finds no circle" in str(along_sentence(one, False))


def test_an_unread_circle_carries_nothing() -> None:
    found = shares(clock(planted=6.0), (PLANTED,))
    assert found.share.value == 0.0 and 0.0 < found.share.high < 0.15
    assert found.share_difference.value == pytest.approx(0.0, abs=1e-4)
    assert found.rung(WHOLE).moved == found.rung(ALL).moved == 1.0
    assert "carry 0% [0," in share_sentence(found)


def test_a_line_beside_an_unused_circle() -> None:
    found = shares(line_reader(), (1,))
    assert found.along == "line"
    assert found.rung(LINE).moved == 1.0 and found.rung(BARE).moved == 0.0
    assert str(along_sentence(found, True)).startswith("represented on a circle, used along a line: ")
    assert str(along_sentence(found, False)).startswith("used along a line, not as a circle: ")


def test_where_the_whole_token_does_nothing_there_is_no_share() -> None:
    """Nothing reads the first token after the last block."""
    found = shares(clock(), KEYS, "blocks.0.hook_resid_post")
    assert found.share.value is None and found.share_difference.value is None
    assert "carries nothing" in share_sentence(found) and "not defined" in str(found.share)


@pytest.mark.slow
def test_the_grokked_model_moves_by_its_key_planes_together() -> None:
    asked = Experiment.of(load("one-layer"), "mod-113", n_prompts=113)
    place = asked.at("hook_embed", "value")
    found = use_share(asked, place, key_harmonics(place.means))
    whole = found.rung(WHOLE)
    assert whole is not None and whole.moved > 0.99
    assert found.share.value is not None and found.share.value > 0.98


@given(n=st.integers(5, 24), seed=st.integers(0, 1000))
def test_harmonics_add_up_to_the_whole(n: int, seed: int) -> None:
    means = torch.randn(n, 6, generator=torch.Generator().manual_seed(seed)) + 3.0
    parts: list[Tensor] = [harmonic_part(means, (k,)).points for k in range(1, n // 2 + 1)]
    assert torch.allclose(torch.stack(parts).sum(dim=0), whole_part(means).points, atol=1e-4)
    label, delta = torch.arange(n), torch.full((n,), 2)
    step = whole_part(means).steps(label, delta)
    assert torch.allclose(means + step, means.roll(-2, 0), atol=1e-4)


def test_a_circle_beside_a_line_is_taken_apart() -> None:
    n = 12
    angle = 2 * torch.pi * torch.arange(n) / n
    table = torch.stack([angle.cos(), angle.sin(), torch.arange(n) / 3.0], dim=1)
    split = circle_and_line(table, (1,))
    assert split is not None
    assert torch.allclose(split[0].points, table * torch.tensor([1.0, 1.0, 0.0]), atol=1e-5)
    assert torch.allclose(split[1].points[:, 2], table[:, 2] - table[:, 2].mean(), atol=1e-5)
    assert circle_and_line(table[:5], (1, 2)) is None  # five values cannot tell


def test_random_planes_are_orthonormal_and_beside_the_target() -> None:
    target = torch.linalg.qr(torch.randn(16, 2, generator=torch.Generator().manual_seed(0))).Q
    bases = random_bases(target, 9, seed=1)
    assert torch.allclose(bases.mT @ bases, torch.eye(2).expand(9, 2, 2), atol=1e-5)
    assert float((target.T @ bases).abs().max()) < 1e-5


def test_every_prompt_gets_as_many_different_turns() -> None:
    prompt, delta = turn_pairs(5, 12, 4, seed=3)
    assert torch.bincount(prompt).tolist() == [4] * 5
    pairs = set(zip(prompt.tolist(), delta.tolist(), strict=True))
    assert len(pairs) == 20 and int(delta.min()) >= 1 and int(delta.max()) <= 11
    assert turn_pairs(2, 4, 99, seed=0)[1].tolist() == [1, 1, 2, 2, 3, 3]


def test_an_edit_that_only_destroys_the_answer_raises_nothing_in_a_direction() -> None:
    """Zero scores: every other answer gains on the model's own, and none on the others."""
    asked = Experiment.of(clock(), "mod-13", n_prompts=26)
    place = asked.at("hook_embed", "value")
    prompt, delta = turn_pairs(26, P, 12, seed=0)
    found = effects_of(asked, place, prompt, delta, torch.zeros(len(prompt), P))
    assert float(found.raised.mean()) > 10
    before = asked.baseline.scores[prompt] - asked.baseline.scores[prompt].mean(dim=1, keepdim=True)
    assert abs(float(found.directed.mean())) < 0.05 * float(before.max())


def _exact(rng: np.random.Generator, n: int, whole: float, share: float) -> tuple[np.ndarray, np.ndarray]:
    """Prompts that differ in how easily they move; a part of the moves goes through the circle."""
    rate = rng.beta(2 * whole, 2 * (1 - whole), n)
    moved = rng.random((n, 11)) < rate[:, None]
    return (moved & (rng.random((n, 11)) < share)).mean(axis=1), moved.mean(axis=1)


def _difference(rng: np.random.Generator, n: int, spread: float, share: float) -> Any:
    """Skewed rises of the score, of which every prompt has a share of its own."""
    whole = rng.lognormal(1.0, spread, n)
    return whole * rng.beta(2 * share, 2 * (1 - share), n), whole


@pytest.mark.parametrize(
    ("draw", "about", "share"),
    [(_exact, 0.7, 0.12), (_exact, 0.9, 0.85), (_difference, 0.5, 0.5), (_difference, 0.8, 0.5)],
)
def test_intervals_cover_planted_shares(draw: Any, about: float, share: float) -> None:
    """Prompts' effects are simulated: 200 draws of 27 prompts, as many as a study of months has."""
    rng, covered = np.random.default_rng(7), 0
    for _ in range(200):
        gain, whole = (torch.from_numpy(x) for x in draw(rng, 27, about, share))
        low, high = share_interval(gain, whole, seed=0)
        covered += low <= share <= high
    assert 0.93 <= covered / 200 <= 0.97


def test_counted_shares_of_none_and_of_all_have_an_open_end() -> None:
    whole = torch.ones(20).double()
    assert share_interval(0 * whole, whole, seed=0, counts=True) == (0.0, pytest.approx(0.168, abs=1e-3))
    assert share_interval(whole, whole, seed=0, counts=True) == (pytest.approx(0.832, abs=1e-3), 1.0)
    assert share_interval(0 * whole, whole, seed=0) == (0.0, 0.0)
    assert share_interval(0.5 * whole, whole, seed=0) == (0.5, 0.5)


def test_moved_rows_move_the_activation_of_their_token_only() -> None:
    asked = Experiment.of(clock(), "mod-13", n_prompts=4)
    place = asked.at("hook_embed", "value")
    edit = moved_rows(place, torch.arange(4), torch.ones(4, 32)).edit_of(torch.tensor([1, 3]))
    old = torch.zeros(2, 3, 32)
    new = edit.apply(old, torch.arange(2))
    assert float(new[:, 0].sum()) == 64.0 and float(new[:, 1:].abs().sum()) == 0.0


def test_an_answer_that_no_question_has_cannot_be_turned_to() -> None:
    """The numbers after 0 to 9 are 1 to 10: among eleven answers nothing stands at 0."""
    means = torch.randn(11, 8, generator=torch.Generator().manual_seed(0))
    means[0] = float("nan")
    with pytest.raises(OutOfRange, match="no prompt is of class 0 here"):
        key_harmonics(means)
