"""Numbers scored by their own digits: what is left out, and what is said of it."""

from typing import Any

import pytest
import torch
from tiny_folders import write_model

from mechfourier.domains.answer_ends import ends_of
from mechfourier.domains.answer_plan import TERMINATE, AnswerPlan
from mechfourier.domains.answers import edge_scores, score_plan
from mechfourier.models.interface import Encoding
from mechfourier.models.pretrained import load_pretrained

PROMPTS = [Encoding((1, 2, 3), ((0, 1),) * 3), Encoding((1, 4, 2), ((0, 1),) * 3)]
DIGITS = [2, 3, 4, 5, 6]


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return load_pretrained(write_model(tmp_path_factory.mktemp("m"), "Qwen3"))


def test_only_answers_that_begin_no_other_are_closed(small: Any) -> None:
    plan = AnswerPlan(PROMPTS, [(3,), (3, 2), (5,)], digits=DIGITS)
    found = ends_of(small, plan, torch.tensor([2, 0]))
    assert found.closed == {(5,)}
    shut = plan.closing(found.closed)
    assert [edge.node for edge in shut.edges if edge.token == TERMINATE] == [(3,)]
    assert len(plan.paths) == 2 and len(shut.paths) == 1
    # the others' scores are the same, and what is left out is what was said
    whole, less = score_plan(small, plan)[0], score_plan(small, shut)[0]
    assert torch.allclose(whole[:, :2], less[:, :2], atol=1e-5)
    ends = (whole - less)[:, 2].double()
    assert bool((ends < 0).all())
    assert found.most == pytest.approx(-float(torch.expm1(ends[0])), abs=1e-5)
    assert found.note is not None and f"{found.most:.2g} at most" in found.note


def test_the_parts_of_a_plan_keep_what_was_closed(small: Any) -> None:
    plan = AnswerPlan(PROMPTS, [(3,), (3, 2), (5,)], digits=DIGITS).closing(frozenset({(5,)}))
    part = plan.subset(torch.tensor([1]))
    assert part.closed == plan.closed and len(part.paths) == 1
    assert torch.allclose(edge_scores(small, part)[0], edge_scores(small, plan)[1], atol=1e-5)


def test_nothing_is_closed_where_answers_are_of_one_length(small: Any) -> None:
    found = ends_of(small, AnswerPlan(PROMPTS, [(3,), (5,)], digits=[]), torch.tensor([0, 1]))
    assert found.closed == frozenset() and found.note is None


def test_no_number_is_said_where_no_right_answer_was_closed(small: Any) -> None:
    plan = AnswerPlan(PROMPTS, [(3,), (3, 2), (5,)], digits=DIGITS)
    found = ends_of(small, plan, torch.tensor([0, 1]))
    assert found.closed == {(5,)} and found.most is None
    assert found.note is not None and "probability" not in found.note
