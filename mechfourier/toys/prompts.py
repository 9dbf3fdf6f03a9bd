"""Prompts of networks that read one token per number: ``5 + 9 mod 113 =``."""

import re
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from mechfourier.errors import NotExpressible
from mechfourier.models.interface import Encoding
from mechfourier.toys.one_layer.task import task


class ModularPrompts:
    """Text to tokens; ``cfg`` has ``p``, ``task``, ``model_name`` and how a ``question`` is written."""

    cfg: Any
    W_E: Any

    def to_tokens(self, prompts: str | Sequence[str], **_: Any) -> Int[Tensor, "batch pos"]:
        """Prompts (without answers) as tokens on the model's device; see ``encode``."""
        texts = [prompts] if isinstance(prompts, str) else list(prompts)
        ids = [encoding.ids for encoding in self.encode(texts)]
        if len({len(row) for row in ids}) > 1:
            raise NotExpressible("some of these prompts have an answer and some have none; encode them apart")
        return torch.tensor(ids, device=self.W_E.device)

    def encode(self, prompts: Sequence[str]) -> list[Encoding]:
        """``5 + 9 mod 113 =`` as tokens 5, 9, 113 (the ``=``) with the characters they stand for.

        A number after the ``=`` is an answer and becomes a further token. Raises ``NotExpressible`` for
        another modulus, a number outside 0..p−1, or any other text.
        """
        pattern = task(self.cfg.task).pattern()
        return [self._encode(prompt, pattern.fullmatch(prompt)) for prompt in prompts]

    def _encode(self, prompt: str, match: re.Match[str] | None) -> Encoding:
        example = task(self.cfg.task).prompt(5, 9, self.cfg.p)
        if match is None:
            raise NotExpressible(
                f"{self.cfg.model_name} reads only questions like {example!r}, not {prompt!r}"
            )
        modulus = match.groupdict().get("p")
        if modulus is not None and int(modulus) != self.cfg.p:
            raise NotExpressible(
                f"{self.cfg.model_name} was trained mod {self.cfg.p}, not mod {int(modulus)} ({prompt!r}); "
                f"use the domain mod-{self.cfg.p}"
            )
        form = self.cfg.question
        values = {"a": self._number(match["a"]), "b": self._number(match["b"]) + form.offset}
        values |= {word: form.special(word) for word in form.specials}
        ids, spans = [values[word] for word in form.words], form.spans(match)
        if match["answer"] is not None:
            ids, spans = [*ids, self._number(match["answer"])], [*spans, match.span("answer")]
        return Encoding(tuple(ids), tuple(spans))

    def _number(self, text: str) -> int:
        if int(text) >= self.cfg.p:
            raise NotExpressible(
                f"{self.cfg.model_name} has tokens for 0 to {self.cfg.p - 1}, not for {int(text)}; "
                "use operands below the modulus (one cycle: --cycles 1)"
            )
        return int(text)

    def answer_ids(self, answers: Sequence[str]) -> tuple[int, ...]:
        """The token of each answer text (``" 14"``); raises ``NotExpressible`` for anything but 0..p−1."""
        bad = [answer for answer in answers if not answer.strip().isdecimal()]
        if bad:
            raise NotExpressible(f"{self.cfg.model_name} answers with numbers, not {bad[0]!r}")
        return tuple(self._number(answer) for answer in answers)

    def _checked(self, ids: Tensor) -> Tensor:
        name, n_ctx, d_vocab = self.cfg.model_name, self.cfg.n_ctx, self.cfg.d_vocab
        if ids.shape[1] > n_ctx:
            raise NotExpressible(
                f"{ids.shape[1]} tokens, but {name} reads {n_ctx}; give the question without an answer"
            )
        if ids.numel() and not 0 <= int(ids.min()) <= int(ids.max()) < d_vocab:
            raise NotExpressible(
                f"token {int(ids.max())} is not one of {name}'s, which are 0 to {d_vocab - 1}"
            )
        return ids
