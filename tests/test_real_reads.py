"""Tokens, sinks and attention on real language models: one with a beginning-of-sequence token, one
without."""

import dataclasses
from typing import Any

import pytest
from real_models import real_model

from mechfourier.domains.definition import domain
from mechfourier.probes.attention import attention
from mechfourier.probes.probe import probe
from mechfourier.probes.result import ProbeResult

pytestmark = pytest.mark.real

FIRST = (
    "{value} is a month",
    "{value} was cold",
    "{value} comes again",
    "{value} has days",
    "{value} ended",
    "{value}, they said",
)


@pytest.fixture(scope="module")
def gemma() -> Any:
    return real_model("gemma3-270m")


@pytest.fixture(scope="module")
def qwen() -> Any:
    return real_model("qwen2.5-0.5b")


def months(model: Any, **options: Any) -> ProbeResult:
    return probe(model, options.pop("domain", "months"), controls=False, n_permutations=199, **options)


def test_gemma_begins_with_bos_and_has_massive_dimensions_in_its_first_blocks(gemma: Any) -> None:
    found = months(gemma)
    assert found.tokens is not None and found.tokens.bos == "<bos>"
    assert all(row.tokens[row.read] == " January" for row in found.tokens.templates)
    assert found.caveats is not None and all(row.share == 0 for row in found.caveats.sinks)
    held = [note for note in found.notes if "of the between-value variance at layers 0-" in note]
    assert held and held[0].startswith("dimension ")


def test_the_embedding_of_gemma_is_no_agreement(gemma: Any) -> None:
    found = months(gemma, sites="embed")
    assert "the same vectors in every template" in " ".join(found.reasons)
    assert "sign-flip" not in " ".join(found.reasons)


def test_the_words_before_the_value_alone_tell_gemma_templates_apart(gemma: Any) -> None:
    found = months(gemma, domain=dataclasses.replace(domain("months"), templates=FIRST))
    assert found.value is not None and {site.distinct for site in found.value.sites} == {1}


def test_numbers_in_digits_are_said_and_read_at_their_last(gemma: Any) -> None:
    found = months(gemma, domain="hours-24", layers="12")
    assert any("14 of 24 values are more than one token" in note for note in found.notes)
    assert any("24 values end in 10 different tokens" in note for note in found.notes)
    assert found.tokens is not None and found.tokens.templates[0].value_tokens[9:11] == (1, 2)


def test_qwen_has_its_sink_on_the_first_token_and_a_probe_read_there_says_so(qwen: Any) -> None:
    found = months(qwen)
    assert found.tokens is not None and found.tokens.bos is None and found.caveats is not None
    assert max(row.first for row in found.caveats.sinks) > 50
    assert not any("sink" in text for text in (*found.reasons, *found.notes))
    first = months(qwen, domain=dataclasses.replace(domain("months"), templates=FIRST), layers="8")
    assert first.caveats is not None and first.caveats.sinks[0].share == 1.0
    assert "every prompt is read at an attention sink" in first.reasons[-1]


def test_attention_of_qwen_goes_to_its_first_token_and_not_to_the_operand(qwen: Any) -> None:
    result = attention(qwen, domain("days"), n_permutations=99)
    sinks = [row.attention for row in result.roles if row.role == "first token"]
    operand = [row.attention for row in result.roles if row.role == "first operand"]
    assert max(sinks) > 0.95 and sum(value > 0.5 for value in sinks) > len(sinks) / 4
    assert max(operand) < 0.9
    assert result.tokens is not None and result.tokens.templates[0].tokens[1].strip() == "Monday"


def test_attention_of_gemma_goes_to_bos_and_no_head_carries_a_sum_it_cannot_do(gemma: Any) -> None:
    result = attention(gemma, domain("days"), n_permutations=99)
    assert "attention sink (beginning of sequence '<bos>')" in str(result)
    assert result.carriers() == () and "above chance" in result.carries()
