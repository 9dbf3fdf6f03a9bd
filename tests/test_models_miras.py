"""The models of every modulus: hook names and shapes, independent computations, and what they refuse."""

import dataclasses
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from mechfourier.errors import BadCheckpoint, NotExpressible, OutOfRange, UsageError
from mechfourier.hooks.capture import capture
from mechfourier.hooks.interventions import zero
from mechfourier.hooks.site import Site
from mechfourier.models.interface import Model
from mechfourier.toys.universal.config import (
    ExtrapolatingConfig,
    FaithfulConfig,
    config_from,
    initial_weights,
)
from mechfourier.toys.universal.forward_pass import scores, with_negatives
from mechfourier.toys.universal.model import ExtrapolatingTransformer, UniversalModulusTransformer
from mechfourier.toys.universal.task import grid

BY_VALUE = ExtrapolatingConfig(width=8, gates=8, draws=3, n_values=60)
FAITHFUL = FaithfulConfig(n_values=20, d_model=16, n_heads=2, d_mlp=24, d_mem=12)


def by_value(**changes: object) -> ExtrapolatingTransformer:
    return ExtrapolatingTransformer(ExtrapolatingConfig(**{**vars(BY_VALUE), **changes}), seed=1)


def test_both_are_models_with_the_usual_hook_names() -> None:
    for model in (by_value(), UniversalModulusTransformer(FAITHFUL)):
        assert isinstance(model, Model)
        tokens = model.tokens(grid(7))
        logits, cache = model.run_with_cache(tokens)
        assert logits.shape == (49, 4, model.cfg.d_vocab_out)
        assert cache["blocks.0.hook_resid_post"].shape == (49, 4, model.cfg.d_model)
        assert cache["blocks.1.attn.hook_pattern"].shape == (49, model.cfg.n_heads, 4, 4)
        assert cache["blocks.1.attn.hook_result"].shape == (49, 4, model.cfg.n_heads, model.cfg.d_model)
        torch.testing.assert_close(
            cache["blocks.1.attn.hook_result"].sum(2), cache["blocks.1.hook_attn_out"], rtol=1e-4, atol=1e-4
        )
        torch.testing.assert_close(model.answer_logits(grid(7)), logits[:, -1], rtol=1e-4, atol=1e-3)


def test_the_readout_is_the_dense_unembedding() -> None:
    model = by_value()
    logits, cache = model.run_with_cache(model.tokens(grid(7)))
    torch.testing.assert_close(cache["unembed.hook_in"] @ model.W_U, logits, rtol=1e-4, atol=1e-3)


def test_one_transformer_of_block_diagonal_matrices() -> None:
    """The residual stream of a draw depends on no other: silencing one draw leaves the rest as it was."""
    model = by_value()
    tokens, width = model.tokens(grid(5)), BY_VALUE.width
    before = capture(model, tokens, "resid_post", "last").stack()
    with zero(model, Site.parse("hook_embed"), dims=list(range(width))):
        after = capture(model, tokens, "resid_post", "last").stack()
    torch.testing.assert_close(before[..., width:], after[..., width:])
    assert not torch.allclose(before[..., :width], after[..., :width])


def test_attention_by_position_adds_sizes_up_linearly() -> None:
    """One pattern for all numbers, and what the first block's attention writes is affine in the sizes; by
    content it is not."""
    for by_position in (True, False):
        model, questions = by_value(by_position=by_position), grid(7)
        _, cache = model.run_with_cache(model.tokens(questions))
        pattern, after = cache["blocks.0.attn.hook_pattern"], cache["blocks.1.attn.hook_pattern"]
        assert torch.allclose(pattern, pattern[:1].expand_as(pattern), atol=1e-6) is by_position
        assert not torch.allclose(after, after[:1].expand_as(after), atol=1e-3)

        sizes, moved = model.sizes(questions), torch.tensor([40.0, 40.0, 0.0])
        writes = [attn_out(model, questions, sizes + times * moved) for times in (0, 1, 2)]
        assert (
            torch.allclose(writes[2] - writes[1], writes[1] - writes[0], rtol=1e-3, atol=1e-3) is by_position
        )


def attn_out(model: ExtrapolatingTransformer, questions: Tensor, sizes: Tensor) -> Tensor:
    """What the first attention writes at ``=`` for these sizes."""
    seen = []

    def hook(name: str, value: Tensor) -> Tensor:
        if name == "blocks.0.hook_attn_out":
            seen.append(value[:, -1])
        return value

    model.written(model.table[questions], sizes, hook=hook)
    return seen[0]


def test_a_configuration_from_before_attention_by_position() -> None:
    old = {key: value for key, value in by_value().cfg.to_dict().items() if key != "by_position"}
    found = config_from(old)
    assert isinstance(found, ExtrapolatingConfig)
    assert found.by_position is False


def test_more_draws_are_more_columns() -> None:
    """The logits of draws add up: those of a model with one draw each sum to those of the whole."""
    model = by_value()
    questions = grid(6)
    total = torch.zeros(36, 60)
    for i in range(3):
        one = by_value(draws=1)
        one.load_state_dict(model.state_dict())
        one.frequencies, one.table = model.frequencies[i : i + 1], model.table[:, i : i + 1]
        total += one.answer_logits(questions)
    torch.testing.assert_close(total, model.answer_logits(questions), rtol=1e-4, atol=1e-3)


@given(st.integers(0, 59), st.integers(0, 59))
@settings(max_examples=25, deadline=None)
def test_the_value_code_shifts_by_rotation(v: int, shift: int) -> None:
    model = by_value(n_values=120)
    table, frequencies = model.table, model.frequencies[:, 0]
    point = torch.complex(table[..., 0], table[..., 1]).to(torch.complex128)
    turned = point[v] * torch.exp(2j * math.pi * frequencies * shift)
    torch.testing.assert_close(turned, point[v + shift], rtol=0, atol=1e-5)


def test_negative_candidates_mirror_the_positive_ones() -> None:
    model = by_value()
    both = with_negatives(model.table)
    assert len(both) == 2 * 60 - 1
    torch.testing.assert_close(both[59:], model.table)
    same = (both * both.flip(0)).sum(-1)  # ⟨φ(v), φ(−v)⟩ = cos 2πω2v
    torch.testing.assert_close(same[59 + 7], torch.cos(4 * math.pi * model.frequencies[:, 0] * 7).float())
    h = model.written(model.table[grid(5)], model.sizes(grid(5)))
    torch.testing.assert_close(scores(h, both)[:, 59:], model.answer_logits(grid(5)))
    assert torch.equal(model.best(grid(5), negatives=False), model.answer_logits(grid(5)).argmax(1))


def test_more_numbers_keep_the_logits_of_the_old_ones() -> None:
    model = by_value()
    wide = model.with_values(300)
    torch.testing.assert_close(wide.answer_logits(grid(6))[:, :60], model.answer_logits(grid(6)))
    assert wide.tokens(torch.tensor([[250, 249, 3]])).tolist() == [[250, 249, 3, 300]]


class Original(nn.Module):
    """The published network, written anew from its description with torch's own layers."""

    def __init__(self, cfg: FaithfulConfig, weights: dict[str, Tensor]) -> None:
        super().__init__()
        self.cfg, self.w = cfg, weights

    def forward(self, questions: Tensor) -> Tensor:
        w, d = self.w, self.cfg.d_model
        m = questions[:, 0].float()
        slow = m / self.cfg.sinusoid_scale
        code = torch.zeros(len(m), d)
        for i in range(0, d, 2):
            code[:, i] = torch.sin(slow / 10000 ** (i / d))
            code[:, i + 1] = torch.cos(slow / 10000 ** (i / d))
        x0 = code + (m / self.cfg.modulus_scale)[:, None] @ w["modulus.W"] + w["modulus.b"]
        z = nn.functional.silu(x0 @ w["memory.W_mem"] + w["memory.b_mem"])
        surprise = x0 - (z @ w["memory.W_surprise"] + w["memory.b_surprise"])
        first = (z + nn.functional.silu(surprise @ w["memory.W_mem"])) @ w["memory.W_out"] + w["memory.b_out"]
        equals = torch.full((len(m), 1), self.cfg.n_values + 1)
        ids = torch.cat([questions[:, 1:], equals], 1)
        x = torch.cat([first[:, None], w["embed.W_E"][ids] + w["pos_embed.W_pos"][1:]], 1)
        for i in range(self.cfg.n_layers):
            x = self.block(x, f"blocks.{i}.")
        return x[:, -1] @ w["unembed.W_U"] + w["unembed.b_U"]

    def block(self, x: Tensor, name: str) -> Tensor:
        w, d = self.w, self.cfg.d_model
        normed = nn.functional.layer_norm(x, (d,), w[f"{name}ln1.w"], w[f"{name}ln1.b"])
        for head in range(self.cfg.n_heads):
            q, k, v = (normed @ w[f"{name}attn.W_{letter}"][head] for letter in "QKV")
            out = nn.functional.scaled_dot_product_attention(q[:, None], k[:, None], v[:, None])[:, 0]
            x = x + out @ w[f"{name}attn.W_O"][head]
        normed = nn.functional.layer_norm(x, (d,), w[f"{name}ln2.w"], w[f"{name}ln2.b"])
        return (
            x
            + (normed @ w[f"{name}mlp.W_in"] + w[f"{name}mlp.b_in"]).relu() @ w[f"{name}mlp.W_out"]
            + w[f"{name}mlp.b_out"]
        )


def random_weights(cfg: FaithfulConfig) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(3)
    start = initial_weights(cfg, seed=2)
    return {k: v + 0.1 * torch.randn(v.shape, generator=generator) for k, v in start.items()}


@pytest.mark.parametrize("scale", [1.0, 30.0])
def test_faithful_model_against_an_independent_computation(scale: float) -> None:
    config = dataclasses.replace(FAITHFUL, sinusoid_scale=scale)
    weights = random_weights(config)
    model, original = UniversalModulusTransformer(config, weights=weights), Original(config, weights)
    torch.testing.assert_close(model.answer_logits(grid(13)), original(grid(13)), rtol=1e-4, atol=1e-4)


def test_the_titans_memory_learns_while_it_reads() -> None:
    """With all forget gates shut and every step a full one, the memory recalls the value of the last key it
    saw."""
    cfg = FaithfulConfig(**{**vars(FAITHFUL), "memory": "titans"})
    weights = initial_weights(cfg, seed=4)
    weights["memory.W_gates"] = torch.zeros_like(weights["memory.W_gates"])
    weights["memory.b_gates"] = torch.tensor([-40.0, -40.0, 40.0])  # forget 0, momentum 0, rate 1
    model = UniversalModulusTransformer(cfg, weights=weights)
    _, cache = model.run_with_cache(model.tokens(grid(7)))
    stream = torch.cat([cache["hook_modulus"][:, None], cache["hook_embed"] + cache["hook_pos_embed"]], 1)
    unit = torch.nn.functional.normalize
    keys = unit(nn.functional.silu(stream @ weights["memory.W_key"]), dim=-1)
    values = nn.functional.silu(stream @ weights["memory.W_value"])
    held = weights["memory.W_start"].expand(49, -1, -1)
    for t in range(4):  # the delta rule
        held = held + keys[:, t, :, None] * (values[:, t] - (keys[:, t, None] @ held)[:, 0])[:, None]
    torch.testing.assert_close((keys[:, 3, None] @ held)[:, 0], values[:, 3], rtol=1e-4, atol=1e-4)
    query = unit(nn.functional.silu(stream[:, 0] @ weights["memory.W_query"]), dim=-1)
    torch.testing.assert_close(
        cache["memory.hook_state"], (query[:, None] @ held)[:, 0], rtol=1e-4, atol=1e-4
    )


@pytest.mark.parametrize(
    "model", [by_value(), UniversalModulusTransformer(FAITHFUL)], ids=["value", "faithful"]
)
@pytest.mark.parametrize(
    ("question", "words"), [((1, 0, 0), "no modulus"), ((7, 7, 0), "no residue"), ((7, 0, 9), "no residue")]
)
def test_bad_questions_are_refused(model: Model, question: tuple[int, int, int], words: str) -> None:
    with pytest.raises(OutOfRange, match=words):
        model.tokens(torch.tensor([question]))  # type: ignore[attr-defined]
    m, a, b = question
    with pytest.raises(NotExpressible, match=words):
        model.encode([f"{a} + {b} mod {m} ="])  # type: ignore[attr-defined]


def test_moduli_above_the_range_say_why() -> None:
    with pytest.raises(OutOfRange, match="token table ends at 19"):
        UniversalModulusTransformer(FAITHFUL).tokens(torch.tensor([[21, 1, 1]]))
    assert UniversalModulusTransformer(FAITHFUL).tokens(torch.tensor([[20, 19, 1]])).shape == (1, 4)
    with pytest.raises(OutOfRange, match="with_values"):
        by_value().tokens(torch.tensor([[60, 1, 1]]))


def test_prompts_and_answers() -> None:
    model = by_value()
    (encoding,) = model.encode(["5 + 9 mod 23 = 14"])
    assert encoding.ids == (23, 5, 9, 60, 14)
    assert [("5 + 9 mod 23 = 14")[a:b] for a, b in encoding.spans] == ["23", "5", "9", "=", "14"]
    assert model.to_tokens("5 + 9 mod 23 =").tolist() == [[23, 5, 9, 60]]
    assert model.answer_ids([" 14"]) == (14,)
    for bad in ("what is 5 + 9?", "Monday + 3 days ="):
        with pytest.raises(NotExpressible, match="reads only questions"):
            model.encode([bad])
    with pytest.raises(NotExpressible, match="answers with numbers"):
        model.answer_ids([" 99"])
    with pytest.raises(NotExpressible, match="four tokens"):
        model(torch.tensor([[23, 5, 9]]))


def test_configurations_that_cannot_be() -> None:
    with pytest.raises(UsageError, match="closest: titans"):
        FaithfulConfig(memory="titan")
    with pytest.raises(UsageError, match="closest: shared"):
        ExtrapolatingConfig(form="sharde")
    with pytest.raises(OutOfRange, match="must divide"):
        ExtrapolatingConfig(width=9)
    with pytest.raises(OutOfRange, match="sinusoid_scale = 0"):
        FaithfulConfig(sinusoid_scale=0.0)
    weights = initial_weights(BY_VALUE, seed=0)
    with pytest.raises(BadCheckpoint, match="missing"):
        ExtrapolatingTransformer(BY_VALUE, weights={k: v for k, v in weights.items() if k != "unembed.W_U"})
    with pytest.raises(BadCheckpoint, match="shape"):
        ExtrapolatingTransformer(BY_VALUE, weights=weights | {"unembed.W_U": torch.zeros(2, 2)})
