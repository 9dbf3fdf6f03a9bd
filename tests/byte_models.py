"""Small random Hugging Face folders whose tokenizer has a token for every byte, so that every question can be
asked of them."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import transformers
from tiny_folders import write_model
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from mechfourier.domains.definition import domain
from mechfourier.models.registry import load

# answers of two and three tokens some of which begin alike, prompts of a few lengths: what there is to share and
# to cut, in few passes
DAYS = replace(domain("days"), values=("mo", "tu", "we", "th", "fr", "sat", "sun"))


def byte_folder(folder: Path, family: str = "Qwen2") -> Path:
    """A random model of one family with 512 tokens of context."""
    context: dict[str, Any] = {"vocab_size": 260, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    context |= {"max_position_embeddings": 512} if family != "GPT2" else {"n_positions": 512, "n_ctx": 512}
    write_model(folder, family, **context)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({s: i for i, s in enumerate(["<pad>", "<s>", "</s>", *alphabet])}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)  # type: ignore[assignment]
    tokenizer.decoder = decoders.ByteLevel()  # type: ignore[assignment]
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", pad_token="<pad>"
    ).save_pretrained(folder)
    return folder


def byte_model(folder: Path, family: str = "Qwen2", engine: str = "auto") -> Any:
    """The same, loaded."""
    return load(str(byte_folder(folder, family)), engine=engine)
