"""Quantities inside an addition as domains, so that every probe and intervention for text models works on the
adder.

A domain asks about one answer position: the digit of significance ``place`` (0 are the units). Value designs
put every value into many random problems (the templates); the operation design of ``digit-sum-mod-10`` is the
10 × 10 grid of the two digits. The right answer so far stands behind the ``=``, so that the decoder is about
to write that digit.
"""

import dataclasses
from dataclasses import dataclass

import torch
from einops import rearrange

from mechfourier.domains.definition import Domain, Operation
from mechfourier.domains.design import Design
from mechfourier.errors import OutOfRange, UnknownDomain, UsageError, nearest
from mechfourier.toys.adder.task import Format, problems

QUANTITIES = ("digit-a", "digit-b", "digit-sum-mod-10", "carry-in", "carry-out", "significance")
DIGITS, TEMPLATES = 6, 20
ADDITION = Operation(("{value}+{offset}=",), tuple("0123456789"))
Pair = tuple[int, int]


@dataclass(frozen=True)
class AdderDomain(Domain):
    """``cells[template][value]`` is the problem (a, b) and the significance asked for; ``grid[a][b]`` the
    operation's.

    ``operand`` is the one whose digit is read in the encoder; ``digits`` are written for both operands (zeros
    in front).
    """

    digits: int = DIGITS
    operand: str = "a"
    form: Format = dataclasses.field(default_factory=Format)
    cells: tuple[tuple[tuple[int, int, int], ...], ...] = ()
    grid: tuple[tuple[tuple[int, int, int], ...], ...] = ()

    def value_design(self, *, position: str | None = None) -> Design:
        """Every value in every template, read at the operand's digit in the problem (``"value"``) or where
        the decoder is about to write (``"last"``)."""
        where = position or self.position
        chosen = [int(template) for template in self.templates]
        cells = [self.cells[t][v] for v in range(self.n) for t in chosen]
        value, template = torch.meshgrid(torch.arange(self.n), torch.arange(len(chosen)), indexing="ij")
        flat = rearrange(value, "v t -> (v t)")
        return Design(
            kind="value",
            domain=self,
            prompts=tuple(self.prompt(*cell) for cell in cells),
            shape=(self.n, len(chosen)),
            spans=tuple(self.span(cell[2]) for cell in cells) if where == "value" else None,
            answers=None,
            candidates=self.values,
            value=flat,
            template=rearrange(template, "v t -> (v t)"),
            offset=None,
            label=flat,
        )

    def operation_design(self, cycles: int = 4, *, template: int = 0, model: object = None) -> Design:
        """The grid of both digits, with the digit to write as the answer. Raises ``UsageError`` for a
        quantity without one."""
        del template, model
        if not self.grid:
            raise UsageError(f"{self.name} is no operation; digit-sum-mod-10 is")
        if cycles != 1:
            raise OutOfRange(f"cycles is {cycles}; two digits give one cycle (--cycles 1)")
        a, b = torch.meshgrid(torch.arange(self.n), torch.arange(self.n), indexing="ij")
        label = rearrange((a + b) % self.n, "a b -> (a b)")
        return Design(
            kind="operation",
            domain=self,
            prompts=tuple(self.prompt(*cell) for row in self.grid for cell in row),
            shape=(self.n, self.n),
            spans=None,
            answers=tuple(str(c) for c in label.tolist()),
            candidates=tuple("0123456789"),
            value=rearrange(a, "a b -> (a b)"),
            template=None,
            offset=rearrange(b, "a b -> (a b)"),
            label=label,
        )

    def prompt(self, a: int, b: int, place: int) -> str:
        """The problem with its right answer up to the digit of significance ``place``."""
        written = self.form.target(problems([(a, b)]))[0].tolist()
        digits = "".join(str(d) for d in written if d < 10)
        if self.form.reverse:
            before = digits.ljust(place, "0")[:place]
        else:
            before = digits[: max(0, len(digits) - 1 - place)]
        return f"{a:0{self.digits}d}+{b:0{self.digits}d}={before}"

    def span(self, place: int) -> tuple[int, int]:
        """The characters of the operand's digit of that significance."""
        end = self.digits if self.operand == "a" else 2 * self.digits + 1
        return end - 1 - place, end - place


def domain_named(text: str) -> "AdderDomain":
    """``carry-in@2``: the quantity at the digit of that significance (2, the hundreds, where none is
    given)."""
    name, _, place = text.partition("@")
    return adder_domain(name, place=int(place or 2))


def adder_domain(
    name: str,
    *,
    place: int = 2,
    digits: int = DIGITS,
    templates: int = TEMPLATES,
    form: Format | None = None,
    seed: int = 0,
) -> AdderDomain:
    """One of ``QUANTITIES`` at the digit of significance ``place`` (0: units) of two ``digits``-digit
    operands.

    ``form`` is how the model writes (``model.cfg.format``); ``templates`` random problems. Raises
    ``UnknownDomain``, and ``OutOfRange`` for a place outside the operands or, for ``carry-in``, the units.
    """
    if name not in QUANTITIES:
        raise UnknownDomain(f"no quantity {name!r} in an addition; closest: {nearest(name, QUANTITIES)}")
    least = 1 if name == "carry-in" else 0
    if not least <= place < digits:
        raise OutOfRange(f"place {place} of {name}: it runs from {least} to {digits - 1} (0 are the units)")
    draw = _Draw(digits, place, torch.Generator().manual_seed(seed))
    values, cells = _cells(name, draw, templates)
    grid: tuple[tuple[tuple[int, int, int], ...], ...] = ()
    if name == "digit-sum-mod-10":
        x, y = draw.without_carry_in(*draw.numbers())
        grid = tuple(tuple((draw.put(x, a), draw.put(y, b), place) for b in range(10)) for a in range(10))
    return AdderDomain(
        name=f"{name}@{place}",
        title=f"{name} at significance {place} of {digits}-digit additions",
        unit="steps",
        values=values,
        templates=tuple(str(t) for t in range(templates)),
        operation=ADDITION if grid else None,
        position="last",
        source="generated",
        digits=digits,
        operand="b" if name == "digit-b" else "a",
        form=form or Format(),
        cells=cells,
        grid=grid,
    )


def _cells(
    name: str, draw: "_Draw", templates: int
) -> tuple[tuple[str, ...], tuple[tuple[tuple[int, int, int], ...], ...]]:
    """The values' names and the problem of every template and value."""
    rows = []
    for t in range(templates):
        a, b = draw.numbers()
        x = draw.between(1, 8)  # a digit that can be made to carry or not by the other one
        if name == "digit-a":
            row = [(draw.put(a, v), b) for v in range(10)]
        elif name == "digit-b":
            row = [(a, draw.put(b, v)) for v in range(10)]
        elif name == "digit-sum-mod-10":
            row = [(draw.put(a, t % 10), draw.put(b, (v - t) % 10)) for v in range(10)]
        elif name == "carry-in":
            row = draw.carrying(a, b, x, draw.place - 1)
        elif name == "carry-out":
            row = draw.carrying(a, b, x, draw.place)
        else:
            rows.append(tuple((a, b, place) for place in range(draw.digits)))
            continue
        rows.append(tuple((*pair, draw.place) for pair in row))
    count = len(rows[0])
    names = (
        tuple(str(v + 1) for v in range(count))
        if name == "significance"
        else tuple(str(v) for v in range(count))
    )
    return names, tuple(rows)


@dataclass
class _Draw:
    """Random operands and their digits."""

    digits: int
    place: int
    generator: torch.Generator

    def between(self, low: int, high: int) -> int:
        return int(torch.randint(low, high + 1, (1,), generator=self.generator))

    def numbers(self) -> Pair:
        a, b = (sum(self.between(0, 9) * 10**i for i in range(self.digits)) for _ in range(2))
        return a, b

    def put(self, number: int, digit: int, place: int | None = None) -> int:
        """``number`` with that digit at ``place``."""
        unit = 10 ** (self.place if place is None else place)
        return number - number // unit % 10 * unit + digit * unit

    def carrying(self, a: int, b: int, x: int, place: int) -> list[Pair]:
        """The same problem without and with a carry out of ``place``, whatever carry comes in there: a's
        digit is ``x`` in both, b's makes 8 or less, or 10 or more."""
        a = self.put(a, x, place)
        low, high = self.between(0, 8 - x), self.between(10 - x, 9)
        return [(a, self.put(b, low, place)), (a, self.put(b, high, place))]

    def without_carry_in(self, a: int, b: int) -> Pair:
        """The operands with digits below ``place`` that do not carry."""
        for i in range(self.place):
            a, b = self.put(a, self.between(0, 4), i), self.put(b, self.between(0, 4), i)
        return a, b
