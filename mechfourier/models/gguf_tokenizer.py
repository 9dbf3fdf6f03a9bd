"""The tokenizer in a GGUF file as tokenizer.json, with its beginning-of-sequence rule and chat template."""

from pathlib import Path
from typing import Any

from mechfourier.errors import BadCheckpoint
from mechfourier.models.gguf_header import Header

SAMPLES = ("January", " March, April", "3 + 4 =", "été 8 <b>\n\n x")
# pre-tokenizers of a byte-level vocabulary that are GPT-2's own, whatever transformers' table says
AS_GPT2 = ("", "default", "gpt-2", "gpt2")


def write_tokenizer(header: Header, place: Path, made: Path) -> list[str]:
    """Save the tokenizer of the GGUF file ``place`` to ``made``; notes on what could not be kept ([] in most
    cases).

    Raises ``BadCheckpoint`` where what was saved reads back as another tokenizer.
    """
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(
        str(place.parent), gguf_file=place.name, local_files_only=True, trust_remote_code=False
    )
    _set_beginning(tokenizer, header)
    if (template := header.metadata.get("tokenizer.chat_template")) and not tokenizer.chat_template:
        tokenizer.chat_template = template
    tokenizer.save_pretrained(made)
    again = AutoTokenizer.from_pretrained(str(made), local_files_only=True, trust_remote_code=False)
    before, after = ([t(text)["input_ids"] for text in SAMPLES] for t in (tokenizer, again))
    if before != after:
        raise BadCheckpoint(
            f"the tokenizer of {header.path} does not survive being saved; take its Hugging Face folder "
            f"instead"
        )
    return _notes(header)


def _set_beginning(tokenizer: Any, header: Header) -> None:
    """Put the beginning-of-sequence token where the file says so, and only there."""
    wanted = header.metadata.get("tokenizer.ggml.add_bos_token")
    if wanted is None:
        return
    ids, bos = tokenizer("x")["input_ids"], tokenizer.bos_token_id
    if bos is None or (bool(ids) and ids[0] == bos) == bool(wanted):
        return
    from tokenizers.processors import TemplateProcessing

    backend = tokenizer.backend_tokenizer
    single, pair = ("{0} $A", "{0} $A {0} $B:1") if wanted else ("$A", "$A $B:1")
    name = tokenizer.bos_token
    backend.post_processor = TemplateProcessing(
        single=single.format(name), pair=pair.format(name), special_tokens=[(name, bos)] if wanted else []
    )


def _notes(header: Header) -> list[str]:
    """A way of cutting text into words that transformers does not know falls back to GPT-2's without a word;
    here it is said."""
    if header.metadata.get("tokenizer.ggml.model") != "gpt2":
        return []
    try:
        from transformers.integrations.gguf.gguf_tokenizer_mapping import GGUF_PRE_TOKENIZER_SPLITS as known
    except ImportError:
        return []
    kind = str(header.metadata.get("tokenizer.ggml.pre", ""))
    if kind in known or kind in AS_GPT2:
        return []
    return [f"text is cut into words as GPT-2 does: transformers does not know the file's own way ({kind!r})"]
