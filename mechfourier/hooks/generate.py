"""Greedy continuation of prompts while interventions are in force at every step."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor

from mechfourier._arguments import checked
from mechfourier.errors import OutOfRange, UsageError
from mechfourier.hooks.edit import Edit
from mechfourier.hooks.interventions import intervene
from mechfourier.hooks.run import batches, forward, inference, last_logits, serving
from mechfourier.models.interface import Model, encode


@dataclass(frozen=True)
class Generation:
    """What a model wrote after each prompt. ``tokens``: the new tokens; ``texts``: the same as text, without
    the stop token (the numbers of the tokens, where the model has no tokenizer)."""

    prompts: tuple[str, ...]
    tokens: tuple[tuple[int, ...], ...]
    texts: tuple[str, ...]


@checked
def generate(
    model: Model,
    prompts: Sequence[str],
    *,
    edits: Sequence[Edit] = (),
    max_new_tokens: int = 8,
    stop: Sequence[int] | None = None,
) -> Generation:
    """Continue ``prompts`` greedily with ``edits`` made in every forward pass, the passes of the new tokens
    included.

    An edit at all positions also changes the tokens that are written; one at chosen positions (counted from
    the beginning of the prompt) is made there at every step. ``stop``: tokens that end a continuation (None:
    the tokenizer's end of text). Every step runs the whole sequence, so this works on every model with logits
    and gives what teacher forcing gives.

    Raises ``OutOfRange`` for fewer than one new token or a sequence longer than the model reads,
    ``HookNeverFired`` and ``InterventionChangedNothing``.
    """
    if max_new_tokens < 1:
        raise OutOfRange(f"max_new_tokens is {max_new_tokens}; ask for at least 1")
    if not prompts:
        raise UsageError("no prompts were given; give a list of texts")
    ends = _ends(model, stop)
    written: list[list[int]] = [[] for _ in prompts]
    starts = [encoding.ids[: encoding.last + 1] for encoding in encode(model, prompts)]
    with inference(model), intervene(model, list(edits)):
        going = list(range(len(prompts)))
        for _ in range(max_new_tokens):
            sequences = [[*starts[row], *written[row]] for row in going]
            for row, token in zip(going, _next(model, sequences, going).tolist(), strict=True):
                written[row].append(token)
            going = [row for row in going if written[row][-1] not in ends]
            if not going:
                break
    tokens = tuple(map(tuple, written))
    return Generation(tuple(prompts), tokens, tuple(_text(model, ids, ends) for ids in tokens))


def _next(
    model: Model, sequences: Sequence[Sequence[int]], numbers: Sequence[int]
) -> Int[Tensor, " sequence"]:
    """The likeliest next token of every sequence; ``numbers`` are the prompts they belong to."""
    found = torch.zeros(len(sequences), dtype=torch.long)
    for part in batches(model, sequences):
        last = torch.full((len(part.rows),), part.tokens.shape[1] - 1)
        with serving(torch.tensor(numbers)[part.rows]):
            logits = last_logits(model, lambda tokens=part.tokens: forward(model, tokens, logits=True), last)
        found[part.rows] = logits.argmax(dim=-1)
    return found


def _ends(model: Model, stop: Sequence[int] | None) -> frozenset[int]:
    if stop is not None:
        return frozenset(stop)
    end = getattr(getattr(model, "tokenizer", None), "eos_token_id", None)
    return frozenset() if end is None else frozenset([end])


def _text(model: Model, ids: Sequence[int], ends: frozenset[int]) -> str:
    kept = [token for token in ids if token not in ends]
    tokenizer = getattr(model, "tokenizer", None)
    return " ".join(map(str, kept)) if tokenizer is None else tokenizer.decode(kept)
