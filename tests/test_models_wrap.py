"""Networks in plain PyTorch, and Hugging Face classes that no engine knows, with hook points around their blocks."""

from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import Tensor, nn
from transformers import OpenAIGPTConfig, OpenAIGPTLMHeadModel, PreTrainedTokenizerFast

import mechfourier as mf
from mechfourier.errors import UsageError

WORDS = ["[UNK]", "a", "b", "c", "d"]


class Small(nn.Module):
    """Encoder layers under a causal mask: blocks of a kind, with a submodule that is attention."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.table = nn.Embedding(len(WORDS), 16)
        layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True, dropout=0.0)
        self.stack = nn.TransformerEncoder(layer, 3, enable_nested_tensor=False)
        self.out = nn.Linear(16, len(WORDS))

    def forward(self, tokens: Tensor) -> Tensor:
        mask = nn.Transformer.generate_square_subsequent_mask(tokens.shape[1])
        return self.out(self.stack(self.table(tokens), mask=mask))


def tokenizer() -> PreTrainedTokenizerFast:
    words = Tokenizer(models.WordLevel({w: i for i, w in enumerate(WORDS)}, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=words, unk_token="[UNK]")


def test_the_numbers_stay_and_every_block_is_seen() -> None:
    plain, tokens = Small().eval(), torch.tensor([[1, 2, 3, 4]])
    with torch.no_grad():
        before = plain(tokens)
    model = mf.wrap(plain, tokens={w: i for i, w in enumerate(WORDS)})
    assert model.cfg.n_layers == 3
    with torch.no_grad():
        logits, cache = model.run_with_cache(tokens)
    assert torch.allclose(logits, before, atol=1e-6)  # PyTorch has a faster path where nobody looks
    assert torch.equal(cache["hook_embed"], plain.table(tokens))
    assert torch.equal(cache["blocks.0.hook_resid_post"], cache["blocks.1.hook_resid_pre"])
    assert torch.allclose(plain.out(cache["blocks.2.hook_resid_post"]), before, atol=1e-6)


def test_an_edit_reaches_the_next_block() -> None:
    plain = Small().eval()
    model = mf.wrap(plain, tokens={w: i for i, w in enumerate(WORDS)})
    tokens = torch.tensor([[1, 2, 3, 4]])
    with torch.no_grad():
        changed = model.run_with_hooks(
            tokens, fwd_hooks=[("blocks.1.hook_resid_post", lambda value, hook: value * 0 + 1.0)]
        )
        last = plain.stack.layers[2](torch.ones(1, 4, 16))
    assert torch.allclose(changed, plain.out(last), atol=1e-5)


def test_a_hugging_face_class_that_no_engine_knows() -> None:
    torch.manual_seed(0)
    config = OpenAIGPTConfig(vocab_size=len(WORDS), n_positions=32, n_embd=16, n_layer=2, n_head=2)
    inner = OpenAIGPTLMHeadModel(config).eval()
    model = mf.wrap(inner, tokens=tokenizer(), blocks="transformer.h")
    ids = torch.tensor([model.encode(["a c d b"])[0].ids])
    with torch.no_grad():
        _, cache = model.run_with_cache(ids)
        states = inner(ids, output_hidden_states=True).hidden_states
    for layer in range(2):
        assert torch.allclose(cache[f"blocks.{layer}.hook_resid_post"], states[layer + 1], atol=1e-6)
    assert "blocks.0.hook_attn_out" in model.hook_dict
    assert "blocks.0.hook_mlp_out" in model.hook_dict
    assert (model.cfg.n_ctx, model.cfg.d_model) == (32, 16)


@pytest.mark.parametrize(
    ("module", "options", "told"),
    [
        (Small(), dict(tokens={"a": 1}, blocks="stack.layer"), "stack.layers"),
        (Small(), dict(tokens=3), "tokens is of type int"),
        (nn.Linear(3, 3), dict(tokens={"a": 1}), "no list of equal blocks"),
    ],
)
def test_what_cannot_be_wrapped_is_said(module: Any, options: Any, told: str) -> None:
    with pytest.raises(mf.UsageError, match=told):
        mf.wrap(module, **options)


def test_unknown_words_are_said() -> None:
    model = mf.wrap(Small(), tokens={w: i for i, w in enumerate(WORDS)})
    with pytest.raises(mf.MechFourierError, match="no token for 'zebra'"):
        model.encode(["a zebra"])


def test_a_network_with_hook_points_learns_to_read() -> None:
    from hook_models import transformer

    network = transformer()
    with pytest.raises(UsageError, match="leave out blocks and embed"):
        mf.wrap(network, tokens=len, blocks="blocks")
    size = network.cfg.d_vocab

    def number(word: str) -> int:
        return int(word) % size if word.isdigit() else len(word)

    model = mf.wrap(network, tokens=number)
    assert model is network
    assert model.encode(["a bc 7."])[0].ids == (1, 2, 7, 1)
    found = mf.probe(model, "mod-12", n_permutations=99, controls=False)
    assert found.verdict
