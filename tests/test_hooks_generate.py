"""Greedy continuation gives what teacher forcing gives, with interventions in force at every step."""

from typing import Any

import pytest
import torch
from test_causal_engine import build, digit_tokenizer

from mechfourier.causal.task import AnswerTask, task_of
from mechfourier.domains.definition import domain
from mechfourier.errors import InterventionChangedNothing, OutOfRange
from mechfourier.hooks import generate, intervene
from mechfourier.hooks.interventions import edit_add, edit_zero
from mechfourier.hooks.run import has_hooks
from mechfourier.hooks.site import Site

SITE = Site("resid_post", 1)


@pytest.fixture(scope="module")
def digits() -> Any:
    return build(digit_tokenizer(), "rotary")


@pytest.mark.parametrize("edited", [False, True])
def test_generation_is_what_teacher_forcing_calls_greedy(digits: Any, edited: bool) -> None:
    task = task_of(digits, domain("mod-12"), n_prompts=24)
    assert isinstance(task, AnswerTask)
    edits = [edit_zero(SITE, dims=[1, 2, 5])] if edited else []
    prompts = [task.design.prompts[i] for i in task.rows.tolist()]
    written = generate(digits, prompts, edits=edits, max_new_tokens=3)
    with intervene(digits, edits):
        greedy = task.score(digits).greedy
    for row, tokens in enumerate(written.tokens):
        for candidate, answer in enumerate(task.plan.answers):
            begins = tokens[: len(answer)] == answer
            longer = len(tokens) > len(answer) and tokens[len(answer)] in task.plan.continuing[answer]
            assert bool(greedy[row, candidate]) == (begins and not longer)
    assert not has_hooks(digits)


def test_an_edit_at_every_step_makes_the_text(digits: Any) -> None:
    """A large push along one token's output direction writes that token again and again."""
    seven = digit_tokenizer().convert_tokens_to_ids("7")
    push = 1e4 * digits.W_U[:, seven]
    written = generate(
        digits, ["5 + 9 mod 12 =", "11 + 2 mod 12 ="], edits=[edit_add(Site("resid_post", 2), push)]
    )
    assert written.tokens == ((seven,) * 8,) * 2
    assert written.texts[0].replace(" ", "") == "7" * 8
    plain = generate(digits, ["5 + 9 mod 12 ="], stop=[seven])
    assert seven not in plain.tokens[0][:-1]


def test_bad_calls_say_what_is_wrong(digits: Any) -> None:
    with pytest.raises(OutOfRange, match="max_new_tokens is 0"):
        generate(digits, ["5 + 9 mod 12 ="], max_new_tokens=0)
    with pytest.raises(OutOfRange, match="reads at most 32"):
        generate(digits, ["5 + 9 mod 12 ="], max_new_tokens=40)
    with pytest.raises(InterventionChangedNothing):
        generate(digits, ["5 + 9 mod 12 ="], edits=[edit_add(SITE, torch.zeros(24))])
    assert not has_hooks(digits)


def test_the_calendar_model_answers() -> None:
    from mechfourier.models.registry import load

    written = generate(load("calendar"), ["Monday + 3 days =", "November + 5 months ="], max_new_tokens=1)
    assert [text.strip() for text in written.texts] == ["Thursday", "April"]
