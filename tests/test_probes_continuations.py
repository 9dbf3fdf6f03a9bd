"""Continuations of prompts that run once have the numbers of whole passes, on both engines."""

from typing import Any

import pytest
import torch
from tiny_folders import write_model

from mechfourier.domains import continuations
from mechfourier.domains.answer_plan import AnswerPlan
from mechfourier.domains.answers import score_plan
from mechfourier.hooks.interventions import edit_zero, intervene
from mechfourier.hooks.run import hooked
from mechfourier.hooks.site import Site
from mechfourier.models.interface import Encoding
from mechfourier.models.pretrained import load_pretrained

PROMPTS = [
    Encoding((3, 5, 7, 9), ((0, 1),) * 4),
    Encoding((4, 6, 8), ((0, 1),) * 3),
    Encoding((9, 5, 2, 9), ((0, 1),) * 4),
]
ANSWERS = [(1, 2), (1, 3), (1, 2, 4), (1, 4, 5), (1, 6)]


@pytest.fixture(scope="module", params=["hooked", "bridge"])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = write_model(tmp_path_factory.mktemp("m"), "Qwen3")
    return load_pretrained(folder, engine=request.param)


def test_scores_are_those_of_whole_passes(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = AnswerPlan(PROMPTS, ANSWERS, digits=[2, 3, 4, 5, 6])
    assert len(plan.paths) > 2 and continuations.can_continue(model)
    ours, greedy = score_plan(model, plan)
    assert vars(model)[continuations.KEPT] is True
    monkeypatch.setattr("mechfourier.domains.answers.can_continue", lambda model: False)
    whole, wholly = score_plan(model, plan)
    assert torch.allclose(ours, whole, atol=2e-4) and bool((greedy == wholly).all())
    assert float(whole.std()) > 0.01


def test_continuations_that_run_together_are_those_that_run_alone(
    model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    passes: list[int] = []
    run = continuations._run
    monkeypatch.setattr(continuations, "_run", lambda *given: passes.append(1) or run(*given))
    tokens, paths = torch.tensor([[3, 5, 7, 9], [9, 5, 2, 9]]), [(1,), (1, 2), (1, 3), (1, 4, 5)]
    together = list(continuations.continued(model, tokens, paths))
    count = len(passes)
    monkeypatch.setattr(continuations, "BATCH", 1)
    alone = list(continuations.continued(model, tokens, paths))
    assert count == 3 and len(passes) - count == 4  # the beginning; then (2), (3) in one, and (4, 5)
    for one, other in zip(together, alone, strict=True):
        torch.testing.assert_close(one, other, atol=2e-4, rtol=1e-4)


def test_an_edit_of_every_position_needs_no_whole_passes(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """An ablation runs each prompt once too; an edit that counts positions, or a user's hook, does not."""
    plan, site = AnswerPlan(PROMPTS, ANSWERS, digits=[2, 3, 4, 5, 6]), Site("resid_post", 0)
    plain = score_plan(model, plan)[0]
    with intervene(model, [edit_zero(site, dims=[0, 1, 2, 3]), edit_zero(Site("mlp_out", 1))]):
        assert continuations.can_continue(model)
        ours = score_plan(model, plan)[0]
        with monkeypatch.context() as patched:
            patched.setattr("mechfourier.domains.answers.can_continue", lambda model: False)
            whole = score_plan(model, plan)[0]
        with hooked(model, [(site, lambda value: value)]):
            assert not continuations.can_continue(model)
    assert torch.allclose(ours, whole, atol=2e-4) and not torch.allclose(ours, plain, atol=1e-2)
    with intervene(model, [edit_zero(site, dims=0, positions=-1)], must_change=False):
        assert not continuations.can_continue(model)
        score_plan(model, plan)
    assert continuations.can_continue(model)


def test_a_model_whose_continuations_differ_runs_whole(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = AnswerPlan(PROMPTS, ANSWERS)
    right = score_plan(model, plan)[0]
    vars(model).pop(continuations.KEPT, None)
    run = continuations._run
    monkeypatch.setattr(
        continuations, "_run", lambda *args: run(*args) + torch.arange(args[3])[:, None] * 0.1 + 1
    )
    assert torch.allclose(score_plan(model, plan)[0], right, atol=1e-5)
    assert "whole passes" in continuations.continuation_notes(model)[0]
    assert vars(model).pop(continuations.KEPT) is False
