"""Multi-digit addition as characters: problems as digit tensors, how they are written as tokens, and who may
train on them.

Digits are least significant first in every tensor here (``a[:, 0]`` are the units), whatever the order of the
text.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Int
from torch import Tensor

from mechfourier.errors import OutOfRange

CHARACTERS = "0123456789+="
PLUS, EQUALS, END, PAD = 10, 11, 12, 13
D_VOCAB, D_VOCAB_OUT = 14, 13  # PAD is read and never written
HELD_OUT_OF = 10  # one hash class of ten is for testing


@dataclass(frozen=True, eq=False)
class Problems:
    """``a + b``, digit by digit, with zeros above the operands' own lengths. n is the longest operand of
    all."""

    a: Int[Tensor, "problem n"]
    b: Int[Tensor, "problem n"]
    len_a: Int[Tensor, " problem"]
    len_b: Int[Tensor, " problem"]

    def __len__(self) -> int:
        return len(self.a)

    def __getitem__(self, rows: Tensor | slice) -> "Problems":
        return Problems(self.a[rows], self.b[rows], self.len_a[rows], self.len_b[rows])

    @property
    def longest(self) -> Int[Tensor, " problem"]:
        """Digits of the longer operand."""
        return torch.maximum(self.len_a, self.len_b)

    @property
    def carries(self) -> Bool[Tensor, "problem n"]:
        """Whether a carry leaves digit i."""
        carry = torch.zeros(len(self), dtype=torch.bool)
        out = []
        for s in (self.a + self.b).unbind(
            1
        ):  # the only loop that addition needs: a carry comes from the digit before
            carry = s + carry.long() >= 10
            out.append(carry)
        return torch.stack(out, 1)

    @property
    def carry_in(self) -> Bool[Tensor, "problem n"]:
        """Whether a carry enters digit i."""
        return F.pad(self.carries, (1, -1))

    @property
    def answer(self) -> Int[Tensor, "problem n1"]:
        """The n + 1 digits of the sum, zeros above its own length."""
        total = F.pad(self.a + self.b, (0, 1)) + F.pad(self.carries, (1, 0)).long()
        return total % 10

    @property
    def chain(self) -> Int[Tensor, " problem"]:
        """Digits that the longest-travelling carry passes through: 0 without a carry, 1 where it stops at the
        next digit."""
        total, carries = self.a + self.b, self.carries
        run, best = torch.zeros(len(self), dtype=torch.long), torch.zeros(len(self), dtype=torch.long)
        for s, out in zip(total.unbind(1), carries.unbind(1), strict=True):
            # a sum of 10 or more starts a carry of its own; a 9 passes on the one that comes in
            run = torch.where(s >= 10, 1, torch.where(out, run + 1, 0))
            best = torch.maximum(best, run)
        return best

    def texts(self) -> list[str]:
        """``"12+345="`` as people write it."""
        return [f"{x}+{y}=" for x, y in zip(self.numbers("a"), self.numbers("b"), strict=True)]

    def numbers(self, which: str) -> list[int]:
        """The operands ``"a"`` or ``"b"``, or the ``"answer"``, as Python integers."""
        rows = {"a": self.a, "b": self.b, "answer": self.answer}[which].flip(1).tolist()
        return [int("".join(map(str, row))) for row in rows]


def problems(pairs: Sequence[tuple[int, int]]) -> Problems:
    """The given (a, b), natural numbers of any length. Raises ``OutOfRange`` for negative ones, or none at
    all."""
    if not pairs:
        raise OutOfRange("no problems were given; give at least one pair of numbers")
    if (low := min(min(pair) for pair in pairs)) < 0:
        raise OutOfRange(f"{low} is negative; the adder adds natural numbers")
    texts = [(str(x), str(y)) for x, y in pairs]
    n = max(len(text) for pair in texts for text in pair)
    digits = [torch.tensor([[int(c) for c in pair[i].zfill(n)[::-1]] for pair in texts]) for i in (0, 1)]
    lengths = [torch.tensor([len(pair[i]) for pair in texts]) for i in (0, 1)]
    return Problems(digits[0], digits[1], lengths[0], lengths[1])


def join(parts: Sequence[Problems]) -> Problems:
    """Problems of different lengths as one."""
    n = max(part.a.shape[1] for part in parts)
    wide = [(F.pad(p.a, (0, n - p.a.shape[1])), F.pad(p.b, (0, n - p.b.shape[1]))) for p in parts]
    return Problems(
        torch.cat([a for a, _ in wide]),
        torch.cat([b for _, b in wide]),
        torch.cat([p.len_a for p in parts]),
        torch.cat([p.len_b for p in parts]),
    )


# Problems as tokens.


@dataclass(frozen=True)
class Format:
    """How a problem is written. ``padded``: the shorter operand gets zeros in front; ``reverse``: the answer
    is written units first, with one digit more than the longer operand; otherwise it is written as people do.
    """

    padded: bool = True
    reverse: bool = True

    def source(self, p: Problems) -> Int[Tensor, "problem pos"]:
        """``a+b=`` as tokens, most significant digit first, aligned to the right (PAD in front of short
        ones)."""
        la, lb = (p.longest, p.longest) if self.padded else (p.len_a, p.len_b)
        width = int((la + lb).max()) + 2
        # columns counted from the right: 0 is "=", then b from its units, "+", and a from its units
        column = torch.arange(width)[None]
        in_b, in_a = column - 1, column - lb[:, None] - 2
        n = p.a.shape[1] - 1
        tokens = torch.full((len(p), width), PAD)
        tokens = torch.where((in_a >= 0) & (in_a < la[:, None]), p.a.gather(1, in_a.clamp(0, n)), tokens)
        tokens = torch.where(
            (in_b >= 0) & (in_b < lb[:, None]), p.b.gather(1, in_b.expand(len(p), -1).clamp(0, n)), tokens
        )
        tokens = torch.where(in_a == -1, PLUS, tokens)
        return torch.where(column == 0, EQUALS, tokens).flip(1)

    def target(self, p: Problems) -> Int[Tensor, "problem step"]:
        """The answer's digits in the order they are written, the end token, then PAD."""
        digits = p.answer
        if self.reverse:
            length = p.longest + 1
            order = torch.arange(digits.shape[1])[None].expand_as(digits)
        else:
            places = torch.arange(1, digits.shape[1] + 1)
            length = ((digits > 0) * places).amax(1).clamp(min=1)
            order = (length[:, None] - places[None]).clamp(min=0)
        step = torch.arange(digits.shape[1] + 1)[None]
        written = F.pad(digits.gather(1, order), (0, 1))
        tokens = torch.where(step < length[:, None], written, PAD)
        return torch.where(step == length[:, None], END, tokens)[:, : int(length.max()) + 1]

    def steps(self, digits: int) -> int:
        """Tokens that an answer to operands of up to ``digits`` digits may need, with the end token."""
        return digits + 2

    def value(self, written: Sequence[int]) -> int | None:
        """The number that answer tokens stand for; None where they are no number followed by the end
        token."""
        tokens = list(written)
        if END not in tokens:
            return None
        digits = tokens[: tokens.index(END)]
        if not digits or max(digits) > 9:
            return None
        return int("".join(map(str, digits[::-1] if self.reverse else digits)))


def decoder_input(target: Int[Tensor, "problem step"]) -> Int[Tensor, "problem step"]:
    """What the decoder reads when it should write ``target``: "=", then the answer so far (END is never
    read)."""
    shifted = F.pad(target[:, :-1], (1, 0), value=EQUALS)
    return torch.where(shifted == END, PAD, shifted)


def significance(tokens: Int[Tensor, "row pos"]) -> Int[Tensor, "row pos"]:
    """Ids of the source: 1 for units, 2 for tens, …; 0 for +, = and PAD. Read off the tokens: how far the
    next sign is."""
    place = torch.arange(tokens.shape[1], device=tokens.device).expand_as(tokens)
    digit = tokens < 10
    after = torch.where(digit, tokens.shape[1], place)
    sign = after.flip(1).cummin(1).values.flip(1)
    return torch.where(digit, sign - place, 0)


# Which pairs may be trained on.


def pair_hash(p: Problems) -> Int[Tensor, " problem"]:
    """A hash of the unordered pair of numbers, 0 to ``HELD_OUT_OF`` − 1; the same for (a, b) and (b, a)."""
    power = torch.ones(p.a.shape[1], dtype=torch.long)
    for i in range(1, len(power)):
        power[i] = power[i - 1] * 6364136223846793005  # wraps round 2^64, as hashes do
    x, y = (_mix((digits * power).sum(1) + 1) for digits in (p.a, p.b))  # zeros in front change nothing
    return _mix(x + y) % HELD_OUT_OF


def _mix(x: Tensor) -> Tensor:
    """Finaliser of splitmix64 (Steele et al. 2014) on non-negative 63-bit integers."""
    x = x & 0x7FFFFFFFFFFFFFFF
    x = (x ^ (x >> 30)) * -4658895280553007687
    x = x & 0x7FFFFFFFFFFFFFFF
    x = (x ^ (x >> 27)) * -7723592293110705685
    x = x & 0x7FFFFFFFFFFFFFFF
    return (x ^ (x >> 31)) & 0x7FFFFFFFFFFFFFFF


def held_out(p: Problems) -> Bool[Tensor, " problem"]:
    """Pairs that no training run ever sees."""
    return pair_hash(p) == 0
