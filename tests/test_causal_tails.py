"""Passes of the last tokens give the numbers of whole passes, on both engines; where they cannot, whole passes run."""

from typing import Any

import pytest
import torch
from byte_models import byte_model

from mechfourier.causal import tails
from mechfourier.causal.outcome import AnswerTask, task_of
from mechfourier.causal.reading import read
from mechfourier.causal.rotate import chosen_turn, rotate
from mechfourier.causal.rows import run_rows
from mechfourier.hooks.interventions import edit_mean, zero
from mechfourier.hooks.site import Site
from mechfourier.probes.domains import domain
from mechfourier.probes.task_choice import choose_task

ENGINES = {"hooked": ("Qwen2", "hooked"), "bridge": ("Gemma", "bridge"), "gpt2": ("GPT2", "bridge")}


@pytest.fixture(scope="module", params=sorted(ENGINES))
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    family, engine = ENGINES[request.param]
    return byte_model(tmp_path_factory.mktemp(request.param), family, engine)


def asked(model: Any, task: str) -> AnswerTask:
    found = task_of(model, domain("days"), task=task, samples=14)
    assert isinstance(found, AnswerTask)
    return found


def scores(model: Any, task: AnswerTask, site: str, position: str, at: bool) -> torch.Tensor:
    place = read(model, task, site, position)
    prompt = torch.arange(14).repeat(2)
    basis = torch.linalg.qr(
        torch.randn(28, place.centre.numel(), 2, generator=torch.Generator().manual_seed(0))
    ).Q

    def edit_of(rows: torch.Tensor) -> Any:
        return edit_mean(place.site, place.centre, subspace=basis[rows], positions=place.at[prompt[rows]])

    return run_rows(model, task, prompt, edit_of, at=place.at[prompt] if at else None)


@pytest.mark.parametrize(
    "site",
    [
        "blocks.0.hook_resid_pre",
        "blocks.1.hook_resid_post",
        "blocks.2.hook_resid_post",
        "blocks.1.hook_mlp_out",
    ],
)
@pytest.mark.parametrize("position", ["operand", "last"])
@pytest.mark.parametrize("task", ["list", "next"])
def test_tails_are_whole_passes(model: Any, site: str, position: str, task: str) -> None:
    found = asked(model, task)
    whole, tail = (scores(model, found, site, position, at) for at in (False, True))
    assert any(vars(model)[tails.KEPT].values())
    centred = [each - each.mean(dim=1, keepdim=True) for each in (whole, tail)]
    torch.testing.assert_close(centred[0], centred[1], atol=2e-3, rtol=1e-3)
    assert not torch.allclose(
        centred[0][:14], centred[0][14:], atol=1e-2
    )  # the edits do something, each its own


def test_beginnings_are_remembered_only_where_asked(model: Any) -> None:
    found = asked(model, "list")
    with tails.remembering():
        first = scores(model, found, "blocks.0.hook_resid_post", "operand", True)
        again = scores(model, found, "blocks.0.hook_resid_post", "operand", True)
    torch.testing.assert_close(first, again)
    assert tails._REMEMBERED.get() is None


def test_other_hooks_on_the_model_make_passes_whole(model: Any) -> None:
    found = asked(model, "list")
    bucket = next(iter(found.plan.buckets()))
    at = torch.full((len(bucket.tokens),), 5)
    assert tails.tail_of(model, found.plan, Site("resid_post", 1), bucket, at) is not None
    with zero(model, Site("resid_post", 0), dims=0):
        assert tails.tail_of(model, found.plan, Site("resid_post", 1), bucket, at) is None
    assert tails.tail_of(model, found.plan, Site("pattern", 1), bucket, at) is None
    assert tails.tail_of(model, found.plan, Site("resid_post", 1), bucket, torch.zeros_like(at)) is None


def test_a_rotation_of_a_task_says_what_was_asked(model: Any) -> None:
    found = rotate(
        model, domain("days"), site="blocks.1.hook_resid_post", ks=(1,), task="list", samples=7, controls=5
    )
    assert found.task == "list" and "task list" in str(found)
    assert found.n_control_pairs == 36 and found.n_control_prompts == 7
    again = rotate(
        model, domain("days"), site="blocks.1.hook_resid_post", ks=(1,), task="list", samples=7, controls=5
    )
    assert again.to_json() == found.to_json()
    assert choose_task(model, domain("days"), "list").reason is None


def test_numbers_turn_back_to_the_first_after_the_last(model: Any) -> None:
    """A row of ten digits: turned by δ an operand is (v + δ) mod 10, and the sum moves by that much."""
    task = task_of(model, domain("numbers"), task="sum", samples=20)
    place = read(model, task, "blocks.0.hook_resid_pre", "operand")
    turn = chosen_turn(place, 1, None)
    assert len(place.means) == 10 and turn.maps(10).shape[0] == 10
    last = read(model, task, "blocks.1.hook_resid_post", "last")
    assert len(last.means) == 19
