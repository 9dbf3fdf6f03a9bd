"""What every model in mechfourier looks like: the part of TransformerLens that all of them share.

Anything with these members can be probed: a HookedTransformer, a TransformerBridge, a HookedEncoder, or a
``HookedRootModule`` of one's own. A model may also define ``encode(prompts)`` when a prompt is not turned
into tokens by a Hugging Face tokenizer (the toy models do).
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from torch import nn

from mechfourier.errors import NotExpressible


@runtime_checkable
class Hooked(Protocol):
    """Something with hook points, which may be all that it has (`mechfourier.models.outline`)."""

    hook_dict: dict[str, Any]


@runtime_checkable
class Model(Hooked, Protocol):
    """The members that mechfourier calls; see TransformerLens for their meaning."""

    cfg: Any
    forward: Callable[..., Any]

    def __call__(self, *args: Any, **kwargs: Any) -> Any: ...
    def parameters(self, recurse: bool = True) -> Iterator[nn.Parameter]: ...
    def eval(self) -> Any: ...
    def train(self, mode: bool = True) -> Any: ...


@runtime_checkable
class LoadedModel(Model, Protocol):
    """What `mechfourier.load` gives: TransformerLens's own methods too."""

    def run_with_hooks(self, *args: Any, **kwargs: Any) -> Any: ...
    def run_with_cache(self, *args: Any, **kwargs: Any) -> Any: ...
    def hooks(self, *args: Any, **kwargs: Any) -> Any: ...
    def to_tokens(self, *args: Any, **kwargs: Any) -> Any: ...


@runtime_checkable
class Reader(Protocol):
    """Something that turns text into tokens and need not be able to do more: a model's tokenizer alone."""

    tokenizer: Any


@runtime_checkable
class Encoder(Protocol):
    """Something that turns text into tokens in a way of its own."""

    def encode(self, prompts: list[str]) -> "list[Encoding]": ...


Readable = Model | Reader | Encoder


@dataclass(frozen=True)
class Encoding:
    """One prompt as tokens. ``spans[i]`` is the half-open range of characters that token i stands for (empty
    for special tokens)."""

    ids: tuple[int, ...]
    spans: tuple[tuple[int, int], ...]

    def last_token_of(self, start: int, stop: int) -> int:
        """Index of the last token that overlaps the characters ``start:stop``."""
        inside = [i for i, (a, b) in enumerate(self.spans) if a < stop and b > start]
        if not inside:
            raise NotExpressible(f"no token covers characters {start} to {stop} of the prompt")
        return inside[-1]

    @property
    def up_to_text(self) -> "Encoding":
        """Up to the last token with text: an answer follows the text, not special tokens after it."""
        stop = self.last + 1
        return Encoding(self.ids[:stop], self.spans[:stop])

    @property
    def last(self) -> int:
        """Index of the last token with text (the last token of all where none has text)."""
        inside = [i for i, (a, b) in enumerate(self.spans) if b > a]
        return inside[-1] if inside else len(self.ids) - 1


def encode(model: Readable, prompts: Sequence[str]) -> list[Encoding]:
    """Prompts as tokens with character spans, by the model's own ``encode`` or its Hugging Face tokenizer.

    The tokenizer's own special tokens are kept ([CLS] … [SEP] for BERT, none for Qwen3). Raises
    ``NotExpressible`` where a prompt holds characters the tokenizer maps to its unknown token.
    """
    own: Callable[[list[str]], list[Encoding]] | None = getattr(model, "encode", None)
    if own is not None:
        return own(list(prompts))
    tokenizer = getattr(model, "tokenizer", None)
    if tokenizer is None:
        name = getattr(model, "mechfourier_name", type(model).__name__)
        raise NotExpressible(
            f"{name} has no tokenizer, so it reads no text; put the tokenizer.json (or tokenizer.model) of "
            f"the same "
            "model beside its weights, or say how words become tokens: mechfourier.wrap(model, tokens=…)"
        )
    return encode_with(tokenizer, prompts)


def encode_with(tokenizer: Any, prompts: Sequence[str]) -> list[Encoding]:
    """Prompts as tokens by a fast Hugging Face tokenizer."""
    batch = tokenizer(list(prompts), return_offsets_mapping=True)
    encodings = [
        Encoding(tuple(ids), tuple((int(a), int(b)) for a, b in spans))
        for ids, spans in zip(batch["input_ids"], batch["offset_mapping"], strict=True)
    ]
    _refuse_unknown(tokenizer, prompts, encodings)
    return encodings


def _refuse_unknown(tokenizer: Any, prompts: Sequence[str], encodings: Sequence[Encoding]) -> None:
    unknown = getattr(tokenizer, "unk_token_id", None)
    if unknown is None:
        return
    for prompt, encoding in zip(prompts, encodings, strict=True):
        for token, (a, b) in zip(encoding.ids, encoding.spans, strict=True):
            if token == unknown and b > a:
                raise NotExpressible(
                    f"the tokenizer has no token for {prompt[a:b]!r} (in {prompt!r}); "
                    "choose a domain whose words the model knows: mechfourier domains"
                )
