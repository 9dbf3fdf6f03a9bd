"""Small random Hugging Face folders, written with transformers itself."""

from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers

VOCABULARY = ("<pad>", "<unk>", *(f"w{i}" for i in range(38)))
SHARED: dict[str, Any] = {
    "vocab_size": len(VOCABULARY),
    "pad_token_id": 0,
    "eos_token_id": 0,
    "bos_token_id": 0,
    "initializer_range": 0.1,
}
GROUPED: dict[str, Any] = {
    "hidden_size": 48,
    "intermediate_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
}
# Grouped-query attention, tied embeddings, head_dim (16) other than d_model / n_heads (12).
CONFIGS: dict[str, dict[str, Any]] = {
    "Qwen3": {**SHARED, **GROUPED, "head_dim": 16, "tie_word_embeddings": True},
    "Qwen2": {**SHARED, **GROUPED, "tie_word_embeddings": True},
    "Llama": {**SHARED, **GROUPED},
    "Mistral": {**SHARED, **GROUPED, "sliding_window": None},
    "GPT2": {**SHARED, "n_embd": 48, "n_layer": 3, "n_head": 4, "n_positions": 64, "n_ctx": 64},
    "GPTNeoX": {
        **SHARED,
        "hidden_size": 64,
        "intermediate_size": 64,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "max_position_embeddings": 64,
        "tie_word_embeddings": False,
    },
    # its name tells TransformerLens another architecture than its config
    "Gemma": {**SHARED, **GROUPED, "head_dim": 16},
}
HEADS = {"GPT2": "GPT2LMHeadModel"}


def write_model(
    folder: Path, family: str = "Qwen3", *, dtype: torch.dtype = torch.float32, **changes: Any
) -> Path:
    """A random model of one family with a word-level tokenizer, norm weights drawn too (ones would hide a
    missing one)."""
    config = getattr(transformers, f"{family}Config")(**{**CONFIGS[family], **changes})
    generator = torch.Generator().manual_seed(0)
    model = getattr(transformers, HEADS.get(family, f"{family}ForCausalLM"))(config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.normal_(float("norm" in name or "ln_" in name), 0.2, generator=generator)
    model.to(dtype).save_pretrained(folder)
    write_tokenizer(folder)
    return folder


def write_tokenizer(folder: Path) -> None:
    words = {word: index for index, word in enumerate(VOCABULARY)}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="<unk>"))  # type: ignore[call-arg]
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()  # type: ignore[assignment]
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="<unk>", pad_token="<pad>", eos_token="<pad>"
    ).save_pretrained(folder)
