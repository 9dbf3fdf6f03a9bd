"""The one-layer transformer against TransformerLens, and its reading of prompts."""

from pathlib import Path

import pytest
import torch

import mechfourier
from mechfourier.errors import BadCheckpoint, NotExpressible, OutOfRange, UsageError
from mechfourier.models.interface import Encoding, Model
from mechfourier.toys.one_layer.model import OneLayerConfig, OneLayerTransformer
from mechfourier.toys.one_layer.task import all_pairs, tokens_of
from mechfourier.toys.one_layer.weights import initial_weights

SMALL = OneLayerConfig(p=7, d_model=16, n_heads=2, d_mlp=24)


def hooked(config: OneLayerConfig, weights: dict[str, torch.Tensor]):
    """TransformerLens's own model with the same weights (biases zero where ours has none)."""
    from transformer_lens import HookedTransformer, HookedTransformerConfig

    theirs = HookedTransformer(
        HookedTransformerConfig(
            n_layers=1,
            d_model=config.d_model,
            n_heads=config.n_heads,
            d_head=config.d_head,
            d_mlp=config.d_mlp,
            n_ctx=config.n_ctx,
            d_vocab=config.d_vocab,
            d_vocab_out=config.p,
            act_fn="relu",
            normalization_type=None,
            use_attn_result=True,
            device="cpu",
            dtype=torch.float64,
        )
    )
    rest = {k: torch.zeros_like(v) for k, v in theirs.state_dict().items() if ".b_" in k}
    missing = theirs.load_state_dict(rest | weights, strict=False).missing_keys
    assert all(name.endswith(("mask", "IGNORE")) for name in missing)
    return theirs


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("biases", [False, True])
def test_cache_equals_hooked_transformer(biases: bool) -> None:
    config = OneLayerConfig(p=7, d_model=16, n_heads=2, d_head=6, d_mlp=24, biases=biases)
    weights = initial_weights(config, seed=1, dtype=torch.float64)
    generator = torch.Generator().manual_seed(2)
    weights |= {
        k: torch.randn(v.shape, generator=generator, dtype=v.dtype) for k, v in weights.items() if ".b_" in k
    }
    model, theirs = OneLayerTransformer(config, weights=weights), hooked(config, weights)
    tokens = tokens_of(all_pairs(7), 7)
    logits, cache = model.run_with_cache(tokens)
    their_logits, their_cache = theirs.run_with_cache(tokens)
    assert set(cache.keys()) == set(their_cache.keys())
    torch.testing.assert_close(logits, their_logits, rtol=1e-10, atol=1e-12)
    for name in their_cache:
        torch.testing.assert_close(cache[name], their_cache[name], rtol=1e-10, atol=1e-12, msg=name)


def test_is_a_model_with_logits_only_where_asked() -> None:
    model = OneLayerTransformer(SMALL)
    assert isinstance(model, Model)
    tokens = tokens_of(all_pairs(7), 7)
    assert model(tokens).shape == (49, 3, 7)
    assert model(tokens, return_type=None) is None
    torch.testing.assert_close(model(["5 + 3 mod 7 ="]), model(torch.tensor([[5, 3, 7]])))


def test_prompts_become_tokens_with_their_characters() -> None:
    model = OneLayerTransformer(OneLayerConfig(p=113, d_model=16, n_heads=2, d_mlp=8))
    question, answered = model.encode(["5 + 19 mod 113 =", "5+19 mod 113 = 24"])
    assert question == Encoding((5, 19, 113), ((0, 1), (4, 6), (15, 16)))
    assert answered.ids == (5, 19, 113, 24)
    assert answered.spans[-1] == (15, 17)
    assert model.answer_ids([" 24", "0"]) == (24, 0)


@pytest.mark.parametrize(
    ("name", "text"),
    [("subtract", "5 - 3 mod 7 ="), ("multiply", "5 * 3 mod 7 ="), ("squares", "5^2 + 3^2 mod 7 =")],
)
def test_each_task_reads_its_own_prompts(name: str, text: str) -> None:
    model = OneLayerTransformer(OneLayerConfig(p=7, d_model=16, n_heads=2, d_mlp=8, task=name))
    assert model.to_tokens(text).tolist() == [[5, 3, 7]]
    with pytest.raises(NotExpressible, match="reads only questions like"):
        model.to_tokens("5 + 3 mod 7 =")


@pytest.mark.parametrize(
    ("prompt", "sentence"),
    [
        ("5 + 3 mod 11 =", "trained mod 7"),
        ("5 + 9 mod 7 =", "tokens for 0 to 6"),
        ("Monday + 3 days =", "reads only questions like"),
        ("", "reads only questions like"),
        ("5 + 3 mod 7", "reads only questions like"),
    ],
)
def test_other_text_is_refused_in_one_sentence(prompt: str, sentence: str) -> None:
    with pytest.raises(NotExpressible, match=sentence) as error:
        OneLayerTransformer(SMALL).encode([prompt])
    assert "\n" not in str(error.value)


def test_tokens_outside_the_model_are_refused() -> None:
    model = OneLayerTransformer(SMALL)
    with pytest.raises(NotExpressible, match="4 tokens"):
        model(torch.tensor([[1, 2, 7, 3]]))
    with pytest.raises(NotExpressible, match="token 8"):
        model(torch.tensor([[1, 2, 8]]))


def test_two_positions_without_equals_and_constant_attention() -> None:
    config = OneLayerConfig(
        p=7, d_model=16, n_heads=2, d_mlp=8, n_ctx=2, causal=False, attn_coeff=0.0, biases=True
    )
    model = OneLayerTransformer(config)
    _, cache = model.run_with_cache(model.to_tokens(["5 + 3 mod 7 =", "3 + 5 mod 7 ="]))
    assert torch.equal(cache["blocks.0.attn.hook_pattern"], torch.ones(2, 2, 2, 2))
    assert config.d_vocab == 7


def test_reinitialised_has_other_weights_and_is_reproducible() -> None:
    model = OneLayerTransformer(SMALL, seed=1)
    again = model.reinitialised(2)
    assert not torch.equal(model.W_E, again.W_E)
    assert torch.equal(again.W_E, model.reinitialised(2).W_E)
    assert again.cfg == model.cfg


def test_bad_configurations_and_weights_name_the_culprit() -> None:
    with pytest.raises(OutOfRange, match="n_ctx = 4"):
        OneLayerConfig(p=7, n_ctx=4)
    with pytest.raises(UsageError, match="no activation 'tanh'"):
        OneLayerConfig(p=7, act="tanh")
    weights = initial_weights(SMALL, seed=0)
    with pytest.raises(BadCheckpoint, match=r"unembed\.W_U"):
        OneLayerTransformer(SMALL, weights=weights | {"unembed.W_U": torch.zeros(16, 8)})
    with pytest.raises(BadCheckpoint, match=r"b_in.*none of"):
        OneLayerTransformer(SMALL, weights=weights | {"blocks.0.mlp.b_in": torch.zeros(24)})


def test_config_round_trips_through_json() -> None:
    assert OneLayerConfig.from_dict(SMALL.to_dict() | {"recipe": "fast"}) == SMALL


def test_the_packaged_model_answers_every_question() -> None:
    from mechfourier.toys.one_layer.model import load_folder

    model = load_folder(Path(mechfourier.__file__).parent / "data" / "one-layer")
    pairs = all_pairs(model.cfg.p)
    answers = model(tokens_of(pairs, model.cfg.p))[:, -1].argmax(1)
    assert torch.equal(answers, pairs.sum(1) % model.cfg.p)
