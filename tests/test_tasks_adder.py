"""Addition as digits and tokens: sums, carries, chains, formats, who may be trained on."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mechfourier.errors import OutOfRange, UsageError
from mechfourier.toys.adder.draw import (
    CATEGORIES,
    category,
    draw,
    every_pair,
    mixed_carries,
    train_batch,
    unseen_batch,
)
from mechfourier.toys.adder.task import (
    END,
    EQUALS,
    PAD,
    PLUS,
    Format,
    Problems,
    decoder_input,
    held_out,
    join,
    pair_hash,
    problems,
    significance,
)

PAIRS = st.lists(st.tuples(st.integers(0, 10**25), st.integers(0, 10**25)), min_size=1, max_size=8)
FORMATS = [Format(), Format(padded=False), Format(reverse=False), Format(padded=False, reverse=False)]


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@given(PAIRS)
def test_digits_add_up(pairs: list[tuple[int, int]]) -> None:
    p = problems(pairs)
    assert p.numbers("answer") == [x + y for x, y in pairs]
    assert p.texts() == [f"{x}+{y}=" for x, y in pairs]
    for (x, y), carries in zip(pairs, p.carries.tolist(), strict=True):
        wanted = [(x % 10 ** (i + 1) + y % 10 ** (i + 1)) >= 10 ** (i + 1) for i in range(len(carries))]
        assert carries == wanted


@given(PAIRS, st.sampled_from(FORMATS))
def test_every_format_comes_back(pairs: list[tuple[int, int]], form: Format) -> None:
    p = problems(pairs)
    target = form.target(p)
    assert [form.value(row) for row in target.tolist()] == [x + y for x, y in pairs]
    read = decoder_input(target)
    assert bool((read[:, 0] == EQUALS).all())
    assert END not in read
    for row, (x, y) in zip(form.source(p).tolist(), pairs, strict=True):
        text = "".join({PLUS: "+", EQUALS: "=", PAD: ""}.get(t, str(t)) for t in row)
        a, b = text.removesuffix("=").split("+")
        assert (int(a), int(b)) == (x, y)
        assert not form.padded or len(a) == len(b)


def test_significance_counts_from_the_units_of_each_operand() -> None:
    source = Format(padded=False).source(problems([(123, 45), (7, 8)]))
    assert significance(source).tolist() == [[3, 2, 1, 0, 2, 1, 0], [0, 0, 0, 1, 0, 1, 0]]


def test_chain_is_the_longest_journey_of_one_carry() -> None:
    p = problems([(12, 34), (15, 27), (95, 5), (999, 1), (555, 555), (1905, 95)])
    assert p.chain.tolist() == [0, 1, 2, 3, 1, 3]


def test_hash_ignores_order_and_zeros_in_front_and_splits_evenly() -> None:
    p = train_batch(400, generator(), digits=(1, 2, 3, 4, 5))
    assert torch.equal(pair_hash(p), pair_hash(Problems(p.b, p.a, p.len_b, p.len_a)))
    wide = join([p, problems([(10**30, 1)])])
    assert torch.equal(pair_hash(wide)[:-1], pair_hash(p))
    counts = pair_hash(every_pair(2)).bincount(minlength=10)
    assert bool((counts > 850).all())
    assert bool((counts < 1150).all())


def test_no_training_problem_is_ever_held_out_and_every_test_problem_is() -> None:
    for seed in range(3):
        assert not bool(held_out(train_batch(500, generator(seed))).any())
        assert bool(held_out(unseen_batch(50, generator(seed), len_a=3, len_b=2)).all())


def test_half_of_the_training_problems_have_a_planted_chain() -> None:
    g = generator()
    with_chains = train_batch(4000, g, digits=(5,))
    plain = train_batch(4000, g, digits=(5,), chains=0.0)
    long = [float((p.chain >= 3).double().mean()) for p in (with_chains, plain)]
    assert long[0] > 2 * long[1] + 0.05
    assert long[1] < 0.06


@pytest.mark.parametrize("n", [1, 2, 5, 12])
@pytest.mark.parametrize("name", CATEGORIES)
def test_categories_are_what_they_say(name: str, n: int) -> None:
    p = category(name, 40, n, generator())
    assert len(p) == 40
    a, b = p.numbers("a"), p.numbers("b")
    assert [len(str(x)) for x in a] == p.len_a.tolist()
    assert [len(str(x)) for x in b] == p.len_b.tolist()
    assert int(p.longest.max()) == n
    if name == "no carry":
        assert not bool(p.carries.any())
    if name == "full-length carry chain":
        assert bool((p.chain == n).all())
    if name == "full chain, unequal lengths":
        assert bool((p.chain == p.longest).all())
    if name == "9…9 + 1":
        assert {max(x, y) for x, y in zip(a, b, strict=True)} == {10**n - 1}
    if name == "zero":
        assert all(min(x, y) == 0 for x, y in zip(a, b, strict=True))
    if name == "equal operands":
        assert a == b
    if name == "unequal lengths" and n > 1:
        assert bool((p.len_a != p.len_b).all())


def test_few_and_many_carries_are_as_common() -> None:
    counts = mixed_carries(2000, 10, generator()).carries.sum(1).bincount(minlength=11)
    assert int(counts.min()) > 80


def test_bad_problems_are_refused_in_one_sentence() -> None:
    with pytest.raises(OutOfRange, match="-3 is negative"):
        problems([(1, -3)])
    with pytest.raises(OutOfRange, match="at least one pair"):
        problems([])
    with pytest.raises(OutOfRange, match="every pair of 4 digits"):
        every_pair(4)
    with pytest.raises(UsageError, match="no category 'zeros'"):
        category("zeros", 1, 2, generator())


def test_random_numbers_have_the_lengths_asked_for() -> None:
    p = draw(200, generator(), len_a=3, len_b=1)
    assert all(100 <= x <= 999 for x in p.numbers("a"))
    assert set(p.numbers("b")) == set(range(10))
