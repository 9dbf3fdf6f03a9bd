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
from mechfourier.causal.suffix import KEPT as KEPT_SUFFIX
from mechfourier.causal.suffix import Suffix
from mechfourier.causal.tails import KEPT, whole_pass_notes
from mechfourier.domains.definition import domain
from mechfourier.domains.task_choice import choose_task
from mechfourier.hooks.interventions import edit_patch, intervene
from mechfourier.hooks.run import hooked
from mechfourier.hooks.site import Site
from mechfourier.models.registry import load

ENGINES = {"hooked": ("Qwen2", "hooked"), "bridge": ("Gemma", "bridge"), "gpt2": ("GPT2", "bridge")}


@pytest.fixture(scope="module", params=sorted(ENGINES))
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    family, engine = ENGINES[request.param]
    return byte_model(tmp_path_factory.mktemp(request.param), family, engine)


def asked(model: Any, task: str) -> AnswerTask:
    found = task_of(model, domain("days"), task=task, samples=14)
    assert isinstance(found, AnswerTask)
    return found


def edits(model: Any, task: AnswerTask, site: str, position: str) -> tuple[Any, torch.Tensor]:
    """An edit of its own for every prompt: coordinates in a random plane put where they are nowhere near."""
    place = read(model, task, site, position)
    width, generator = place.centre.numel(), torch.Generator().manual_seed(0)
    basis = torch.linalg.qr(torch.randn(14, width, 2, generator=generator)).Q
    donors = 30 * float(place.centre.norm()) * torch.randn(14, width, generator=generator) / width**0.5

    def edit_of(rows: torch.Tensor) -> Any:
        return edit_patch(place.site, donors[rows], subspace=basis[rows], positions=place.at[rows])

    return edit_of, place.at


def scores(model: Any, task: AnswerTask, site: str, position: str, *, tail: bool = True) -> torch.Tensor:
    edit_of, at = edits(model, task, site, position)
    return run_rows(model, task, torch.arange(14), edit_of, at=at if tail else None)


def centred(values: torch.Tensor) -> torch.Tensor:
    return values - values.mean(dim=1, keepdim=True)


CASES = [
    ("blocks.0.hook_resid_pre", "operand", "list"),
    ("blocks.0.hook_resid_post", "operand", "next"),
    ("blocks.1.hook_resid_post", "last", "list"),
    ("blocks.2.hook_resid_pre", "last", "list"),
    ("blocks.1.hook_mlp_out", "operand", "list"),
]


@pytest.mark.parametrize(("site", "position", "name"), CASES)
def test_tails_and_begun_passes_are_whole_passes(model: Any, site: str, position: str, name: str) -> None:
    task = asked(model, name)
    edit_of, _ = edits(model, task, site, position)
    with intervene(model, [edit_of(torch.arange(14))]):
        whole = centred(task.score(model).scores)
    tail, begun = (centred(scores(model, task, site, position, tail=tail)) for tail in (True, False))
    assert any(vars(model)[tails.KEPT].values())
    torch.testing.assert_close(tail, whole, atol=2e-3, rtol=1e-3)
    torch.testing.assert_close(begun, whole, atol=2e-3, rtol=1e-3)
    assert not torch.allclose(whole, centred(task.score(model).scores), atol=2e-2)


def test_beginnings_are_remembered_only_where_asked(model: Any) -> None:
    found = asked(model, "list")
    with tails.remembering():
        first = scores(model, found, "blocks.0.hook_resid_post", "operand")
        again = scores(model, found, "blocks.0.hook_resid_post", "operand")
    torch.testing.assert_close(first, again)
    assert tails._REMEMBERED.get() is None


def test_other_hooks_on_the_model_make_passes_whole(model: Any) -> None:
    found = asked(model, "list")
    bucket = next(iter(found.plan.buckets()))
    at = torch.full((len(bucket.tokens),), 5)
    assert tails.tail_of(model, found.plan, Site("resid_post", 1), bucket, at) is not None
    with hooked(model, [(Site("resid_post", 0), lambda value: value)]):
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


def test_a_result_says_that_whole_passes_were_run() -> None:
    model = load("calendar")
    assert whole_pass_notes(model) == ()
    vars(model)[KEPT] = {("resid_post", True): False, ("z", True): True}
    object.__setattr__(model, KEPT_SUFFIX, Suffix(False, "passes of calendar run whole: a reason"))
    notes = whole_pass_notes(model)
    assert len(notes) == 2 and notes[0].endswith("a reason")
    assert "resid_post" in notes[1] and "z" not in notes[1].split("of")[0]
    found = rotate(model, "days", site="blocks.0.hook_resid_post", k=1, samples=7, controls=0)
    assert set(notes) <= set(found.notes)
