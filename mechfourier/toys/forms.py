"""How a question is written for a network that reads one token per number: ``a b``, ``a b =``, ``a + b =``.

Tokens 0 to p − 1 are the numbers of a, then, with two vocabularies, p to 2p − 1 those of b, then the special
tokens in the order in which they stand.
"""

import re
from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor

from mechfourier.errors import OutOfRange

DEFAULT = {2: "a b", 3: "a b ="}


@dataclass(frozen=True)
class Form:
    """``words``: one per position, ``a`` and ``b`` once each; every other word is a special token."""

    words: tuple[str, ...]
    p: int
    vocabularies: int = 1

    @property
    def specials(self) -> tuple[str, ...]:
        """The special tokens, each once."""
        return tuple(dict.fromkeys(word for word in self.words if word not in "ab"))

    @property
    def d_vocab(self) -> int:
        return self.p * self.vocabularies + len(self.specials)

    @property
    def offset(self) -> int:
        """The token of b = 0."""
        return self.p * (self.vocabularies - 1)

    def special(self, word: str) -> int:
        """The token of a special word."""
        return self.p * self.vocabularies + self.specials.index(word)

    def position(self, word: str) -> int:
        """Where ``word`` stands first."""
        return self.words.index(word)

    def tokens(self, pairs: Int[Tensor, "pair 2"]) -> Int[Tensor, "pair pos"]:
        """The questions about ``pairs`` (a, b)."""
        columns = {"a": pairs[:, 0], "b": pairs[:, 1] + self.offset}
        columns |= {word: torch.full_like(pairs[:, 0], self.special(word)) for word in self.specials}
        return torch.stack([columns[word] for word in self.words], 1)

    def spans(self, match: re.Match[str]) -> list[tuple[int, int]]:
        """The characters of a prompt (`ModularTask.pattern`) that each position stands for; a special token
        that is not written has an empty span at its place."""
        groups = {self.words[-1]: "equals", "a": "a", "b": "b"}
        between = (match.end("a"), match.start("b"))
        before = (match.start("a"), match.start("a"))
        return [
            match.span(groups[word]) if word in groups else between if self.position("a") < at else before
            for at, word in enumerate(self.words)
        ]


def form_of(text: str, n_ctx: int, p: int, vocabularies: int = 1) -> Form:
    """The form of a configuration: ``text`` (words apart), or the usual one of ``n_ctx`` positions.

    Raises ``OutOfRange`` where there is none, or a and b do not stand in it once each, the answer being read
    at b or after it.
    """
    words = tuple((text or DEFAULT.get(n_ctx, "")).split())
    if len(words) != n_ctx or not words:
        raise OutOfRange(
            f"n_ctx = {n_ctx} with the form {text!r}; write one word per position, like 'a b' or 'a + b ='"
        )
    if sorted(word for word in words if word in ("a", "b")) != ["a", "b"] or words[-1] == "a":
        raise OutOfRange(f"the form {' '.join(words)!r} needs a and b once each, and no a at its end")
    if vocabularies not in (1, 2):
        raise OutOfRange(f"vocabularies = {vocabularies}; a and b have 1 together or 2 of their own")
    return Form(words, p, vocabularies)
