"""What two real language models answer."""

from dataclasses import replace
from typing import Any

import pytest
from real_models import NAMES, real_model

from mechfourier.domains.answers import plan_answers, score_plan
from mechfourier.domains.continuations import KEPT
from mechfourier.domains.definition import domain
from mechfourier.domains.task_choice import choose_task
from mechfourier.domains.task_design import expressible
from mechfourier.domains.tasks import score_task, tasks

pytestmark = pytest.mark.real


@pytest.fixture(scope="module", params=NAMES)
def model(request: pytest.FixtureRequest) -> Any:
    return real_model(request.param)


@pytest.mark.parametrize("name", ["months", "days"])
def test_lists_are_gone_on_with(model: Any, name: str) -> None:
    found = tasks(model, name, task="list")
    (row,) = found.tasks
    assert row.accuracy.share >= 0.95 and row.answered
    assert row.wrap is not None and row.no_wrap is not None and row.no_wrap.share >= 0.95
    assert len([each for each in found.rows if each.template]) == 3


def test_month_arithmetic_is_not_answered_and_the_choice_says_so(model: Any) -> None:
    found = choose_task(model, domain("months"))
    assert found.answered and found.spec.kind == "successor"
    assert "beside it arithmetic" in str(found.reason)


def test_sums_of_one_digit_are_answered(model: Any) -> None:
    (row,) = tasks(model, "numbers", task="sum", n_prompts=40).tasks
    assert row.answered and row.accuracy.low > 0.25


@pytest.mark.parametrize("name", ["days", "months"])
def test_only_the_chat_model_is_asked_in_chat(model: Any, name: str) -> None:
    found = tasks(model, name, task="chat")
    if model.tokenizer.chat_template:
        (row,) = found.tasks
        assert row.accuracy.share >= 0.8 and row.greedy.share >= 0.8
        assert not any("sentence" in note for note in found.notes)
    else:
        assert not found.rows and "no chat template" in found.unasked[0]


def test_an_answer_in_a_sentence_is_said(model: Any) -> None:
    if not model.tokenizer.chat_template:
        pytest.skip("this model has no chat template")
    asked = domain("months")
    plain = replace(asked.task("chat"), templates=("Which month comes after {value}?",))
    rows, notes = score_task(model, asked, plain)
    assert not rows[0].answered and any("in a sentence" in note for note in notes)


def test_answers_of_several_tokens_run_each_prompt_once(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = domain("numbers")
    design, _ = expressible(model, asked, asked.task("sum"))
    plan = plan_answers(model, design.prompts[::9], design.candidates)
    ours, greedy = score_plan(model, plan)
    assert len(plan.paths) > 5 and vars(model)[KEPT] is True
    monkeypatch.setattr("mechfourier.domains.answers.can_continue", lambda model: False)
    whole, wholly = score_plan(model, plan)
    assert float((ours - whole).abs().max()) < 1e-3 and bool((greedy == wholly).all())
