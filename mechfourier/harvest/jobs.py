"""A stream of sequences cut into shards of equally many tokens: what one worker does at a time."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import torch
import xxhash
from torch import Tensor

from mechfourier.errors import OutOfRange, UsageError
from mechfourier.sae.rows import Row

SHARD_BYTES = 256 * 2**20
LEAST_ROWS = 1024
MOST_TOKENS = 1e15
SUFFIXES = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "b": 10**9, "t": 10**12}


def parse_tokens(text: str | int) -> int:
    """``"10M"``, ``"500k"``, ``"2.5B"``, ``"1_000_000"`` or a number. Raises ``UsageError`` and
    ``OutOfRange``."""
    if isinstance(text, int):
        count = float(text) if abs(text) < MOST_TOKENS else MOST_TOKENS
    else:
        plain = text.strip().lower().replace("_", "").replace(",", "")
        number, suffix = (plain[:-1], plain[-1]) if plain[-1:].isalpha() else (plain, "")
        try:
            count = float(number) * SUFFIXES[suffix]
        except (ValueError, KeyError):
            raise UsageError(
                f"cannot read {text!r} as a number of tokens; write 10M, 500k or 1_000_000"
            ) from None
    if not 1 <= count < MOST_TOKENS or count != int(count):
        raise OutOfRange(f"{text} tokens cannot be captured; ask for a whole number of at least 1, like 10M")
    return int(count)


def shard_rows_for(row_bytes: int) -> int:
    """The power of two of tokens that fills about ``SHARD_BYTES``."""
    return max(LEAST_ROWS, 1 << max(0, (SHARD_BYTES // row_bytes).bit_length() - 1))


@dataclass(frozen=True)
class Job:
    """A shard to be made: its number, and the sequences whose kept positions are its rows, in order."""

    number: int
    sequences: tuple[Row, ...]

    @cached_property
    def rows(self) -> int:
        return sum(len(row.keep) for row in self.sequences)

    def text(self) -> dict[str, Tensor]:
        """Token id (int32), document (int64) and position in the document (int32) of every row."""
        return {
            "token": _numbers((row.ids[at] for row in self.sequences for at in row.keep), torch.int32),
            "document": _numbers((row.document for row in self.sequences for _ in row.keep), torch.int64),
            "position": _numbers((row.start + at for row in self.sequences for at in row.keep), torch.int32),
        }

    def text_checksum(self) -> str:
        """XXH3 of what the shard is made from: a changed data set is noticed before anything is mixed."""
        digest = xxhash.xxh3_128()
        for values in self.text().values():
            digest.update(values.numpy().data)
        return digest.hexdigest()


def _numbers(values: Iterator[int], dtype: torch.dtype) -> Tensor:
    return torch.tensor(list(values), dtype=dtype)


def jobs(rows: Iterable[Row], size: int, total: int) -> Iterator[Job]:
    """Shards of exactly ``size`` tokens (the last one fewer), ``total`` in all or until ``rows`` end.

    A sequence across the border runs for both shards, and each keeps its part: a shard is a function of the
    stream alone.
    """
    number, held, room, left = 0, list[Row](), min(size, total), total
    for whole in rows:
        rest = whole.keep
        while rest:
            part, rest = rest[:room], rest[room:]
            held.append(replace(whole, keep=part, targets=()))
            room, left = room - len(part), left - len(part)
            if room:
                continue
            yield Job(number, tuple(held))
            number, held, room = number + 1, [], min(size, left)
            if not left:
                return
    if held:
        yield Job(number, tuple(held))
