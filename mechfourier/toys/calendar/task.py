"""Calendar and modular arithmetic as sentences: what the embedded ``calendar`` model is trained on.

An ``Operation`` is a family of sentences such as "Monday + 3 days =" with the answer " Thursday". Which
operand pairs are held out is decided by a seeded hash of the *fact*, not of the sentence: "Monday + 3 =
Thursday" and "Thursday - 3 = Monday" are one fact, and so are "5 + 9 mod 12" and "9 + 5 mod 12", so that no
held-out sentence is the mirror image of one the model has seen. Every offset has the same share of its facts
held out.
"""

import hashlib
from dataclasses import dataclass
from functools import cached_property

DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
MONTHS = (
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
)
SEASONS = ("spring", "summer", "autumn", "winter")  # in sentences only: four values are learned by heart
LETTERS = tuple("ABCDEFGHIJKLMNOPQRSTUVWXYZ")
CLOCK_12 = tuple(str(hour) for hour in range(1, 13))
CLOCK_24 = tuple(str(hour) for hour in range(24))
NUMBERS = 120  # the numbers 0..119 are single tokens
MODULI = tuple(range(5, 25))
HELD_OUT_SHARE = 0.2
SPLIT_SEED = 20


@dataclass(frozen=True)
class Sentence:
    """One operation sentence: value number ``a``, ``offset``, and the number ``label`` of the right
    answer."""

    operation: str
    a: int
    offset: int
    label: int
    prompt: str
    answer: str
    held_out: bool


@dataclass(frozen=True)
class Operation:
    """All sentences ``template`` (with ``{value}`` and ``{offset}``) over ``values`` and ``range(offsets)``.

    ``weight`` multiplies how often a sentence is drawn in training.

    ``sign`` is +1 or -1; the answer is ``values[(a + sign * offset) mod len(values)]``. ``fact`` names the
    family whose facts are held out together; ``commutes`` says that the offset and the value are of one kind.
    """

    name: str
    template: str
    values: tuple[str, ...]
    offsets: int
    sign: int = 1
    fact: str = ""
    commutes: bool = False
    weight: float = 1.0
    split_seed: int = SPLIT_SEED

    @property
    def n(self) -> int:
        return len(self.values)

    @cached_property
    def sentences(self) -> tuple[Sentence, ...]:
        """Row-major over value and offset."""
        return tuple(self.sentence(a, offset) for a in range(self.n) for offset in range(self.offsets))

    def sentence(self, a: int, offset: int) -> Sentence:
        label = (a + self.sign * offset) % self.n
        return Sentence(
            operation=self.name,
            a=a,
            offset=offset,
            label=label,
            prompt=self.template.format(value=self.values[a], offset=offset),
            answer=f" {self.values[label]}",
            held_out=self._held_out(a if self.sign > 0 else label, offset),
        )

    def _held_out(self, start: int, offset: int) -> bool:
        """Whether the fact "``start`` plus ``offset``" is held out: the same share of the starts of every
        offset, so that no offset is left without training sentences; where sums commute, a share of the
        unordered pairs."""
        if self.commutes and offset < self.n:
            return self._hash(min(start, offset), max(start, offset)) < HELD_OUT_SHARE
        order = sorted(range(self.n), key=lambda value: self._hash(value, offset))
        count = int(HELD_OUT_SHARE * self.n + self._hash("count", offset))  # rounded up or down by chance
        return start in order[:count]

    def _hash(self, start: int | str, offset: int) -> float:
        """A number in [0, 1) that depends on the fact alone: the same on every machine and in every order."""
        text = f"{self.split_seed}:{self.fact or self.name}:{start}:{offset}"
        return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest()) / 2**64


def mod_operation(n: int, *, split_seed: int = SPLIT_SEED) -> Operation:
    """ "5 + 9 mod 12 =", the second operand running over four cycles (0..4n-1), and never over fewer than 72."""
    return Operation(
        f"mod-{n}",
        f"{{value}} + {{offset}} mod {n} =",
        tuple(map(str, range(n))),
        max(4 * n, 72),
        commutes=True,
        weight=max(1.0, 15 / n),
        split_seed=split_seed,
    )


def operations(*, split_seed: int = SPLIT_SEED) -> tuple[Operation, ...]:
    """Every operation of the corpus."""
    # A cycle that few operations share is learned late, and then by heart: 7 and 26 are drawn more often than
    # 12.
    table = (
        ("days", "{value} {sign} {offset} days =", DAYS, "+-", 84, 4.0),
        ("months", "{value} {sign} {offset} months =", MONTHS, "+-", 96, 1.0),
        ("hours-12", "{value} o'clock {sign} {offset} hours =", CLOCK_12, "+-", 96, 1.0),
        ("hours-24", "{value}:00 {sign} {offset} hours =", CLOCK_24, "+", 96, 1.0),
        ("alphabet", "{value} {sign} {offset} letters =", LETTERS, "+", 104, 1.5),
    )
    named = [
        Operation(
            name if sign == "+" else f"{name}-minus",
            template.replace("{sign}", sign),
            values,
            offsets,
            sign=1 if sign == "+" else -1,
            fact=name,
            weight=weight,
            split_seed=split_seed,
        )
        for name, template, values, signs, offsets, weight in table
        for sign in signs
    ]
    return (*named, *(mod_operation(n, split_seed=split_seed) for n in MODULI))
