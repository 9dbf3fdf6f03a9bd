"""Logit lens and attention by role on the closed-form one-layer model, where the answers are known."""

import pytest
import torch

from mechfourier.errors import MechFourierError, UsageError
from mechfourier.fourier.analytic import analytic_weights
from mechfourier.models.one_layer import OneLayerConfig, OneLayerTransformer
from mechfourier.probes.attention import AttentionResult, attention
from mechfourier.probes.domains import domain
from mechfourier.probes.intervals import wilson
from mechfourier.probes.lens import LensResult, lens
from mechfourier.probes.prepare import questions

P = 23


@pytest.fixture(scope="module")
def clock() -> OneLayerTransformer:
    """The analytic grokked model: heads 0 and 1 read a, heads 2 and 3 read b, the MLP multiplies."""
    model = OneLayerTransformer(OneLayerConfig(p=P))
    weights = analytic_weights(P, frequencies=(3, 7, 9), d_mlp=512)
    model.load_state_dict({k: v.float() for k, v in weights.items()}, strict=False)
    return model


def test_the_lens_sees_the_answer_only_after_the_mlp(clock: OneLayerTransformer) -> None:
    result = lens(clock, domain(f"mod-{P}"), permutations=99)
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
    result = attention(clock, domain(f"mod-{P}"), permutations=99)
    top = {(r.head, r.role): r for r in result.roles}
    for head in range(4):
        role = "first operand" if head < 2 else "second operand"
        assert top[head, role].attention > 0.9
        assert top[head, role].p_value == 0.01
        assert top[head, role].low - 1e-9 <= top[head, role].attention <= top[head, role].high + 1e-9
    assert result.modulus_excess is None  # the prompt's tokens are a, b and "="
    assert AttentionResult.from_json(result.to_json()) == result


def test_a_heads_output_carries_its_operand_and_not_the_sum(clock: OneLayerTransformer) -> None:
    result = attention(clock, domain(f"mod-{P}"), permutations=20)
    z = [row for row in result.fourier if row.what == "z"]
    assert all(row.a_only > 0.95 for row in z if row.head < 2)
    assert all(row.offset_only > 0.95 for row in z if row.head >= 2)
    assert all(row.sum_line < 0.05 for row in z)


def test_uniform_attention_prefers_no_role(clock: OneLayerTransformer) -> None:
    model = OneLayerTransformer(clock.cfg)
    with torch.no_grad():
        model.get_parameter("blocks.0.attn.W_Q").zero_()
    result = attention(model, domain(f"mod-{P}"), permutations=49)
    assert all(row.attention == pytest.approx(1 / 3, abs=1e-5) for row in result.roles)


def test_samples_and_wrong_moduli(clock: OneLayerTransformer) -> None:
    assert lens(clock, domain(f"mod-{P}"), samples=40, permutations=20).prompts == 40
    with pytest.raises(MechFourierError, match="23"):
        lens(clock, domain("mod-7"))
    with pytest.raises(UsageError, match="too few"):
        questions(clock, domain(f"mod-{P}"), samples=1)


def test_wilson_interval_matches_its_textbook_value() -> None:
    low, high = wilson(8, 10)
    assert (low, high) == pytest.approx((0.4902, 0.9433), abs=1e-4)
    assert wilson(0, 20)[0] == 0.0
    assert wilson(20, 20)[1] == pytest.approx(1.0)
