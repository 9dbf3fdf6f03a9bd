"""The calendar corpus: right answers, an honest split, and one token for every word that carries meaning."""

import datetime
import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mechfourier.domains.definition import domain
from mechfourier.errors import NotExpressible
from mechfourier.models.interface import encode_with
from mechfourier.toys.calendar.task import DAYS, HELD_OUT_SHARE, MODULI, Operation, operations
from mechfourier.toys.calendar.text import held_out_text, training_text
from mechfourier.toys.calendar.tokens import END, PATTERN, UNKNOWN, build_tokenizer

OPERATIONS = {operation.name: operation for operation in operations()}
DOMAINS = ("days", "months", "hours-12", "hours-24", "alphabet", *(f"mod-{n}" for n in MODULI))


@pytest.fixture(scope="module")
def tokenizer():
    return build_tokenizer()


@given(a=st.integers(0, 6), offset=st.integers(0, 47), name=st.sampled_from(["days", "days-minus"]))
def test_days_agree_with_the_calendar(a: int, offset: int, name: str) -> None:
    sentence = OPERATIONS[name].sentence(a, offset)
    start = datetime.date(2024, 1, 1) + datetime.timedelta(days=a)  # 1 January 2024 was a Monday
    step = datetime.timedelta(days=offset if name == "days" else -offset)
    assert sentence.answer.strip() == (start + step).strftime("%A")
    assert sentence.prompt == f"{DAYS[a]} {'+' if name == 'days' else '-'} {offset} days ="


@given(a=st.integers(1, 12), offset=st.integers(0, 47))
def test_a_twelve_hour_clock_reads_twelve_at_noon(a: int, offset: int) -> None:
    sentence = OPERATIONS["hours-12"].sentence(a - 1, offset)
    assert sentence.prompt == f"{a} o'clock + {offset} hours ="
    assert int(sentence.answer) == ((a + offset) % 12 or 12)


@given(n=st.sampled_from(MODULI), data=st.data())
def test_sums_wrap_at_the_modulus(n: int, data: st.DataObject) -> None:
    a, b = data.draw(st.integers(0, n - 1)), data.draw(st.integers(0, 4 * n - 1))
    sentence = OPERATIONS[f"mod-{n}"].sentence(a, b)
    assert sentence.prompt == f"{a} + {b} mod {n} ="
    assert int(sentence.answer) == (a + b) % n


@pytest.mark.parametrize("operation", OPERATIONS.values(), ids=OPERATIONS)
def test_every_operation_runs_over_four_cycles_and_holds_out_its_share(operation: Operation) -> None:
    sentences = operation.sentences
    assert len(sentences) == operation.n * operation.offsets and operation.offsets >= 4 * operation.n
    assert len({s.prompt for s in sentences}) == len(sentences)
    share = sum(s.held_out for s in sentences) / len(sentences)
    # Mirrored facts come in pairs, so the share spreads by about sqrt(2) more than that of a fair draw.
    spread = (2 * HELD_OUT_SHARE * (1 - HELD_OUT_SHARE) / len(sentences)) ** 0.5
    assert abs(share - HELD_OUT_SHARE) < 4 * spread


@pytest.mark.parametrize("operation", OPERATIONS.values(), ids=OPERATIONS)
def test_every_offset_keeps_its_share_of_training_sentences(operation: Operation) -> None:
    exact = HELD_OUT_SHARE * operation.n
    for offset in range(operation.n if operation.commutes else 0, operation.offsets):
        count = sum(operation.sentence(a, offset).held_out for a in range(operation.n))
        assert count in (math.floor(exact), math.ceil(exact))


@given(a=st.integers(0, 11), offset=st.integers(0, 47))
def test_plus_and_minus_hold_out_the_same_facts(a: int, offset: int) -> None:
    plus = OPERATIONS["months"].sentence(a, offset)
    minus = OPERATIONS["months-minus"].sentence(plus.label, offset)
    assert minus.label == a
    assert minus.held_out == plus.held_out


@given(n=st.sampled_from(MODULI), data=st.data())
def test_both_orders_of_a_sum_are_held_out_together(n: int, data: st.DataObject) -> None:
    a, b = data.draw(st.integers(0, n - 1)), data.draw(st.integers(0, n - 1))
    operation = OPERATIONS[f"mod-{n}"]
    assert operation.sentence(a, b).held_out == operation.sentence(b, a).held_out


def test_another_split_seed_holds_out_other_facts() -> None:
    first, second = (
        [s.held_out for s in operations(split_seed=seed)[0].sentences] for seed in (1, 2)
    )  # days
    both = sum(a and b for a, b in zip(first, second, strict=True)) / len(first)
    assert both < 0.5 * HELD_OUT_SHARE  # independent splits share HELD_OUT_SHARE ** 2


def test_operands_and_answers_are_single_tokens_and_prompts_end_on_a_boundary(tokenizer) -> None:
    for operation in OPERATIONS.values():
        sentences = operation.sentences[::7]  # a sample, for speed
        whole = tokenizer([s.prompt + s.answer for s in sentences])["input_ids"]
        prompts = tokenizer([s.prompt for s in sentences])["input_ids"]
        answers = tokenizer([s.answer for s in sentences])["input_ids"]
        assert all(w == p + a for w, p, a in zip(whole, prompts, answers, strict=True))
        assert {len(a) for a in answers} == {1}
        assert len({len(p) for p in prompts}) == 1
        assert not any(tokenizer.unk_token_id in ids for ids in whole)


@pytest.mark.parametrize("name", DOMAINS)
def test_the_packaged_domains_are_expressible(tokenizer, name: str) -> None:
    found = domain(name)
    prompts = [
        *found.value_design().prompts,
        *found.operation_design(cycles=4, template=1).prompts,
        *(value for value in found.values),
    ]
    encodings = encode_with(tokenizer, prompts)
    assert {len(e.ids) for e in encodings[-found.n :]} == {1}


@pytest.mark.parametrize("name", DOMAINS)
def test_the_packaged_domains_ask_what_the_model_was_trained_on(name: str) -> None:
    design = domain(name).operation_design(cycles=4, template=1)
    known = {s.prompt: s.answer for s in OPERATIONS[name].sentences}
    assert design.answers is not None
    assert all(known[p] == a for p, a in zip(design.prompts, design.answers, strict=True))


def test_seasons_stand_in_sentences_but_are_not_added_to(tokenizer) -> None:
    encode_with(tokenizer, domain("seasons").value_design().prompts)
    with pytest.raises(NotExpressible, match="'seasons'"):
        encode_with(tokenizer, domain("seasons").operation_design(template=1).prompts)


@pytest.mark.parametrize("word", ["Mercredi", "120", "monday"])
def test_unknown_words_are_refused_by_name(tokenizer, word: str) -> None:
    with pytest.raises(NotExpressible, match=word):
        encode_with(tokenizer, [f"Today is {word}"])


def test_held_out_text_is_new_and_made_of_known_words(tokenizer) -> None:
    held_out = held_out_text()
    assert len(held_out) == 400 and not set(held_out) & set(training_text())
    words = {word for text in held_out for word in re.findall(PATTERN, text)}
    assert words <= {word for text in training_text() for word in re.findall(PATTERN, text)}
    assert not any(tokenizer.unk_token_id in ids for ids in tokenizer(list(held_out))["input_ids"])


def test_every_token_but_the_special_ones_occurs_in_the_training_sentences(tokenizer) -> None:
    texts = [*training_text()]
    texts += [s.prompt + s.answer for o in OPERATIONS.values() for s in o.sentences if not s.held_out]
    words = {word for text in texts for word in re.findall(PATTERN, text)}
    assert words == set(tokenizer.get_vocab()) - {UNKNOWN, END}
