"""Greedy decoding of the adders: the encoder runs once, every step runs on one character with cached keys and
values.

Every hook point of the decoder fires at every step, on one position, so that interventions act on what is
written.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Int
from torch import Tensor
from transformer_lens import ActivationCache

from mechfourier.errors import NotExpressible, OutOfRange
from mechfourier.toys.adder.task import CHARACTERS, END, EQUALS, PAD

ROWS = 1024  # problems decoded together: their cached keys stay in the processor's cache


@dataclass(frozen=True, eq=False)
class Decoded:
    """``tokens``: what was written, PAD after the end token. ``cache``: every activation, steps along the
    position axis (the encoder's as they are); equal to a teacher-forced pass on the same characters."""

    tokens: Int[Tensor, "problem step"]
    cache: ActivationCache | None = None


@torch.no_grad()
def decode(
    model: Any, source: Int[Tensor, "problem pos"], *, max_steps: int | None = None, cache: bool = False
) -> Decoded:
    """Write the likeliest character, read it, and so on until every answer has ended or ``max_steps`` are
    written.

    ``source`` are problems as tokens (``Format.source``), PAD in front of short ones. ``max_steps`` is by
    default what the longest operand's sum needs. Raises ``OutOfRange`` for a ``max_steps`` below 1 and
    ``NotExpressible`` where the decoder has fewer positions.
    """
    steps = _steps(model, source, max_steps)
    seen: dict[str, list[Tensor]] = {}
    hooks = [(name, _recorder(seen, name)) for name in model.hook_dict] if cache else []
    with model.hooks(fwd_hooks=hooks):
        state = model.begin(source)
        token = torch.full((len(source),), EQUALS, device=source.device)
        ended = torch.zeros_like(token, dtype=torch.bool)
        written = []
        for _ in range(steps):
            token = torch.where(ended, PAD, model.step(state, token).argmax(-1))
            written.append(token)
            ended = ended | (token == END)
            if bool(ended.all()):
                break
            token = torch.where(token == END, PAD, token)
    merged = {name: merge(name, parts) for name, parts in seen.items()}
    return Decoded(torch.stack(written, 1), ActivationCache(merged, model) if cache else None)


def _steps(model: Any, source: Tensor, wanted: int | None) -> int:
    digits = (source.shape[1] - 1) // 2 if model.cfg.padded else int(_longest(source))
    steps = model.cfg.format.steps(digits) if wanted is None else wanted
    if steps < 1:
        raise OutOfRange(f"max_steps is {steps}; an answer needs at least one step")
    limit = model.cfg.target_positions
    if model.cfg.max_digits is not None and steps > limit:
        raise NotExpressible(
            f"the decoder of {model.mechfourier_name} writes at most {limit} characters (the sum of two "
            f"{model.cfg.max_digits}-digit numbers and the end token), and this may need {steps}"
        )
    return steps


def _longest(source: Tensor) -> Tensor:
    """Digits of the longest operand, from the tokens."""
    from mechfourier.toys.adder.task import significance

    return significance(source).max()


def _recorder(seen: dict[str, list[Tensor]], name: str) -> Any:
    def record(value: Tensor, hook: Any) -> None:
        del hook
        seen.setdefault(name, []).append(value.detach())

    return record


def merge(name: str, parts: Sequence[Tensor]) -> Tensor:
    """The steps of one hook point as one activation. Keys that do not exist yet at a step weigh 0 (score
    −∞)."""
    if len(parts) == 1 or "cross_attn.hook_k" in name or "cross_attn.hook_v" in name:
        return parts[-1]
    if not name.endswith(("hook_pattern", "hook_attn_scores")):
        return torch.cat(list(parts), 1)
    keys, empty = parts[-1].shape[-1], -torch.inf if name.endswith("scores") else 0.0
    return torch.cat([F.pad(part, (0, keys - part.shape[-1]), value=empty) for part in parts], 2)


def decode_all(
    model: Any, source: Int[Tensor, "problem pos"], *, max_steps: int | None = None, rows: int = ROWS
) -> Int[Tensor, "problem step"]:
    """The tokens of ``decode`` for many problems, ``rows`` at a time, filled up with PAD."""
    parts = [decode(model, part, max_steps=max_steps).tokens for part in source.split(rows)]
    width = max(part.shape[1] for part in parts)
    return torch.cat([F.pad(part, (0, width - part.shape[1]), value=PAD) for part in parts])


def answer_texts(model: Any, prompts: Sequence[str], *, max_steps: int | None = None) -> list[str]:
    """Answers as people write them, in the order of the prompts; problems of one length are decoded
    together."""
    encodings = model.encode(prompts)
    for prompt, encoding in zip(prompts, encodings, strict=True):
        if encoding.ids[-1] != EQUALS:
            raise NotExpressible(f"{prompt!r} already holds an answer; end the problem with its '='")
    by_length: dict[int, list[int]] = {}
    for row, encoding in enumerate(encodings):
        by_length.setdefault(len(encoding.ids), []).append(row)
    answers = [""] * len(prompts)
    for rows in by_length.values():
        source = torch.tensor([encodings[row].ids for row in rows], device=model.W_E.device)
        for row, tokens in zip(rows, decode_all(model, source, max_steps=max_steps).tolist(), strict=True):
            value = model.cfg.format.value(tokens)
            answers[row] = f"?{_characters(tokens)}" if value is None else str(value)
    return answers


def _characters(tokens: Sequence[int]) -> str:
    return "".join(CHARACTERS[t] if t < END else "" for t in tokens)
