"""What is read where: the tokens of one prompt per template, the beginning-of-sequence token, values of
several tokens."""

import dataclasses
from types import SimpleNamespace
from typing import Any

import pytest
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from mechfourier.domains.definition import domain
from mechfourier.domains.reads import TokensRead, tokens_of, tokens_read
from mechfourier.domains.tokens import token_report
from mechfourier.errors import NotExpressible
from mechfourier.models.interface import encode

MONTHS = domain("months")


def reader(*words: str, bos: bool = False) -> Any:
    """A byte-level tokenizer that knows ``words`` whole; with ``bos`` it puts <s> before every prompt."""
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    made = Tokenizer(models.BPE({s: i for i, s in enumerate(["<s>", *alphabet])}, []))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)  # type: ignore[assignment]
    if bos:
        made.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])  # type: ignore[assignment]
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=made, bos_token="<s>", pad_token="<s>")
    tokenizer.add_tokens(list(words))
    return SimpleNamespace(tokenizer=tokenizer)


def read(model: Any, **changes: object) -> TokensRead:
    design = dataclasses.replace(MONTHS, **changes).value_design()  # type: ignore[arg-type]
    return tokens_read(model, design, encode(model, design.prompts))


def test_one_prompt_of_every_template_with_the_token_read() -> None:
    found = read(reader(*MONTHS.values))
    assert [row.template for row in found.templates] == list(MONTHS.templates)
    for row in found.templates:
        assert row.tokens[row.read] == "January" and "".join(row.tokens) == row.template.replace(
            "{value}", "January"
        )
        assert row.value_tokens == (1,) * 12
    assert found.bos is None and "no beginning-of-sequence token" in found.beginning()
    assert found.notes() == () and "«January»" in str(found)


def test_the_beginning_of_sequence_token_is_said() -> None:
    found = read(reader(*MONTHS.values, bos=True))
    assert found.bos == "<s>" and found.beginning() == "prompts begin with <s>"
    assert all(row.tokens[0] == "<s>" for row in found.templates)


def test_values_in_letters_say_where_they_are_cut_and_which_neighbours_end_alike() -> None:
    found = read(reader())
    assert found.templates[0].value_tokens[:4] == (7, 8, 5, 5)
    assert ("January", "February", "y") in found.neighbours_alike()
    assert ("September", "October", "r") in found.neighbours_alike()
    split, alike = found.notes()
    assert "12 of 12 values are more than one token" in split and "the last one is read" in split
    assert "January and February in “y”" in alike and "untrained weights show order too" in alike


def test_digits_that_repeat_are_said_where_no_neighbours_end_alike() -> None:
    hours = domain("hours-24")
    model = reader()
    design = hours.value_design()
    split, alike = tokens_read(model, design, encode(model, design.prompts)).notes()
    assert "14 of 24 values" in split and "a number’s last digit" in split
    assert "24 values end in 10 different tokens" in alike


def test_templates_that_begin_with_the_value_are_read_at_the_first_token() -> None:
    first = read(reader(*MONTHS.values), templates=("{value} is here", "It is {value}"))
    assert first.first_read == (1.0, 0.0) and first.reason() is None
    assert "1 of 2 templates" in first.notes()[0] and "attention sink" in first.notes()[0]
    every = read(reader(*MONTHS.values), templates=("{value} is here", "{value} was there"))
    assert "every prompt is read at its first token" in (every.reason() or "")
    behind = read(reader(*MONTHS.values, bos=True), templates=("{value} is here", "{value} was there"))
    assert behind.reason() is None and behind.notes() == ()


def test_an_operation_is_one_template_read_at_its_end() -> None:
    model = reader(*MONTHS.values)
    design = MONTHS.operation_design(1)
    found = tokens_read(model, design, encode(model, design.prompts))
    (row,) = found.templates
    assert row.read == len(row.tokens) - 1 and row.value_tokens == (1,) * 12


def test_line_breaks_stay_on_one_line_and_tables_count_tokens() -> None:
    model = reader("Monday")
    prompts = ["a\nMonday"]
    found = tokens_of(model, prompts, encode(model, prompts), [2], ["a\n{value}"])
    assert str(found.templates[0]) == "a|\\n|«Monday»"
    assert read(reader()).rows()[0]["tokens per value"] == "3–9"


def test_results_survive_the_trip_through_json() -> None:
    report = token_report(MONTHS, reader())
    assert report.reads is not None and type(report).from_json(report.to_json()) == report


@pytest.mark.parametrize("bos", [False, True])
def test_the_report_warns_of_what_the_reads_say(bos: bool) -> None:
    report = token_report(MONTHS, reader(bos=bos))
    assert report.reads is not None and set(report.reads.notes()) <= set(report.warnings)
    assert ("<s>" in report.beginning) is bos


@pytest.mark.parametrize("other", ["monday", "MONDAY"])
def test_values_that_the_tokenizer_reads_alike_are_refused(other: str) -> None:
    """A tokenizer that drops case: a probe of such values would find two of them in one place."""
    alike = dataclasses.replace(domain("days"), values=("Monday", "Tuesday", "Wednesday", other, "Friday"))
    model = reader()
    assert token_report(alike, model).n == 5
    model.tokenizer.backend_tokenizer.normalizer = normalizers.Lowercase()
    with pytest.raises(NotExpressible, match=f"'Monday' and '{other}' of days as the same tokens"):
        token_report(alike, model)
