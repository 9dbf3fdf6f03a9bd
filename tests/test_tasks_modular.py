"""Tables, prompts and splits of modular arithmetic."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mechfourier.errors import OutOfRange, UsageError
from mechfourier.toys.one_layer.task import S5, TASKS, all_pairs, split, task, tokens_of


@settings(max_examples=25, deadline=None)
@given(st.integers(5, 60), st.data())
def test_tables_are_python_arithmetic(p: int, data: st.DataObject) -> None:
    a, b = data.draw(st.integers(0, p - 1)), data.draw(st.integers(0, p - 1))
    expected = {"add": a + b, "subtract": a - b, "multiply": a * b, "squares": a * a + b * b}
    for name, value in expected.items():
        assert int(task(name).table(p)[a, b]) == value % p


def test_s5_is_a_group_that_does_not_commute() -> None:
    table = task("s5").table(120)
    identity = S5.index((0, 1, 2, 3, 4))
    every = torch.arange(120)
    assert torch.equal(table[identity], every)
    assert torch.equal(table[:, identity], every)
    assert all(len(set(row.tolist())) == 120 for row in table)
    a, b, c = (torch.randint(120, (500,), generator=torch.Generator().manual_seed(s)) for s in range(3))
    assert torch.equal(table[table[a, b], c], table[a, table[b, c]])
    assert not torch.equal(table, table.T)


def test_s5_composes_the_right_factor_first() -> None:
    x, y = S5.index((1, 0, 2, 3, 4)), S5.index((0, 2, 1, 3, 4))
    composed = tuple(S5[x][S5[y][i]] for i in range(5))
    assert S5[int(task("s5").table(120)[x, y])] == composed


@settings(max_examples=25, deadline=None)
@given(st.integers(5, 40), st.floats(0.1, 0.9), st.integers(0, 2**31))
def test_split_parts_every_pair_once_and_by_its_seed(p: int, fraction: float, seed: int) -> None:
    data = split("add", p, train_fraction=fraction, seed=seed)
    both = torch.cat([data.train_pairs, data.test_pairs])
    assert sorted(map(tuple, both.tolist())) == list(itertools.product(range(p), repeat=2))
    assert len(data.train_pairs) == round(fraction * p * p)
    assert torch.equal(data.train_answers, data.train_pairs.sum(1) % p)
    again = split("add", p, train_fraction=fraction, seed=seed)
    assert torch.equal(data.train_pairs, again.train_pairs)


@pytest.mark.parametrize("name", TASKS)
def test_prompts_are_read_back(name: str) -> None:
    match = task(name).pattern().fullmatch(task(name).prompt(14, 3, 120))
    assert match is not None
    assert (match["a"], match["b"], match["answer"]) == ("14", "3", None)
    answered = task(name).pattern().fullmatch(task(name).prompt(14, 3, 120) + " 77")
    assert answered is not None
    assert answered["answer"] == "77"


def test_tokens_end_with_equals() -> None:
    assert tokens_of(all_pairs(5), 5)[7].tolist() == [1, 2, 5]


@pytest.mark.parametrize(
    ("name", "p", "fraction", "sentence"),
    [
        ("add", 4, 0.3, "p = 4 is too small"),
        ("add", 7, 1.0, "no test set"),
        ("add", 7, 0.999, "no test set"),
        ("add", 7, 0.0, "no train set"),
        ("add", 7, 0.001, "no train set"),
        ("add", 7, -1.0, "no train set"),
        ("s5", 113, 0.3, "120 elements"),
    ],
)
def test_impossible_data_is_refused(name: str, p: int, fraction: float, sentence: str) -> None:
    with pytest.raises(OutOfRange, match=sentence):
        split(name, p, train_fraction=fraction)


def test_an_unknown_task_names_the_nearest() -> None:
    with pytest.raises(UsageError, match="closest: subtract"):
        task("subtraction")
