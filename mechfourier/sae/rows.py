"""A token sequence that a dictionary is trained on, and which of its positions count."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from mechfourier.errors import OutOfRange, UsageError
from mechfourier.models.interface import Encoding

IGNORED = -100  # no loss at this position, as in torch's cross-entropy


@dataclass(frozen=True)
class Row:
    """One sequence: its tokens, the positions whose activations count, and the token wanted after every
    position.

    ``document`` is the number of its record in the source, ``start`` the place of its first token there.
    """

    ids: tuple[int, ...]
    keep: tuple[int, ...]
    targets: tuple[int, ...]
    document: int = 0
    start: int = 0

    @property
    def held_key(self) -> bytes:
        return hashlib.blake2b(repr(self.ids).encode(), digest_size=8).digest()


@dataclass(frozen=True)
class Reading:
    """Which positions of a sequence count: ``"all"`` with text, from number ``skip`` on, or the ``"last"``
    one."""

    positions: str = "auto"
    skip: int = 0
    context: int = 128
    held_out: float = 0.1
    seed: int = 0

    def __post_init__(self) -> None:
        if self.positions not in ("auto", "all", "last"):
            raise UsageError(f"positions {self.positions!r} is none of auto, all, last")
        if not 0 < self.held_out <= 0.5:
            raise OutOfRange(f"held_out is {self.held_out}; hold out more than 0 and at most half (0.1)")
        if self.context < 2 or self.skip < 0:
            raise OutOfRange(f"context {self.context} must be at least 2, and skip {self.skip} at least 0")

    def kept(self, encoding: Encoding, *, last: bool) -> tuple[int, ...]:
        if self.positions == "last" or (self.positions == "auto" and last):
            return (encoding.last,)
        text = [i for i, (a, b) in enumerate(encoding.spans) if b > a] or range(len(encoding.ids))
        return tuple(i for i in text if i >= self.skip)


def context_of(model: Any, reading: Reading) -> int:
    """The longest sequence that the model and the reading allow."""
    return min(reading.context, getattr(model.cfg, "n_ctx", None) or reading.context)


def windows(encoding: Encoding, reading: Reading, context: int, document: int) -> Iterator[Row]:
    """A document in pieces that fit; the last piece may be short, and one without a next token is left
    out."""
    for start in range(0, len(encoding.ids) - 1, context):
        ids = encoding.ids[start : start + context]
        piece = Encoding(ids, encoding.spans[start : start + context])
        keep = reading.kept(piece, last=False)
        if keep:
            yield Row(ids, keep, (*ids[1:], IGNORED), document, start)
