"""Logit lens and attention by role on the closed-form one-layer model, where the answers are known."""

import dataclasses
from typing import Any

import pytest
import torch
from test_domains_reads import reader
from test_probes_sinks import sinking

from mechfourier.domains.definition import domain
from mechfourier.domains.prepare import questions
from mechfourier.errors import MechFourierError, UsageError
from mechfourier.fourier.analytic import analytic_weights
from mechfourier.fourier.dft import line_power
from mechfourier.models.interface import Encoding
from mechfourier.probes.attention import attention
from mechfourier.probes.attention_result import AttentionResult
from mechfourier.probes.head_content import head_content
from mechfourier.probes.lens import LensResult, lens
from mechfourier.probes.roles import behind_a_word, operand_is_first, with_sink
from mechfourier.stats.intervals import wilson
from mechfourier.toys.one_layer.model import OneLayerConfig, OneLayerTransformer

P = 23


@pytest.fixture(scope="module")
def clock() -> OneLayerTransformer:
    """The analytic grokked model: heads 0 and 1 read a, heads 2 and 3 read b, the MLP multiplies."""
    model = OneLayerTransformer(OneLayerConfig(p=P))
    weights = analytic_weights(P, frequencies=(3, 7, 9), d_mlp=512)
    model.load_state_dict({k: v.float() for k, v in weights.items()}, strict=False)
    return model


def test_the_lens_sees_the_answer_only_after_the_mlp(clock: OneLayerTransformer) -> None:
    result = lens(clock, domain(f"mod-{P}"), n_permutations=99)
    before, after = result.layers
    assert after.accuracy == 1.0
    assert after.rank == 1.0
    assert after.p_value == 0.01
    assert before.accuracy < 0.2
    assert after.null_accuracy == pytest.approx(1 / P, abs=0.01)
    assert result.right_then_lost == 0.0
    assert LensResult.from_json(result.to_json()) == result
    assert "100.0%" in str(result)


def test_the_lens_ranks_by_the_models_own_logits(clock: OneLayerTransformer) -> None:
    asked = questions(clock, domain(f"mod-{P}"), samples=50, seed=1)
    tokens = torch.tensor([e.ids for e in asked.encodings])
    logits = clock(tokens)[:, -1]
    assert torch.equal(logits[:, list(asked.choices)].argmax(-1), asked.right)


def test_attention_finds_who_reads_which_operand(clock: OneLayerTransformer) -> None:
    result = attention(clock, domain(f"mod-{P}"), n_permutations=99)
    top = {(r.head, r.role): r for r in result.roles}
    for head in range(4):
        role = "first operand" if head < 2 else "second operand"
        assert top[head, role].attention > 0.9
        assert top[head, role].p_value == 0.01
        assert top[head, role].low - 1e-9 <= top[head, role].attention <= top[head, role].high + 1e-9
    assert result.modulus_excess is None  # the prompt's tokens are a, b and "="
    assert AttentionResult.from_json(result.to_json()) == result


def test_a_heads_output_carries_its_operand_and_not_the_sum(clock: OneLayerTransformer) -> None:
    result = attention(clock, domain(f"mod-{P}"), n_permutations=20)
    z = [row for row in result.fourier if row.what == "z"]
    assert all(row.a_only > 0.95 for row in z if row.head < 2)
    assert all(row.offset_only > 0.95 for row in z if row.head >= 2)
    assert all(row.sum_line < 0.05 for row in z)


def test_no_head_of_the_closed_form_carries_the_sum(clock: OneLayerTransformer) -> None:
    result = attention(clock, domain(f"mod-{P}"), n_permutations=99)
    assert result.carriers() == () and "no head's output carries (a + offset) mod 23 above chance" in str(
        result
    )
    assert any("so it is no attention sink" in note for note in result.notes)
    assert result.tokens is not None and result.tokens.templates[0].read == 2


def grid_of(weight: float, *, n: int = 7, heads: int = 3, d: int = 5) -> torch.Tensor:
    """[site, a, o, head, d]: noise and functions of one operand; head 1 of site 0 also a function of the
    sum."""
    draw = torch.Generator().manual_seed(0)
    grid = torch.randn(2, n, n, heads, d, generator=draw) + 2 * torch.randn(2, n, 1, heads, d, generator=draw)
    label = (torch.arange(n)[:, None] + torch.arange(n)) % n
    grid[0, :, :, 1] += weight * torch.randn(n, d, generator=draw)[label]
    return grid


def test_a_head_that_carries_the_sum_stands_out_of_its_null() -> None:
    rows = head_content(grid_of(1.0), [3, 4], "z", permutations=199)
    found = {(row.layer, row.head): row for row in rows}
    assert len(found) == 6 and all(row.even == pytest.approx(6 / 48) for row in rows)
    assert found[3, 1].p_value == pytest.approx(1 / 200) and found[3, 1].sum_line > 2 * found[3, 1].chance
    assert all(row.p_value > 0.05 for place, row in found.items() if place != (3, 1))


def test_the_share_of_the_sum_is_that_of_the_two_dimensional_spectrum() -> None:
    grid = grid_of(1.0)
    power = line_power(grid[0].double())
    total = ((grid[0] - grid[0].mean((0, 1))) ** 2).sum((0, 1, 3))
    shares = [row.sum_line for row in head_content(grid, [3, 4], "z", permutations=20)[:3]]
    assert torch.allclose(power.sum.sum((0, 2)) / total, torch.tensor(shares).double(), atol=1e-5)


def test_without_a_sum_no_head_is_significant_more_often_than_by_chance() -> None:
    hits = 0
    for seed in range(20):
        draw = torch.Generator().manual_seed(seed)
        rows = head_content(torch.randn(2, 7, 7, 3, 5, generator=draw), [0, 1], "z", permutations=99)
        hits += min(row.p_value for row in rows) < 0.05
    assert hits <= 4


def test_the_first_position_has_a_role_of_its_own_unless_a_word_stands_there() -> None:
    words = Encoding((5, 6, 7), ((0, 3), (3, 6), (6, 8)))
    special = Encoding((1, 6, 7), ((0, 0), (0, 3), (3, 6)))
    assert with_sink({"first operand": (1,)}, words) == {"first token": (0,), "first operand": (1,)}
    assert with_sink({"first operand": (1,)}, special)["beginning of sequence"] == (0,)
    assert with_sink({"first operand": (0,)}, words) == {"first operand": (0,)}


def test_an_operand_that_comes_first_is_put_behind_a_word() -> None:
    assert operand_is_first([{"first operand": (0,)}, {"first operand": (0, 1)}])
    assert not operand_is_first([{"first operand": (0,)}, {"first operand": (1,)}])
    moved = behind_a_word(domain("days"), "{value} + {offset} days =")
    assert moved.operation is not None and moved.operation.templates[0] == "Take {value} + {offset} days ="
    with pytest.raises(UsageError, match="no operation"):
        behind_a_word(dataclasses.replace(domain("days"), operation=None), "x")


def letters_of_days(template: str) -> Any:
    days = domain("days")
    assert days.operation is not None
    return dataclasses.replace(
        days, operation=dataclasses.replace(days.operation, templates=(template,)), values=tuple("abcdefg")
    )


@pytest.mark.parametrize(
    ("norm", "told"), [(400.0, "cannot be told from"), (1.0, "so it is no attention sink")]
)
def test_whether_the_first_operand_is_the_sink_is_decided_by_its_norm(norm: float, told: str) -> None:
    result = attention(sinking(norm), letters_of_days("{value} + {offset} ="), n_permutations=20)
    assert told in result.notes[0] and {row.role for row in result.roles}.isdisjoint({"first token"})


def test_a_model_that_reads_text_is_asked_behind_a_word() -> None:
    model = sinking(400.0)
    model.tokenizer = reader().tokenizer  # what says that it reads text; its own encode reads it
    result = attention(model, letters_of_days("{value} + {offset} ="), n_permutations=20)
    assert "asked as 'Take {value} + {offset} ='" in result.notes[0]
    assert {row.role for row in result.roles} >= {"first token", "first operand"}


def to_the_first(model: Any) -> Any:
    """Every head attends to position 0: its keys point along every query, by the norm that position has."""
    with torch.no_grad():
        for block in model.blocks:
            block.attn.W_Q.zero_()
            block.attn.b_Q.fill_(1.0)
            block.attn.W_K.zero_()
            block.attn.b_K.zero_()
            direction = torch.nn.functional.normalize(model.W_pos[0], dim=0)
            block.attn.W_K.add_(20 * direction[:, None] * torch.ones(block.attn.W_K.shape[-1]))
    return model


def test_a_sink_is_called_a_sink_and_not_the_operand() -> None:
    asked = letters_of_days("Q {value} + {offset} =")
    result = attention(to_the_first(sinking(400.0)), asked, n_permutations=99)
    sinks = [row for row in result.roles if row.role == "first token"]
    assert len(sinks) == 8 and min(row.attention for row in sinks) > 0.9
    assert max(row.attention for row in result.roles if row.role == "first operand") < 0.1
    assert "attention sink (first token 'Q'): 8 of 8 heads" in str(result)
    assert AttentionResult.from_json(result.to_json()) == result


def test_uniform_attention_prefers_no_role(clock: OneLayerTransformer) -> None:
    model = OneLayerTransformer(clock.cfg)
    with torch.no_grad():
        model.get_parameter("blocks.0.attn.W_Q").zero_()
    result = attention(model, domain(f"mod-{P}"), n_permutations=49)
    assert all(row.attention == pytest.approx(1 / 3, abs=1e-5) for row in result.roles)


def test_samples_and_wrong_moduli(clock: OneLayerTransformer) -> None:
    assert lens(clock, domain(f"mod-{P}"), n_prompts=40, n_permutations=20).prompts == 40
    with pytest.raises(MechFourierError, match="23"):
        lens(clock, domain("mod-7"))
    with pytest.raises(UsageError, match="too few"):
        questions(clock, domain(f"mod-{P}"), samples=1)


def test_wilson_interval_matches_its_textbook_value() -> None:
    low, high = wilson(8, 10)
    assert (low, high) == pytest.approx((0.4902, 0.9433), abs=1e-4)
    assert wilson(0, 20)[0] == 0.0
    assert wilson(20, 20)[1] == pytest.approx(1.0)
